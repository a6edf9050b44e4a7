"""A checkpoint's folder becomes a model of the library's own classes, with every weight accounted for.

Two layouts exist. The library knows ``hf``; from an ``original`` folder (``thinker_config``) it would build the default
shape with random weights and only mention it in a table, so that layout gets its configuration and its names of weights
translated here::

    thinker.audio_tower.proj1   → model.multi_modal_projector.linear_1
    thinker.audio_tower.…       → model.audio_tower.…
    thinker.model.…             → model.language_model.…
    thinker.lm_head             → lm_head, or score of an aligner

Whatever the layout: a weight that is missing, left over or of another shape is an error.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from transformers import (
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
)

CLASS_MS: Final = 80
"""Milliseconds per class of an aligner whose files do not say."""
_AUDIO_KEYS: Final = (
    "num_mel_bins", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "d_model", "activation_function",
    "scale_embedding", "n_window", "n_window_infer", "output_dim", "downsample_hidden_size",
)  # fmt: skip
_TEXT_KEYS: Final = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    "attention_bias",
)  # fmt: skip
_KEY_MAP: Final = {
    r"^thinker\.audio_tower\.proj(\d)\.": r"model.multi_modal_projector.linear_\1.",
    r"^thinker\.audio_tower\.": "model.audio_tower.",
    r"^thinker\.model\.": "model.language_model.",
}


class BadCheckpoint(Exception):
    """The folder does not hold a model that this engine can run; the message says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds."""

    model: Any
    """``Qwen3ASRForConditionalGeneration`` or ``Qwen3ASRForTokenClassification``, in evaluation mode."""
    tokenizer: Any
    is_aligner: bool
    end_ids: frozenset[int]
    """Tokens that end an answer."""
    class_ms: int
    """Milliseconds per class; of aligners."""


def load(folder: Path, *, dtype: torch.dtype, device: str = "cpu") -> Checkpoint:
    """Read the checkpoint in *folder*.

    Raises:
        BadCheckpoint: it is not one, or one of its weights does not fit.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        is_original = "thinker_config" in raw
        config = _translated(folder, raw) if is_original else _native(folder, raw)
        is_aligner = _is_aligner(raw)
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{folder} is not a Qwen3-ASR checkpoint: {error}") from error
    model = _weights(folder, config, dtype, device, is_original=is_original, is_aligner=is_aligner)
    ends = config.eos_token_id
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        is_aligner=is_aligner,
        end_ids=frozenset([ends] if isinstance(ends, int) else ends),
        class_ms=int(_class_ms(folder, raw)),
    )


def _is_aligner(raw: dict[str, Any]) -> bool:
    if "thinker_config" in raw:
        return "classify_num" in raw["thinker_config"]
    return any("TokenClassification" in name for name in raw.get("architectures") or ())


def _native(folder: Path, raw: dict[str, Any]) -> Qwen3ASRConfig:
    if raw.get("model_type") != "qwen3_asr":
        raise ValueError(f"its model_type is {raw.get('model_type')!r}, not 'qwen3_asr'")
    return Qwen3ASRConfig.from_pretrained(folder, local_files_only=True)


def _translated(folder: Path, raw: dict[str, Any]) -> Qwen3ASRConfig:
    """The library's configuration from the original one; values are data, none is assumed."""
    thinker = raw["thinker_config"]
    text = {key: value for key, value in thinker["text_config"].items() if key in _TEXT_KEYS}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": float(thinker["text_config"]["rope_theta"])}
    more: dict[str, Any] = {}
    if _is_aligner(raw):
        more = {"num_labels": thinker["classify_num"], "timestamp_token_id": raw["timestamp_token_id"]}
        text["tie_word_embeddings"] = False
    generation = _json_if_there(folder / "generation_config.json")
    if "eos_token_id" in generation:
        more["eos_token_id"] = generation["eos_token_id"]
    return Qwen3ASRConfig(
        audio_config={key: value for key, value in thinker["audio_config"].items() if key in _AUDIO_KEYS},
        text_config=text,
        audio_token_id=thinker["audio_token_id"],
        tie_word_embeddings=bool(text.get("tie_word_embeddings", True)),
        **more,
    )


def _class_ms(folder: Path, raw: dict[str, Any]) -> float:
    stated: float | None = raw.get("timestamp_segment_time")
    return stated or _json_if_there(folder / "processor_config.json").get("timestamp_segment_time") or CLASS_MS


def _json_if_there(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _weights(
    folder: Path, config: Qwen3ASRConfig, dtype: torch.dtype, device: str, *, is_original: bool, is_aligner: bool
) -> Any:
    family = Qwen3ASRForTokenClassification if is_aligner else Qwen3ASRForConditionalGeneration
    head = "score." if is_aligner else "lm_head."
    try:
        model, info = family.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            key_mapping=_KEY_MAP | {r"^thinker\.lm_head\.": head} if is_original else None,
            output_loading_info=True,
            local_files_only=True,
            use_safetensors=True,  # pickles can run code
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BadCheckpoint(f"{folder} cannot be loaded: {error}") from error
    wrong = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        told = "; ".join(f"{len(keys)} {kind.replace('_', ' ')}, as {keys[0]}" for kind, keys in wrong.items() if keys)
        raise BadCheckpoint(f"the weights in {folder} do not fit the model: {told}")
    return model.to(device).eval()

"""Qwen3-ASR checkpoints with random weights, in both layouts that exist on disk.

``original`` is what the model's authors ship first: ``thinker_config``, tensors under ``thinker.``, a vocabulary of two
files and Whisper's preprocessor. ``hf`` is what ``transformers`` writes itself. The same seed gives the same weights in
both, so that a loader for one can be checked against the other. A true size gets filler words, so that special tokens
have the ids of the released models; what a real ``config.json`` holds beyond these keys is not known here.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
    Qwen3ASRProcessor,
)

from qasr.engines.qwen3.languages import NAMES

Layout: TypeAlias = Literal["original", "hf"]
Kind: TypeAlias = Literal["asr", "aligner"]


@dataclass(frozen=True)
class Size:
    """Numbers of a model; ``spread`` is the deviation of its random weights."""

    encoder: tuple[int, int, int, int, int]
    """Width, layers, heads, inner width, convolution channels."""
    decoder: tuple[int, int, int, int, int, int]
    """Width, layers, heads, heads of keys and values, width of a head, inner width."""
    spread: float = 0.02


SIZES: Final = {
    "tiny": Size((64, 2, 2, 128, 16), (64, 2, 4, 2, 16, 128), 0.2),
    "0.6b": Size((896, 18, 14, 3584, 480), (1024, 28, 16, 8, 128, 3072)),
    "1.7b": Size((1024, 24, 16, 4096, 480), (2048, 28, 16, 8, 128, 6144)),
    "aligner-0.6b": Size((1024, 24, 16, 4096, 480), (1024, 28, 16, 8, 128, 3072)),
}
CLASSES: Final = 5000
CLASS_MS: Final = 80
FIRST_SPECIAL: Final = 151_643
"""Of the released models; and how many rows their embeddings have."""
TRUE_ROWS: Final = 151_936
SPECIALS: Final = {
    0: "<|endoftext|>", 1: "<|im_start|>", 2: "<|im_end|>", 26: "<|audio_start|>", 27: "<|audio_end|>",
    33: "<|audio_pad|>", 61: "<asr_text>", 62: "<timestamp>",
}  # fmt: skip
"""By distance from the first special token."""
CORPUS: Final = [
    "system user assistant language None " + " ".join(NAMES.values()),
    "the quick brown fox jumps over the lazy dog. ",
    "And so, my fellow Americans, ask not what your country can do for you.",
    "今天天气很好,我们去公园散步吧。",
] * 4
_PIECES: Final = (
    "{%- set ns = namespace(s='', a='') -%}{%- for m in messages -%}{%- if m.content is string -%}"
    "{%- if m.role == 'system' -%}{%- set ns.s = ns.s + m.content -%}{%- endif -%}{%- else -%}"
    "{%- for c in m.content -%}{%- if c.type == 'audio' -%}"
    "{%- set ns.a = ns.a + '<|audio_start|><|audio_pad|><|audio_end|>' -%}"
    "{%- elif m.role == 'system' and c.type == 'text' -%}{%- set ns.s = ns.s + c.text -%}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{%- endfor -%}{{- '<|im_start|>system\n' + ns.s + '<|im_end|>\n"
    "<|im_start|>user\n' + ns.a + '<|im_end|>\n' -}}"
)
_ANSWERS: Final = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{{- '<|im_start|>assistant\n' -}}"
    "{% generation %}{%- if m.content is string -%}{{- m.content -}}{%- else -%}{%- for c in m.content -%}"
    "{{- c.text -}}{%- endfor -%}{%- endif -%}{{- '<|im_end|>\n' -}}{% endgeneration %}{%- endif -%}{%- endfor -%}"
)
_TURN: Final = "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
_ALIGN: Final = (
    "{%- set ns = namespace(a='', w=[]) -%}{%- for m in messages -%}{%- for c in m.content -%}"
    "{%- if c.type == 'text' -%}{%- set ns.w = ns.w + [c.text] -%}{%- else -%}"
    "{%- set ns.a = ns.a + '<|audio_start|><|audio_pad|><|audio_end|>' -%}{%- endif -%}{%- endfor -%}{%- endfor -%}"
    "{{- ns.a + ns.w | join('<timestamp><timestamp>') + '<timestamp><timestamp>' -}}"
)


def write_checkpoint(
    folder: Path,
    *,
    kind: Kind = "asr",
    layout: Layout = "hf",
    size: str = "tiny",
    dtype: Any = torch.bfloat16,
    seed: int = 0,
) -> Path:
    """Write a checkpoint into *folder*, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, n_rows = _write_tokenizer(folder, true_size=size != "tiny")
    config = _config(kind, SIZES[size], ids, n_rows)
    torch.manual_seed(seed)
    with torch.device("cpu"):
        family = Qwen3ASRForTokenClassification if kind == "aligner" else Qwen3ASRForConditionalGeneration
        model = family(config).to(dtype).eval()
    _mend_norms(model)
    generation = {"eos_token_id": list(config.eos_token_id), "pad_token_id": config.pad_token_id, "do_sample": False}
    if layout == "hf":
        if kind == "asr":
            model.generation_config = GenerationConfig(**generation, max_new_tokens=512)
        model.save_pretrained(folder)
        processor = Qwen3ASRProcessor(
            Qwen3ASRFeatureExtractor(),
            Qwen2Tokenizer.from_pretrained(folder),
            chat_template=_ALIGN if kind == "aligner" else _PIECES + _ANSWERS + _TURN,
        )
        processor.save_pretrained(folder)
    else:
        _write_original(folder, kind, model, config, ids, generation)
    return folder


def _mend_norms(model: Any) -> None:
    """Random scales instead of ones: a loader that mixes norms up must not pass."""
    for name, weight in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            sharp = name.endswith(("q_norm.weight", "k_norm.weight"))  # attends to few places, so answers vary
            torch.nn.init.uniform_(weight, *((1.5, 3.5) if sharp else (0.6, 1.4)))


def _config(kind: Kind, size: Size, ids: dict[str, int], n_rows: int) -> Qwen3ASRConfig:
    aligner = kind == "aligner"
    width, layers, heads, inner, channels = size.encoder
    audio = {
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": inner,
        "downsample_hidden_size": channels,
        "output_dim": size.decoder[0],
        "initializer_range": size.spread,
    }
    width, layers, heads, kv_heads, head_width, inner = size.decoder
    text = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_width,
        "intermediate_size": inner,
        "vocab_size": n_rows,
        "max_position_embeddings": 65_536,
        "tie_word_embeddings": not aligner,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "initializer_range": size.spread,
    }
    return Qwen3ASRConfig(
        audio_config=audio,
        text_config=text,
        audio_token_id=ids["<|audio_pad|>"],
        timestamp_token_id=ids["<timestamp>"],
        pad_token_id=ids["<|im_end|>"],
        eos_token_id=[ids["<|endoftext|>"], ids["<|im_end|>"]],
        tie_word_embeddings=not aligner,
        initializer_range=size.spread,
        **({"num_labels": CLASSES} if aligner else {}),
    )


def _write_tokenizer(folder: Path, *, true_size: bool) -> tuple[dict[str, int], int]:
    """Train a small byte-level vocabulary; the special tokens' ids, and the number of embedding rows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    vocabulary = dict(trained["vocab"])
    if true_size:
        vocabulary |= {f"filler{i}": i for i in range(len(vocabulary), FIRST_SPECIAL)}
    first = len(vocabulary)
    ids = {SPECIALS.get(i, f"<|extra_{i}|>"): first + i for i in range(63)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {
        str(number): {"content": name, "special": name not in ("<asr_text>", "<timestamp>"), **flags}
        for name, number in ids.items()
    }
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in trained["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write_json(folder / "vocab.json", vocabulary)
    audio = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer", "processor_class": "Qwen3ASRProcessor", "add_prefix_space": False,
        "added_tokens_decoder": added, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None,
        "unk_token": None, "errors": "replace", "model_max_length": 131_072, "split_special_tokens": False,
        "clean_up_tokenization_spaces": False, **audio, "extra_special_tokens": audio,
    }  # fmt: skip
    _write_json(folder / "tokenizer_config.json", settings)
    return ids, TRUE_ROWS if true_size else -(-(first + len(ids)) // 64) * 64


def _write_original(
    folder: Path, kind: Kind, model: Any, config: Qwen3ASRConfig, ids: dict[str, int], generation: dict[str, Any]
) -> None:
    save_file(
        {_original_name(name): value.clone().contiguous() for name, value in model.state_dict().items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    audio, text = config.audio_config.to_dict(), config.text_config.to_dict()
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["rope_scaling"] = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]}
    audio |= {"model_type": "qwen3_asr_audio_encoder", "max_source_positions": 1500, "conv_chunksize": 500}
    thinker = {
        "model_type": "qwen3_forced_aligner" if kind == "aligner" else "qwen3_asr",
        "audio_token_id": ids["<|audio_pad|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
        "audio_config": audio,
        "text_config": text | {"model_type": "qwen3"},
    }
    whole: dict[str, Any] = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": list(NAMES.values()),
        "thinker_config": thinker,
    }
    if kind == "aligner":
        thinker["classify_num"] = CLASSES
        whole |= {"timestamp_token_id": ids["<timestamp>"], "timestamp_segment_time": CLASS_MS}
    _write_json(folder / "config.json", whole)
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "chat_template.json", {"chat_template": _PIECES + _TURN})
    preprocessor = {
        "feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "Qwen3ASRProcessor",
        "feature_size": 128, "hop_length": 160, "n_fft": 400, "chunk_length": 30, "n_samples": 480_000,
        "nb_max_frames": 3000, "sampling_rate": 16_000, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": True, "dither": 0.0,
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", preprocessor)


def _original_name(name: str) -> str:
    for ours, theirs in (
        ("model.multi_modal_projector.linear_", "thinker.audio_tower.proj"),
        ("model.audio_tower.", "thinker.audio_tower."),
        ("model.language_model.", "thinker.model."),
        ("lm_head.", "thinker.lm_head."),
        ("score.", "thinker.lm_head."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, default=str), encoding="utf-8")

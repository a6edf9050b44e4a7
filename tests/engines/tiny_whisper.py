"""A Whisper model of 1 MB in CTranslate2's format: the true files and loader, without any training.

``build`` fills the weights at random, so that the text depends on the sound; with ``script`` it says what is written
there instead, whatever it hears. Then the decoder's layers add nothing, and the vector of a position alone chooses the
token: a prompt in front moves the script along, which shows how long it is.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ctranslate2.specs import whisper_spec
from faster_whisper.tokenizer import _LANGUAGE_CODES

WIDTH: Final = 128
HEADS: Final = 4
N_MELS: Final = 80
POSITIONS: Final = 448
TIMESTAMPS: Final = 1501

_BYTES: Final = [*range(33, 127), *range(161, 173), *range(174, 256)]
_LETTERS: Final = {
    byte: chr(byte) if byte in _BYTES else chr(256 + i)
    for i, byte in enumerate([*(b for b in range(256) if b not in _BYTES), *_BYTES])
}
"""The byte-level alphabet of GPT-2: one token per byte here."""

_BLANK: Final = _LETTERS[0x20]
_MERGES: Final = [(_BLANK, "-"), (_BLANK, "'"), (_BLANK, _LETTERS[0xE2])]
"""Where a sign behind a blank has no token, the library forbids the blank with it."""
TEXT_TOKENS: Final = [*(_LETTERS[byte] for byte in range(256)), *("".join(pair) for pair in _MERGES), ""]
"""The empty one tells the library that the model knows many languages."""
SPECIAL_TOKENS: Final = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in _LANGUAGE_CODES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
TOKENS: Final = [*TEXT_TOKENS, *SPECIAL_TOKENS, *(f"<|{i * 0.02:.2f}|>" for i in range(TIMESTAMPS))]
IDS: Final = {token: i for i, token in enumerate(TOKENS)}
PROMPT: Final = 3
"""Tokens before the first one that is said: start, language, task."""

Array = npt.NDArray[np.float32]


def spoken(text: str, begin_s: float, end_s: float) -> list[int]:
    """The tokens of *text* between two times."""
    times = [IDS[f"<|{round(s / 0.02) * 0.02:.2f}|>"] for s in (begin_s, end_s)]
    return [times[0], *text.encode(), times[1]]


def build(folder: Path, *, seed: int = 0, script: Sequence[int] = (), language: str = "en", until: int = 0) -> Path:
    """Write the model into *folder*.

    Args:
        folder: made if it is not there.
        seed: of the weights.
        script: tokens to be said; empty: random weights.
        language: that it detects, with a script.
        until: repeat the script up to this position; 0: say it once, then end.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    spec: Any = whisper_spec.WhisperSpec(2, HEADS, 2, HEADS)
    _fill_encoder(spec.encoder, random)
    _fill_decoder(spec.decoder, random, still=bool(script))
    if script:
        said = {0: IDS[f"<|{language}|>"], PROMPT - 1: script[0]}
        length = max(len(script), until)
        said |= {PROMPT - 1 + i: script[i % len(script)] for i in range(length)}
        if not until:
            said[PROMPT - 1 + length] = IDS["<|endoftext|>"]
        _write_script(spec.decoder, said)
    spec.register_vocabulary(TOKENS)
    spec.config.lang_ids = [IDS[f"<|{code}|>"] for code in _LANGUAGE_CODES]
    spec.config.suppress_ids = [IDS[token] for token in SPECIAL_TOKENS[1:]]
    spec.config.suppress_ids_begin = [32, IDS["<|endoftext|>"]]
    spec.config.alignment_heads = [(1, head) for head in range(HEADS)]
    spec.validate()
    spec.optimize("int8")
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()), encoding="utf-8")
    return folder


def _write_script(decoder: Any, said: dict[int, int]) -> None:
    """A position's vector is that of the token to be said there, and each token's row points to its own vector."""
    random = np.random.default_rng(7)
    vectors = {token: random.choice([-1, 1], WIDTH).astype(np.float32) for token in sorted(set(said.values()))}
    decoder.projection.weight = np.zeros((len(TOKENS), WIDTH), np.float32)
    for token, vector in vectors.items():
        decoder.projection.weight[token] = vector / 4
    for position, token in said.items():
        decoder.position_encodings.encodings[position] = vectors[token]


def _fill_encoder(spec: Any, random: np.random.Generator) -> None:
    _conv(spec.conv1, random, N_MELS)
    _conv(spec.conv2, random, WIDTH)
    spec.position_encodings.encodings = _random(random, 1500, WIDTH, scale=0.3)
    _norm(spec.layer_norm)
    for layer in spec.layer:
        _attention(layer.self_attention, random, n_linear=2)
        _ffn(layer.ffn, random)


def _fill_decoder(spec: Any, random: np.random.Generator, *, still: bool) -> None:
    loudness = 0.0 if still else 1.0
    spec.embeddings.weight = _random(random, len(TOKENS), WIDTH, scale=loudness)
    spec.position_encodings.encodings = _random(random, POSITIONS, WIDTH, scale=1.0)
    spec.projection.weight = _random(random, len(TOKENS), WIDTH, scale=0.3)
    _norm(spec.layer_norm)
    for layer in spec.layer:
        _attention(layer.self_attention, random, n_linear=2, loudness=loudness)
        _attention(layer.attention, random, n_linear=3, loudness=loudness)
        _ffn(layer.ffn, random, loudness=loudness)


def _random(random: np.random.Generator, *shape: int, scale: float) -> Array:
    return random.normal(scale=scale, size=shape).astype(np.float32)


def _conv(spec: Any, random: np.random.Generator, n_inputs: int) -> None:
    spec.weight = _random(random, WIDTH, n_inputs, 3, scale=1 / np.sqrt(3 * n_inputs))
    spec.bias = np.zeros(WIDTH, np.float32)


def _norm(spec: Any) -> None:
    spec.gamma, spec.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)


def _linear(spec: Any, random: np.random.Generator, n_outputs: int, n_inputs: int, loudness: float = 1.0) -> None:
    spec.weight = _random(random, n_outputs, n_inputs, scale=2 * loudness / np.sqrt(n_inputs))
    spec.bias = np.zeros(n_outputs, np.float32)


def _attention(spec: Any, random: np.random.Generator, *, n_linear: int, loudness: float = 1.0) -> None:
    """``linear``: query, key and value in one (of itself), or query, and key and value (of the encoder); output."""
    _norm(spec.layer_norm)
    widths = {2: [3 * WIDTH, WIDTH], 3: [WIDTH, 2 * WIDTH, WIDTH]}[n_linear]
    for linear, width in zip(spec.linear, widths, strict=True):
        _linear(linear, random, width, WIDTH, loudness if linear is spec.linear[-1] else 1.0)


def _ffn(spec: Any, random: np.random.Generator, loudness: float = 1.0) -> None:
    _norm(spec.layer_norm)
    _linear(spec.linear_0, random, 4 * WIDTH, WIDTH)
    _linear(spec.linear_1, random, WIDTH, 4 * WIDTH, loudness)


def _tokenizer() -> dict[str, Any]:
    special = [
        {
            "id": IDS[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in SPECIAL_TOKENS
    ]
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(TEXT_TOKENS)},
            "merges": [" ".join(pair) for pair in _MERGES],
        },
    }

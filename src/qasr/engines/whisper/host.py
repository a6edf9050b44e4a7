"""The child process that holds a Whisper model: each call one segment after the other, window by window.

::

    prompt   <|startofprev|> hotwords, context <|startoftranscript|> language <|transcribe|>    at most 224 tokens
    answer   <|0.00|> text <|1.20|><|1.20|> text … <|endoftext|>                                at most 224 tokens

What the client wrote is bounded, and cannot carry control tokens.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import to_ms
from qasr.engines import process
from qasr.workers.child import Answer, Cancelled, Refusal

MOST_SAID: Final = 224
"""Tokens of one window, half of what the decoder can look at: where the library stops."""
MOST_HOTWORDS: Final = 100
"""Tokens; the heaviest first, a phrase that does not fit is left out whole."""
MOST_CONTEXT: Final = 110
"""Tokens; the last ones, which lie next to the speech."""
CONTROL: Final = re.compile(r"<\|[^|]*\|>")


class Asked(msgspec.Struct, array_like=True):
    """One segment's hints on their way to the child; ``language`` as Whisper writes it."""

    language: str | None
    context: str
    hotwords: list[str]
    word_times: bool


class Heard(msgspec.Struct, array_like=True):
    """One segment's answer on its way back; times of words in ms from the segment's start."""

    text: str
    language: str
    words: list[tuple[str, int, int]] | None
    truncated: bool


class Host:
    """Answers ``recognize``: a list of ``Asked``, and as many ``Heard``, one by one."""

    def __init__(self, model: Any, *, calls: int, beam: int) -> None:
        self.parallel = calls
        self._model, self._beam = model, beam
        known = model.hf_tokenizer.token_to_id
        codes = [code for code in model.supported_languages if known(f"<|{code}|>") is not None]
        self.about: Mapping[str, object] = {"languages": codes or ["en"]}

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call."""
        if method != "recognize":
            raise Refusal("unknown_method", method)
        lengths, asked = msgspec.msgpack.decode(body, type=tuple[list[int], list[Asked]])
        for pcm, one in zip(process.split(lengths, payload), asked, strict=True):
            heard = self._hear(pcm, one, cancelled)
            if heard is None:
                return
            yield heard, b""

    def _hear(self, pcm: npt.NDArray[np.float32], asked: Asked, cancelled: Cancelled) -> Heard | None:
        """None: nobody waits any more."""
        pcm = np.nan_to_num(pcm, posinf=0.0, neginf=0.0)
        if not pcm.any():
            return Heard("", asked.language or self._first_language, [] if asked.word_times else None, truncated=False)
        segments, info = self._model.transcribe(
            pcm,
            language=asked.language,
            beam_size=self._beam,
            temperature=0.0,  # sampling would make other texts of the same recording
            condition_on_previous_text=False,  # segments are cut elsewhere; loops would go on into the next window
            initial_prompt=self._context(asked.context),
            hotwords=self._hotwords(asked.hotwords),
            word_timestamps=asked.word_times,
        )
        text, words, truncated = "", list[tuple[str, int, int]](), False
        for segment in segments:
            if cancelled():
                return None
            text += segment.text
            truncated |= len(segment.tokens) >= MOST_SAID
            words += [_span(word, to_ms(len(pcm))) for word in segment.words or ()]
        return Heard(text.strip(), info.language, words if asked.word_times else None, truncated)

    @property
    def _first_language(self) -> str:
        codes = self.about["languages"]
        assert isinstance(codes, list)
        return "en" if "en" in codes else str(codes[0])

    def _context(self, text: str) -> list[int] | None:
        return self._tokens(text)[-MOST_CONTEXT:] or None

    def _hotwords(self, phrases: Sequence[str]) -> str | None:
        """As many as fit, in one line."""
        taken: list[str] = []
        for phrase in phrases:
            if len(self._tokens(", ".join([*taken, phrase]))) <= MOST_HOTWORDS:
                taken.append(CONTROL.sub(" ", phrase))
        return ", ".join(taken) or None

    def _tokens(self, text: str) -> list[int]:
        plain = CONTROL.sub(" ", text).strip()
        ids: list[int] = self._model.hf_tokenizer.encode(f" {plain}", add_special_tokens=False).ids if plain else []
        return ids


def _span(word: Any, longest_ms: int) -> tuple[str, int, int]:
    begin = min(max(0, round(word.start * 1000)), longest_ms)
    return word.word.strip(), begin, min(max(begin, round(word.end * 1000)), longest_ms)


def factory(config: Mapping[str, Any]) -> Host:
    """The handler for ``qasr.workers.child``; *config* as in the engine's ``factory``.

    Raises:
        Refusal: the model does not load, or the device cannot compute as it is asked to.
    """
    import ctranslate2  # noqa: PLC0415 - heavy, and for the child process only
    from faster_whisper import WhisperModel  # noqa: PLC0415

    n_gpus = ctranslate2.get_cuda_device_count()
    device = config["device"] if config["device"] != "auto" else "cuda" if n_gpus else "cpu"
    if device == "cuda" and not n_gpus:
        raise Refusal("device", "there is no CUDA device")
    compute = config["compute"] or {"cpu": "int8", "cuda": "float16"}.get(device, "default")
    try:
        able = ctranslate2.get_supported_compute_types(device)
    except ValueError as error:
        raise Refusal("device", f"device {device!r} is not known; cpu, cuda and auto are") from error
    if compute not in able:
        raise Refusal("compute", f"{device} cannot compute in {compute!r}, but in {', '.join(sorted(able))}")
    try:
        model = WhisperModel(
            str(Path(config["folder"])),
            device=device,
            compute_type=compute,
            cpu_threads=config["threads"],
            num_workers=config["calls"],
            local_files_only=True,
        )
        host = Host(model, calls=config["calls"], beam=config["beam"])
    except Exception as error:
        raise Refusal("model", f"its files are damaged or no Whisper model ({type(error).__name__})") from error
    return host

"""The child process that holds a model of sherpa-onnx.

``families.py`` tells what lies in the folder; here is how each is loaded, asked and read::

    sense_voice            batches of like language and ITN; text, language, emotion, event, token times
    paraformer             batches; text, token times where the model has them
    ctc, transducer        batches; text, token times; transducers favor hotwords
    streaming_…            the whole segment at once, or piece by piece
    funasr_nano, qwen3_asr one by one; language and hotwords stand in the prompt

The library does not lock, and one thread asks it. ``loading.py`` makes the ``Host``.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, to_ms
from qasr.domain.transcript import EMOTIONS
from qasr.engines import process
from qasr.engines.sherpa import languages
from qasr.engines.sherpa.families import Family, Model, favors
from qasr.workers.child import Answer, Cancelled, Refusal

BATCHED: Final = frozenset({Family.SENSE_VOICE, Family.PARAFORMER, Family.CTC, Family.TRANSDUCER})
STREAMING: Final = frozenset({Family.STREAMING_PARAFORMER, Family.STREAMING_TRANSDUCER})
BIASED: Final = frozenset({Family.TRANSDUCER, Family.STREAMING_TRANSDUCER})
"""Hotwords are favored while decoding."""
PROMPTED: Final = frozenset({Family.FUNASR_NANO, Family.QWEN3_ASR})
"""Hotwords stand in a prompt."""
LARGEST_BATCH: Final = 8
MOST_STREAMS: Final = 1024
"""Open at once; each holds some hundred kB of what its model remembers."""
FEWEST_SAMPLES: Final = SAMPLE_RATE // 5
"""Shorter segments are filled up with silence: below, some models have no frame to look at."""
TAIL: Final = np.zeros(SAMPLE_RATE * 4 // 5, np.float32)
"""Silence behind the last sound of a stream: more than the longest chunk that a streaming model waits for."""
MOST_TOKENS: Final = 400
"""Of an answer of a model that writes token by token; 30 s of fast speech have 200."""
MOST_PROMPT: Final = 600
"""Characters of hotwords and context in a prompt; a whole phrase less if it does not fit."""
LONGEST_TOKEN_MS: Final = 500
"""What lies beyond it before the next token is a pause."""
BOOST_PER_WEIGHT: Final = 0.5
"""What a hotword's weight of 1 to 5 adds to a token's score; the library's own default is 1.5."""
_CONTROL: Final = re.compile(r"<\|[^|]*\|>|[<>|]")
_TAG: Final = re.compile(r"<\|(.*)\|>")
_EVENTS: Final = {"bgm": "music"}
_NO_EVENTS: Final = frozenset({"speech", "event_unk", ""})


class Asked(msgspec.Struct, array_like=True):
    """One segment's hints on their way to the child."""

    language: str | None = None
    context: str = ""
    hotwords: list[tuple[str, int]] = []
    itn: bool = False


class Heard(msgspec.Struct, array_like=True):
    """One segment's answer; ``pieces`` are tokens with begin and end in ms from its start, None: there are no times."""

    text: str
    language: str | None
    pieces: list[tuple[str, int, int]] | None
    emotion: str | None
    events: list[str]
    truncated: bool


class About(msgspec.Struct):
    """What the parent is told of the model."""

    family: str
    languages: list[str]
    largest_batch: int
    punctuation: bool
    word_times: bool
    context: bool
    hotwords: bool
    itn: bool
    emotion: bool
    streaming: bool
    revises: bool
    """A stream may change what it has said, as it follows several texts at once."""


class Fed(msgspec.Struct, array_like=True):
    """The next piece of a stream; ``number`` is the parent's, ``n_before`` the samples that it was fed already."""

    number: int
    n_before: int
    asked: Asked


class Host:
    """Answers ``recognize``: a list of ``Asked``, and as many ``Heard``; of streaming models also ``feed``: ``Fed``,
    and the text so far, and ``close``: a stream's number, and nothing.
    """

    parallel = 1

    def __init__(self, model: Model, codes: Sequence[str], recognizer: Any, *, itn: str, punctuation: Any) -> None:
        self._model, self._codes, self._recognizer = model, list(codes), recognizer
        self._always_itn, self._punctuation = itn == "always", punctuation
        self._lock = threading.Lock()
        self._streams: dict[int, Any] = {}
        self.about: Mapping[str, object] = msgspec.to_builtins(self._about())

    def _about(self) -> About:
        family = self._model.family
        sense = family is Family.SENSE_VOICE
        return About(
            family=family.value,
            languages=self._codes,
            largest_batch=LARGEST_BATCH if family in BATCHED else 1,
            punctuation=self._punctuation is not None or (sense and self._always_itn) or family in PROMPTED,
            word_times=self._times_tokens,
            context=family is Family.QWEN3_ASR,
            hotwords=family in PROMPTED or (family in BIASED and favors(self._model)),
            itn=sense or family is Family.FUNASR_NANO,
            emotion=sense,
            streaming=family in STREAMING,
            revises=family is Family.STREAMING_TRANSDUCER and favors(self._model),
        )

    @property
    def _times_tokens(self) -> bool:
        match self._model.family:
            case Family.SENSE_VOICE | Family.CTC | Family.TRANSDUCER | Family.STREAMING_TRANSDUCER:
                return True
            case Family.PARAFORMER:  # logits, number of tokens, and what the times are made of
                return len(self._model.header.outputs) >= 4
            case _:
                return False

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call."""
        match method:
            case "recognize":
                lengths, asked = msgspec.msgpack.decode(body, type=tuple[list[int], list[Asked]])
                yield from self._recognize(process.split(lengths, payload), asked, cancelled)
            case "feed" if self._model.family in STREAMING:
                _, fed = msgspec.msgpack.decode(body, type=tuple[list[int], Fed])
                yield self._feed(fed, np.frombuffer(payload, np.float32)), b""
            case "close":
                self._streams.pop(msgspec.msgpack.decode(body, type=int), None)
            case _:
                raise Refusal("unknown_method", method)

    def _feed(self, fed: Fed, pcm: npt.NDArray[np.float32]) -> str:
        """The text of a stream after *pcm*."""
        if fed.number not in self._streams:
            if fed.n_before or len(self._streams) >= MOST_STREAMS:
                raise Refusal("stream", "it is not open, or too many are")
            self._streams[fed.number] = self._new_stream(fed.asked)
        stream = self._streams[fed.number]
        stream.accept_waveform(SAMPLE_RATE, np.nan_to_num(pcm, posinf=0.0, neginf=0.0))
        with self._lock:
            while self._recognizer.is_ready(stream):
                self._recognizer.decode_stream(stream)
            return _CONTROL.sub("", self._recognizer.get_result(stream)).lstrip()

    def _recognize(
        self, segments: Sequence[npt.NDArray[np.float32]], asked: Sequence[Asked], cancelled: Cancelled
    ) -> Iterator[Answer]:
        rows = [
            _Row(place, np.nan_to_num(pcm, posinf=0.0, neginf=0.0), one)
            for place, (pcm, one) in enumerate(zip(segments, asked, strict=True))
        ]
        answers = {row.place: _nothing(row.asked, timed=self._times_tokens) for row in rows}
        sounding = [row for row in rows if row.pcm.any()]
        for group in self._groups(sounding):
            if cancelled():
                return
            with self._lock:
                answers |= {row.place: heard for row, heard in zip(group, self._decode(group), strict=True)}
        for place in range(len(rows)):
            yield answers[place], b""

    def _groups(self, rows: list["_Row"]) -> list[list["_Row"]]:
        """Rows that may share a call of the library."""
        if self._model.family not in BATCHED:
            return [[row] for row in rows]
        if self._model.family is not Family.SENSE_VOICE:
            return [rows] if rows else []

        def alike(row: _Row) -> tuple[str, bool]:
            return row.asked.language or "auto", row.asked.itn or self._always_itn

        return [list(group) for _, group in groupby(sorted(rows, key=alike), key=alike)]

    def _decode(self, rows: Sequence["_Row"]) -> list[Heard]:
        if self._model.family in STREAMING:
            return [self._decode_at_once(rows[0])]
        if self._model.family is Family.SENSE_VOICE:
            self._set_sense_voice(rows[0].asked)
        streams = [self._stream(row) for row in rows]
        self._recognizer.decode_streams(streams)
        return [self._heard(row, stream.result) for row, stream in zip(rows, streams, strict=True)]

    def _set_sense_voice(self, asked: Asked) -> None:
        """Language and ITN belong to the library's recognizer, not to its streams."""
        config = self._recognizer.config
        config.model_config.sense_voice.language = asked.language or "auto"
        config.model_config.sense_voice.use_itn = asked.itn or self._always_itn
        self._recognizer.recognizer.set_config(config)

    def _stream(self, row: "_Row") -> Any:
        asked, family = row.asked, self._model.family
        stream = self._new_stream(asked)
        if family in PROMPTED:
            names = languages.QWEN3_ASR if family is Family.QWEN3_ASR else languages.FUNASR_MLT_NANO
            stream.set_option("hotwords", _prompt(asked))
            stream.set_option("language", names[asked.language] if asked.language else "")
        if family is Family.FUNASR_NANO:
            stream.set_option("itn", "1" if asked.itn else "0")
        stream.accept_waveform(SAMPLE_RATE, _long_enough(row.pcm))
        return stream

    def _new_stream(self, asked: Asked) -> Any:
        """A stream of the library; its hotwords are favored, where it can."""
        if asked.hotwords and self._model.family in BIASED:
            return self._recognizer.create_stream(hotwords=_boosted(asked.hotwords))
        return self._recognizer.create_stream()

    def _decode_at_once(self, row: "_Row") -> Heard:
        """A whole segment by a streaming model."""
        stream = self._new_stream(row.asked)
        stream.accept_waveform(SAMPLE_RATE, row.pcm)
        stream.accept_waveform(SAMPLE_RATE, TAIL)
        stream.input_finished()
        while self._recognizer.is_ready(stream):
            self._recognizer.decode_stream(stream)
        text = self._recognizer.get_result(stream)
        pieces = None
        if self._times_tokens:
            pieces = _pieces(self._recognizer.tokens(stream), self._recognizer.timestamps(stream), to_ms(len(row.pcm)))
        return self._finished(row, text, pieces=pieces)

    def _heard(self, row: "_Row", result: Any) -> Heard:
        pieces = _pieces(result.tokens, result.timestamps, to_ms(len(row.pcm))) if self._times_tokens else None
        family = self._model.family
        if family is Family.SENSE_VOICE:
            language, emotion, event = (_tag(one) for one in (result.lang, result.emotion, result.event))
            if language == "nospeech":
                return self._finished(row, "", pieces=[])
            return self._finished(
                row,
                result.text,
                pieces=pieces,
                language=language if language in self._codes else None,
                emotion=emotion if emotion in EMOTIONS else None,
                events=[] if event in _NO_EVENTS else [_EVENTS.get(event, event)],
            )
        if family is Family.QWEN3_ASR:
            code = next((code for code, name in languages.QWEN3_ASR.items() if name == result.lang), None)
            truncated = len(result.tokens) >= MOST_TOKENS - 16  # some name the language, and are taken out
            return self._finished(row, result.text, language=code, truncated=truncated)
        truncated = family is Family.FUNASR_NANO and len(result.tokens) >= MOST_TOKENS
        return self._finished(row, result.text, pieces=pieces, truncated=truncated)

    def _finished(
        self,
        row: "_Row",
        text: str,
        *,
        pieces: list[tuple[str, int, int]] | None = None,
        language: str | None = None,
        emotion: str | None = None,
        events: Sequence[str] = (),
        truncated: bool = False,
    ) -> Heard:
        text = _CONTROL.sub("", text).strip()
        if text and self._punctuation is not None:
            text = self._punctuation.add_punctuation(text)
        only = self._codes[0] if len(self._codes) == 1 else None
        return Heard(text, row.asked.language or language or only, pieces, emotion, list(events), truncated)


class _Row(msgspec.Struct):
    place: int
    pcm: npt.NDArray[np.float32]
    asked: Asked


def _nothing(asked: Asked, *, timed: bool) -> Heard:
    return Heard("", asked.language, [] if timed else None, None, [], truncated=False)


def _long_enough(pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.pad(pcm, (0, max(0, FEWEST_SAMPLES - len(pcm))))


def _tag(symbol: str) -> str:
    """``<|HAPPY|>`` as ``happy``; anything else is no tag."""
    found = _TAG.fullmatch(symbol)
    return found[1].lower() if found else ""


def _pieces(tokens: Sequence[str], begins_s: Sequence[float], end_ms: int) -> list[tuple[str, int, int]]:
    """Tokens with their times: each lasts until the next begins, or a pause."""
    begins = [min(max(0, round(begin * 1000)), end_ms) for begin in begins_s]
    begins = np.maximum.accumulate(begins).tolist() if begins else []
    return [
        (token.replace("▁", " ").removesuffix("@@").strip(), begin, min(end, begin + LONGEST_TOKEN_MS))
        for token, begin, end in zip(tokens, begins, [*begins[1:], end_ms], strict=False)
    ]


def _boosted(hotwords: Sequence[tuple[str, int]]) -> str:
    """As the library's transducers want them: phrases with their scores, between slashes."""
    return "/".join(f"{_plain(text)} :{weight * BOOST_PER_WEIGHT:g}" for text, weight in hotwords if _plain(text))


def _prompt(asked: Asked) -> str:
    """Context and hotwords for a prompt, the heaviest first: without signs that could end it, and bounded."""
    taken: list[str] = []
    room = MOST_PROMPT
    for text in [*(text for text, _ in sorted(asked.hotwords, key=lambda hotword: -hotword[1])), asked.context[-room:]]:
        plain = _plain(text)
        if plain and len(plain) < room:
            taken.append(plain)
            room -= len(plain) + 1
    return ",".join(taken)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[,/:\n]", " ", _CONTROL.sub(" ", text)).split())

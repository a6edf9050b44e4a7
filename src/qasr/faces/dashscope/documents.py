"""Result documents, written as streams: a transcript of hours is never in memory whole, only its text is.

The document tells the whole text of a track before its sentences, so the sentences are read twice.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from qasr.domain.options import RecognitionOptions
from qasr.domain.transcript import Sentence, separator
from qasr.faces.dashscope import task_wire as wire
from qasr.faces.dashscope.spelling import spell
from qasr.faces.dashscope.submission import QWEN
from qasr.pipeline.filters import without_marks
from qasr.storage.transcripts import TranscriptHeader

CHUNK: Final = 64 * 1024
"""Bytes that are gathered before they are sent."""

Sentences: TypeAlias = Callable[[], AsyncIterator[Sentence]]
"""Reads the sentences of a recording from the start, ordered by channel and time."""


@dataclass(frozen=True, slots=True)
class _Spelled:
    """A sentence as the document has it."""

    sentence: Sentence
    text: str
    words: list[wire.ResultWord]


class _Family(Protocol):
    """What differs between the two documents."""

    def head(self, header: TranscriptHeader) -> bytes:
        """Facts about the recording."""
        ...

    def track(self, speech_ms: int) -> bytes:
        """Facts about a track besides its number and text."""
        ...

    def sentence(self, spelled: _Spelled, place: int) -> msgspec.Struct:
        """One sentence; *place* counts from 0."""
        ...


async def document(
    header: TranscriptHeader, sentences: Sentences, dialect: str, options: RecognitionOptions
) -> AsyncGenerator[bytes]:
    """The JSON of one recording in the shape of *dialect*, in pieces of some ``CHUNK`` bytes."""
    family: _Family = _Qwen(words=options.word_times == "words") if dialect == QWEN else _Fun()
    gathered = bytearray()
    async with aclosing(_pieces(header, sentences, family, options)) as pieces:
        async for piece in pieces:
            gathered += piece
            if len(gathered) >= CHUNK:
                yield bytes(gathered)
                gathered.clear()
    yield bytes(gathered)


async def _pieces(
    header: TranscriptHeader, sentences: Sentences, family: _Family, options: RecognitionOptions
) -> AsyncGenerator[bytes]:
    texts = await _texts(sentences, options)
    speech_ms = dict(zip(header.channels, header.speech_ms, strict=True))
    yield b'{"file_url":%s,%s,"transcripts":[' % (_json(header.url), family.head(header))
    async with aclosing(_spelled(sentences, options)) as spoken:
        following = await anext(spoken, None)
        for nth, channel in enumerate(sorted(header.channels)):
            text = _json("".join(texts.get(channel, ())))
            yield b"," * (nth > 0) + b'{"channel_id":%d%s,"text":%s,"sentences":[' % (
                channel,
                family.track(speech_ms[channel]),
                text,
            )
            place = 0
            while following is not None and following.sentence.channel == channel:
                yield b"," * (place > 0) + _json(family.sentence(following, place))
                place += 1
                following = await anext(spoken, None)
            yield b"]}"
    yield b"]}"


async def _texts(sentences: Sentences, options: RecognitionOptions) -> dict[int, list[str]]:
    """The text of each track, in parts."""
    texts: dict[int, list[str]] = {}
    async with aclosing(_spelled(sentences, options)) as spoken:
        async for spelled in spoken:
            parts = texts.setdefault(spelled.sentence.channel, [])
            parts.append((separator(spelled.sentence.language) if parts else "") + spelled.text)
    return texts


async def _spelled(sentences: Sentences, options: RecognitionOptions) -> AsyncGenerator[_Spelled]:
    """All sentences that have something to show."""
    async for sentence in sentences():
        text, words = spell(sentence if options.punctuation else without_marks(sentence), options.hidden)
        if text:
            yield _Spelled(sentence, text, words)


class _Qwen:
    """Family Q; words only where they were asked for."""

    def __init__(self, *, words: bool) -> None:
        self._words = words

    def head(self, header: TranscriptHeader) -> bytes:
        return b'"audio_info":%s' % _json(wire.AudioInfo(container_name(header), header.rate_hz))

    def track(self, speech_ms: int) -> bytes:  # noqa: ARG002 - the other family's
        return b""

    def sentence(self, spelled: _Spelled, place: int) -> wire.QwenResultSentence:
        sentence = spelled.sentence
        return wire.QwenResultSentence(
            sentence_id=place,
            begin_time=sentence.begin_ms,
            end_time=sentence.end_ms,
            language=sentence.language,
            emotion=sentence.emotion,
            text=spelled.text,
            words=spelled.words if self._words else UNSET,
        )


class _Fun:
    """Family F."""

    def head(self, header: TranscriptHeader) -> bytes:
        properties = wire.Properties(
            audio_format=header.codec,
            channels=sorted(header.channels),
            original_sampling_rate=header.rate_hz,
            original_duration_in_milliseconds=header.duration_ms,
        )
        return b'"properties":%s' % _json(properties)

    def track(self, speech_ms: int) -> bytes:
        return b',"content_duration_in_milliseconds":%d' % speech_ms

    def sentence(self, spelled: _Spelled, place: int) -> wire.FunResultSentence:
        sentence = spelled.sentence
        return wire.FunResultSentence(
            begin_time=sentence.begin_ms,
            end_time=sentence.end_ms,
            text=spelled.text,
            sentence_id=place + 1,
            words=spelled.words,
            speaker_id=UNSET if sentence.speaker is None else sentence.speaker,
        )


def container_name(header: TranscriptHeader) -> str:
    """One name for the container: what the address says where the decoder knows several (``mov,mp4,m4a,…``)."""
    names = header.container.split(",")
    try:
        ending = urlsplit(header.url).path.rpartition(".")[2].lower()
    except ValueError:
        ending = ""
    return ending if ending in names else names[0]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)

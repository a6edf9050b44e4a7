"""A transcript as it is printed: text, JSON, subtitles."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import msgspec
from msgspec import UNSET, UnsetType

from qasr.cli.options import Form
from qasr.domain import subtitles
from qasr.domain.speakers import named
from qasr.domain.transcript import Sentence, join


class WordEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One word; times count from the start of the recording."""

    begin_ms: int
    end_ms: int
    text: str
    punctuation: str = ""
    estimated: bool = False
    """No aligner measured the times; they were spread by length."""


class SentenceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence; times as in ``WordEntry``."""

    begin_ms: int
    end_ms: int
    text: str
    channel: int | UnsetType = UNSET
    """Where channels were asked for; from 0."""
    speaker: int | UnsetType = UNSET
    """Where speakers were asked for; from 0, by who speaks first on the channel."""
    estimated: bool = False
    words: list[WordEntry]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One recording; ``sentences`` is null where a server told the text alone, and so may the fields before it be."""

    file: str
    text: str
    language: str | None
    duration_ms: int | None
    engine: str | None
    sentences: list[SentenceEntry] | None


def render(form: Form, file: str, engine: str, duration_ms: int, sentences: Sequence[Sentence]) -> str:
    """What is printed for *file*; it ends with a line break. Several channels mix by time."""
    conversation = named(sentences)
    sentences = [sentence for _, sentence in conversation]
    match form:
        case Form.TXT:
            return (
                "".join(
                    (f"{name}: " if name else "") + join(tuple(sentence for _, sentence in said)) + "\n"
                    for name, said in groupby(conversation, key=itemgetter(0))
                )
                or "\n"
            )
        case Form.SRT:
            return subtitles.srt(sentences)
        case Form.VTT:
            return subtitles.vtt(sentences)
        case Form.JSON:
            by_channel = len({sentence.channel for sentence in sentences}) > 1
            return json_line(
                Document(
                    file=file,
                    text=join(tuple(sentences)),
                    language=next((s.language for s in sentences), None),
                    duration_ms=duration_ms,
                    engine=engine,
                    sentences=[_sentence(sentence, by_channel=by_channel) for sentence in sentences],
                )
            )


def json_line(document: Document) -> str:
    """One line of JSONL."""
    return msgspec.json.encode(document).decode() + "\n"


def _sentence(sentence: Sentence, *, by_channel: bool) -> SentenceEntry:
    return SentenceEntry(
        begin_ms=sentence.begin_ms,
        end_ms=sentence.end_ms,
        text=sentence.text,
        channel=sentence.channel if by_channel else UNSET,
        speaker=UNSET if sentence.speaker is None else sentence.speaker,
        estimated=sentence.estimated,
        words=[
            WordEntry(
                begin_ms=word.begin_ms,
                end_ms=word.end_ms,
                text=word.text,
                punctuation=word.punctuation,
                estimated=word.estimated,
            )
            for word in sentence.words
        ],
    )

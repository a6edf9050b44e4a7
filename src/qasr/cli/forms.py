"""A transcript as it is printed: text, JSON, subtitles."""

from collections.abc import Sequence

import msgspec

from qasr.cli.options import Form
from qasr.domain import subtitles
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
    """What is printed for *file*; it ends with a line break."""
    match form:
        case Form.TXT:
            return join(tuple(sentences)) + "\n"
        case Form.SRT:
            return subtitles.srt(sentences)
        case Form.VTT:
            return subtitles.vtt(sentences)
        case Form.JSON:
            return json_line(
                Document(
                    file=file,
                    text=join(tuple(sentences)),
                    language=next((s.language for s in sentences), None),
                    duration_ms=duration_ms,
                    engine=engine,
                    sentences=[_sentence(sentence) for sentence in sentences],
                )
            )


def json_line(document: Document) -> str:
    """One line of JSONL."""
    return msgspec.json.encode(document).decode() + "\n"


def _sentence(sentence: Sentence) -> SentenceEntry:
    return SentenceEntry(
        begin_ms=sentence.begin_ms,
        end_ms=sentence.end_ms,
        text=sentence.text,
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

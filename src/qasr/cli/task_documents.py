"""Result documents of tasks, of both families, as text or subtitles."""

from collections.abc import Iterator

import msgspec

from qasr.cli.options import Form
from qasr.domain import subtitles
from qasr.domain.transcript import Sentence


class _Sentence(msgspec.Struct):
    begin_time: int
    end_time: int
    text: str
    speaker_id: int | None = None


class _Track(msgspec.Struct):
    text: str = ""
    channel_id: int = 0
    sentences: list[_Sentence] = []


class _Document(msgspec.Struct):
    file_url: str = ""
    transcripts: list[_Track] = []


def file_url(document: bytes) -> str:
    """Which recording it is of."""
    return _read(document).file_url


def render(form: Form, document: bytes) -> str:
    """What is printed for *document*; it ends with a line break. Tracks follow each other in text, and mix by time in
    subtitles.

    Raises:
        ValueError: it is no such document.
    """
    match form:
        case Form.JSON:
            return msgspec.json.format(document, indent=-1).decode() + "\n"
        case Form.TXT:
            return "\n".join(track.text for track in _read(document).transcripts) + "\n"
        case Form.SRT:
            return subtitles.srt(_sentences(document))
        case Form.VTT:
            return subtitles.vtt(_sentences(document))


def _sentences(document: bytes) -> Iterator[Sentence]:
    spoken = [(s, track.channel_id) for track in _read(document).transcripts for s in track.sentences]
    for sentence, channel in sorted(spoken, key=lambda item: item[0].begin_time):
        yield Sentence(
            text=sentence.text,
            begin_ms=sentence.begin_time,
            end_ms=sentence.end_time,
            channel=channel,
            speaker=sentence.speaker_id,
        )


def _read(document: bytes) -> _Document:
    return msgspec.json.decode(document, type=_Document)

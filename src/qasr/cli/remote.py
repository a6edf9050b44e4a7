"""Recordings become text by a server: files through ``audio/transcriptions``, addresses through chat completions.

Any server that speaks OpenAI's ``audio/transcriptions`` will do for files; the answer is read with tolerance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import msgspec

from qasr.cli.failure import one_line
from qasr.cli.forms import Document, SentenceEntry, WordEntry, json_line, render
from qasr.cli.options import Form
from qasr.cli.recordings import Recording
from qasr.cli.transcriber import Heard, Outcome, TranscriptionFailed
from qasr.domain.errors import TooLarge
from qasr.domain.transcript import Sentence

FILE_MODEL: Final = "whisper-1"
URL_MODEL: Final = "qwen3-asr-flash"
ANSWER_S: Final = 3600.0
"""Longest wait for an answer; the server has its own limit, which is shorter."""
MAX_BYTES: Final = 2 * 1024**3
LONGEST_MESSAGE: Final = 500
FORMATS: Final = {Form.TXT: "text", Form.JSON: "verbose_json", Form.SRT: "srt", Form.VTT: "vtt"}
"""The value of ``response_format``."""


class _Word(msgspec.Struct):
    word: str
    start: float
    end: float
    estimated: bool = False


class _Segment(msgspec.Struct):
    text: str
    start: float
    end: float


class _Verbose(msgspec.Struct):
    text: str
    duration: float | None = None
    language: str | None = None
    segments: list[_Segment] | None = None
    words: list[_Word] | None = None


class _Spoken(msgspec.Struct):
    text: str
    start: float
    end: float
    speaker: str


class _Diarized(msgspec.Struct):
    text: str
    segments: list[_Spoken]
    duration: float | None = None


class _Annotation(msgspec.Struct):
    language: str | None = None


class _Message(msgspec.Struct):
    content: str
    annotations: list[_Annotation] = []


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Detail(msgspec.Struct):
    message: str


_DIARIZED: Final = msgspec.json.Decoder(_Diarized)


class _Failure(msgspec.Struct):
    error: _Detail


def client(server: str, api_key: str | None) -> httpx2.AsyncClient:
    """Connections to *server*; to be closed. A server without keys takes any, but not none."""
    return httpx2.AsyncClient(
        base_url=server.rstrip("/").removesuffix("/v1").removesuffix("/compatible-mode"),
        headers={"Authorization": f"Bearer {api_key or 'any'}"},
        timeout=httpx2.Timeout(ANSWER_S, connect=10.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A ``Transcriber`` that asks a server."""

    client: httpx2.AsyncClient
    form: Form
    language: str | None
    hotwords: tuple[str, ...]
    model: str | None
    spool: Path
    speakers: bool = False

    async def transcribe(self, recording: Recording, heard: Heard) -> Outcome:
        """Have *recording* heard.

        Raises:
            TranscriptionFailed: with the server's reason, or why there is none.
        """
        try:
            document = await (self._of_url(recording) if recording.is_url else self._of_file(recording))
        except httpx2.HTTPError as error:
            raise TranscriptionFailed(
                f"{self.client.base_url} does not answer: {error or type(error).__name__}"
            ) from error
        except msgspec.MsgspecError as error:
            raise TranscriptionFailed("the server's answer has an unknown shape") from error
        except TooLarge as error:
            raise TranscriptionFailed(str(error)) from error
        except OSError as error:
            raise TranscriptionFailed(error.strerror or str(error)) from error
        if isinstance(document, str):
            return Outcome(document)
        heard(document.duration_ms or 0)
        return Outcome(json_line(document) if self.form is Form.JSON else f"{document.text}\n")

    async def _of_file(self, recording: Recording) -> Document | str:
        fields: dict[str, str | list[str]] = {
            "model": self.model or FILE_MODEL,
            "response_format": "diarized_json" if self.speakers else FORMATS[self.form],
        }
        if self.language is not None:
            fields["language"] = self.language
        if self.hotwords:
            fields["keywords[]"] = list(self.hotwords)
        if self.form is Form.JSON and not self.speakers:
            fields["timestamp_granularities[]"] = ["segment", "word"]
        async with recording.file(self.spool, max_bytes=MAX_BYTES) as path:
            with path.open("rb") as file:
                answer = await self.client.post(
                    "/v1/audio/transcriptions", data=fields, files={"file": (f"{recording.stem}{path.suffix}", file)}
                )
        _check(answer)
        engine = answer.headers.get("X-Qasr-Engine")
        if self.speakers:
            return _conversation(self.form, recording.name, engine, _DIARIZED.decode(answer.content))
        if self.form is not Form.JSON:
            return answer.text
        heard = msgspec.json.decode(answer.content, type=_Verbose)
        return Document(
            file=recording.name,
            text=heard.text,
            language=heard.language,
            duration_ms=None if heard.duration is None else _ms(heard.duration),
            engine=engine,
            sentences=_sentences(heard.segments or [], heard.words or []),
        )

    async def _of_url(self, recording: Recording) -> Document:
        audio = {"type": "input_audio", "input_audio": {"data": recording.argument}}
        answer = await self.client.post(
            "/compatible-mode/v1/chat/completions",
            json={
                "model": self.model or URL_MODEL,
                "messages": [{"role": "user", "content": [audio]}],
                "asr_options": {"language": self.language} if self.language else {},
            },
        )
        _check(answer)
        message = msgspec.json.decode(answer.content, type=_Completion).choices[0].message
        return Document(
            file=recording.name,
            text=message.content,
            language=next((annotation.language for annotation in message.annotations), None),
            duration_ms=None,
            engine=answer.headers.get("X-Qasr-Engine"),
            sentences=None,
        )


def _conversation(form: Form, file: str, engine: str | None, heard: _Diarized) -> str:
    """As it is printed; who speaks first is 0, whatever the server calls them."""
    speakers = {name: number for number, name in enumerate(dict.fromkeys(one.speaker for one in heard.segments))}
    sentences = [
        Sentence(text=one.text.strip(), begin_ms=_ms(one.start), end_ms=_ms(one.end), speaker=speakers[one.speaker])
        for one in heard.segments
    ]
    return render(form, file, engine or "", _ms(heard.duration or 0), sentences)


def _check(answer: httpx2.Response) -> None:
    if answer.is_success:
        return
    try:
        message = msgspec.json.decode(answer.content, type=_Failure).error.message
    except msgspec.MsgspecError:
        message = answer.text or answer.reason_phrase
    raise TranscriptionFailed(f"{one_line(message)[:LONGEST_MESSAGE]} (HTTP {answer.status_code})")


def _sentences(segments: Sequence[_Segment], words: Sequence[_Word]) -> list[SentenceEntry]:
    """Each word goes to the last sentence that begins no later than the word's middle."""
    shares: list[list[WordEntry]] = [[] for _ in segments]
    for word in words:
        middle = (word.start + word.end) / 2
        begun = [number for number, segment in enumerate(segments) if segment.start <= middle]
        if shares:
            entry = WordEntry(begin_ms=_ms(word.start), end_ms=_ms(word.end), text=word.word, estimated=word.estimated)
            shares[begun[-1] if begun else 0].append(entry)
    return [
        SentenceEntry(
            begin_ms=_ms(segment.start),
            end_ms=_ms(segment.end),
            text=segment.text.strip(),
            estimated=any(word.estimated for word in share),
            words=share,
        )
        for segment, share in zip(segments, shares, strict=True)
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)

"""Shapes of the two interfaces that we ask, and what their answers mean. No I/O here.

Chat completions tell the language, in one of two ways:

    ``tagged``      ``language English<asr_text>Hello.``: what Qwen3-ASR writes, untouched by vLLM
    ``annotated``   ``annotations: [{"type": "audio_info", "language": "en"}]``: DashScope, and this program itself

Transcriptions take a language, and tell one only in ``verbose_json``, which vLLM refuses for Qwen3-ASR.
"""

import base64
import io
import re
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import httpx2
import msgspec
import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.languages import find_code
from qasr.domain.transcript import Hypothesis, Word
from qasr.engines.upstream.client import Answer, Broken

Telling: TypeAlias = Literal["none", "plain", "tagged", "annotated"]
"""How chat completions tell the language; ``plain``: not at all; ``none``: they are not to be used."""

MOST_TOKENS_PER_S: Final = 25
"""Qwen3-ASR writes about 3.5 tokens for a second of English; languages whose letters are several tokens each, some 15.
What writes more is caught in a loop."""
SPARE_TOKENS: Final = 64
VLLM_CODES: Final = {"fil": "tl"}
"""vLLM takes the codes of Whisper and refuses others."""
LEAST_SAMPLES: Final = SAMPLE_RATE // 2
"""What Qwen3-ASR's own program pads shorter sounds to."""

_TAGGED: Final = re.compile(r"\s*language\s+(?P<name>[^<\n]*)<asr_text>(?P<text>.*)", re.DOTALL)
_CONTROL: Final = re.compile(r"<\|[^|>]*\|>|<asr_text>", re.IGNORECASE)


# ---- requests


def to_wav(pcm: Pcm) -> bytes:
    """*pcm* as a WAV file of 16-bit samples, with silence behind it where it is shorter than a model can take."""
    pcm = np.pad(pcm, (0, max(0, LEAST_SAMPLES - len(pcm))))
    samples = np.clip(np.rint(np.asarray(pcm, np.float32) * 32767), -32768, 32767).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(samples.tobytes())
    return file.getvalue()


def most_tokens(pcm: Pcm) -> int:
    """More than speech of this length can take."""
    return SPARE_TOKENS + MOST_TOKENS_PER_S * (len(pcm) // SAMPLE_RATE + 1)


def inert(context: str) -> str:
    """*context* without the marks by which a model's prompt is divided: a client must not speak for others."""
    while (without := _CONTROL.sub("", context)) != context:
        context = without
    return context


def chat_request(model: str, pcm: Pcm, context: str, language: str | None) -> Mapping[str, Any]:
    """A chat completion as httpx takes it. *language*: only for servers whose answers are annotated."""
    audio = {"data": base64.b64encode(to_wav(pcm)).decode("ascii"), "format": "wav"}
    messages: list[Mapping[str, Any]] = [
        {"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]},
    ]
    if context:
        messages.insert(0, {"role": "system", "content": inert(context)})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "temperature": 0,
        "max_completion_tokens": most_tokens(pcm),
    }
    if language is not None:
        body["asr_options"] = {"language": language}
    return {"content": msgspec.json.encode(body), "headers": {"Content-Type": "application/json"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a transcription is asked with, besides the sound."""

    model: str
    language: str | None = None
    prompt: str = ""
    verbose: bool = False
    words: bool = False
    vllm: bool = False
    """Say the language in vLLM's own words too (its Qwen3-ASR overlooked ``language`` in many versions), bound the
    tokens, and have the answer streamed: only then does it tell that the bound was reached."""


def transcription_request(form: Form, pcm: Pcm) -> Mapping[str, Any]:
    """A transcription as httpx takes it."""
    fields = {"model": form.model, "response_format": "verbose_json" if form.verbose else "json", "temperature": "0"}
    if form.language is not None:
        fields["language"] = form.language
        if form.vllm:
            fields["language"] = fields["to_language"] = VLLM_CODES.get(form.language, form.language)
    if form.prompt:
        fields["prompt"] = inert(form.prompt)
    if form.words:
        fields["timestamp_granularities[]"] = "word"
    if form.vllm and not form.verbose:  # a verbose answer would hide that it was cut
        fields["max_completion_tokens"] = str(most_tokens(pcm))
        fields["stream"] = "true"
    files = {"file": ("segment.wav", to_wav(pcm), "audio/wav")}
    form_data = httpx2.Request("POST", "http://upstream/", data=fields, files=files)
    content = form_data.read()  # in one piece: httpx would send each field by itself
    return {"content": content, "headers": {"Content-Type": form_data.headers["Content-Type"]}}


# ---- answers


class _Named(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Named]


class _Annotation(msgspec.Struct):
    type: str | None = None
    language: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    annotations: list[_Annotation] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]


class _Word(msgspec.Struct):
    word: str
    start: float
    end: float
    estimated: bool = False
    """Told by servers of this program: the times were not measured."""


class _Transcription(msgspec.Struct):
    text: str
    language: str | None = None
    words: list[_Word] | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _PieceChoice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Piece(msgspec.Struct):
    """One event of vLLM's stream (``transcription.chunk``), or the error that ends it."""

    choices: list[_PieceChoice] = []
    error: object = None


_MODELS: Final = msgspec.json.Decoder(_Models)
_CHAT: Final = msgspec.json.Decoder(_Chat)
_TRANSCRIPTION: Final = msgspec.json.Decoder(_Transcription)
_PIECE: Final = msgspec.json.Decoder(_Piece)


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that a server lists."""

    name: str
    vllm: bool


def read_models(answer: Answer) -> list[Listed]:
    """The models, in order.

    Raises:
        Broken: this is no list of models.
    """
    try:
        return [Listed(model.id, model.owned_by == "vllm") for model in _MODELS.decode(answer.body).data]
    except msgspec.MsgspecError as error:
        raise Broken("the answer is no list of models") from error


def read_chat(answer: Answer) -> tuple[Hypothesis, Telling]:
    """What was heard, and how the language was told.

    Raises:
        Broken: this is no chat completion.
    """
    try:
        choice = _CHAT.decode(answer.body).choices[0]
    except (msgspec.MsgspecError, IndexError) as error:
        raise Broken("the answer is no chat completion") from error
    content, truncated = choice.message.content or "", choice.finish_reason == "length"
    if (spoken := _untagged(content)) is not None:
        text, language = spoken
        return Hypothesis(text=text, language=language, truncated=truncated), "tagged"
    for annotation in choice.message.annotations or ():
        if annotation.type == "audio_info":
            language = find_code(annotation.language or "")
            return Hypothesis(text=content.strip(), language=language, truncated=truncated), "annotated"
    return Hypothesis(text=content.strip(), truncated=truncated), "plain"


def read_transcription(answer: Answer) -> Hypothesis:
    """What was heard; ``words`` is None where the server gave none.

    Raises:
        Broken: this is no transcription.
    """
    if answer.content_type == "text/event-stream":
        return _read_stream(answer.body)
    try:
        found = _TRANSCRIPTION.decode(answer.body)
        words = None if found.words is None else tuple(_words(found.words))
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise Broken("the answer is no transcription") from error
    text, language = _untagged(found.text) or (found.text.strip(), None)
    return Hypothesis(text=text, language=language or find_code(found.language or ""), words=words)


def _read_stream(body: bytes) -> Hypothesis:
    text, reason = "", None
    try:
        for piece in _pieces(body):
            if piece.error is not None:
                raise Broken("the answer broke off with an error")
            for choice in piece.choices[:1]:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Broken("the answer is no transcription") from error
    if reason is None:
        raise Broken("the answer ended before its end")
    heard, language = _untagged(text) or (text.strip(), None)
    return Hypothesis(text=heard, language=language, truncated=reason == "length")


def _pieces(body: bytes) -> Iterator[_Piece]:
    for line in body.splitlines():
        if line.startswith(b"data:") and (data := line.removeprefix(b"data:").strip()) != b"[DONE]":
            yield _PIECE.decode(data)


def _untagged(content: str) -> tuple[str, str | None] | None:
    """Text and language of what Qwen3-ASR wrote; None if it is not in its shape.

    Where it heard no speech it writes ``language None``; of several languages, the first one is told.
    """
    match = _TAGGED.fullmatch(content)
    if match is None:
        return None
    return match["text"].strip(), find_code(match["name"].partition(",")[0])


def _words(words: list[_Word]) -> Iterator[Word]:
    """Words in order of time: where times go backwards, they are held."""
    last_ms = 0
    for word in words:
        begin_ms = max(last_ms, round(word.start * 1000))
        last_ms = max(begin_ms, round(word.end * 1000))
        yield Word(text=word.word.strip(), begin_ms=begin_ms, end_ms=last_ms, estimated=word.estimated)

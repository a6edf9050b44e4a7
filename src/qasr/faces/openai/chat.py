"""Chat completions: the request becomes an order, sentences become an answer or chunks. No I/O here."""

import time
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from qasr.catalogue import LIVE, Model
from qasr.domain.audio import RawFormat, Source
from qasr.domain.errors import InvalidParameter, ModelNotServed, QasrError
from qasr.domain.options import Hints, RecognitionOptions
from qasr.domain.transcript import Sentence, Transcript, separator
from qasr.faces.audio import InlineLimits, parse_audio
from qasr.faces.http import LARGEST_CONTEXT
from qasr.faces.languages import parse_language
from qasr.faces.openai import errors, wire
from qasr.faces.usage import Usage, count_tokens
from qasr.service import Order

MOST_MESSAGES = 64
"""More is no recognition."""


def parse(request: wire.ChatRequest, model: Model, owner: str, deadline_s: float) -> Order:
    """The order that *request* means.

    Raises:
        InvalidParameter, TooLarge, ModelNotServed.
    """
    if model.kind in ("qwen-file", "fun-file", *LIVE):
        raise ModelNotServed(f"Unsupported model `{request.model}` for OpenAI compatibility mode.")
    if request.stream_options is not None and not request.stream:
        raise InvalidParameter(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", parameter="stream_options"
        )
    if request.modalities and request.modalities != ["text"]:
        raise InvalidParameter("Only the modality 'text' is made here.", parameter="modalities")
    if len(request.messages) > MOST_MESSAGES:
        raise InvalidParameter(f"More than {MOST_MESSAGES} messages.", parameter="messages")
    source, raw = _audio(request.messages, model)
    options = request.asr_options or wire.AsrOptions()
    hints = Hints(language=parse_language(options.language), context=_context(request.messages))
    return Order(
        source=source,
        raw=raw,
        options=RecognitionOptions(hints=hints, itn=bool(options.enable_itn)),
        limits=model.limits,
        languages=model.languages,
        owner=owner,
        model=model.name,
        deadline_s=deadline_s,
    )


def _audio(messages: Sequence[wire.ChatMessage], model: Model) -> tuple[Source, RawFormat | None]:
    users = [message for message in messages if message.role == "user"]
    if not users:
        raise InvalidParameter(
            "The input messages do not contain elements with the role of user.", parameter="messages"
        )
    parts = [part for message in users if isinstance(message.content, list) for part in message.content]
    audios = [part.input_audio for part in parts if part.input_audio is not None]
    if not audios:
        raise InvalidParameter("The item of content should be a message of a certain modal.", parameter="messages")
    if len(audios) > 1:
        raise InvalidParameter("Only one audio per request is supported.", parameter="messages")
    limits = InlineLimits(model.inline_bytes, of_text=model.kind != "fun-sync")
    return parse_audio(audios[0].data, audios[0].format, limits)


def _context(messages: Sequence[wire.ChatMessage]) -> str:
    """All system texts; the documentation has them first, but their place changes nothing."""
    texts = []
    for message in messages:
        if message.role not in ("system", "developer"):
            continue
        if isinstance(message.content, str):
            texts.append(message.content)
        elif message.content is not None:
            texts += [part.text for part in message.content if part.text]
    context = "\n".join(texts)
    if len(context) > LARGEST_CONTEXT:
        raise InvalidParameter(f"The context exceeds {LARGEST_CONTEXT} characters.", parameter="messages")
    return context


def usage(measured: Usage) -> wire.ChatUsage:
    """Counts as documented."""
    return wire.ChatUsage(
        prompt_tokens=measured.audio_tokens,
        prompt_tokens_details=wire.PromptDetails(audio_tokens=measured.audio_tokens),
        completion_tokens=measured.output_tokens,
        completion_tokens_details=wire.CompletionDetails(text_tokens=measured.output_tokens),
        total_tokens=measured.audio_tokens + measured.output_tokens,
        seconds=measured.seconds,
    )


def answer(model: str, transcript: Transcript) -> wire.ChatCompletion:
    """The whole answer at once."""
    measured = Usage(transcript.duration_ms, sum(map(count_tokens, transcript.sentences)))
    emotion = next((s.emotion for s in transcript.sentences if s.emotion), None)
    message = wire.Message(
        content=transcript.text, annotations=[wire.Annotation(language=transcript.language, emotion=emotion)]
    )
    truncated = any(sentence.truncated for sentence in transcript.sentences)
    return wire.ChatCompletion(
        id=f"chatcmpl-{uuid.uuid4()}",
        created=int(time.time()),
        model=model,
        choices=[wire.Choice(message=message, finish_reason="length" if truncated else "stop")],
        usage=usage(measured),
    )


class Chunks:
    """The stream's frames, in order: role, texts, end, usage (if asked), ``[DONE]``."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._model, self._include_usage = model, include_usage
        self._id, self._created = f"chatcmpl-{uuid.uuid4()}", int(time.time())
        self._output_tokens = 0
        self._truncated = False
        self._any = False

    def begin(self) -> bytes:
        """The role chunk."""
        return self._choice(wire.Delta(role="assistant", content=""))

    def text(self, sentence: Sentence) -> bytes:
        """One sentence; pieces put together are the text of the unstreamed answer."""
        piece = (separator(sentence.language) if self._any else "") + sentence.text
        self._any = True
        self._output_tokens += count_tokens(sentence)
        self._truncated |= sentence.truncated
        annotation = wire.Annotation(language=sentence.language, emotion=sentence.emotion)
        return self._choice(wire.Delta(role=None, content=piece, annotations=[annotation]))

    def end(self, duration_ms: int) -> Iterator[bytes]:
        """What follows the last text."""
        yield self._choice(wire.Delta(role=None), finish_reason="length" if self._truncated else "stop")
        if self._include_usage:
            yield self._frame([], usage(Usage(duration_ms, self._output_tokens)))
        yield b"data: [DONE]\n\n"

    def _choice(self, delta: wire.Delta, finish_reason: str | None = None) -> bytes:
        return self._frame([wire.ChunkChoice(delta=delta, finish_reason=finish_reason)], None)

    def _frame(self, choices: list[wire.ChunkChoice], measured: wire.ChatUsage | None) -> bytes:
        chunk = wire.Chunk(id=self._id, created=self._created, model=self._model, choices=choices, usage=measured)
        return data_frame(msgspec.json.encode(chunk))


def data_frame(body: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + body + b"\n\n"


def error_frame(error: QasrError, request_id: str) -> bytes:
    """An error after the stream has begun; the SDK raises on any frame that holds ``error``."""
    return data_frame(msgspec.json.encode(errors.failure(error, request_id)[1]))

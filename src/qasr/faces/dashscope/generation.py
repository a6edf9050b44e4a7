"""``multimodal-generation/generation``: one path, two dialects; the model decides. No I/O here.

Frames of the native event stream are exact: no blank after the colons (the classic SDK knows an error frame only as
``event:error``), the status in a comment and, for errors, in a ``status:`` line too, and never ``[DONE]`` (the SDK
would hand it to its JSON decoder).
"""

from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec

from qasr.catalogue import LIVE, Model
from qasr.domain.audio import RawFormat, Source
from qasr.domain.errors import InvalidParameter, ModelNotServed, NoSpeech, UnsupportedOption
from qasr.domain.options import Hints, Hotword, RecognitionOptions
from qasr.domain.transcript import Sentence, Transcript, join, separator
from qasr.domain.transcript import Word as SpokenWord
from qasr.faces.audio import PCM_RATE_HZ, InlineLimits, parse_audio
from qasr.faces.dashscope import wire
from qasr.faces.http import LARGEST_CONTEXT
from qasr.faces.languages import parse_language
from qasr.faces.usage import Usage, count_tokens
from qasr.service import Order

MOST_MESSAGES: Final = 64
CONTEXT_TURNS: Final = 5
"""Earlier turns of each role that the Fun dialect takes as context."""
CONTEXT_TURN_CHARS: Final = 400
"""Characters of a turn; the end is cut, as documented."""
INSTANT_HOTWORDS: Final = 50
LANGUAGE_HINTS: Final = 4


def parse(request: wire.GenerationRequest, model: Model, owner: str, deadline_s: float) -> Order:
    """The order that *request* means.

    Raises:
        InvalidParameter, UnsupportedOption, TooLarge, ModelNotServed.
    """
    if model.kind in ("qwen-file", "fun-file", *LIVE):
        raise ModelNotServed(f"Model `{request.model}` does not support synchronous calls on this interface.")
    messages = request.input.messages
    if len(messages) > MOST_MESSAGES:
        raise InvalidParameter(f"More than {MOST_MESSAGES} messages.", parameter="messages")
    parameters = request.parameters or wire.Parameters()
    source, raw = _audio(messages, parameters, model)
    read_options = _fun_options if model.kind == "fun-sync" else _qwen_options
    return Order(
        source=source,
        raw=raw,
        options=read_options(messages, parameters),
        limits=model.limits,
        languages=model.languages,
        owner=owner,
        model=model.name,
        deadline_s=deadline_s,
    )


def _parts(message: wire.Message) -> Sequence[wire.Part]:
    if isinstance(message.content, str):
        return (wire.Part(text=message.content),)
    return message.content or ()


def _audio(
    messages: Sequence[wire.Message], parameters: wire.Parameters, model: Model
) -> tuple[Source, RawFormat | None]:
    users = [message for message in messages if message.role == "user"]
    if not users:
        raise InvalidParameter(
            "The input messages do not contain elements with the role of user.", parameter="messages"
        )
    found: list[tuple[str, str | None]] = []
    for part in (part for message in users for part in _parts(message)):
        if part.audio is not None:
            found.append((part.audio, None))
        if part.input_audio is not None:
            found.append((part.input_audio.data, part.input_audio.format))
    if not found:
        raise InvalidParameter("The item of content should be a message of a certain modal.", parameter="messages")
    if len(found) > 1:
        raise InvalidParameter("Only one audio per request is supported.", parameter="messages")
    limits = InlineLimits(model.inline_bytes, of_text=model.kind != "fun-sync")
    data, audio_format = found[0]
    return parse_audio(data, audio_format or parameters.format, limits, rate_hz=_rate(parameters.sample_rate))


def _rate(value: str | int | None) -> int:
    """``sample_rate`` is a text in the vendor's samples."""
    if value is None:
        return PCM_RATE_HZ
    if not str(value).isdecimal() or not 4_000 <= int(str(value)[:9]) <= 192_000:
        raise InvalidParameter("sample_rate must lie within 4000 and 192000 Hz.", parameter="sample_rate")
    return int(value)


def _qwen_options(messages: Sequence[wire.Message], parameters: wire.Parameters) -> RecognitionOptions:
    asr = parameters.asr_options or wire.AsrOptions()
    texts = [part.text for message in messages if message.role == "system" for part in _parts(message) if part.text]
    context = "\n".join(texts)
    if len(context) > LARGEST_CONTEXT:
        raise InvalidParameter(f"The context exceeds {LARGEST_CONTEXT} characters.", parameter="messages")
    return RecognitionOptions(
        hints=Hints(language=parse_language(asr.language), context=context), itn=bool(asr.enable_itn)
    )


def _fun_options(messages: Sequence[wire.Message], parameters: wire.Parameters) -> RecognitionOptions:
    turns: list[str] = []
    for role in ("user", "assistant"):
        texts = [part.text for message in messages if message.role == role for part in _parts(message) if part.text]
        turns += [text[:CONTEXT_TURN_CHARS] for text in texts[-CONTEXT_TURNS:]]
    languages = [parse_language(code) for code in parameters.language_hints or ()]
    if len(languages) > LANGUAGE_HINTS:
        raise InvalidParameter(f"At most {LANGUAGE_HINTS} language_hints.", parameter="language_hints")
    if parameters.vocabulary_id:
        raise UnsupportedOption("Stored vocabularies are not available on this server.", parameter="vocabulary_id")
    hints = Hints(
        language=languages[0] if len(languages) == 1 else None,
        context="\n".join(turns),
        hotwords=instant_hotwords(parameters.vocabulary or {}),
    )
    return RecognitionOptions(hints=hints, word_times="words", speakers=bool(parameters.speaker_diarization_enabled))


def instant_hotwords(vocabulary: dict[str, int], *, most: int = INSTANT_HOTWORDS) -> tuple[Hotword, ...]:
    """Words that come with the request, *most* of them.

    Raises:
        InvalidParameter: too many, or weights out of range.
    """
    if len(vocabulary) > most:
        raise InvalidParameter(f"vocabulary holds more than {most} words.", parameter="vocabulary")
    for text, weight in vocabulary.items():
        if not text.strip() or weight not in (1, 2, 3, 4, 5, 50):
            raise InvalidParameter("vocabulary weights must be 1 to 5, or 50.", parameter="vocabulary")
    return tuple(Hotword(text=text, weight=weight) for text, weight in vocabulary.items())


# ---- answers


class Answers(Protocol):
    """How one dialect shapes an answer and the frames of a stream."""

    def whole(self, transcript: Transcript) -> msgspec.Struct:
        """The unstreamed answer."""
        ...

    def frames(self, heard: Sequence[Sentence], newest: Sentence | None, duration_ms: int) -> Iterator[msgspec.Struct]:
        """Frames for the *newest* sentence of *heard*; None: the end."""
        ...


class QwenAnswers:
    """The Qwen dialect; *incremental*: each frame holds what is new, else all so far."""

    def __init__(self, request_id: str, *, incremental: bool) -> None:
        self._request_id, self._incremental = request_id, incremental

    def whole(self, transcript: Transcript) -> wire.GenerationAnswer:
        """The unstreamed answer."""
        reason = "length" if any(sentence.truncated for sentence in transcript.sentences) else "stop"
        return self._answer(
            transcript.text, transcript.sentences, transcript.duration_ms, reason, language=transcript.language
        )

    def frames(
        self, heard: Sequence[Sentence], newest: Sentence | None, duration_ms: int
    ) -> Iterator[wire.GenerationAnswer]:
        """One frame a sentence, and one for the end."""
        everything = join(tuple(heard))
        text = everything
        if self._incremental:
            text = everything[len(join(tuple(heard[:-1]))) :] if newest is not None else ""
        reason = "null"
        if newest is None:
            reason = "length" if any(sentence.truncated for sentence in heard) else "stop"
        yield self._answer(
            text, heard, duration_ms, reason, language=next((s.language for s in heard if s.language), None)
        )

    def _answer(
        self, text: str, heard: Sequence[Sentence], duration_ms: int, reason: str, *, language: str | None
    ) -> wire.GenerationAnswer:
        measured = Usage(duration_ms, sum(map(count_tokens, heard)))
        emotion = next((sentence.emotion for sentence in heard if sentence.emotion), None)
        message = wire.AnswerMessage(
            annotations=[wire.Annotation(language=language, emotion=emotion)], content=[wire.TextPart(text=text)]
        )
        return wire.GenerationAnswer(
            output=wire.Output(choices=[wire.Choice(finish_reason=reason, message=message)]),
            usage=wire.QwenUsage(
                input_tokens_details=wire.TextTokens(text_tokens=0),
                output_tokens_details=wire.TextTokens(text_tokens=measured.output_tokens),
                seconds=measured.seconds,
            ),
            request_id=self._request_id,
        )


class FunAnswers:
    """The Fun-ASR-Flash dialect."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def whole(self, transcript: Transcript) -> wire.FunAnswer:
        """The unstreamed answer: one sentence object that spans everything.

        Raises:
            NoSpeech: nothing was said; this dialect has an error for it (the Qwen dialect answers an empty text).
        """
        if not transcript.sentences:
            raise NoSpeech("ASR_RESPONSE_HAVE_NO_WORDS")
        return self._answer(transcript.text, transcript.sentences, 1, transcript.duration_ms)

    def frames(self, heard: Sequence[Sentence], newest: Sentence | None, duration_ms: int) -> Iterator[wire.FunAnswer]:
        """One frame a sentence; the end brings nothing of its own.

        Raises:
            NoSpeech: the end has come, and nothing was said.
        """
        if newest is None and not heard:
            raise NoSpeech("ASR_RESPONSE_HAVE_NO_WORDS")
        if newest is not None:
            yield self._answer(join(tuple(heard)), [newest], len(heard), duration_ms)

    def _answer(self, text: str, heard: Sequence[Sentence], number: int, duration_ms: int) -> wire.FunAnswer:
        words = [_fun_word(word, first=i == 0, language=s.language) for s in heard for i, word in enumerate(s.words)]
        sentence = wire.Sentence(
            sentence_id=number,
            sentence_end=True,
            begin_time=heard[0].begin_ms,
            end_time=heard[-1].end_ms,
            text=join(tuple(heard)),
            channel_id=0,
            words=words,
        )
        return wire.FunAnswer(
            output=wire.FunOutput(text=text, sentence=sentence),
            usage=wire.FunUsage(duration=-(-duration_ms // 1000)),
            request_id=self._request_id,
        )


def _fun_word(word: SpokenWord, *, first: bool, language: str | None) -> wire.Word:
    """In spaced scripts the blank stands at the head of all words but a sentence's first, as the samples have it."""
    return wire.Word(
        text=("" if first else separator(language)) + word.text,
        begin_time=word.begin_ms,
        end_time=word.end_ms,
        punctuation=word.punctuation,
        fixed=False,
    )


def result_frame(number: int, body: bytes) -> bytes:
    """One ``event:result``."""
    return b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:%s\n\n" % (number, body)


def error_frame(number: int, status: int, body: bytes) -> bytes:
    """One ``event:error``; the status stands twice, see the head of this file."""
    return b"id:%d\nevent:error\nstatus:%d\n:HTTP_STATUS/%d\ndata:%s\n\n" % (number, status, status, body)

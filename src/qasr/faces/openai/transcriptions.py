"""``audio/transcriptions``: form fields become an order, a transcript becomes one of five forms. No I/O here."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast

import msgspec

from qasr.catalogue import LIVE, Model
from qasr.domain.audio import Source
from qasr.domain.errors import InvalidParameter, ModelNotServed, UnsupportedOption
from qasr.domain.options import Hints, Hotword, RecognitionOptions
from qasr.domain.subtitles import srt, vtt
from qasr.domain.transcript import Sentence, Token, Transcript, Word
from qasr.faces.http import LARGEST_CONTEXT
from qasr.faces.languages import language_name, parse_language
from qasr.faces.openai import wire
from qasr.faces.usage import Usage, count_tokens
from qasr.pipeline.segment import SegmentPolicy
from qasr.service import Order

Form: TypeAlias = Sequence[tuple[str, str]]
"""The text fields, in order; lists repeat their name, with or without ``[]``."""

ResponseFormat: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt"]
FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt")
DEFAULT_HOTWORD_WEIGHT: Final = 4
"""What the vendor advises; this interface has no weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the answer is to look like."""

    response_format: ResponseFormat = "json"
    words: bool = False
    segments: bool = True
    logprobs: bool = False
    stream: bool = False


def parse(form: Form, source: Source, model: Model, owner: str, deadline_s: float) -> tuple[Order, Wanted]:
    """The order that *form* means, and the form of its answer.

    Raises:
        InvalidParameter, UnsupportedOption, ModelNotServed.
    """
    if model.kind in LIVE:
        raise ModelNotServed(f"Unsupported model `{model.name}` for audio transcriptions.")
    wanted = _wanted(form)
    prompt = _one(form, "prompt") or ""
    if len(prompt) > LARGEST_CONTEXT:
        raise InvalidParameter(f"The prompt exceeds {LARGEST_CONTEXT} characters.", parameter="prompt")
    for name in ("known_speaker_names", "known_speaker_references"):
        if _many(form, name):
            raise UnsupportedOption("The loaded engine does not tell speakers apart.", parameter=name)
    temperature = _number(form, "temperature", 0.0, 2.0)
    del temperature  # checked; recognition is greedy, which is what 0 asks for
    languages = _many(form, "languages")
    hints = Hints(
        language=parse_language(_one(form, "language") or (languages[0] if len(languages) == 1 else None)),
        context=prompt,
        hotwords=tuple(Hotword(text=word, weight=DEFAULT_HOTWORD_WEIGHT) for word in _many(form, "keywords")),
    )
    timed = wanted.words or wanted.response_format in ("srt", "vtt")
    order = Order(
        source=source,
        options=RecognitionOptions(hints=hints, word_times="words" if timed else "none"),
        limits=model.limits,
        languages=model.languages,
        owner=owner,
        model=model.name,
        deadline_s=deadline_s,
    )
    return replace(order, policy=_policy(form)), wanted


def _wanted(form: Form) -> Wanted:
    response_format = _one(form, "response_format") or "json"
    if response_format == "diarized_json":
        raise UnsupportedOption(
            "The loaded engine does not tell speakers apart; response_format=diarized_json is not available.",
            parameter="response_format",
        )
    if response_format not in FORMATS:
        raise InvalidParameter(
            f"response_format {response_format[:50]!r} is none of {', '.join(FORMATS)}.", parameter="response_format"
        )
    granularities = _many(form, "timestamp_granularities")
    if unknown := [g for g in granularities if g not in ("word", "segment")]:
        raise InvalidParameter(
            f"timestamp granularity {unknown[0][:50]!r} is neither word nor segment.",
            parameter="timestamp_granularities",
        )
    if granularities and response_format != "verbose_json":
        raise InvalidParameter(
            "timestamp_granularities need response_format=verbose_json.", parameter="timestamp_granularities"
        )
    include = _many(form, "include")
    if unknown := [name for name in include if name != "logprobs"]:
        raise InvalidParameter(f"include {unknown[0][:50]!r} is not known.", parameter="include")
    if include and response_format != "json":
        raise InvalidParameter("include=logprobs needs response_format=json.", parameter="include")
    stream = _flag(form, "stream")
    if stream and response_format not in ("json", "text"):
        raise InvalidParameter("Streaming needs response_format=json or text.", parameter="response_format")
    return Wanted(
        response_format=cast("ResponseFormat", response_format),
        words="word" in granularities,
        segments="segment" in granularities or not granularities,
        logprobs=bool(include),
        stream=stream,
    )


def _policy(form: Form) -> "ChunkingStrategy":
    strategy = _one(form, "chunking_strategy")
    kind = _one(form, "chunking_strategy[type]")
    if strategy not in (None, "", "auto") and kind is None:
        raise InvalidParameter("chunking_strategy must be auto or an object.", parameter="chunking_strategy")
    if kind not in (None, "server_vad"):
        raise InvalidParameter("chunking_strategy[type] must be server_vad.", parameter="chunking_strategy")
    return ChunkingStrategy(
        threshold=_number(form, "chunking_strategy[threshold]", 0.05, 0.95),
        padding_ms=_number(form, "chunking_strategy[prefix_padding_ms]", 0, 2_000),
        silence_ms=_number(form, "chunking_strategy[silence_duration_ms]", 100, 10_000),
    )


@dataclass(frozen=True, slots=True)
class ChunkingStrategy:
    """``server_vad`` settings as changes to how a recording is cut; None leaves ours."""

    threshold: float | None
    padding_ms: float | None
    silence_ms: float | None

    def __call__(self, policy: SegmentPolicy) -> SegmentPolicy:
        """*policy* with these changes."""
        return replace(
            policy,
            threshold=policy.threshold if self.threshold is None else self.threshold,
            pad_ms=policy.pad_ms if self.padding_ms is None else int(self.padding_ms),
            pause_ms=policy.pause_ms if self.silence_ms is None else int(self.silence_ms),
            short_pause_ms=policy.short_pause_ms if self.silence_ms is None else int(self.silence_ms),
        )


def _many(form: Form, name: str) -> list[str]:
    return [value for key, value in form if key in (name, f"{name}[]") or re.fullmatch(rf"{name}\[\d+\]", key)]


def _one(form: Form, name: str) -> str | None:
    values = [value for key, value in form if key == name]
    if len(values) > 1:
        raise InvalidParameter(f"The field {name!r} is given more than once.", parameter=name)
    return values[0] if values else None


def _flag(form: Form, name: str) -> bool:
    value = (_one(form, name) or "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise InvalidParameter(f"The field {name!r} must be true or false.", parameter=name)
    return value in ("true", "1")


def _number(form: Form, name: str, least: float, most: float) -> float | None:
    text = _one(form, name)
    if text is None or not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidParameter(f"The field {name!r} must be a number.", parameter=name) from error
    if not least <= value <= most:
        raise InvalidParameter(f"The field {name!r} must lie within {least:g} and {most:g}.", parameter=name)
    return value


# ---- answers


def render(transcript: Transcript, wanted: Wanted) -> tuple[bytes, str]:
    """Body and content type."""
    match wanted.response_format:
        case "text":
            return f"{transcript.text}\n".encode(), "text/plain; charset=utf-8"
        case "srt":
            return srt(transcript.sentences).encode(), "text/plain; charset=utf-8"
        case "vtt":
            return vtt(transcript.sentences).encode(), "text/vtt; charset=utf-8"
        case "verbose_json":
            return msgspec.json.encode(_verbose(transcript, wanted)), "application/json"
        case "json":
            tokens = _tokens(transcript.sentences)
            body = wire.Transcription(
                text=transcript.text,
                usage=_token_usage(transcript.duration_ms, transcript.sentences),
                logprobs=[_logprob(token) for token in tokens] if wanted.logprobs else msgspec.UNSET,
            )
            return msgspec.json.encode(body), "application/json"


def _verbose(transcript: Transcript, wanted: Wanted) -> wire.VerboseTranscription:
    words = [_verbose_word(word) for sentence in transcript.sentences for word in sentence.words]
    segments = [_verbose_segment(number, sentence) for number, sentence in enumerate(transcript.sentences)]
    return wire.VerboseTranscription(
        language=language_name(transcript.language) or "",  # the SDK's type is a string, always
        duration=transcript.duration_ms / 1000,
        text=transcript.text,
        usage=wire.DurationUsage(seconds=-(-transcript.duration_ms // 1000)),
        segments=segments if wanted.segments else msgspec.UNSET,
        words=words if wanted.words else msgspec.UNSET,
    )


def _verbose_word(word: Word) -> wire.VerboseWord:
    return wire.VerboseWord(
        word=word.text,
        start=word.begin_ms / 1000,
        end=word.end_ms / 1000,
        estimated=True if word.estimated else msgspec.UNSET,
    )


def _verbose_segment(number: int, sentence: Sentence) -> wire.VerboseSegment:
    logprobs = [token.logprob for token in sentence.tokens]
    data = sentence.text.encode()
    return wire.VerboseSegment(
        id=number,
        seek=sentence.begin_ms // 10,  # Whisper counts in frames of 10 ms
        start=sentence.begin_ms / 1000,
        end=sentence.end_ms / 1000,
        text=f" {sentence.text}",
        tokens=[token.id for token in sentence.tokens],
        temperature=0.0,
        avg_logprob=round(sum(logprobs) / len(logprobs), 4) if logprobs else None,
        compression_ratio=round(len(data) / len(zlib.compress(data)), 4),
        no_speech_prob=round(1 - sentence.speech_probability, 4),
    )


def _tokens(sentences: Sequence[Sentence]) -> list[Token]:
    return [token for sentence in sentences for token in sentence.tokens]


def _logprob(token: Token) -> wire.Logprob:
    return wire.Logprob(
        token=token.text.decode(errors="replace"), logprob=round(token.logprob, 6), bytes=list(token.text)
    )


def _token_usage(duration_ms: int, sentences: Sequence[Sentence]) -> wire.TokenUsage:
    measured = Usage(duration_ms, sum(map(count_tokens, sentences)))
    return wire.TokenUsage(
        input_tokens=measured.audio_tokens,
        output_tokens=measured.output_tokens,
        total_tokens=measured.audio_tokens + measured.output_tokens,
        input_token_details=wire.InputTokenDetails(audio_tokens=measured.audio_tokens),
    )


def delta(piece: str, sentence: Sentence, wanted: Wanted) -> wire.TextDelta:
    """One event of a stream."""
    logprobs = [_logprob(token) for token in sentence.tokens] if wanted.logprobs else msgspec.UNSET
    return wire.TextDelta(delta=piece, logprobs=logprobs)


def done(text: str, sentences: Sequence[Sentence], duration_ms: int, wanted: Wanted) -> wire.TextDone:
    """The last event of a stream."""
    logprobs = [_logprob(token) for token in _tokens(sentences)] if wanted.logprobs else msgspec.UNSET
    return wire.TextDone(text=text, usage=_token_usage(duration_ms, sentences), logprobs=logprobs)

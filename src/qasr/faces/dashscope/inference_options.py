"""``run-task``: what a client asks of a live task becomes options of a session, and of how results are written.

What a model's own table does not know, or what nothing that is loaded can do, is refused by its name, as in
``submission.py``. Parameters that the documents give to recordings only (``diarization_enabled``, ``speaker_count``,
``timestamp_alignment_enabled``, ``audio_event_detection_enabled``) are accepted by the service and change nothing;
so here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from qasr.catalogue import LiveTraits, Model
from qasr.domain.audio import LiveCodec, LiveFormat
from qasr.domain.errors import InvalidParameter, ModelNotServed
from qasr.domain.live import Endpointing, LiveOptions
from qasr.domain.options import HiddenWords, Hints, Hotword
from qasr.faces.dashscope import inference_wire as wire
from qasr.faces.dashscope.generation import instant_hotwords
from qasr.faces.dashscope.submission import Abilities, Wish, hidden_words, possible_language, refusals

CODECS: Final[tuple[LiveCodec, ...]] = ("pcm", "wav", "mp3", "opus", "speex", "aac", "amr")
RATES_HZ: Final = range(4_000, 192_001)
SILENCES_MS: Final = range(200, 6_001)
"""Documented range of ``max_sentence_silence``."""
SEMANTIC_SILENCE_MS: Final = 2_000
"""What ends a sentence whatever its punctuation, where sentences end by punctuation. Source: documentation."""
PREFIX_MS: Final = 300
LONGEST_MS: Final = 30_000
"""A sentence that grows longer is ended at its next short pause."""
LONGEST_MULTI_MS: Final = 12_000
"""The same with ``multi_threshold_mode_enabled``, which is documented to prevent overlong sentences."""
INSTANT_HOTWORDS: Final = 2000
FORCED: Final = 50
"""The weight of a hotword that is to be heard wherever it could be."""
MOST_FORCED: Final = 50
CONTEXT_MESSAGES: Final = 5
"""Latest messages of each role that count."""
CONTEXT_ROUND_CHARS: Final = 400
"""Characters of a round, that is of what the user said and what the assistant answered; the end is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A task that can be begun."""

    model: str
    """Public name."""
    engine: str
    """What hears it."""
    format: LiveFormat
    options: LiveOptions
    traits: LiveTraits
    gummy: bool
    """Results have the shape of Gummy's."""
    takes_context: bool
    semantic: bool
    """Sentences end at punctuation; else at pauses."""
    punctuation: bool
    hidden: HiddenWords
    heartbeat: bool
    unused: tuple[str, ...]
    """Hints that the loaded engine cannot use; the text is as good as without them."""


def parse(call: wire.Run, model: Model, able: Abilities) -> Asked:
    """What *call* asks for; *model* is what its name means.

    Raises:
        ModelNotServed, InvalidParameter, UnsupportedLanguage, UnsupportedOption.
    """
    traits, parameters, name = model.live, call.parameters or wire.Parameters(), call.model or ""
    if traits is None:
        raise ModelNotServed(f"Model `{name}` is not served on this interface.")
    gummy = model.kind == "gummy-live"
    context = context_text(call.input)
    hidden = hidden_words(parameters.special_word_filter)
    wishes: tuple[Wish, ...] = (
        ("translation_enabled", parameters.translation_enabled, "translation", False, "translation"),
        ("input.context", context, "context", True, "context"),
        ("vocabulary_id", parameters.vocabulary_id, "stored-hotwords", False, "stored vocabularies"),
        ("vocabulary", parameters.vocabulary, "instant-hotwords", able.engine.hotwords, "hotwords"),
        ("resources", call.resources, None, False, "stored phrases"),
        (
            "disfluency_removal_enabled",
            parameters.disfluency_removal_enabled,
            "disfluency",
            False,
            "disfluency removal",
        ),
        (
            "inverse_text_normalization_enabled",
            parameters.inverse_text_normalization_enabled,
            None,
            able.engine.itn,
            "inverse text normalization",
        ),
        ("special_word_filter", hidden != HiddenWords(), "word-filter", True, "hidden words"),
    )
    for refusal in refusals(wishes, model, name, able.engine):
        raise refusal
    if gummy and parameters.transcription_enabled is False:
        raise InvalidParameter(
            "transcription_enabled must be true: this server does nothing but transcribe.",
            parameter="transcription_enabled",
        )
    semantic = bool(parameters.semantic_punctuation_enabled)
    partials = parameters.intermediate_result_enabled
    return Asked(
        model=model.name,
        engine=able.engine.name,
        format=_format(parameters, model, traits),
        options=LiveOptions(
            hints=Hints(
                language=_language(parameters, model, able),
                context=context,
                hotwords=_hotwords(parameters.vocabulary or {}),
            ),
            endpointing=_endpointing(parameters, traits, semantic=semantic),
            word_times="words" if traits.words else "none",
            itn=able.engine.itn and parameters.inverse_text_normalization_enabled is not False,
            partials=traits.partials if partials is None else partials,
            emotion=traits.emotion and able.engine.emotion,
        ),
        traits=traits,
        gummy=gummy,
        takes_context="context" in model.takes,
        semantic=semantic,
        punctuation=parameters.punctuation_prediction_enabled is not False,
        hidden=hidden,
        heartbeat=bool(parameters.heartbeat),
        unused=("context",) if context and not able.engine.context else (),
    )


def with_context(options: LiveOptions, context: str) -> LiveOptions:
    """*options* for what is heard after a ``continue-task``."""
    return replace(options, hints=replace(options.hints, context=context))


def context_text(given: wire.Input | None) -> str:
    """The latest five messages of each role, each round cut to its 400 characters."""
    messages = list((given and given.context) or ())
    left = {"user": CONTEXT_MESSAGES, "assistant": CONTEXT_MESSAGES}
    kept: list[wire.ContextMessage] = []
    for message in reversed(messages):
        if left[message.role]:
            left[message.role] -= 1
            kept.append(message)
    rounds: list[str] = []
    for message in reversed(kept):
        text = _message_text(message)
        if message.role == "user" or not rounds:
            rounds.append(text)
        else:
            rounds[-1] = "\n".join(part for part in (rounds[-1], text) if part)
    return "\n".join(text[:CONTEXT_ROUND_CHARS] for text in rounds if text)


def _message_text(message: wire.ContextMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if part.text)


def _format(parameters: wire.Parameters, model: Model, traits: LiveTraits) -> LiveFormat:
    if parameters.format is None:
        raise missing("payload.parameters.format")
    if parameters.sample_rate is None:
        raise missing("payload.parameters.sample_rate")
    encoding = next((known for known in CODECS if known == parameters.format.lower()), None)
    if encoding is None:
        raise InvalidParameter(
            f"Format {parameters.format[:20]!r} is not supported; supported are {', '.join(CODECS)}.",
            parameter="format",
        )
    rate_hz = parameters.sample_rate
    if rate_hz not in RATES_HZ:
        raise InvalidParameter(
            f"sample_rate must lie within {RATES_HZ[0]} and {RATES_HZ[-1]} Hz.", parameter="sample_rate"
        )
    if traits.rate_hz not in (None, rate_hz):
        raise InvalidParameter(
            f"Model `{model.name}` takes a sample_rate of {traits.rate_hz} Hz, not {rate_hz}.", parameter="sample_rate"
        )
    return LiveFormat(codec=encoding, rate_hz=rate_hz)


def _language(parameters: wire.Parameters, model: Model, able: Abilities) -> str | None:
    codes: Sequence[str | None] = parameters.language_hints or ()
    most = model.live.most_hints if model.live is not None else None
    if most is not None and len(codes) > most:
        raise InvalidParameter(f"At most {most} language_hints.", parameter="language_hints")
    return possible_language([parameters.source_language, *codes], model, able.engine)


def _hotwords(vocabulary: dict[str, int]) -> tuple[Hotword, ...]:
    hotwords = instant_hotwords(vocabulary, most=INSTANT_HOTWORDS)
    if sum(hotword.weight == FORCED for hotword in hotwords) > MOST_FORCED:
        raise InvalidParameter(f"vocabulary holds more than {MOST_FORCED} words of weight {FORCED}.")
    return hotwords


def _endpointing(parameters: wire.Parameters, traits: LiveTraits, *, semantic: bool) -> Endpointing:
    silence_ms = parameters.max_sentence_silence
    if silence_ms is not None and silence_ms not in SILENCES_MS:
        raise InvalidParameter(
            f"max_sentence_silence must lie within {SILENCES_MS[0]} and {SILENCES_MS[-1]} ms.",
            parameter="max_sentence_silence",
        )
    noise = parameters.speech_noise_threshold or 0.0
    if not -1 <= noise <= 1:
        raise InvalidParameter("speech_noise_threshold must lie within -1 and 1.", parameter="speech_noise_threshold")
    return Endpointing(
        threshold=speech_threshold(noise),
        silence_ms=SEMANTIC_SILENCE_MS if semantic else traits.silence_ms if silence_ms is None else silence_ms,
        prefix_ms=PREFIX_MS,
        longest_ms=LONGEST_MULTI_MS if parameters.multi_threshold_mode_enabled and not semantic else LONGEST_MS,
    )


def speech_threshold(noise: float) -> float:
    """The probability of speech that counts, for -1 (noise is taken for speech) to 1 (speech is taken for noise)."""
    return 0.5 + 0.45 * noise


def missing(field: str) -> InvalidParameter:
    """In the service's own words."""
    return InvalidParameter(f"Missing required parameter '{field}'! Please follow the protocol!", parameter=field)

"""``audio/asr/transcription``: what a client submits becomes a ``TaskOrder``. No I/O here.

Both families of models take all fields; what a model's own table does not know, or what nothing that is loaded can do,
is refused by its name, since a result without it would look as good as one with it. ``false`` asks for nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from qasr.catalogue import Feature, Model
from qasr.domain.errors import AccessDenied, InvalidParameter, ModelNotServed, UnsupportedLanguage, UnsupportedOption
from qasr.domain.options import HiddenWords, Hints, RecognitionOptions
from qasr.domain.task import TaskOrder
from qasr.engines.base import Capabilities
from qasr.faces.audio import LONGEST_URL
from qasr.faces.dashscope import task_wire as wire
from qasr.faces.dashscope.generation import instant_hotwords
from qasr.faces.http import LARGEST_CONTEXT, decode
from qasr.faces.languages import parse_language

QWEN: Final = "dashscope-qwen-file"
FUN: Final = "dashscope-fun-file"
"""Names of the two shapes of answers, as tasks remember them."""

MOST_URLS: Final = 100
"""Documented; the newest page says 1."""
HIGHEST_CHANNEL: Final = 255
MOST_CHANNELS: Final = 32
MOST_HIDDEN_WORDS: Final = 1000
LONGEST_HIDDEN_WORD: Final = 200
"""Characters."""
SPEAKERS: Final = range(2, 101)
"""Documented range of ``speaker_count``."""

Wish: TypeAlias = tuple[str, object, Feature | None, bool, str]
"""A parameter, what was asked of it, what a model must take for it, whether it can be done, and what that is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What is loaded."""

    engine: Capabilities
    timed: frozenset[str] | None
    """Languages whose words get measured times; None: all that the engine hears."""


def check_header(value: str | None) -> None:
    """Look at ``X-DashScope-Async``.

    Raises:
        AccessDenied: it is missing.
        InvalidParameter: it is not ``enable``.
    """
    if value is None:
        raise AccessDenied("current user api does not support synchronous calls.")
    if value.strip().lower() != "enable":
        raise InvalidParameter("The header X-DashScope-Async must be 'enable'.", parameter="X-DashScope-Async")


def parse(
    call: wire.TaskRequest, model: Model, owner: str, able: Abilities, *, webhook: str | None = None
) -> TaskOrder:
    """The order that *call* means; *webhook* comes from the header and wins over the parameter.

    Raises:
        ModelNotServed, InvalidParameter, UnsupportedLanguage, UnsupportedOption.
    """
    if model.kind not in ("qwen-file", "fun-file"):
        raise ModelNotServed(f"Model `{call.model}` does not support asynchronous calls on this interface.")
    parameters = call.parameters or wire.TaskParameters()
    is_qwen = model.kind == "qwen-file"
    codes = [parameters.language, *(parameters.language_hints or ())]
    language = possible_language(codes, model, able.engine)
    hidden = hidden_words(parameters.special_word_filter)
    context = _context(call.input, parameters)
    asked = _Asked(call=call, parameters=parameters, hidden=hidden, context=context, language=language)
    for refusal in _refusals(asked, model, able):
        raise refusal
    return TaskOrder(
        owner=owner,
        model=call.model,
        dialect=QWEN if is_qwen else FUN,
        urls=_urls(call.input, single=is_qwen),
        options=RecognitionOptions(
            hints=Hints(
                language=language,
                context=context,
                hotwords=instant_hotwords(parameters.vocabulary or {}),
            ),
            itn=bool(parameters.enable_itn or (not is_qwen and parameters.inverse_text_normalization_enabled)),
            drop_fillers=bool(parameters.disfluency_removal_enabled),
            punctuation=is_qwen or parameters.punctuation_prediction_enabled is not False,
            word_times="words" if parameters.enable_words or not is_qwen else "none",
            sentence_ends="punctuation" if parameters.enable_words or not is_qwen else "pauses",
            hidden=hidden,
            channels=_channels(parameters.channel_id),
            speakers=bool(parameters.diarization_enabled),
            speaker_count=parameters.speaker_count if parameters.diarization_enabled else None,
        ),
        limits=model.limits,
        webhook=_webhook(webhook or parameters.webhook),
    )


def _urls(given: wire.TaskInput, *, single: bool) -> tuple[str, ...]:
    """Only their number and length are looked at: what is wrong with one of them is told with its recording."""
    if given.file_url is not None and given.file_urls:
        raise InvalidParameter("Give either file_url or file_urls.", parameter="file_urls")
    urls = given.file_urls or ([] if given.file_url is None else [given.file_url])
    if not urls:
        name = "file_url" if single else "file_urls"
        raise InvalidParameter(f"Field required: input.{name}", parameter=name)
    most = 1 if single else MOST_URLS
    if len(urls) > most:
        raise InvalidParameter(f"At most {most} file_urls per task; there are {len(urls)}.", parameter="file_urls")
    if any(len(url) > LONGEST_URL or "\0" in url for url in urls):
        raise InvalidParameter("url error, please check url！", parameter="file_urls")
    return tuple(urls)


def _channels(given: list[int] | int | None) -> tuple[int, ...]:
    channels = sorted(set([given] if isinstance(given, int) else given or [0]))
    if channels[0] < 0 or channels[-1] > HIGHEST_CHANNEL or len(channels) > MOST_CHANNELS:
        raise InvalidParameter("channel_id must name tracks, counted from 0.", parameter="channel_id")
    return tuple(channels)


def possible_language(codes: Sequence[str | None], model: Model, engine: Capabilities) -> str | None:
    """The one language that speech can be in by the hints *codes*, if there is one.

    Of several hints some models use the first one only; where the loaded engine does not hear that one but another of
    them, none is used, and speech in a language that is not heard fails then with its recording.

    Raises:
        InvalidParameter: no language of the model's.
        UnsupportedLanguage: the loaded engine hears none of those that are possible.
    """
    asked = [parse_language(code) for code in codes]
    hints = list(dict.fromkeys(code for code in asked if code is not None))
    first_only = "first-hint" in model.takes
    for code in hints[:1] if first_only else hints:
        if code not in model.languages:
            raise InvalidParameter(f"Language {code!r} is not supported by this model.", parameter="language_hints")
    possible = hints or sorted(model.languages)
    heard = [code for code in possible if engine.languages is None or code in engine.languages]
    if not heard:
        raise UnsupportedLanguage(
            f"The loaded engine {engine.name!r} recognizes {', '.join(sorted(engine.languages or ()))} only, and asked "
            f"is for {', '.join(possible)}; load another engine (QASR_ENGINES__DEFAULT, see the list of engines in "
            "the documentation).",
            parameter="language_hints",
        )
    if len(possible) == 1 or (first_only and hints and heard[0] == hints[0]):
        return heard[0]
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    call: wire.TaskRequest
    parameters: wire.TaskParameters
    hidden: HiddenWords
    context: str
    language: str | None


def _refusals(asked: _Asked, model: Model, able: Abilities) -> Iterator[InvalidParameter]:
    """What was asked and cannot be done, most telling first."""
    engine, parameters, language = able.engine, asked.parameters, asked.language
    in_time = able.timed is None or (language in able.timed if language else bool(able.timed))
    options: tuple[Wish, ...] = (
        ("text", asked.context, "context", True, "context"),
        ("vocabulary_id", parameters.vocabulary_id, "stored-hotwords", False, "stored vocabularies"),
        ("vocabulary", parameters.vocabulary, "instant-hotwords", engine.hotwords, "hotwords"),
        ("resources", asked.call.resources, "phrases", False, "stored phrases"),
        ("diarization_enabled", parameters.diarization_enabled, "speakers", engine.speakers, "speaker diarization"),
        ("disfluency_removal_enabled", parameters.disfluency_removal_enabled, "disfluency", True, "disfluency removal"),
        ("timestamp_alignment_enabled", parameters.timestamp_alignment_enabled, "alignment", in_time, "word alignment"),
        ("audio_event_detection_enabled", parameters.audio_event_detection_enabled, "events", False, "audio events"),
        ("special_word_filter", asked.hidden != HiddenWords(), "word-filter", True, "hidden words"),
    )
    yield from refusals(options, model, asked.call.model, engine)
    count = parameters.speaker_count
    if parameters.diarization_enabled and count is not None and count not in SPEAKERS:
        yield InvalidParameter(
            f"speaker_count must lie within {SPEAKERS[0]} and {SPEAKERS[-1]}.", parameter="speaker_count"
        )


def refusals(options: Iterable[Wish], model: Model, name: str, engine: Capabilities) -> Iterator[InvalidParameter]:
    """What of *options* the model, called *name* by the client, does not take, or *engine* cannot do."""
    for parameter, wanted, feature, can, what in options:
        if wanted and feature is not None and feature not in model.takes:
            yield InvalidParameter(f"{parameter} is not a parameter of model `{name}`.", parameter=parameter)
        elif wanted and not can:
            yield UnsupportedOption(
                f"{parameter}: the loaded engine {engine.name!r} has no {what}; leave the parameter out, or load an "
                "engine that has it (QASR_ENGINES__DEFAULT).",
                parameter=parameter,
            )


def _context(given: wire.TaskInput, parameters: wire.TaskParameters) -> str:
    texts = [parameters.text or "", (parameters.corpus and parameters.corpus.text) or "", *_turns(given.context)]
    context = "\n".join(text for text in texts if text)
    if len(context) > LARGEST_CONTEXT:
        raise InvalidParameter(f"The context exceeds {LARGEST_CONTEXT} characters.", parameter="text")
    return context


def _turns(context: str | list[str | wire.ContextTurn] | None) -> Iterator[str]:
    """Texts of ``input.context``: a text, a list of them, or messages with ``text`` or ``content``."""
    for turn in [context] if isinstance(context, str) else context or ():
        yield turn if isinstance(turn, str) else turn.text or turn.content or ""


def hidden_words(given: str | wire.SpecialWordFilter | None) -> HiddenWords:
    """``special_word_filter`` is a JSON text in JSON; the object itself is taken too.

    Raises:
        InvalidParameter: it is something else, or holds too many words.
    """
    if not given:
        return HiddenWords()
    try:
        lists = decode(given.encode(), wire.SpecialWordFilter) if isinstance(given, str) else given
    except InvalidParameter as error:
        raise InvalidParameter(
            "special_word_filter must be a JSON text with filter_with_signed, filter_with_empty and "
            "system_reserved_filter.",
            parameter="special_word_filter",
        ) from error
    signed, empty = (_words(words) for words in (lists.filter_with_signed, lists.filter_with_empty))
    if len(signed) + len(empty) > MOST_HIDDEN_WORDS or any(len(w) > LONGEST_HIDDEN_WORD for w in signed + empty):
        raise InvalidParameter(
            f"special_word_filter takes {MOST_HIDDEN_WORDS} words of {LONGEST_HIDDEN_WORD} characters.",
            parameter="special_word_filter",
        )
    return HiddenWords(starred=signed, removed=empty)


def _words(given: wire.WordList | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in given.word_list if word.strip()) if given is not None else ()


def _webhook(url: str | None) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        proper = parts.scheme in ("http", "https") and bool(parts.hostname) and len(url) <= LONGEST_URL
    except ValueError:
        proper = False
    if not proper or not url.isprintable():
        raise InvalidParameter("The webhook must be an http or https address.", parameter="webhook")
    return url

"""Shapes of the task protocol of ``/api-ws/v1/inference``: text frames in both directions; sound goes in binary ones.

Names as upstream has them; unknown fields are tolerated. SDKs know four events, and no other may be sent.
"""

from typing import Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType, field

from qasr.faces.dashscope.task_wire import Resource, ResultWord, SpecialWordFilter

# ---- from the client


class Header(Struct, frozen=True):
    """``streaming`` (always ``duplex``) is not looked at."""

    action: str
    task_id: str


class Frame(Struct, frozen=True):
    """Any text frame; what its payload is, the action tells."""

    header: Header
    payload: Raw = Raw(b"{}")


class ContextPart(Struct, frozen=True):
    """``input_text`` of the user, ``text`` of the assistant."""

    text: str = ""


class ContextMessage(Struct, frozen=True):
    """One message of the conversation in which speech is heard."""

    role: Literal["user", "assistant"]
    content: str | list[ContextPart]


class Input(Struct, frozen=True):
    """Never holds sound."""

    context: list[ContextMessage] | None = None


class Parameters(Struct, frozen=True):
    """Of all families; each documents some of them."""

    format: str | None = None
    sample_rate: int | None = None
    vocabulary_id: str | None = None
    vocabulary: dict[str, int] | None = None
    language_hints: list[str] | None = None
    semantic_punctuation_enabled: bool | None = None
    max_sentence_silence: int | None = None
    multi_threshold_mode_enabled: bool | None = None
    speech_noise_threshold: float | None = None
    punctuation_prediction_enabled: bool | None = None
    inverse_text_normalization_enabled: bool | None = None
    disfluency_removal_enabled: bool | None = None
    heartbeat: bool | None = None
    special_word_filter: str | SpecialWordFilter | None = None
    intermediate_result_enabled: bool | None = None
    # Gummy
    source_language: str | None = None
    transcription_enabled: bool | None = None
    translation_enabled: bool | None = None


class Run(Struct, frozen=True):
    """Payload of ``run-task``."""

    task_group: str | None = None
    task: str | None = None
    function: str | None = None
    model: str | None = None
    input: Input | None = None
    parameters: Parameters | None = None
    resources: list[Resource] | None = None


class Continue(Struct, frozen=True):
    """Payload of ``continue-task``."""

    input: Input | None = None


# ---- to the client

Event: TypeAlias = Literal["task-started", "result-generated", "task-finished", "task-failed"]


class EventHeader(Struct, frozen=True):
    """Of every frame that we send. ``error_…`` belong to ``task-failed``, and the SDK needs both there."""

    task_id: str
    event: Event
    error_code: str | UnsetType = UNSET
    error_message: str | UnsetType = UNSET
    attributes: dict[str, str] = field(default_factory=dict)


class Nothing(Struct, frozen=True):
    """``{}``."""


class Usage(Struct, frozen=True):
    """Whole seconds of the task so far, rounded down."""

    duration: int


class LiveWord(ResultWord, frozen=True):
    """``fixed`` in sentences that have ended."""

    fixed: bool = False


class LiveSentence(Struct, frozen=True, kw_only=True):
    """A sentence, or as much of it as is known.

    The SDK knows its end by ``end_time`` alone, and dies of one that is missing; null means that it goes on.
    """

    sentence_id: int
    begin_time: int
    end_time: int | None
    text: str
    heartbeat: bool = False
    sentence_begin: bool = False
    sentence_end: bool = False
    emo_tag: str | UnsetType = UNSET
    words: list[LiveWord] = field(default_factory=list)


class GummyWord(Struct, frozen=True):
    """Punctuation belongs to the text."""

    text: str
    begin_time: int
    end_time: int
    fixed: bool


class GummyTranscription(Struct, frozen=True, kw_only=True):
    """The SDK needs all fields, and takes ``current_time`` for the end of a sentence that goes on."""

    sentence_id: int
    begin_time: int
    end_time: int | UnsetType = UNSET
    current_time: int | UnsetType = UNSET
    text: str
    words: list[GummyWord]
    sentence_end: bool


class SentenceOutput(Struct, frozen=True):
    """``output`` of most families."""

    sentence: LiveSentence


class GummyOutput(Struct, frozen=True):
    """``output`` of Gummy."""

    transcription: GummyTranscription


class Result(Struct, frozen=True):
    """Payload of ``result-generated`` and ``task-finished``.

    ``usage`` is null, not missing, where there is none. An empty ``output`` must be there at the end: the SDK does not
    call ``on_complete`` without it.
    """

    output: SentenceOutput | GummyOutput | Nothing
    usage: Usage | None


class EventFrame(Struct, frozen=True):
    """Any frame that we send."""

    header: EventHeader
    payload: Result | Nothing = Nothing()

"""Shapes of the native dialect, names as upstream has them. Unknown fields are tolerated."""

from typing import Literal

from msgspec import Struct, field

# ---- multimodal-generation, request (both dialects)


class InputAudio(Struct, frozen=True):
    """How the Fun-ASR-Flash dialect names its recording."""

    data: str
    format: str | None = None


class Part(Struct, frozen=True):
    """One part of a message: ``audio`` (Qwen dialect), ``input_audio`` (Fun dialect) or a text."""

    audio: str | None = None
    text: str | None = None
    type: str | None = None
    input_audio: InputAudio | None = None


class Message(Struct, frozen=True):
    """A plain string as ``content`` is accepted for texts."""

    role: str
    content: list[Part] | str | None = None


class Input(Struct, frozen=True):
    """What is to be heard."""

    messages: list[Message] = field(default_factory=list)


class AsrOptions(Struct, frozen=True):
    """Options of the Qwen dialect; ``enable_lid`` is legacy: the language is always told."""

    language: str | None = None
    enable_itn: bool | None = None
    enable_lid: bool | None = None


class Parameters(Struct, frozen=True):
    """Of both dialects; ``result_format`` is ``message`` whatever is asked."""

    asr_options: AsrOptions | None = None
    result_format: str | None = None
    incremental_output: bool | None = None
    # Fun-ASR-Flash
    format: str | None = None
    sample_rate: str | int | None = None
    vocabulary_id: str | None = None
    vocabulary: dict[str, int] | None = None
    language_hints: list[str] | None = None
    speaker_diarization_enabled: bool | None = None


class GenerationRequest(Struct, frozen=True):
    """``POST …/multimodal-generation/generation``."""

    model: str
    input: Input
    parameters: Parameters | None = None


# ---- multimodal-generation, answer of the Qwen dialect


class Annotation(Struct, frozen=True):
    """What was found about the sound. ``emotion`` is null unless an engine tells it."""

    language: str | None
    emotion: str | None
    type: Literal["audio_info"] = "audio_info"


class TextPart(Struct, frozen=True):
    """Content is a list here (the compatible dialect has a string)."""

    text: str


class AnswerMessage(Struct, frozen=True):
    """The recognized text."""

    annotations: list[Annotation]
    content: list[TextPart]
    role: Literal["assistant"] = "assistant"


class Choice(Struct, frozen=True):
    """``finish_reason`` is the text ``null`` in unfinished frames: an oddity of the service that clients test for."""

    finish_reason: str
    message: AnswerMessage


class Output(Struct, frozen=True):
    """One choice."""

    choices: list[Choice]


class TextTokens(Struct, frozen=True):
    """Only texts are counted here."""

    text_tokens: int


class QwenUsage(Struct, frozen=True):
    """``seconds``: whole seconds of audio."""

    input_tokens_details: TextTokens
    output_tokens_details: TextTokens
    seconds: int


class GenerationAnswer(Struct, frozen=True):
    """Envelope of the Qwen dialect."""

    output: Output
    usage: QwenUsage
    request_id: str


# ---- multimodal-generation, answer of the Fun-ASR-Flash dialect


class Word(Struct, frozen=True):
    """Times in ms. ``fixed`` tells whether the word may still change."""

    text: str
    begin_time: int
    end_time: int
    punctuation: str
    fixed: bool


class Sentence(Struct, frozen=True):
    """Times in ms, ``sentence_id`` from 1."""

    sentence_id: int
    sentence_end: bool
    begin_time: int
    end_time: int
    text: str
    channel_id: int
    words: list[Word]


class FunOutput(Struct, frozen=True):
    """``text`` is all of it, ``sentence`` spans it (unstreamed) or is the newest one (streamed)."""

    text: str
    sentence: Sentence


class FunUsage(Struct, frozen=True):
    """Whole seconds of audio."""

    duration: int


class FunAnswer(Struct, frozen=True):
    """Envelope of the Fun-ASR-Flash dialect."""

    output: FunOutput
    usage: FunUsage
    request_id: str


# ---- uploads


class UploadPolicy(Struct, frozen=True):
    """What the SDK needs to send the form; the first seven fields are read by it."""

    policy: str
    signature: str
    upload_dir: str
    upload_host: str
    oss_access_key_id: str
    x_oss_object_acl: str
    x_oss_forbid_overwrite: str
    expire_in_seconds: int
    max_file_size_mb: int
    capacity_limit_mb: int


class UploadPolicyAnswer(Struct, frozen=True):
    """``GET /api/v1/uploads?action=getPolicy``."""

    request_id: str
    data: UploadPolicy


# ---- models


class ModelEntry(Struct, frozen=True):
    """One model of the list."""

    model: str
    name: str
    description: str


class ModelPage(Struct, frozen=True):
    """One page."""

    total: int
    page_no: int
    page_size: int
    models: list[ModelEntry]


class ModelsAnswer(Struct, frozen=True):
    """``GET /api/v1/models``."""

    request_id: str
    output: ModelPage


# ---- errors


class Failure(Struct, frozen=True):
    """The body of every error, and the data of an ``event:error`` frame."""

    code: str
    message: str
    request_id: str

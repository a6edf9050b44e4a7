"""Shapes of the OpenAI dialect, names as upstream has them. Unknown fields are tolerated."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

# ---- chat completions, request


class InputAudio(Struct, frozen=True):
    """``data``: http(s) or oss address, data URL, or bare base64; ``format`` is a hint (``pcm`` decides)."""

    data: str
    format: str | None = None


class Part(Struct, frozen=True):
    """One part of a message's content; the vendor's samples leave ``type`` out for texts."""

    type: str | None = None
    text: str | None = None
    input_audio: InputAudio | None = None


class ChatMessage(Struct, frozen=True):
    """``content`` may be a plain string."""

    role: str
    content: str | list[Part] | None = None


class AsrOptions(Struct, frozen=True):
    """The vendor's recognition options; ``enable_lid`` is legacy: the language is always told."""

    language: str | None = None
    enable_itn: bool | None = None
    enable_lid: bool | None = None


class StreamOptions(Struct, frozen=True):
    """Only with ``stream``."""

    include_usage: bool | None = None


class ChatRequest(Struct, frozen=True):
    """``POST …/chat/completions``. Sampling fields of OpenAI's dialect are ignored: recognition is greedy."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    asr_options: AsrOptions | None = None
    modalities: list[str] | None = None
    """Of the answer: only ``["text"]`` is made here."""


# ---- chat completions, answer


class Annotation(Struct, frozen=True):
    """What was found about the sound. ``emotion`` is null unless an engine tells it."""

    language: str | None
    emotion: str | None
    type: Literal["audio_info"] = "audio_info"


class Message(Struct, frozen=True):
    """The recognized text is a string here (the native dialect has a list)."""

    content: str
    annotations: list[Annotation]
    role: Literal["assistant"] = "assistant"


class Choice(Struct, frozen=True):
    """The only one."""

    message: Message
    finish_reason: str
    index: int = 0


class PromptDetails(Struct, frozen=True):
    """Text tokens are reported as 0, as the vendor does."""

    audio_tokens: int
    text_tokens: int = 0


class CompletionDetails(Struct, frozen=True):
    """All output is text."""

    text_tokens: int


class ChatUsage(Struct, frozen=True):
    """``seconds``: whole seconds of audio."""

    prompt_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens: int
    completion_tokens_details: CompletionDetails
    total_tokens: int
    seconds: int


class ChatCompletion(Struct, frozen=True):
    """The whole answer."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    object: Literal["chat.completion"] = "chat.completion"


class Delta(Struct, frozen=True, omit_defaults=True):
    """``role`` is null on all chunks but the first, as documented."""

    role: str | UnsetType | None = UNSET
    content: str | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    """The documented text chunks leave ``finish_reason`` out; null is safer for typed clients."""

    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(Struct, frozen=True):
    """One frame of a stream."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: None = None


# ---- models


class ModelEntry(Struct, frozen=True):
    """One model of the list."""

    id: str
    created: int
    object: Literal["model"] = "model"
    owned_by: str = "system"


class ModelList(Struct, frozen=True):
    """``GET …/models``."""

    data: list[ModelEntry]
    object: Literal["list"] = "list"


# ---- audio/transcriptions


class DurationUsage(Struct, frozen=True, tag_field="type", tag="duration"):
    """Usage of models billed by time."""

    seconds: int


class InputTokenDetails(Struct, frozen=True):
    """Text tokens are reported as 0."""

    audio_tokens: int
    text_tokens: int = 0


class TokenUsage(Struct, frozen=True, tag_field="type", tag="tokens"):
    """Usage of models billed by tokens."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: InputTokenDetails


class Logprob(Struct, frozen=True):
    """One token of the text, with its natural log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class Transcription(Struct, frozen=True):
    """``response_format=json``."""

    text: str
    usage: DurationUsage | TokenUsage
    logprobs: list[Logprob] | UnsetType = UNSET


class VerboseSegment(Struct, frozen=True):
    """Times in seconds. ``compression_ratio`` as Whisper computes it; ``no_speech_prob`` from voice activity detection.

    ``avg_logprob`` is null for engines that do not tell probabilities.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float | None
    compression_ratio: float
    no_speech_prob: float


class VerboseWord(Struct, frozen=True, omit_defaults=True):
    """Times in seconds; ``estimated`` only where no aligner measured them (our addition)."""

    word: str
    start: float
    end: float
    estimated: bool | UnsetType = UNSET


class VerboseTranscription(Struct, frozen=True):
    """``response_format=verbose_json``; ``language`` is the English name, as OpenAI has it, or empty."""

    language: str
    duration: float
    text: str
    usage: DurationUsage
    segments: list[VerboseSegment] | UnsetType = UNSET
    words: list[VerboseWord] | UnsetType = UNSET
    task: Literal["transcribe"] = "transcribe"


class TextDelta(Struct, frozen=True):
    """A piece of text."""

    delta: str
    logprobs: list[Logprob] | UnsetType = UNSET
    type: Literal["transcript.text.delta"] = "transcript.text.delta"


class TextDone(Struct, frozen=True):
    """The whole text."""

    text: str
    usage: TokenUsage
    logprobs: list[Logprob] | UnsetType = UNSET
    type: Literal["transcript.text.done"] = "transcript.text.done"


# ---- errors


class FailureDetail(Struct, frozen=True):
    """What the SDKs unwrap."""

    message: str
    type: str
    param: str | None
    code: str


class Failure(Struct, frozen=True):
    """The body of every error."""

    error: FailureDetail
    request_id: str = field(default="")

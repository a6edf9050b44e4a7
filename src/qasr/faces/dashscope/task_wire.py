"""Shapes of asynchronous transcription: submission, answers about tasks, result documents.

Names as upstream has them; unknown fields are tolerated. Family Q (``qwen3-asr-flash-filetrans``) and family F
(Fun-ASR, Paraformer, SenseVoice, Qwen-Audio) share the way in and differ in what comes out.
"""

from msgspec import UNSET, Struct, UnsetType, field

# ---- submission


class WordList(Struct, frozen=True):
    """One list of words to hide."""

    word_list: list[str] = field(default_factory=list)


class SpecialWordFilter(Struct, frozen=True):
    """The JSON text inside ``special_word_filter``. The built-in list of upstream does not exist here."""

    filter_with_signed: WordList | None = None
    filter_with_empty: WordList | None = None
    system_reserved_filter: bool | None = None


class ContextTurn(Struct, frozen=True):
    """One message of the context."""

    text: str | None = None
    content: str | None = None


class TaskInput(Struct, frozen=True):
    """What is to be heard; both families take either field. ``context`` is the Qwen-Audio models'."""

    file_url: str | None = None
    file_urls: list[str] | None = None
    context: str | list[str | ContextTurn] | None = None


class Corpus(Struct, frozen=True):
    """The realtime interface's name of the context."""

    text: str | None = None


class TaskParameters(Struct, frozen=True):
    """Of both families."""

    channel_id: list[int] | int | None = None
    webhook: str | None = None  # ours
    # family Q
    language: str | None = None
    enable_itn: bool | None = None
    enable_words: bool | None = None
    text: str | None = None
    corpus: Corpus | None = None
    # family F
    language_hints: list[str] | None = None
    vocabulary_id: str | None = None
    vocabulary: dict[str, int] | None = None
    disfluency_removal_enabled: bool | None = None
    timestamp_alignment_enabled: bool | None = None
    inverse_text_normalization_enabled: bool | None = None  # this and the next: names of the live interface
    punctuation_prediction_enabled: bool | None = None
    special_word_filter: str | SpecialWordFilter | None = None
    diarization_enabled: bool | None = None
    speaker_count: int | None = None
    audio_event_detection_enabled: bool | None = None


class Resource(Struct, frozen=True):
    """A stored phrase list of the v1 models."""

    resource_id: str | None = None
    resource_type: str | None = None


class TaskRequest(Struct, frozen=True):
    """``POST …/audio/asr/transcription``."""

    model: str
    input: TaskInput
    parameters: TaskParameters | None = None
    resources: list[Resource] | None = None


# ---- answers about tasks


class ResultLink(Struct, frozen=True):
    """Where the result document of family Q lies."""

    transcription_url: str


class SubtaskAnswer(Struct, frozen=True):
    """One recording of family F: a link, or a reason."""

    file_url: str
    subtask_status: str
    transcription_url: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class TaskMetrics(Struct, frozen=True):
    """How many recordings there are, and how far they are."""

    TOTAL: int
    SUCCEEDED: int
    FAILED: int


class Progress(Struct, frozen=True):
    """An addition of ours: speech that is recognized, of all that was found so far in the task's recordings.

    ``total_ms`` grows as further recordings are looked at, and counts each track.
    """

    done_ms: int
    total_ms: int


class TaskOutput(Struct, frozen=True):
    """The state of a task. SDKs need the first two fields in every answer. Times are texts in China's local time."""

    task_id: str
    task_status: str
    submit_time: str | UnsetType = UNSET
    scheduled_time: str | UnsetType = UNSET
    end_time: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    result: ResultLink | UnsetType = UNSET
    results: list[SubtaskAnswer] | UnsetType = UNSET
    task_metrics: TaskMetrics | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET  # ours


class TaskUsage(Struct, frozen=True):
    """Whole seconds: ``seconds`` of audio (family Q), ``duration`` of speech (family F)."""

    seconds: int | UnsetType = UNSET
    duration: int | UnsetType = UNSET


class TaskAnswer(Struct, frozen=True):
    """Answer to submission and query."""

    request_id: str
    output: TaskOutput
    usage: TaskUsage | UnsetType = UNSET


class CancelAnswer(Struct, frozen=True):
    """The task is canceled."""

    request_id: str


class TaskEntry(Struct, frozen=True):
    """A task in a list. Times are Unix milliseconds; what has not happened yet is missing."""

    api_key_id: str
    caller_parent_id: str
    caller_uid: str
    gmt_create: int
    region: str
    request_id: str
    status: str
    task_id: str
    user_api_unique_key: str
    model_name: str
    start_time: int | UnsetType = UNSET
    end_time: int | UnsetType = UNSET


class TaskPage(Struct, frozen=True):
    """``GET /api/v1/tasks``: flat, without ``output``."""

    request_id: str
    data: list[TaskEntry]
    total: int
    total_page: int
    page_no: int
    page_size: int


# ---- result documents; their envelope is written as a stream, see documents.py


class ResultWord(Struct, frozen=True):
    """Times in ms."""

    begin_time: int
    end_time: int
    text: str
    punctuation: str


class QwenResultSentence(Struct, frozen=True):
    """Of family Q: ``sentence_id`` from 0. ``emotion`` is null unless an engine tells it."""

    sentence_id: int
    begin_time: int
    end_time: int
    language: str | None
    emotion: str | None
    text: str
    words: list[ResultWord] | UnsetType = UNSET


class FunResultSentence(Struct, frozen=True):
    """Of family F: ``sentence_id`` from 1."""

    begin_time: int
    end_time: int
    text: str
    sentence_id: int
    words: list[ResultWord]
    speaker_id: int | UnsetType = UNSET


class AudioInfo(Struct, frozen=True):
    """What a recording of family Q is."""

    format: str
    sample_rate: int


class Properties(Struct, frozen=True):
    """What a recording of family F is."""

    audio_format: str
    channels: list[int]
    original_sampling_rate: int
    original_duration_in_milliseconds: int

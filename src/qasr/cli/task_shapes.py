"""What this client reads of a server about tasks. Its own: the server's shapes would load the whole server."""

from msgspec import Struct


class Result(Struct, frozen=True, omit_defaults=True):
    """One recording of a task, in answers of the Fun family."""

    file_url: str
    subtask_status: str
    transcription_url: str | None = None
    code: str | None = None
    message: str | None = None


class Link(Struct, frozen=True):
    """Where the one result document of the Qwen family lies."""

    transcription_url: str


class Metrics(Struct, frozen=True):
    """Numbers of recordings."""

    TOTAL: int = 0
    SUCCEEDED: int = 0
    FAILED: int = 0


class Progress(Struct, frozen=True):
    """Speech that is recognized, of all that was found so far; other servers do not tell it."""

    done_ms: int
    total_ms: int


class Task(Struct, frozen=True, omit_defaults=True):
    """The state of a task. Times are texts in China's local time."""

    task_id: str
    task_status: str
    submit_time: str | None = None
    scheduled_time: str | None = None
    end_time: str | None = None
    code: str | None = None
    message: str | None = None
    task_metrics: Metrics | None = None
    progress: Progress | None = None
    result: Link | None = None
    results: list[Result] | None = None

    @property
    def n_files(self) -> int:
        """How many recordings there are; tasks of the Qwen family have one, and ended ones do not say so."""
        if self.results is not None:
            return len(self.results)
        return 1 if self.task_metrics is None else self.task_metrics.TOTAL


class Entry(Struct, frozen=True, omit_defaults=True):
    """A task in a list. Times are Unix milliseconds."""

    task_id: str
    status: str
    model_name: str = ""
    gmt_create: int = 0
    start_time: int | None = None
    end_time: int | None = None


class Answer(Struct, frozen=True):
    """To a query."""

    output: Task


class Page(Struct, frozen=True):
    """Of a list."""

    data: list[Entry]


class Refusal(Struct, frozen=True):
    """What a server answers that does not do what it was asked."""

    message: str

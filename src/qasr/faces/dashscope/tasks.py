"""What clients are told about their tasks: queries, lists, reasons of failure. No I/O here.

A task answers in the shape of the family of the model that it was submitted with. Times are texts in China's local
time in answers, and Unix milliseconds in lists; that is how the service has it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from msgspec import UNSET, UnsetType

from qasr.domain import errors as tree
from qasr.domain.errors import InvalidParameter
from qasr.domain.task import Failure, Subtask, Task, TaskState
from qasr.faces.dashscope import task_wire as wire
from qasr.faces.dashscope.submission import QWEN
from qasr.storage.tasks import UNFINISHED, TaskFilter

CHINA: Final = timezone(timedelta(hours=8))
DAY_MS: Final = 24 * 3600 * 1000
"""Span of a list, and life of a task."""
LARGEST_PAGE: Final = 100
LONGEST_NUMBER: Final = 9
REGION: Final = "cn-beijing"
"""What lists tell; there is one region here, and clients look the vendor's names up."""


CODES: Final[Mapping[type[tree.QasrError], str]] = {
    tree.InvalidParameter: "InvalidParameter",
    tree.NotFound: "FILE_404_NOT_FOUND",
    tree.TooLarge: "FILE_TOO_LARGE",
    tree.FetchRefused: "REQUEST_INVALID_FILE_URL_VALUE",
    tree.FetchIncomplete: "CONTENT_LENGTH_CHECK_FAILED",
    tree.FetchFailed: "InvalidFile.DownloadFailed",
    tree.Empty: "NO_INPUT_AUDIO_ERROR",
    tree.Undecodable: "FILE_PARSE_FAILED",
    tree.NoAudioTrack: "NO_VALID_AUDIO_ERROR",
    tree.TooLong: "AUDIO_DURATION_TOO_LONG",
    tree.NoSpeech: "SUCCESS_WITH_NO_VALID_FRAGMENT",
    tree.MediaError: "FILE_CHECK_FAILED",
    tree.CapacityError: "FILE_TRANS_TASK_EXPIRED",
    tree.DeadlineExceeded: "InternalError.Timeout",
    tree.QasrError: "SystemError",
}
"""Documented codes of tasks and subtasks, by what failed; the most specific class counts."""

STATUS_CODES: Final = {403: "FILE_403_FORBIDDEN", 404: "FILE_404_NOT_FOUND"}


def failure_code(failure: Failure, *, speech_ms: int = 0) -> str:
    """The documented code. Silence and speech without words have codes of their own."""
    kind = getattr(tree, failure.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, tree.QasrError)):
        kind = tree.QasrError
    if kind is tree.FetchStatus and failure.status is not None:
        if failure.status in STATUS_CODES:
            return STATUS_CODES[failure.status]
        if failure.status >= 500:
            return "FILE_SERVER_ERROR"
    if kind is tree.NoSpeech and speech_ms:
        return "ASR_RESPONSE_HAVE_NO_WORDS"
    return next(CODES[cls] for cls in kind.__mro__ if cls in CODES)


# ---- queries


def submitted(task_id: str, request_id: str) -> wire.TaskAnswer:
    """The answer to a submission."""
    return wire.TaskAnswer(request_id, wire.TaskOutput(task_id=task_id, task_status=TaskState.PENDING))


def unknown(task_id: str, request_id: str) -> wire.TaskAnswer:
    """The answer about nobody's task, or another's, or one that has expired."""
    return wire.TaskAnswer(request_id, wire.TaskOutput(task_id=task_id[:200], task_status=TaskState.UNKNOWN))


def answer(task: Task, request_id: str, link: Callable[[Subtask], str]) -> wire.TaskAnswer:
    """The state of *task*; *link* gives the address of a subtask's result document."""
    is_qwen = task.order.dialect == QWEN
    ended_well = task.state is TaskState.SUCCEEDED
    failed = task.state is TaskState.FAILED
    code, message = _first_failure(task) if failed else (UNSET, UNSET)
    output = wire.TaskOutput(
        task_id=task.id,
        task_status=task.state,
        submit_time=local_time(task.submitted_ms),
        scheduled_time=_local(task.scheduled_ms),
        end_time=_local(task.ended_ms),
        code=code,
        message=message,
        result=wire.ResultLink(link(task.subtasks[0])) if is_qwen and ended_well else UNSET,
        results=UNSET if is_qwen or not (ended_well or failed) else [_result(s, link) for s in task.subtasks],
        task_metrics=UNSET if is_qwen and (ended_well or failed) else _metrics(task),
        progress=_progress(task) if task.state is TaskState.RUNNING else UNSET,
    )
    return wire.TaskAnswer(request_id, output, _usage(task, is_qwen=is_qwen) if ended_well else UNSET)


def _result(subtask: Subtask, link: Callable[[Subtask], str]) -> wire.SubtaskAnswer:
    if subtask.state is TaskState.SUCCEEDED:
        return wire.SubtaskAnswer(subtask.url, subtask.state, transcription_url=link(subtask))
    if subtask.failure is None:
        return wire.SubtaskAnswer(subtask.url, subtask.state)
    code, message = _reason(subtask, subtask.failure)
    return wire.SubtaskAnswer(subtask.url, subtask.state, code=code, message=message)


def _first_failure(task: Task) -> tuple[str, str]:
    for subtask in task.subtasks:
        if subtask.failure is not None:
            return _reason(subtask, subtask.failure)
    return CODES[tree.QasrError], "The task failed for a reason of our own."


def _reason(subtask: Subtask, failure: Failure) -> tuple[str, str]:
    code = failure_code(failure, speech_ms=subtask.speech_ms)
    return code, failure.message or code


def _metrics(task: Task) -> wire.TaskMetrics:
    return wire.TaskMetrics(
        TOTAL=len(task.subtasks), SUCCEEDED=task.count(TaskState.SUCCEEDED), FAILED=task.count(TaskState.FAILED)
    )


def _progress(task: Task) -> wire.Progress | UnsetType:
    """Missing until the first recording is looked at; it never goes back, for those that failed count as done."""
    total_ms = sum(subtask.speech_ms for subtask in task.subtasks)
    done_ms = sum(s.done_ms if s.state in UNFINISHED else s.speech_ms for s in task.subtasks)
    return wire.Progress(min(done_ms, total_ms), total_ms) if total_ms else UNSET


def _usage(task: Task, *, is_qwen: bool) -> wire.TaskUsage:
    """Audio of each track (family Q), or speech of all tracks (family F); a begun second counts where speech does."""
    done = [subtask for subtask in task.subtasks if subtask.state is TaskState.SUCCEEDED]
    if is_qwen:
        tracks = len(task.order.options.channels or (0,))
        return wire.TaskUsage(seconds=max(1, tracks * sum(subtask.duration_ms for subtask in done) // 1000))
    return wire.TaskUsage(duration=-(-sum(subtask.speech_ms for subtask in done) // 1000))


def _local(ms: int | None) -> str | UnsetType:
    return UNSET if ms is None else local_time(ms)


def local_time(ms: int) -> str:
    """``2025-10-15 10:28:43.207``, in China."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, CHINA):%Y-%m-%d %H:%M:%S}.{rest:03}"


# ---- lists


def parse_list(query: Mapping[str, str], owner: str, now_ms: int) -> tuple[TaskFilter, int, int]:
    """What a list asks for, the page's number (from 1), and its size.

    Raises:
        InvalidParameter.
    """
    begin, end = (_moment(query, name) for name in ("start_time", "end_time"))
    to_ms = end if end is not None else now_ms if begin is None else begin + DAY_MS
    from_ms = begin if begin is not None else to_ms - DAY_MS
    if not 0 <= to_ms - from_ms <= DAY_MS:
        raise InvalidParameter("end_time must lie at most 24 hours behind start_time.", parameter="end_time")
    status = query.get("status")
    if status and status not in TaskState.__members__:
        raise InvalidParameter(f"status must be one of {', '.join(TaskState)}.", parameter="status")
    wanted = TaskFilter(
        owner=owner,
        from_ms=from_ms,
        to_ms=to_ms,
        task_id=query.get("task_id") or None,
        model=query.get("model_name") or None,
        state=TaskState(status) if status else None,
    )
    number, size = positive(query, "page_no", 1), positive(query, "page_size", 10)
    return wanted, number, min(size, LARGEST_PAGE)


def page(total: int, found: Sequence[Task], number: int, size: int, request_id: str) -> wire.TaskPage:
    """One page of a list."""
    entries = [_entry(task) for task in found]
    return wire.TaskPage(request_id, entries, total, -(-total // size), number, size)


def _entry(task: Task) -> wire.TaskEntry:
    owner = task.order.owner
    return wire.TaskEntry(
        api_key_id=owner,
        caller_parent_id=owner,
        caller_uid=owner,
        gmt_create=task.submitted_ms,
        region=REGION,
        request_id=task.id,
        status=task.state,
        task_id=task.id,
        user_api_unique_key=f"apikey:v1:audio:asr:transcription:{task.order.model}",
        model_name=task.order.model,
        start_time=UNSET if task.scheduled_ms is None else task.scheduled_ms,
        end_time=UNSET if task.ended_ms is None else task.ended_ms,
    )


def _moment(query: Mapping[str, str], name: str) -> int | None:
    """``YYYYMMDDhhmmss`` in China, or Unix milliseconds (13 digits), as some clients send them."""
    text = query.get(name)
    if not text:
        return None
    is_number = text.isascii() and text.isdecimal()
    if is_number and len(text) == 13:
        return int(text)
    try:
        moment = datetime.strptime(text if is_number else "", "%Y%m%d%H%M%S").replace(tzinfo=CHINA)
        return int(moment.timestamp()) * 1000
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(f"{name} must have the form YYYYMMDDhhmmss.", parameter=name) from error


def positive(query: Mapping[str, str], name: str, default: int) -> int:
    """The number *name* of a query.

    Raises:
        InvalidParameter: it is none, or not above 0.
    """
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdecimal()) or len(text) > LONGEST_NUMBER or int(text) < 1:
        raise InvalidParameter(f"{name} must be a positive number.", parameter=name)
    return int(text)

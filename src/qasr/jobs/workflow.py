"""How a task is done: the order of its steps, and what their failures mean. No I/O but that of its steps and rows.

::

    begin ─▶ a few recordings at once ─▶ … ─▶ end: it succeeds if one recording does
              cut, cut, …                       one step per recording, all there is to do if it is short
              hear, hear, hear, …               one step per group, WINDOW at once
              merge, merge, …                   one step per recording

What is heard in one group, or cannot be heard at all, is brought to its end in its first step: more of them would take
longer than to do it again, and most recordings are short. What that step has recorded tells which ones follow.

Begun again after a crash, it goes the same way: steps that are done return what they returned, and every step is begun
in the same order. Therefore a failure is a value and not an exception, and the groups of a recording that has failed
are still begun, each to return at once.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

import anyio
import msgspec
import structlog

from qasr.domain import telemetry
from qasr.domain.errors import (
    CapacityError,
    DeadlineExceeded,
    EngineError,
    EngineFailed,
    FetchStatus,
    NoSpeech,
    QasrError,
)
from qasr.domain.task import Failure, Subtask, Task, TaskId
from qasr.domain.telemetry import TaskEnded
from qasr.jobs.port import Steps
from qasr.pipeline.filed import Asked, Heard, Place, Plan
from qasr.pipeline.flow import ordered_map
from qasr.storage.tasks import Lengths, PartEnd, Tasks

TOGETHER: Final = 4
"""Recordings of one task whose segments lie in the store at the same time; 12 hours are at most 1.4 GB."""
CUTS: Final = 2
"""Recordings of one task that are fetched and cut at once."""
WINDOW: Final = 4
"""Groups of one task that are heard at once: so much is done again after a crash."""
MOST_ATTEMPTS: Final = 50
"""How often a task is begun again without having moved on: whatever ends the process each time is then in the task."""
LEAST_STUCK_S: Final = 1800.0
"""So long a task is begun again even so: a server's lives may be short for other reasons, for some minutes."""
PAUSES_S: Final = (1.0, 4.0)
"""Before a step whose engine failed is tried again."""
BUSY_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Before a step that found the queue of the engine full tries again, the last one until it has."""

MOST_BUSY: Final = 120
"""How often a full queue is waited for: an hour."""
MOST_STEP_S: Final = 3600.0
"""For a step that hears or merges; so that an engine which never answers cannot keep a task for ever."""
MOST_CUT_S: Final = 8 * 3600.0
"""For a step that fetches and cuts."""

I = TypeVar("I")  # noqa: E741 - item
R = TypeVar("R")

log = structlog.get_logger(__name__)


class CutResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of a step ``cut``."""

    plan: Plan | None = None
    failure: Failure | None = None
    is_whole: bool = False
    """The recording was brought to its end: no other step is begun for it. Earlier versions did so in three."""
    heard: Heard | None = None
    """Only of what is whole."""


class HeardResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of a step ``hear``; neither: nothing had to be done, since the recording has failed already."""

    heard: Heard | None = None
    failure: Failure | None = None


class MergeResult(msgspec.Struct, frozen=True, kw_only=True):
    """Of a step ``merge``."""

    failure: Failure | None = None


RESULTS: Final = tuple(msgspec.json.Decoder(kind) for kind in (CutResult, HeardResult, MergeResult))
"""So that msgspec has looked into them before threads could do so at once, see ``storage/tasks.py``."""


class Recordings(Protocol):
    """What the steps do: ``pipeline/filed.py``."""

    async def cut(self, place: Place, asked: Asked) -> Plan:
        """Fetch a recording and cut it into groups of segments."""
        ...

    async def hear(self, place: Place, group: int, asked: Asked) -> Heard:
        """Recognize a group."""
        ...

    async def merge(self, place: Place, plan: Plan, asked: Asked, language: str | None) -> None:
        """Make the transcript."""
        ...

    async def clear(self, place: Place, groups: int) -> None:
        """Remove intermediate results."""
        ...


class _Recording:
    """One recording while its task is being done."""

    def __init__(self, task: Task, subtask: Subtask) -> None:
        order = task.order
        self.number = subtask.number
        self.place = Place(task_id=task.id, number=subtask.number)
        self.asked = Asked(
            url=subtask.url, owner=order.owner, options=order.options, limits=order.limits, model=order.model
        )
        self.plan: Plan | None = None
        self.failure: Failure | None = None
        self.is_whole = False
        self.heard: dict[int, Heard] = {}
        """By group."""

    @property
    def done_ms(self) -> int:
        """Speech that was heard."""
        return sum(heard.ms for heard in self.heard.values())

    def end(self) -> PartEnd:
        """How it has ended."""
        return PartEnd(number=self.number, failure=self.failure, lengths=self.lengths())

    def lengths(self) -> Lengths | None:
        """As far as they are known."""
        if self.plan is None:
            return None
        speech_ms = sum(self.plan.speech_ms)
        return Lengths(duration_ms=self.plan.duration_ms, speech_ms=speech_ms, done_ms=self.done_ms)


class Perform:
    """Does tasks: a ``Work`` for the durable engine.

    Args:
        tasks: their rows.
        recordings: what the steps do.
        ended: is told of each task that has ended, once.
        sleep: for tests.
    """

    def __init__(
        self,
        tasks: Tasks,
        recordings: Recordings,
        *,
        ended: Callable[[Task], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._tasks, self._recordings, self._ended, self._sleep = tasks, recordings, ended, sleep

    async def __call__(self, task_id: TaskId, steps: Steps) -> None:
        """Do the task to its end, or as far as the process lives."""
        structlog.contextvars.clear_contextvars()  # of whatever happened to start us
        with structlog.contextvars.bound_contextvars(task_id=task_id), telemetry.tracer().task(task_id):
            await self._perform(task_id, steps)

    async def _perform(self, task_id: TaskId, steps: Steps) -> None:
        task = await self._begin(task_id)
        if task is None:
            return
        ends: list[PartEnd] = []
        for start in range(0, len(task.subtasks), TOGETHER):
            ends = await self._do(task, task.subtasks[start : start + TOGETHER], steps)
        await self._finish(task_id, *ends)

    async def _finish(self, task_id: TaskId, *ends: PartEnd) -> None:
        """End the task and tell of it, unless somebody else has ended it."""
        task = await self._tasks.finish(task_id, *ends)
        log.info("task_ended", task_id=task_id, state=None if task is None else task.state)
        if task is not None:
            telemetry.tell(TaskEnded(state=task.state))
            self._ended(task)

    async def _begin(self, task_id: TaskId) -> Task | None:
        """The task, now running; None if it has ended, or was canceled before it began."""
        begun = await self._tasks.begin(task_id)
        if begun is None:
            return None
        task, attempt = begun
        if attempt.number > MOST_ATTEMPTS and attempt.stuck_s >= LEAST_STUCK_S:
            message = f"The task was given up: it was interrupted {attempt.number - 1} times without moving on."
            await self._give_up(task, Failure(kind="EngineFailed", message=message))
            return None
        log.info("task_begun", task_id=task_id, attempt=attempt.number)
        return task

    async def _give_up(self, task: Task, failure: Failure) -> None:
        await self._finish(task.id, *(PartEnd(number=subtask.number, failure=failure) for subtask in task.subtasks))
        log.error("task_given_up", task_id=task.id, reason=failure.message)

    async def _do(self, task: Task, subtasks: Sequence[Subtask], steps: Steps) -> list[PartEnd]:
        """A few recordings, from their addresses to their transcripts; the ends that are still to be written."""
        recordings = [_Recording(task, subtask) for subtask in subtasks]
        cutting = anyio.Semaphore(CUTS)

        async def cut(recording: _Recording) -> None:
            await self._cut(task, recording, cutting, steps)

        async def hear(item: tuple[_Recording, int]) -> None:
            await self._hear(task, *item, steps)

        await in_order(cut, recordings, at_once=TOGETHER)
        groups = [(r, group) for r in recordings if r.plan and not r.is_whole for group in range(r.plan.groups)]
        await in_order(hear, groups, at_once=WINDOW)
        for recording in recordings:
            if not recording.is_whole:
                await self._merge(task, recording, steps)
        return [recording.end() for recording in recordings if is_last(task, recording)]

    async def _cut(self, task: Task, recording: _Recording, cutting: anyio.Semaphore, steps: Steps) -> None:
        async def work() -> CutResult:
            async with cutting:
                if not await self._tasks.begin_subtask(task.id, recording.number):
                    return CutResult(failure=CANCELED)
                plan, failure = await self._tried(
                    "cut", lambda: self._recordings.cut(recording.place, recording.asked), limit_s=MOST_CUT_S
                )
            if plan is not None and not plan.is_short:
                return CutResult(plan=plan)
            heard = None
            if plan is not None and plan.groups:
                heard, failure = await self._tried(
                    "hear", lambda: self._recordings.hear(recording.place, 0, recording.asked)
                )
            failure = await self._merged(recording, plan, failure, [heard] if heard else [])
            return CutResult(plan=plan, failure=failure, heard=heard, is_whole=True)

        result = await steps.step(f"cut {recording.number}", work, CutResult)
        recording.plan, recording.failure, recording.is_whole = result.plan, result.failure, result.is_whole
        if result.heard is not None:
            recording.heard[0] = result.heard
        if recording.is_whole:
            await self._end(task, recording)
        elif (lengths := recording.lengths()) is not None:
            await self._tasks.measure_subtask(task.id, recording.number, lengths)

    async def _hear(self, task: Task, recording: _Recording, group: int, steps: Steps) -> None:
        is_new = False

        async def work() -> HeardResult:
            nonlocal is_new
            is_new = True
            if recording.failure is not None or await self._tasks.is_cancel_requested(task.id):
                return HeardResult(failure=recording.failure or CANCELED)
            heard, failure = await self._tried(
                "hear", lambda: self._recordings.hear(recording.place, group, recording.asked)
            )
            return HeardResult(heard=heard, failure=failure)

        result = await steps.step(f"hear {recording.number}/{group}", work, HeardResult)
        recording.failure = recording.failure or result.failure
        if result.heard is None:
            return
        recording.heard[group] = result.heard
        if is_new:
            await self._tasks.advance_subtask(task.id, recording.number, recording.done_ms)

    async def _merge(self, task: Task, recording: _Recording, steps: Steps) -> None:
        async def work() -> MergeResult:
            heard = [recording.heard[group] for group in sorted(recording.heard)]
            return MergeResult(failure=await self._merged(recording, recording.plan, recording.failure, heard))

        result = await steps.step(f"merge {recording.number}", work, MergeResult)
        recording.failure = result.failure
        await self._end(task, recording)

    async def _merged(
        self, recording: _Recording, plan: Plan | None, failure: Failure | None, heard: Sequence[Heard]
    ) -> Failure | None:
        """Make its transcript, or remove what there is of it; why there is none."""
        if failure is None and not any(group.sentences for group in heard):
            failure = failure_of(NoSpeech("No speech was found in the recording."))
        if plan is None or failure is not None:
            await self._tried("merge", lambda: self._recordings.clear(recording.place, plan.groups if plan else 0))
            return failure
        language = next((group.language for group in heard if group.language), None)
        _, failure = await self._tried(
            "merge", lambda: self._recordings.merge(recording.place, plan, recording.asked, language)
        )
        return failure

    async def _end(self, task: Task, recording: _Recording) -> None:
        """That of the last recording is written with its task's."""
        if recording.failure is not None:
            log.info("recording_failed", task_id=task.id, number=recording.number, kind=recording.failure.kind)
        if not is_last(task, recording):
            await self._tasks.end_subtask(task.id, recording.end())

    async def _tried(
        self, stage: telemetry.StageName, work: Callable[[], Awaitable[R]], *, limit_s: float = MOST_STEP_S
    ) -> tuple[R | None, Failure | None]:
        """The value of *work*, or why there is none; what may pass by itself is waited for, within bounds."""
        failures = busy = 0
        while True:
            try:
                with telemetry.stage(stage):
                    return await _within(limit_s, work), None
            except CapacityError as error:
                pause_s = BUSY_S[min(busy, len(BUSY_S) - 1)]
                busy += 1
                if busy > MOST_BUSY:
                    return None, failure_of(error)
            except EngineError as error:
                if failures == len(PAUSES_S):
                    return None, failure_of(error)
                pause_s = PAUSES_S[failures]
                failures += 1
            except QasrError as error:
                return None, failure_of(error)
            except Exception:  # a full disk, say, or a fault of ours
                log.exception("step_raised")
                if failures == len(PAUSES_S):
                    return None, failure_of(EngineFailed("The recording was not finished for a reason of our own."))
                pause_s = PAUSES_S[failures]
                failures += 1
            await self._sleep(pause_s)


def is_last(task: Task, recording: _Recording) -> bool:
    """Whether it is the one with the highest number."""
    return recording.number == task.subtasks[-1].number


CANCELED: Final = Failure(kind="EngineUnavailable", message="The operator has canceled the task.")


async def _within(limit_s: float, work: Callable[[], Awaitable[R]]) -> R:
    with anyio.move_on_after(limit_s):
        return await work()
    raise DeadlineExceeded("The recording was not finished in time.")


def failure_of(error: QasrError) -> Failure:
    """What a client is told of *error*."""
    status = error.status if isinstance(error, FetchStatus) else None
    return Failure(kind=type(error).__name__, message=str(error), status=status)


async def in_order(work: Callable[[I], Awaitable[None]], items: Iterable[I], *, at_once: int) -> None:
    """Do *work* on all items, begun in their order, some at once."""

    async def source() -> AsyncIterator[I]:
        for item in items:
            yield item

    async with ordered_map(work, source(), ahead=at_once - 1) as done:
        async for _ in done:
            pass

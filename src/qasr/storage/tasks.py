"""The tasks table: what queries and lists read, and what decides how far a task may go.

Every transition is one conditional update, so that two workers, or a worker and a cancel, cannot both win.

Clients look at each task every few seconds: the longer the line, the more they look. Where one process has the database
to itself (SQLite), tasks that it has read are therefore kept until it changes them. What somebody else changes, an
operator with ``qasr tasks cancel``, is seen within ``SEEN_S``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import Final, TypeVar

import msgspec
import sqlalchemy as sa

from qasr.domain.audio import MediaLimits
from qasr.domain.options import RecognitionOptions
from qasr.domain.task import ENDED, Failure, Subtask, Task, TaskId, TaskOrder, TaskState
from qasr.storage.database import Database, one_at_a_time, subtasks, tasks

UNFINISHED: Final = (TaskState.PENDING, TaskState.RUNNING)
SEEN_S: Final = 15.0
"""How long a task that was read is believed to be as it was: three looks of DashScope's SDK."""
MOST_SEEN: Final = 2000
"""Tasks that are kept."""
MOST_PARTS_SEEN: Final = 8
"""Recordings of a task that is kept."""

R = TypeVar("R")

# What is asked most often is built once: else building a statement takes longer than running it.
_TASK: Final = sa.select(tasks).where(tasks.c.id == sa.bindparam("this"))
_SUBTASKS: Final = sa.select(subtasks).where(subtasks.c.task_id == sa.bindparam("this")).order_by(subtasks.c.number)
_OTHERS: Final = sa.select(
    sa.func.count().label("n"), sa.func.coalesce(sa.func.max(tasks.c.turn) + 1, 0).label("next_turn")
).where(tasks.c.owner == sa.bindparam("owner"), tasks.c.state.in_(UNFINISHED))
_TURN_NOW: Final = sa.select(
    sa.func.coalesce(
        sa.select(sa.func.max(tasks.c.turn)).where(tasks.c.state == TaskState.RUNNING).scalar_subquery(),
        sa.select(sa.func.min(tasks.c.turn)).where(tasks.c.state == TaskState.PENDING).scalar_subquery(),
        0,
    )
)
_COUNTS: Final = sa.select(
    tasks.c.state, sa.func.count().label("n"), sa.func.min(tasks.c.submitted_ms).label("oldest_ms")
).group_by(tasks.c.state)
_NEW_TASK: Final = sa.insert(tasks)
_NEW_SUBTASKS: Final = sa.insert(subtasks)
_THIS: Final = tasks.c.id == sa.bindparam("this")
_ITS_PARTS: Final = subtasks.c.task_id == sa.bindparam("this")
_THIS_PART: Final = sa.and_(_ITS_PARTS, subtasks.c.number == sa.bindparam("part"), subtasks.c.state.in_(UNFINISHED))
_ENQUEUED: Final = sa.update(tasks).where(_THIS).values(enqueued=True)
_BEGIN: Final = (
    sa.update(tasks)
    .where(_THIS, tasks.c.state == TaskState.PENDING)
    .values(state=TaskState.RUNNING, scheduled_ms=sa.bindparam("now_ms"))
)
_REACHED: Final = sa.select(
    sa.func.coalesce(sa.func.sum(subtasks.c.done_ms), 0)
    + sa.func.count().filter(subtasks.c.duration_ms > 0)
    + sa.func.count().filter(subtasks.c.state.in_(ENDED))
).where(_ITS_PARTS)
_ATTEMPT: Final = (
    sa.update(tasks)
    .where(_THIS)
    .values({name: sa.bindparam(f"new_{name}") for name in ("attempts", "attempts_since_ms", "progress")})
)
_IS_CANCEL_REQUESTED: Final = sa.select(tasks.c.cancel_requested).where(_THIS)
_BEGIN_PART: Final = sa.update(subtasks).where(_THIS_PART).values(state=TaskState.RUNNING)
_MEASURE_PART: Final = (
    sa.update(subtasks)
    .where(_THIS_PART)
    .values(duration_ms=sa.bindparam("new_duration_ms"), speech_ms=sa.bindparam("new_speech_ms"))
)
_ADVANCE_PART: Final = (
    sa.update(subtasks)
    .where(_THIS_PART, subtasks.c.done_ms < sa.bindparam("reached_ms"))
    .values(done_ms=sa.bindparam("reached_ms"))
)
_END_PART: Final = (
    sa.update(subtasks).where(_THIS_PART).values(state=sa.bindparam("new_state"), failure=sa.bindparam("new_failure"))
)
_LOSE_PARTS: Final = (
    sa.update(subtasks)
    .where(_ITS_PARTS, subtasks.c.state.in_(UNFINISHED))
    .values(state=TaskState.FAILED, failure=sa.bindparam("new_failure"))
)
_N_GOOD: Final = (
    sa.select(sa.func.count()).select_from(subtasks).where(_ITS_PARTS, subtasks.c.state == TaskState.SUCCEEDED)
)
_FINISH: Final = (
    sa.update(tasks)
    .where(_THIS, tasks.c.state.in_(UNFINISHED))
    .values(state=sa.bindparam("new_state"), ended_ms=sa.bindparam("now_ms"))
)


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """What a list asks for; times are Unix milliseconds."""

    owner: str
    from_ms: int
    to_ms: int
    task_id: str | None = None
    model: str | None = None
    state: TaskState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCount:
    """The tasks in one state."""

    tasks: int
    oldest_ms: int
    """When the first of them was submitted, in Unix milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A task that was taken on."""

    turn: int
    """From 0: behind the tasks that its owner has handed in before, and no earlier than those that are served now. So
    owners take turns, however many tasks each has, and nobody's wait for ever (start-time fair queueing, Goyal et al.
    1996)."""
    others: int
    """Tasks of its owner that are not finished, besides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One beginning of the work on a task."""

    number: int
    """From 1, counted anew when the task has moved on."""
    stuck_s: float
    """Since the first of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """What is known of a recording, in milliseconds."""

    duration_ms: int
    speech_ms: int
    done_ms: int = 0
    """Of the speech, what was recognized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEnd:
    """How a recording has ended."""

    number: int
    failure: Failure | None
    """None: well."""
    lengths: Lengths | None = None
    """None: as they were told before."""


class Tasks:
    """Rows of tasks and subtasks."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._clock = database, clock
        self._seen = _Seen() if database.is_sqlite else None

    async def add(self, task_id: TaskId, order: TaskOrder, *, most_unfinished: int | None = None) -> Added | None:
        """A new task, pending; durable when this returns. None: its owner has *most_unfinished* tasks already."""
        row = {
            "id": task_id,
            "owner": order.owner,
            "model": order.model,
            "dialect": order.dialect,
            "state": TaskState.PENDING,
            "options": msgspec.json.encode(order.options).decode(),
            "limits": msgspec.json.encode(order.limits).decode(),
            "webhook": order.webhook,
            "webhook_due_ms": None if order.webhook is None else 0,  # it is called once the task has ended
            "submitted_ms": self._clock(),
            "enqueued": False,
            "cancel_requested": False,
            "attempts": 0,
            "attempts_since_ms": 0,
            "progress": 0,
        }
        parts = [
            {
                "task_id": task_id,
                "number": number,
                "url": url,
                "state": TaskState.PENDING,
                "duration_ms": 0,
                "speech_ms": 0,
                "done_ms": 0,
            }
            for number, url in enumerate(order.urls)
        ]

        def insert(connection: sa.Connection) -> Added | None:
            one_at_a_time(connection, f"tasks {order.owner}")
            others = connection.execute(_OTHERS, {"owner": order.owner}).one()
            if most_unfinished is not None and others.n >= most_unfinished:
                return None
            turn = max(int(others.next_turn), int(connection.execute(_TURN_NOW).scalar_one()))
            connection.execute(_NEW_TASK, row | {"turn": turn})
            connection.execute(_NEW_SUBTASKS, parts)
            return Added(turn=turn, others=int(others.n))

        return await self._database.write(insert)

    async def get(self, task_id: str, owner: str | None = None) -> Task | None:
        """The task; None if there is none, or if it is not *owner*'s."""
        task = await self._get(task_id) if self._seen is None else await self._seen.get(task_id, self._get)
        return None if task is None or (owner is not None and task.order.owner != owner) else task

    async def _get(self, task_id: str) -> Task | None:
        def select(connection: sa.Connection) -> Task | None:
            row = connection.execute(_TASK, {"this": task_id}).one_or_none()
            return None if row is None else _task(row, connection.execute(_SUBTASKS, {"this": task_id}).all())

        return await self._database.read(select)

    async def _change(self, task_id: str, change: Callable[[sa.Connection], R]) -> R:
        """Run *change* of one task in one transaction."""
        try:
            return await self._database.write(change)
        finally:
            self._forget(task_id)

    def _forget(self, *task_ids: str) -> None:
        if self._seen is not None:
            self._seen.forget(*task_ids)

    async def find(self, wanted: TaskFilter, *, offset: int, limit: int) -> tuple[int, list[Task]]:
        """How many there are, and one page of them, newest first (without their subtasks)."""
        conditions = [
            tasks.c.owner == wanted.owner,
            tasks.c.submitted_ms.between(wanted.from_ms, wanted.to_ms),
        ]
        for column, value in (
            (tasks.c.id, wanted.task_id),
            (tasks.c.model, wanted.model),
            (tasks.c.state, wanted.state),
        ):
            if value is not None:
                conditions.append(column == value)

        def select(connection: sa.Connection) -> tuple[int, list[Task]]:
            total = connection.execute(sa.select(sa.func.count()).select_from(tasks).where(*conditions)).scalar_one()
            rows = connection.execute(
                sa.select(tasks)
                .where(*conditions)
                .order_by(tasks.c.submitted_ms.desc(), tasks.c.id)
                .offset(offset)
                .limit(limit)
            )
            return total, [_task(row, ()) for row in rows]

        return await self._database.read(select)

    async def cancel_pending(self, task_id: str, owner: str | None) -> bool:
        """Cancel *owner*'s task (None: anybody's) if nobody has begun it; whether that was so."""

        def cancel(connection: sa.Connection) -> bool:
            mine = tasks.c.id == task_id if owner is None else sa.and_(tasks.c.id == task_id, tasks.c.owner == owner)
            values = {"state": TaskState.CANCELED, "ended_ms": self._clock()}
            change = sa.update(tasks).where(mine, tasks.c.state == TaskState.PENDING).values(values)
            if not connection.execute(change).rowcount:
                return False
            parts = sa.update(subtasks).where(subtasks.c.task_id == task_id)
            connection.execute(parts.values(state=TaskState.CANCELED))
            return True

        return await self._change(task_id, cancel)

    async def request_cancel(self, task_id: TaskId) -> TaskState | None:
        """For operators: cancel a pending task, or ask a running one to stop before its next step.

        Returns:
            ``CANCELED``, or ``RUNNING`` until it has stopped; None if there is no such task, or if it has ended.
        """
        if await self.cancel_pending(task_id, None):
            return TaskState.CANCELED
        running = sa.update(tasks).where(tasks.c.id == task_id, tasks.c.state == TaskState.RUNNING)
        ask = running.values(cancel_requested=True)
        is_asked = bool(await self._change(task_id, lambda connection: connection.execute(ask).rowcount))
        return TaskState.RUNNING if is_asked else None

    async def is_cancel_requested(self, task_id: TaskId) -> bool:
        """Whether a running task is to stop."""
        return await self._database.read(lambda connection: _is_cancel_requested(connection, task_id))

    async def mark_enqueued(self, task_id: TaskId) -> None:
        """The workflow of the task exists."""
        await self._database.write(lambda connection: connection.execute(_ENQUEUED, {"this": task_id}))

    async def not_enqueued(self, *, before_ms: int, limit: int) -> list[TaskId]:
        """Pending tasks whose submission was cut off between their row and their workflow."""
        query = (
            sa.select(tasks.c.id)
            .where(tasks.c.state == TaskState.PENDING, ~tasks.c.enqueued, tasks.c.submitted_ms <= before_ms)
            .limit(limit)
        )
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def begin(self, task_id: TaskId) -> tuple[Task, Attempt] | None:
        """A worker takes the task up (again): it runs now. None if it has ended, or is gone."""

        def begin(connection: sa.Connection) -> tuple[Task, Attempt] | None:
            this, now = {"this": task_id}, self._clock()
            connection.execute(_BEGIN, this | {"now_ms": now})
            row = connection.execute(_TASK, this).one_or_none()
            if row is None or row.state in ENDED:
                return None
            progress = int(connection.execute(_REACHED, this).scalar_one())
            stuck = row.attempts > 0 and progress <= row.progress
            number, since_ms = (row.attempts + 1, row.attempts_since_ms) if stuck else (1, now)
            values = {
                "new_attempts": number,
                "new_attempts_since_ms": since_ms,
                "new_progress": max(progress, row.progress),
            }
            connection.execute(_ATTEMPT, this | values)
            task = _task(row, connection.execute(_SUBTASKS, this).all())
            return task, Attempt(number=number, stuck_s=max(0, now - since_ms) / 1000)

        return await self._change(task_id, begin)

    async def count(self) -> Mapping[TaskState, TaskCount]:
        """All tasks, by state; states without any are left out."""
        return await self._database.read(
            lambda connection: {
                TaskState(row.state): TaskCount(tasks=row.n, oldest_ms=row.oldest_ms)
                for row in connection.execute(_COUNTS)
            }
        )

    async def turn(self, task_id: TaskId) -> int:
        """As ``add`` has told it."""
        query = sa.select(tasks.c.turn).where(tasks.c.id == task_id)
        return await self._database.read(lambda connection: int(connection.execute(query).scalar_one()))

    async def unheard_ms(self, owner: str) -> Mapping[str, int]:
        """Speech of *owner*'s unfinished tasks that is still to be heard, by model.

        A recording has none before it is cut; what is left of one that has ended is not counted.
        """
        query = (
            sa.select(tasks.c.model, sa.func.sum(subtasks.c.speech_ms - subtasks.c.done_ms))
            .join(subtasks, subtasks.c.task_id == tasks.c.id)
            .where(tasks.c.owner == owner, tasks.c.state.in_(UNFINISHED), subtasks.c.state.in_(UNFINISHED))
            .group_by(tasks.c.model)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {str(model): int(ms) for model, ms in rows}

    async def begin_subtask(self, task_id: TaskId, number: int) -> bool:
        """A recording is being worked on; nothing happens if it has ended. False: it is not to be, the task stops."""

        def begin(connection: sa.Connection) -> bool:
            if _is_cancel_requested(connection, task_id):
                return False
            connection.execute(_BEGIN_PART, {"this": task_id, "part": number})
            return True

        return await self._change(task_id, begin)

    async def measure_subtask(self, task_id: TaskId, number: int, lengths: Lengths) -> None:
        """The lengths of a recording are known."""
        await self._change(task_id, lambda connection: _measure(connection, task_id, number, lengths))

    async def advance_subtask(self, task_id: TaskId, number: int, ms: int) -> None:
        """So much of a recording is recognized; it never becomes less."""
        await self._change(task_id, lambda connection: _advance(connection, task_id, number, ms))

    async def end_subtask(self, task_id: TaskId, end: PartEnd) -> None:
        """A recording is done, or has failed; nothing happens if it has ended already."""
        await self._change(task_id, lambda connection: _end(connection, task_id, end))

    async def finish(self, task_id: TaskId, *ends: PartEnd) -> Task | None:
        """End a running task as its subtasks say: it succeeds if one of them does; or as canceled, if it was to stop.

        Subtasks that have not ended count as failed.

        Args:
            task_id: which.
            ends: of subtasks, as by ``end_subtask`` just before.

        Returns:
            The task; None if it was not running.
        """
        lost = Failure(kind="EngineFailed", message="The recording was not finished for a reason of our own.")

        def finish(connection: sa.Connection) -> Task | None:
            this = {"this": task_id}
            for end in ends:
                _end(connection, task_id, end)
            connection.execute(_LOSE_PARTS, this | {"new_failure": msgspec.json.encode(lost).decode()})
            if _is_cancel_requested(connection, task_id):
                state = TaskState.CANCELED
            else:
                state = TaskState.SUCCEEDED if connection.execute(_N_GOOD, this).scalar_one() else TaskState.FAILED
            values = {"new_state": state, "now_ms": self._clock()}
            if not connection.execute(_FINISH, this | values).rowcount:
                return None
            return _task(connection.execute(_TASK, this).one(), connection.execute(_SUBTASKS, this).all())

        return await self._change(task_id, finish)

    async def stale(self, *, before_ms: int, limit: int) -> list[TaskId]:
        """Unfinished tasks whose workflow exists and that were submitted before *before_ms*, oldest first."""
        query = (
            sa.select(tasks.c.id)
            .where(tasks.c.state.in_(UNFINISHED), tasks.c.enqueued, tasks.c.submitted_ms < before_ms)
            .order_by(tasks.c.submitted_ms)
            .limit(limit)
        )
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def expired(self, *, before_ms: int, limit: int) -> list[TaskId]:
        """Tasks that ended before *before_ms*."""
        query = sa.select(tasks.c.id).where(tasks.c.ended_ms < before_ms).limit(limit)
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def delete(self, task_ids: Sequence[TaskId]) -> None:
        """Forget tasks and their subtasks."""

        def remove(connection: sa.Connection) -> None:
            connection.execute(sa.delete(subtasks).where(subtasks.c.task_id.in_(task_ids)))
            connection.execute(sa.delete(tasks).where(tasks.c.id.in_(task_ids)))

        try:
            await self._database.write(remove)
        finally:
            self._forget(*task_ids)


class _Seen:
    """Tasks as they were read, until they change."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._tasks: dict[str, tuple[Task, float]] = {}
        """Each with the time until which it is believed; oldest first."""
        self._reading: dict[str, object] = {}
        """Of each task that is being read, the last who began; a change takes it out: what was read may be older."""

    async def get(self, task_id: str, read: Callable[[str], Awaitable[Task | None]]) -> Task | None:
        """The task as it is; by *read*, if it is not known."""
        seen = self._tasks.get(task_id)
        if seen is not None and self._clock() < seen[1]:
            return seen[0]
        mine, until_s = object(), self._clock() + SEEN_S
        self._reading[task_id] = mine
        try:
            task = await read(task_id)
            is_mine = self._reading.get(task_id) is mine
        finally:
            if self._reading.get(task_id) is mine:
                del self._reading[task_id]
        if is_mine and task is not None and len(task.subtasks) <= MOST_PARTS_SEEN:
            self._tasks.pop(task_id, None)
            self._tasks[task_id] = task, until_s
            if len(self._tasks) > MOST_SEEN:
                del self._tasks[next(iter(self._tasks))]
        return task

    def forget(self, *task_ids: str) -> None:
        """These have changed."""
        for task_id in task_ids:
            self._tasks.pop(task_id, None)
            self._reading.pop(task_id, None)


_options = msgspec.json.Decoder(RecognitionOptions)
_limits = msgspec.json.Decoder(MediaLimits)
_failure = msgspec.json.Decoder(Failure)
"""Made here, by one thread: msgspec looks into a type when it is first decoded, and two threads that do so at once end
the process (0.22)."""


def _is_cancel_requested(connection: sa.Connection, task_id: TaskId) -> bool:
    return bool(connection.execute(_IS_CANCEL_REQUESTED, {"this": task_id}).scalar_one_or_none())


def _measure(connection: sa.Connection, task_id: TaskId, number: int, lengths: Lengths) -> None:
    new = {"new_duration_ms": lengths.duration_ms, "new_speech_ms": lengths.speech_ms}
    connection.execute(_MEASURE_PART, {"this": task_id, "part": number} | new)


def _advance(connection: sa.Connection, task_id: TaskId, number: int, ms: int) -> None:
    connection.execute(_ADVANCE_PART, {"this": task_id, "part": number, "reached_ms": ms})


def _end(connection: sa.Connection, task_id: TaskId, end: PartEnd) -> None:
    if end.lengths is not None:
        _measure(connection, task_id, end.number, end.lengths)
        _advance(connection, task_id, end.number, end.lengths.done_ms)
    failure = None if end.failure is None else msgspec.json.encode(end.failure).decode()
    new = {"new_state": TaskState.SUCCEEDED if failure is None else TaskState.FAILED, "new_failure": failure}
    connection.execute(_END_PART, {"this": task_id, "part": end.number} | new)


def _task(row: sa.Row[tuple[object, ...]], parts: Sequence[sa.Row[tuple[object, ...]]]) -> Task:
    order = TaskOrder(
        owner=row.owner,
        model=row.model,
        dialect=row.dialect,
        urls=tuple(part.url for part in parts),
        options=_options.decode(row.options),
        limits=_limits.decode(row.limits),
        webhook=row.webhook,
    )
    return Task(
        id=TaskId(row.id),
        order=order,
        state=TaskState(row.state),
        submitted_ms=row.submitted_ms,
        scheduled_ms=row.scheduled_ms,
        ended_ms=row.ended_ms,
        cancel_requested=row.cancel_requested,
        subtasks=tuple(_subtask(part) for part in parts),
    )


def _subtask(row: sa.Row[tuple[object, ...]]) -> Subtask:
    return Subtask(
        number=row.number,
        url=row.url,
        state=TaskState(row.state),
        failure=None if row.failure is None else _failure.decode(row.failure),
        duration_ms=row.duration_ms,
        speech_ms=row.speech_ms,
        done_ms=row.done_ms,
    )

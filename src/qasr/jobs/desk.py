"""The desk: where tasks are handed in, asked for and withdrawn.

A task is taken on in this order: its row, then its workflow, then a mark in the row that the workflow exists. What a
crash leaves between the two, the keeper (``reaper.py``) completes. The durable engine may come later than the desk: a
row is enough to be sure of a task.
"""

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from qasr.domain.errors import RateLimited
from qasr.domain.task import Task, TaskId, TaskOrder, TaskState
from qasr.jobs.port import ALONE, JobEngine
from qasr.storage.tasks import Added, TaskCount, TaskFilter, Tasks

GRACE_S: Final = 20.0
"""For steps under way, when the process is told to end; orchestrators kill after 30."""

KNOWN_S: Final = float(RateLimited.retry_after_s)
"""How long an owner is believed to have the tasks that were counted, but for those that end here."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    """An owner's unfinished tasks, as far as this server knows."""

    unfinished: int = 0
    """At the last count, less those that have ended here since."""
    coming: int = 0
    """That are being written now."""
    until_s: float = math.inf
    """When to count again."""


class Desk:
    """Takes tasks on and tells of them.

    Args:
        tasks: their rows.
        most_unfinished: of one owner.
        webhook: called for tasks that name none themselves.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        most_unfinished: int,
        webhook: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks, self._most_unfinished, self._webhook = tasks, most_unfinished, webhook
        self._clock = clock
        self._known: dict[str, _Known] = {}
        """Of owners who have handed in tasks just now."""
        self._engine: JobEngine | None = None
        self._waiting: list[tuple[TaskId, int]] = []
        self.is_stopping = False
        """The process is to end: nobody is to attach an engine any more."""
        self.counts: Mapping[TaskState, TaskCount] | None = None
        """All tasks by state, at the last ``look``; None: that is not known."""
        self._is_away = False

    @property
    def trouble(self) -> str | None:
        """Why tasks wait, or cannot be handed in; None: they do not, and can."""
        if self._is_away:
            return "tasks: their database does not answer"
        return "tasks wait: what does them is starting" if self._engine is None else None

    async def look(self) -> None:
        """Count the tasks."""
        try:
            self.counts, self._is_away = await self._tasks.count(), False
        except Exception:
            if not self._is_away:
                log.exception("tasks_not_counted")
            self.counts, self._is_away = None, True

    async def attach(self, engine: JobEngine) -> None:
        """From now on *engine* does the tasks, also those that were handed in before."""
        self._engine = engine
        waiting, self._waiting = self._waiting, []
        for task_id, urgency in waiting:
            await self._enqueue(engine, task_id, urgency)

    def detach(self) -> None:
        """The engine is gone; what is handed in waits for the next one."""
        self._engine = None

    def check_room(self, owner: str) -> None:
        """Refuse a task of *owner* who has as many as may be, without asking the database. Every ``KNOWN_S`` there is
        room for one more, to find out.

        Raises:
            RateLimited: the owner has too many unfinished tasks, as far as is known.
        """
        known = self._known.get(owner)
        if known is None:
            return
        if self._clock() >= known.until_s:
            known.unfinished = min(known.unfinished, self._most_unfinished - known.coming - 1)
            known.until_s = self._clock() + KNOWN_S
        if known.unfinished + known.coming >= self._most_unfinished:
            raise _too_many()

    def ended(self, owner: str) -> None:
        """A task of *owner* has ended: there may be room for another one."""
        if (known := self._known.get(owner)) is not None:
            known.unfinished -= 1

    async def submit(self, order: TaskOrder) -> TaskId:
        """Take a task on; it is durable when this returns.

        Owners take turns, and one with no unfinished task waits for nobody who has some.

        Raises:
            RateLimited: the owner has too many unfinished tasks.
        """
        self.check_room(order.owner)
        task_id = TaskId(str(uuid.uuid4()))
        added = await self._add(task_id, replace(order, webhook=order.webhook or self._webhook))
        if added is None:
            raise _too_many()
        urgency = ALONE + added.turn if added.others else ALONE
        if self._engine is None:
            self._waiting.append((task_id, urgency))
        else:
            try:
                await self._enqueue(self._engine, task_id, urgency)
            except Exception:  # its row is there, so it will be done: the keeper enqueues it
                log.exception("task_not_enqueued", task_id=task_id)
        log.info("task_submitted", task_id=task_id, model=order.model, recordings=len(order.urls))
        return task_id

    async def query(self, task_id: str, owner: str | None) -> Task | None:
        """The task with its subtasks; None if there is none, or if it is not *owner*'s (None: anybody's will do)."""
        return await self._tasks.get(task_id, owner)

    async def find(self, wanted: TaskFilter, *, offset: int, limit: int) -> tuple[int, list[Task]]:
        """How many there are, and one page of them, newest first; without their subtasks."""
        return await self._tasks.find(wanted, offset=offset, limit=limit)

    async def unheard_ms(self, owner: str) -> Mapping[str, int]:
        """Speech of *owner*'s unfinished tasks that is still to be heard, by model."""
        return await self._tasks.unheard_ms(owner)

    async def cancel(self, task_id: str, owner: str) -> bool:
        """Withdraw a pending task of *owner*; False if there is none, or if it is not pending any more."""
        if not await self._tasks.cancel_pending(task_id, owner):
            return False
        self.ended(owner)
        if self._engine is not None:
            try:
                await self._engine.cancel(TaskId(task_id))
            except Exception:  # its row says it: whoever begins it will see that it has ended
                log.exception("workflow_not_canceled", task_id=task_id)
        log.info("task_canceled", task_id=task_id)
        return True

    async def wind_down(self) -> None:
        """No task is begun any more; returns when steps under way have ended, or after ``GRACE_S``."""
        self.is_stopping = True
        if self._engine is not None:
            await self._engine.stop(GRACE_S)

    async def _add(self, task_id: TaskId, order: TaskOrder) -> Added | None:
        now_s = self._clock()
        self._known = {owner: known for owner, known in self._known.items() if known.coming or now_s < known.until_s}
        known = self._known.setdefault(order.owner, _Known())
        known.coming += 1
        try:
            added = await self._tasks.add(task_id, order, most_unfinished=self._most_unfinished)
        finally:
            known.coming -= 1
            known.until_s = self._clock() + KNOWN_S
        known.unfinished = self._most_unfinished if added is None else added.others + 1
        return added

    async def _enqueue(self, engine: JobEngine, task_id: TaskId, urgency: int) -> None:
        await engine.enqueue(task_id, priority=urgency)
        await self._tasks.mark_enqueued(task_id)


def _too_many() -> RateLimited:
    return RateLimited("Too many of your tasks are unfinished; please wait until some have ended.")

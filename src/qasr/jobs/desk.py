"""The desk: where tasks are handed in, asked for and withdrawn.

A task is taken on in this order: its row, then its workflow, then a mark in the row that the workflow exists. What a
crash leaves between the two, the sweeper (``reaper.py``) completes.
"""

import uuid

import structlog

from qasr.domain.errors import RateLimited
from qasr.domain.task import Task, TaskId, TaskOrder
from qasr.jobs.port import JobEngine
from qasr.storage.tasks import TaskFilter, Tasks

log = structlog.get_logger(__name__)


class Desk:
    """Takes tasks on and tells of them.

    Args:
        tasks: their rows.
        engine: what does them.
        most_unfinished: of one owner.
    """

    def __init__(self, tasks: Tasks, engine: JobEngine, *, most_unfinished: int) -> None:
        self._tasks, self._engine, self._most_unfinished = tasks, engine, most_unfinished

    async def submit(self, order: TaskOrder) -> TaskId:
        """Take a task on; it is durable when this returns.

        Owners with few unfinished tasks go before those with many.

        Raises:
            RateLimited: the owner has too many unfinished tasks.
        """
        unfinished = await self._tasks.unfinished(order.owner)
        if unfinished >= self._most_unfinished:
            raise RateLimited("Too many of your tasks are unfinished; please wait until some have ended.")
        task_id = TaskId(str(uuid.uuid4()))
        await self._tasks.add(task_id, order)
        await self._engine.enqueue(task_id, priority=priority(unfinished))
        await self._tasks.mark_enqueued(task_id)
        log.info("task_submitted", task_id=task_id, model=order.model, recordings=len(order.urls))
        return task_id

    async def query(self, task_id: str, owner: str | None) -> Task | None:
        """The task with its subtasks; None if there is none, or if it is not *owner*'s (None: anybody's will do)."""
        return await self._tasks.get(task_id, owner)

    async def find(self, wanted: TaskFilter, *, offset: int, limit: int) -> tuple[int, list[Task]]:
        """How many there are, and one page of them, newest first; without their subtasks."""
        return await self._tasks.find(wanted, offset=offset, limit=limit)

    async def cancel(self, task_id: str, owner: str) -> bool:
        """Withdraw a pending task of *owner*; False if there is none, or if it is not pending any more."""
        if not await self._tasks.cancel_pending(task_id, owner):
            return False
        await self._engine.cancel(TaskId(task_id))
        log.info("task_canceled", task_id=task_id)
        return True


def priority(unfinished: int) -> int:
    """Of a new task of an owner who has so many unfinished ones; the lowest goes first."""
    return min(1 + unfinished, 1_000_000)

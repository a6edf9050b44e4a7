"""Which ended tasks have a webhook that is still to be called. It stands in the tasks table, so that the end of a task
and the duty to tell of it are one change, whoever ended it.

A call that is due is claimed for a while (*lease*); whoever claims it and dies leaves it to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from qasr.domain.task import ENDED, TaskId
from qasr.storage.database import Database, tasks
from qasr.storage.tasks import now_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A call that is ours to make."""

    task_id: TaskId
    url: str
    calls: int
    """So many were made before."""


class Callbacks:
    """Calls that are due."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._clock = database, clock

    async def claim(self, *, limit: int, lease_ms: int) -> list[Callback]:
        """Calls that are due, longest waiting first; nobody else gets them before *lease_ms* are over."""
        if limit < 1:
            return []
        query = (
            sa.select(tasks.c.id, tasks.c.webhook, tasks.c.webhook_calls, tasks.c.webhook_due_ms)
            .where(tasks.c.webhook_due_ms <= self._clock(), tasks.c.state.in_(ENDED))
            .order_by(tasks.c.webhook_due_ms)
            .limit(limit)
        )
        if not (rows := await self._database.read(lambda connection: connection.execute(query).all())):
            return []

        def take(connection: sa.Connection) -> list[Callback]:
            mine = []
            for row in rows:
                unchanged = (tasks.c.id == row.id, tasks.c.webhook_due_ms == row.webhook_due_ms)
                values = {"webhook_due_ms": self._clock() + lease_ms, "webhook_calls": row.webhook_calls + 1}
                if connection.execute(sa.update(tasks).where(*unchanged).values(values)).rowcount:
                    mine.append(Callback(task_id=TaskId(row.id), url=row.webhook, calls=row.webhook_calls))
            return mine

        return await self._database.write(take)

    async def settle(self, task_id: TaskId) -> None:
        """It is not called any more."""
        await self._set(task_id, None)

    async def postpone(self, task_id: TaskId, for_ms: int) -> None:
        """It is called again later."""
        await self._set(task_id, self._clock() + for_ms)

    async def _set(self, task_id: TaskId, due_ms: int | None) -> None:
        change = sa.update(tasks).where(tasks.c.id == task_id).values(webhook_due_ms=due_ms)
        await self._database.write(lambda connection: connection.execute(change))

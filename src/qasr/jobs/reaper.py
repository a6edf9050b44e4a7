"""What keeps tasks moving when something has gone wrong, and removes them when their time is over.

- *reap*: servers that share a database tell that they live; the tasks of one that has fallen silent are taken over. To
  take a living one for dead costs work done twice, never a wrong result. A server that has its database to itself may
  have had another name before, whose tasks nobody else would go on with.
- *mend*: rows without a workflow (a crash between the two), workflows that nobody works on, and rows whose workflow has
  vanished: none of them may stay unfinished for ever.
- *expire*: tasks, transcripts and workflows some time after their end.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from qasr.domain.task import TaskId
from qasr.jobs.port import ALONE, JobEngine
from qasr.storage.executors import Executors
from qasr.storage.tasks import Tasks, now_ms

BEAT_S: Final = 5.0
SILENT_S: Final = 20.0
"""Without a beat: dead."""
MEND_S: Final = 5.0
SUBMITTING_S: Final = 5.0
"""How long a submission may take between its row and its workflow."""
VANISHED_S: Final = 60.0
"""Age of tasks whose workflow is looked for."""
BATCH: Final = 100

log = structlog.get_logger(__name__)


class Keeper:
    """Housekeeping; each method is one round.

    Args:
        tasks: their rows.
        executors: rows of servers.
        engine: what does tasks.
        forget: removes the objects of a task.
        executor_id: ours.
        keep: how long ended tasks are kept.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        tasks: Tasks,
        executors: Executors,
        engine: JobEngine,
        forget: Callable[[str], Awaitable[None]],
        *,
        executor_id: str,
        keep: timedelta,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._tasks, self._executors, self._engine, self._forget = tasks, executors, engine, forget
        self._executor_id, self._keep, self._clock = executor_id, keep, clock

    async def reap(self) -> None:
        """Tell that we live, and take over from those that do not."""
        await self._executors.beat(self._executor_id)
        async with self._executors.reaping() as mine:
            if not mine:
                return
            for executor_id in await self._executors.silent(for_ms=int(SILENT_S * 1000)):
                n_tasks = await self._engine.take_over(executor_id)
                await self._executors.remove(executor_id, silent_for_ms=int(SILENT_S * 1000))
                log.warning("executor_silent", executor_id=executor_id, tasks_taken_over=n_tasks)

    async def mend(self) -> None:
        """Find tasks that nobody would ever finish."""
        before_ms = self._clock() - int(SUBMITTING_S * 1000)
        for task_id in await self._tasks.not_enqueued(before_ms=before_ms, limit=BATCH):
            try:
                await self._engine.enqueue(task_id, priority=ALONE + await self._tasks.turn(task_id))
                await self._tasks.mark_enqueued(task_id)
            except Exception:  # the others, and what follows, do not wait for it
                log.exception("task_not_enqueued", task_id=task_id)
            else:
                log.info("task_enqueued_late", task_id=task_id)
        if n_tasks := await self._engine.pick_up():
            log.warning("tasks_picked_up", tasks=n_tasks)
        stale = await self._tasks.stale(before_ms=self._clock() - int(VANISHED_S * 1000), limit=BATCH)
        for task_id in await self._engine.vanished(stale) if stale else ():
            if (task := await self._tasks.finish(task_id)) is not None:
                log.error("task_vanished", task_id=task_id, state=task.state)

    async def expire(self) -> None:
        """Forget tasks that ended long enough ago; one whose objects cannot be removed is kept for the next round."""
        before_ms = self._clock() - int(self._keep.total_seconds() * 1000)
        kept: set[TaskId] = set()
        while expired := await self._tasks.expired(before_ms=before_ms, limit=BATCH + len(kept)):
            gone = [task_id for task_id in expired if task_id not in kept and await self._is_forgotten(task_id)]
            kept.update(set(expired).difference(gone))
            if not gone:
                return
            await self._engine.forget(gone)
            await self._tasks.delete(gone)
            log.info("tasks_expired", tasks=len(gone))

    async def _is_forgotten(self, task_id: TaskId) -> bool:
        try:
            await self._forget(task_id)
        except Exception:
            log.exception("task_not_forgotten", task_id=task_id)
            return False
        return True


__all__ = ["BEAT_S", "MEND_S", "Keeper"]

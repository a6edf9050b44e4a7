"""The port of the durable engine: a few verbs, so that the engine behind it can be exchanged.

What a task *is* stands in our own table (``storage/tasks.py``); the engine only promises that a task which was enqueued
is worked on until ``Work`` returns, again after a crash, and that a step which returned is not done again.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec

from qasr.domain.task import TaskId

T = TypeVar("T", bound=msgspec.Struct)


class Stopping(Exception):
    """The process is about to end: no step is begun any more. What is done so far is kept."""


class Steps(Protocol):
    """How a task runs its steps. The order in which steps are begun must be the same each time."""

    async def step(self, name: str, work: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        """Do *work*, unless it was done before: then its value is what it was. Values are small.

        Raises:
            Stopping: the task is to end here, and goes on in another process or life.
        """
        ...


ALONE: Final = 1
"""The priority of a task whose owner has no other unfinished one; it waits for no task of those who have."""

Work: TypeAlias = Callable[[TaskId, Steps], Awaitable[None]]
"""What is done for a task; begun again after each crash."""


class JobEngine(Protocol):
    """Keeps tasks through crashes."""

    async def enqueue(self, task_id: TaskId, *, priority: int) -> None:
        """Have the task done, some time; nothing happens if it is known already. Lower *priority* goes first."""
        ...

    async def cancel(self, task_id: TaskId) -> None:
        """Stop working on the task before its next step."""
        ...

    async def take_over(self, executor_id: str) -> int:
        """Have others go on with what *executor_id* has left, which is dead; how many tasks."""
        ...

    async def pick_up(self) -> int:
        """Have tasks gone on with that are ours, but that nobody here works on; how many."""
        ...

    async def vanished(self, task_ids: Sequence[TaskId]) -> list[TaskId]:
        """Those that nobody will work on any more: unknown, given up or ended here."""
        ...

    async def forget(self, task_ids: Sequence[TaskId]) -> None:
        """Delete what is kept of ended tasks."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take nothing more on; let steps under way end, but not for longer than *grace_s*. May be called twice."""
        ...

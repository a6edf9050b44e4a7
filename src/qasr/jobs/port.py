"""The port of the durable engine: a few verbs, so that the engine behind it can be exchanged.

What a task *is* stands in our own table (``storage/tasks.py``); the engine only promises that a task which was enqueued
is worked on until ``Work`` returns, again after a crash, and that a step which returned is not done again.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from qasr.domain.task import TaskId

T = TypeVar("T", bound=msgspec.Struct)


class Steps(Protocol):
    """How a task runs its steps. The order in which steps are begun must be the same each time."""

    async def step(self, name: str, work: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        """Do *work*, unless it was done before: then its value is what it was. Values are small."""
        ...


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

    async def forget(self, task_ids: list[TaskId]) -> None:
        """Delete what is kept of ended tasks."""
        ...


Factory: TypeAlias = Callable[[Work], AbstractAsyncContextManager[JobEngine]]

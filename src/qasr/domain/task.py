"""Long recordings as tasks: what a task is, and which way it may go.

::

    PENDING ──▶ RUNNING ──▶ SUCCEEDED | FAILED
       └──────────────────▶ CANCELED          (a running task is canceled by the operator only)

A task has one subtask per recording. It succeeds as soon as one of them does.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NewType

from qasr.domain.audio import MediaLimits
from qasr.domain.options import RecognitionOptions

TaskId = NewType("TaskId", str)


class TaskState(enum.StrEnum):
    """Of tasks and of subtasks. ``UNKNOWN`` is what those are told who ask for nobody's task, or for another's."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    UNKNOWN = "UNKNOWN"


NEXT: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    TaskState.PENDING: frozenset({TaskState.RUNNING, TaskState.FAILED, TaskState.CANCELED}),
    TaskState.RUNNING: frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELED: frozenset(),
    TaskState.UNKNOWN: frozenset(),
}
"""Allowed transitions."""

LONGEST: Final = MediaLimits(max_bytes=2 * 1024**3, max_ms=12 * 3600 * 1000)
"""The documented 2 GB and 12 hours."""

ENDED: Final = frozenset(state for state, after in NEXT.items() if not after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a subtask failed: the name of a class of ``domain/errors.py`` and the text for strangers.

    ``status`` is the origin's HTTP status where it answered with an error.
    """

    kind: str
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder:
    """What a client submits. ``dialect`` is the face's own word for the shape of its answers."""

    owner: str
    model: str
    dialect: str
    urls: tuple[str, ...]
    options: RecognitionOptions
    limits: MediaLimits = LONGEST
    """Of each recording."""
    webhook: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """One recording of a task. Lengths are known as far as the work has come."""

    number: int
    url: str
    state: TaskState
    failure: Failure | None = None
    duration_ms: int = 0
    """Length of the whole recording."""
    speech_ms: int = 0
    """Length of all segments, over all channels."""
    done_ms: int = 0
    """Length of the segments that are recognized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as queries and lists see it. Times are Unix milliseconds."""

    id: TaskId
    order: TaskOrder
    state: TaskState
    submitted_ms: int
    scheduled_ms: int | None = None
    ended_ms: int | None = None
    cancel_requested: bool = False
    subtasks: tuple[Subtask, ...] = ()

    def count(self, state: TaskState) -> int:
        """How many subtasks are in *state*."""
        return sum(subtask.state is state for subtask in self.subtasks)

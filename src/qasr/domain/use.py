"""What was used: one line of the book that the server keeps per day, key, model and interface."""

from dataclasses import dataclass

from qasr.domain.access import Scope
from qasr.domain.task import Task, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose line it is. Days are those of UTC: ``2026-11-21``."""

    day: str
    owner: str
    model: str
    """Name in the catalogue."""
    interface: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one request used, or many together. Requests that failed or were refused count, too, as requests and as
    errors; their audio does not.
    """

    requests: int = 1
    errors: int = 0
    audio_ms: int = 0
    """Of all channels that were heard; of live sessions, what was fed."""
    speech_ms: int = 0
    """What of it was speech."""
    latency_ms: int = 0
    """From the request to the end of its answer, summed; of a task, from its submission to its end."""
    slowest_ms: int = 0
    """The longest of them."""

    def __add__(self, other: "Use") -> "Use":
        return Use(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            audio_ms=self.audio_ms + other.audio_ms,
            speech_ms=self.speech_ms + other.speech_ms,
            latency_ms=self.latency_ms + other.latency_ms,
            slowest_ms=max(self.slowest_ms, other.slowest_ms),
        )


def use_of(task: Task) -> Use:
    """What a task that has ended used: of its recordings, those that succeeded count."""
    done = [subtask for subtask in task.subtasks if subtask.state is TaskState.SUCCEEDED]
    took_ms = max(0, (task.ended_ms or task.submitted_ms) - task.submitted_ms)
    return Use(
        errors=int(task.state is TaskState.FAILED),
        audio_ms=len(task.order.options.channels or (0,)) * sum(subtask.duration_ms for subtask in done),
        speech_ms=sum(subtask.speech_ms for subtask in done),
        latency_ms=took_ms,
        slowest_ms=took_ms,
    )

"""What the house tells of its own work, to those who look on: what happened, and what took how long.

::

    rooms ── tell(SegmentHeard(…)) ─▶ listeners                 numbers: metrics.py
          ── stage("fetch") ────────▶ listeners, and a tracer   spans:   tracing.py

Like the log, this can be reached from everywhere and is nobody's argument: it changes no result, and who tells does not
know who listens. Facts are numbers and names of our own making; never a text, a key, an address or anything else that a
stranger wrote. Everything happens on the event loop's thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

StageName: TypeAlias = Literal[
    "load", "fetch", "decode", "segment", "recognize", "tag", "align", "cut", "hear", "merge"
]  # fmt: skip
Outcome: TypeAlias = Literal["done", "failed", "left"]
"""``left``: cancelled, or nobody wanted the rest."""
Fact: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request over HTTP has its answer; an upgrade to a WebSocket counts when it is granted or refused."""

    method: str
    """One of those that we know, or ``other``."""
    route: str
    """The template that matched: ``/api/v1/tasks/{id}``; or ``unknown``."""
    status: int
    wall_s: float | None
    """None: a socket was opened, which lasts as long as its client likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCalled:
    """One call of an engine, with its batch."""

    engine: str
    n_segments: int
    audio_s: float
    call_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeard:
    """One segment came back from an engine."""

    engine: str
    lane: str
    audio_s: float
    waited_s: float
    """For its turn."""
    wall_s: float
    """From being handed in to being heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingHeard:
    """A recording was recognized to its end, while somebody waited."""

    engine: str
    audio_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardActed:
    """A guard stepped in for an engine."""

    engine: str
    guard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventTaken:
    """A live session's event was taken by who sends it to the client."""

    event: Literal["partial", "final"]
    lag_s: float
    """Since the sound that it tells of was complete: a final's when its utterance was found to have ended, a partial's
    when it was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSkipped:
    """A partial that was due, or begun, was not told."""

    reason: Literal["busy", "complete", "unread"]
    """Finals wait for the engine; its segment was complete before it was heard; a newer one replaced it before it was
    taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded:
    """A stage of the work on one recording, segment or task has ended."""

    stage: StageName
    outcome: Outcome
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnded:
    """A task was worked on to its end, here."""

    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied:
    """A child process ended without being told to; another is started."""

    target: str
    """The module of its handler."""


Happening: TypeAlias = (
    Answered
    | EngineCalled
    | SegmentHeard
    | RecordingHeard
    | GuardActed
    | EventTaken
    | PartialSkipped
    | StageEnded
    | TaskEnded
    | WorkerDied
)
Listener: TypeAlias = Callable[[Happening], None]
"""Is called there and then; must be quick, and raise nothing."""


class Span(Protocol):
    """A stretch of time in a trace."""

    def note(self, facts: Mapping[str, Fact]) -> None:
        """Facts that were not known when it began; names as in OpenTelemetry's conventions, or ``qasr.…``."""
        ...

    def rename(self, name: str) -> None:
        """What it is turns out later."""
        ...

    def fail(self) -> None:
        """What it stands for went wrong, although nothing was raised."""
        ...


class Tracer(Protocol):
    """Keeps spans. Those that begin within another are its children, also in tasks that are started there."""

    def stage(self, name: str, facts: Mapping[str, Fact], *, is_current: bool) -> AbstractContextManager[Span]:
        """A part of the current span. What begins within it is a part of it if it *is_current*."""
        ...

    def lapsed(self, name: str, begin_s: float, end_s: float) -> None:
        """A part of the current span that is over already; times are of ``time.monotonic``."""
        ...

    def request(self, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
        """A request, as part of its client's trace if *headers* tell that."""
        ...

    def task(self, task_id: str) -> AbstractContextManager[Span]:
        """Work on a task, each time that it is taken up; its trace has the task's id."""
        ...


class _NoSpan:
    def note(self, facts: Mapping[str, Fact]) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self) -> None: ...


_NONE: Final[AbstractContextManager[Span]] = nullcontext(_NoSpan())


class _NoTracer:
    """Nobody keeps spans."""

    def stage(self, name: str, facts: Mapping[str, Fact], *, is_current: bool) -> AbstractContextManager[Span]:  # noqa: ARG002 - see Tracer
        return _NONE

    def lapsed(self, name: str, begin_s: float, end_s: float) -> None: ...

    def request(self, headers: Mapping[str, str]) -> AbstractContextManager[Span]:  # noqa: ARG002 - see Tracer
        return _NONE

    def task(self, task_id: str) -> AbstractContextManager[Span]:  # noqa: ARG002 - see Tracer
        return _NONE


NOBODY: Final[Tracer] = _NoTracer()

_listeners: Final[list[Listener]] = []
_tracers: Final[list[Tracer]] = [NOBODY]
"""The last one keeps the spans."""


def tell(happening: Happening) -> None:
    """Tell all who listen now."""
    for listener in _listeners:
        listener(happening)


def tracer() -> Tracer:
    """Who keeps spans now."""
    return _tracers[-1]


@contextmanager
def stage(name: StageName, *, is_current: bool = True, **facts: Fact) -> Iterator[Span]:
    """Around a stage of the work.

    Args:
        name: of the stage.
        is_current: what begins within it is a part of it. Not for stages that are async generators: who reads them does
            other things in between.
        facts: for the span; ``audio_s`` becomes ``qasr.audio_s``.
    """
    began_s = time.monotonic()
    outcome: Outcome = "left"
    with tracer().stage(name, {f"qasr.{key}": value for key, value in facts.items()}, is_current=is_current) as span:
        try:
            yield span
            outcome = "done"
        except Exception:
            outcome = "failed"
            raise
        finally:
            tell(StageEnded(stage=name, outcome=outcome, wall_s=time.monotonic() - began_s))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """*listener* is told of everything within the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def traced_by(keeper: Tracer) -> Iterator[None]:
    """*keeper* keeps the spans that begin within the block."""
    _tracers.append(keeper)
    try:
        yield
    finally:
        _tracers.remove(keeper)

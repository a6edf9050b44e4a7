"""Who is heard next, and with whom: the right to engine calls.

Four lanes share an engine: live sessions before synchronous requests before files, by weight and not absolutely, so
that nothing starves; only the partials of live sessions give way absolutely, to finals. Inside a lane, owners take
turns. When a call is free, the fair next segment goes, and segments of about its length from the same lane go with it
in one batch (rows of a batch wait for its longest), as many as leave work for the other free calls. A caller that is
cancelled leaves the queue, or, if the whole batch is gone, frees the call at once.

This file is policy: it never touches samples.
"""

import asyncio
import enum
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self, cast

import anyio
import anyio.abc
import structlog

from qasr.domain import telemetry
from qasr.domain.errors import EngineFailed, EngineUnavailable, QasrError, QueueFull, RequestError
from qasr.domain.telemetry import EngineCalled, SegmentHeard
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Capabilities, Recognizer, Request, SelfWatching, StreamingRecognizer

log = structlog.get_logger(__name__)


class Lane(enum.Enum):
    """Classes of work, most urgent first; the value is the weight."""

    LIVE = 64
    """Finals of live sessions."""
    PARTIAL = 32
    """What is heard again while it is spoken; waits as long as any final waits."""
    SYNC = 8
    FILE = 1


BATCH_SPREAD: Final = 1.5
"""Segments of one batch differ in length by at most this factor (or ``BATCH_SLACK_S``)."""
BATCH_SLACK_S: Final = 2.0
MOST_BATCH_S: Final = 120.0
"""Seconds of audio in one call: bounds its memory and how long the next one waits."""
BOUNDED: Final = frozenset({Lane.SYNC, Lane.FILE})
"""Lanes that refuse; a live session bounds what it holds itself, and its finals are never refused."""
ATTEMPTS: Final = 2
"""How often a segment is tried before its failure is final; an engine that died may be back by then."""


@dataclass(slots=True, eq=False)
class _Waiting:
    request: Request
    result: asyncio.Future[Hypothesis]
    since_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None
    """When it was first handed to the engine."""
    attempts: int = 0


@dataclass(slots=True)
class _Queue:
    """One lane: owners in turn, each with its own line."""

    lines: dict[str, deque[_Waiting]] = field(default_factory=dict)
    audio_s: float = 0.0
    served: float = 0.0
    """Virtual time: audio seconds served, divided by the lane's weight (weighted fair queueing)."""

    def push(self, owner: str, item: _Waiting) -> None:
        self.lines.setdefault(owner, deque()).append(item)
        self.audio_s += item.request.segment.duration_s

    def remove(self, owner: str, item: _Waiting) -> None:
        line = self.lines[owner]
        line.remove(item)
        if not line:
            del self.lines[owner]
        self.audio_s -= item.request.segment.duration_s

    def first(self) -> tuple[str, _Waiting]:
        owner = next(iter(self.lines))
        return owner, self.lines[owner][0]

    def rotate(self, owner: str) -> None:
        """*owner* was served: to the end of the turn order."""
        if (line := self.lines.pop(owner, None)) is not None:
            self.lines[owner] = line

    def in_turn(self) -> list[tuple[str, _Waiting]]:
        """All that wait, one of each owner after the other."""
        lines = [(owner, list(line)) for owner, line in self.lines.items()]
        longest = max((len(line) for _, line in lines), default=0)
        return [(owner, line[i]) for i in range(longest) for owner, line in lines if i < len(line)]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What waits in one lane, for those who look on."""

    lane: Lane
    segments: int
    audio_s: float
    oldest_s: float
    """How long the first of them has waited; 0: nothing waits."""


class EngineSlots:
    """The scheduler of one engine. An async context manager: leaving it cancels all calls."""

    def __init__(self, recognizer: Recognizer, *, queue_audio_s: float) -> None:
        self._recognizer = recognizer
        self._queue_audio_s = queue_audio_s
        self._queues: Mapping[Lane, _Queue] = {lane: _Queue() for lane in Lane}
        self._free = recognizer.capabilities.parallel_calls
        self._clock = 0.0
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def capabilities(self) -> Capabilities:
        """Of the engine behind."""
        return self._recognizer.capabilities

    @property
    def streaming(self) -> StreamingRecognizer | None:
        """The engine, if it hears growing segments by itself; how many at once is its own affair."""
        return cast("StreamingRecognizer", self._recognizer) if self.capabilities.streaming else None

    def has_waiting(self, lane: Lane) -> bool:
        """Whether anything waits in *lane*."""
        return bool(self._queues[lane].lines)

    @property
    def problem(self) -> str | None:
        """Why the engine behind can recognize nothing now; None if it can."""
        return self._recognizer.problem if isinstance(self._recognizer, SelfWatching) else None

    @property
    def waiting_audio_s(self) -> Mapping[Lane, float]:
        """Seconds of audio that wait, per lane."""
        return {lane: queue.audio_s for lane, queue in self._queues.items()}

    @property
    def calls(self) -> int:
        """Engine calls under way."""
        return self.capabilities.parallel_calls - self._free

    def queues(self) -> list[QueueState]:
        """What waits, per lane."""
        now_s = time.monotonic()
        found = []
        for lane, queue in self._queues.items():
            since = [line[0].since_s for line in queue.lines.values()]  # each line is in order of arrival
            found.append(
                QueueState(
                    lane=lane,
                    segments=sum(map(len, queue.lines.values())),
                    audio_s=queue.audio_s,
                    oldest_s=now_s - min(since, default=now_s),
                )
            )
        return found

    async def recognize(self, request: Request, *, lane: Lane, owner: str) -> Hypothesis:
        """Wait for a turn and hear one segment. Cancelling gives the turn, or the call, to the next at once.

        Raises:
            QueueFull: too much waits in this lane already; live sessions are never told so.
            EngineError: the engine failed, twice.
        """
        queue = self._queues[lane]
        if lane in BOUNDED and queue.audio_s > self._queue_audio_s:
            raise QueueFull("The speech engine is busy; please try again later.")
        item = _Waiting(request, asyncio.get_running_loop().create_future())
        if not queue.lines:
            queue.served = max(queue.served, self._clock)  # time that nobody waited gives no advantage
        queue.push(owner, item)
        self._dispatch()
        try:
            hypothesis = await item.result  # a cancelled caller cancels the future, and with the last one the batch
        finally:
            if item in queue.lines.get(owner, ()):
                queue.remove(owner, item)
        self._tell(item, lane)
        return hypothesis

    def _tell(self, item: _Waiting, lane: Lane) -> None:
        """Of a segment that was heard."""
        now_s, begun_s = time.monotonic(), item.begun_s or item.since_s
        telemetry.tracer().lapsed("wait", item.since_s, begun_s)
        telemetry.tracer().lapsed("call", begun_s, now_s)
        telemetry.tell(
            SegmentHeard(
                engine=self.capabilities.name,
                lane=lane.name.lower(),
                audio_s=item.request.segment.duration_s,
                waited_s=begun_s - item.since_s,
                wall_s=now_s - item.since_s,
            )
        )

    def _dispatch(self) -> None:
        while self._free and (batch := self._next_batch()):
            self._free -= 1
            assert self._group is not None
            self._group.start_soon(self._run, batch)

    def _next_batch(self) -> list[_Waiting]:
        waiting_lanes = {lane for lane, queue in self._queues.items() if queue.lines}
        if Lane.LIVE in waiting_lanes:
            waiting_lanes.discard(Lane.PARTIAL)
        lane = min(waiting_lanes, key=self._done_at, default=None)
        if lane is None:
            return []
        queue = self._queues[lane]
        self._clock = queue.served
        first_owner, first = queue.first()
        length_s = first.request.segment.duration_s
        waiting = queue.in_turn()
        room = min(self.capabilities.largest_batch, -(-len(waiting) // self._free))
        chosen, total_s = [(first_owner, first)], length_s
        for owner, item in waiting:
            if len(chosen) >= room:
                break
            other_s = item.request.segment.duration_s
            shorter, longer = sorted((length_s, other_s))
            alike = longer <= max(shorter * BATCH_SPREAD, shorter + BATCH_SLACK_S)
            if item is not first and alike and total_s + other_s <= MOST_BATCH_S:
                chosen.append((owner, item))
                total_s += other_s
        for owner, item in chosen:
            queue.remove(owner, item)
            queue.rotate(owner)
            queue.served += item.request.segment.duration_s / lane.value
        return [item for _, item in chosen]

    def _done_at(self, lane: Lane) -> float:
        """Virtual time at which the lane's next segment would be done."""
        queue = self._queues[lane]
        return queue.served + queue.first()[1].request.segment.duration_s / lane.value

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            with anyio.CancelScope() as scope:
                for item in batch:
                    item.result.add_done_callback(lambda _: self._cancel_if_abandoned(batch, scope))
                await self._call(batch)
        finally:
            self._free += 1
            self._dispatch()

    @staticmethod
    def _cancel_if_abandoned(batch: list[_Waiting], scope: anyio.CancelScope) -> None:
        if all(item.result.cancelled() for item in batch):
            scope.cancel()

    async def _call(self, batch: list[_Waiting]) -> None:
        """One engine call; after a failure each segment is tried alone, so that one cannot spoil its neighbors."""
        groups = [batch]
        while groups:
            group = [item for item in groups.pop() if not item.result.done()]
            if not group:
                continue
            try:
                hypotheses = await self._recognized(group)
            except (EngineFailed, EngineUnavailable) as error:
                groups += self._retries(group, error)
                continue
            except RequestError as error:
                if len(group) == 1:
                    self._fail(group, error)
                else:
                    groups += [[item] for item in group]  # to find whose fault it is
                continue
            except Exception as error:  # an engine's own bug must not stop the scheduler
                log.exception("engine_raised", engine=self.capabilities.name)
                failure = error if isinstance(error, QasrError) else EngineFailed("The speech engine failed.")
                self._fail(group, failure)
                continue
            for item, hypothesis in zip(group, hypotheses, strict=True):
                if not item.result.done():
                    item.result.set_result(hypothesis)

    async def _recognized(self, group: list[_Waiting]) -> list[Hypothesis]:
        began_s = time.monotonic()
        for item in group:
            item.begun_s = item.begun_s or began_s
        outcome: telemetry.Outcome = "left"
        try:
            hypotheses = await self._recognizer.recognize([item.request for item in group])
            outcome = "done"
        except Exception:
            outcome = "failed"
            raise
        finally:
            telemetry.tell(
                EngineCalled(
                    engine=self.capabilities.name,
                    n_segments=len(group),
                    audio_s=sum(item.request.segment.duration_s for item in group),
                    call_s=time.monotonic() - began_s,
                    outcome=outcome,
                )
            )
        return hypotheses

    def _retries(self, group: list[_Waiting], error: QasrError) -> list[list[_Waiting]]:
        again = []
        for item in group:
            item.attempts += 1
            if item.attempts < ATTEMPTS:
                again.append([item])
            else:
                self._fail([item], error)
        return again

    @staticmethod
    def _fail(group: list[_Waiting], error: QasrError) -> None:
        for item in group:
            if not item.result.done():
                item.result.set_exception(error)

"""Voice activity of many live sessions at once: what comes within a few milliseconds shares one call of the model.

::

    channel.feed ─┐ GATHER_S after the first, or when the call before has ended
    channel.feed ─┼──────▶ one call in a thread ──▶ each gets its own probabilities
    channel.feed ─┘        at most CALL windows, in turns: who sends an hour at once waits behind who speaks

A live session feeds three windows at a time, and a call for three costs about as much as one for ten
(``python -m benchmarks vad``).

Live sound is raised before detection as that of recordings is, since the model misses quiet speech, but not block by
block: blocks of 100 ms would each get a gain of their own, and the noise of every pause would come up to the level of
speech. Here the gain follows the loudest sample of the last seconds, window by window, so that it depends on the sound
alone and not on how it was cut.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Self

import anyio
import anyio.abc
import numpy as np
import structlog

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed, EngineUnavailable
from qasr.engines.silero_vad import (
    CONTEXT,
    QUIET_PEAK,
    WINDOW,
    Memory,
    Probabilities,
    SileroVad,
    Windows,
    cut,
    missing,
)

GATHER_S: Final = 0.004
"""How long the first arrival waits for others."""
CALL: Final = 256
"""Windows in one call: some five milliseconds on one core."""
LEAST_SHARE: Final = 8
"""Windows that a channel may put into one call, however many channels wait; live sound needs three."""

FIRST_PEAK: Final = 0.03
"""The peak that a channel is taken to have had before it began: -30 dB, a far talker's."""
PEAK_HALF_S: Final = 2.0
"""In so many seconds of silence the peak that is remembered falls by half; pauses within speech hardly change it."""
MOST_LIVE_GAIN: Final = 30.0
"""Less than for recordings, where a whole block tells whether there is speech in it."""
_KEPT: Final = 0.5 ** (WINDOW / SAMPLE_RATE / PEAK_HALF_S)

log = structlog.get_logger(__name__)


class VadBatcher:
    """Detects speech for all live sessions; an async context manager. Leaving it fails those who still wait."""

    def __init__(self, vad: SileroVad) -> None:
        self._vad = vad
        self._waiting: deque[_Waiting] = deque()
        self._called: list[_Waiting] = []
        self._arrival = asyncio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._group: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._work)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._group is not None
        group, self._group = self._group, None
        group.cancel_scope.cancel()
        await group.__aexit__(None, None, None)
        for item in (*self._called, *self._waiting):
            item.fail(EngineUnavailable("Voice activity detection has ended."))
        self._waiting.clear()

    def start(self) -> "VadChannel":
        """A fresh channel, for the first sound of a session."""
        return VadChannel(self)

    async def hear(self, windows: Windows, memory: Memory) -> tuple[Probabilities, Memory]:
        """What the model says to *windows* ``[n_windows, CONTEXT + WINDOW]`` after *memory*.

        Raises:
            EngineFailed: the call failed.
            EngineUnavailable: the batcher was left.
        """
        if self._group is None:
            raise EngineUnavailable("Voice activity detection has ended.")
        loop = asyncio.get_running_loop()
        item = _Waiting(windows, memory, loop.time(), loop.create_future())
        self._waiting.append(item)
        self._arrival.set()
        return await item.result

    async def _work(self) -> None:
        while True:
            await self._arrival.wait()
            while self._waiting:
                await asyncio.sleep(self._waiting[0].since + GATHER_S - asyncio.get_running_loop().time())
                await self._call()
            self._arrival.clear()

    async def _call(self) -> None:
        """One call with what waits, in order of arrival; what does not fit into it waits on, behind the others."""
        share = max(LEAST_SHARE, CALL // len(self._waiting))
        room, pieces = CALL, []
        while self._waiting and room > 0:
            item = self._waiting.popleft()
            if item.result.done():  # nobody waits for it any more
                continue
            self._called.append(item)
            pieces.append((item.windows[: min(share, room)], item.memory))
            room -= len(pieces[-1][0])
        if not pieces:
            return
        try:
            heard = await anyio.to_thread.run_sync(self._vad.hear, pieces, limiter=self._thread)
        except Exception:
            log.exception("vad_failed")
            for item in self._called:
                item.fail(EngineFailed("Voice activity detection failed."))
        else:
            for item, (probabilities, memory) in zip(self._called, heard, strict=True):
                if not item.take(probabilities, memory):
                    self._waiting.append(item)
        self._called.clear()


@dataclass(slots=True, eq=False)
class _Waiting:
    """Windows that wait for their probabilities."""

    windows: Windows
    memory: Memory
    since: float
    result: asyncio.Future[tuple[Probabilities, Memory]]
    heard: list[Probabilities] = field(default_factory=list)

    def take(self, probabilities: Probabilities, memory: Memory) -> bool:
        """The first windows have been heard; whether nothing is left to do."""
        self.heard.append(probabilities)
        self.windows, self.memory = self.windows[len(probabilities) :], memory
        if len(self.windows) == 0 and not self.result.done():
            self.result.set_result((np.concatenate(self.heard), memory))
        return self.result.done()

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class VadChannel:
    """Detection along one live session; fed in order, by one task.

    A feed that fails or is cancelled ends the channel: part of its sound may have been heard.
    """

    def __init__(self, batcher: VadBatcher) -> None:
        self._batcher = batcher
        self._gain = _Gain()
        self._memory = Memory()
        self._rest = np.zeros(CONTEXT, np.float32)  # context, then samples short of a window
        self._usable = True

    async def feed(self, pcm: Pcm) -> Probabilities:
        """Probabilities of the windows that *pcm* completes, ``[n_windows]`` within [0, 1].

        Raises:
            EngineFailed: the model failed.
            EngineUnavailable: the batcher was left.
        """
        if not self._usable:
            raise RuntimeError("the channel has ended, or is being fed by another task")
        windows, self._rest = cut(np.concatenate([self._rest, pcm]))
        if not len(windows):
            return np.zeros(0, np.float32)
        self._usable = False
        probabilities, self._memory = await self._batcher.hear(windows * self._gain.follow(windows), self._memory)
        self._usable = True
        return probabilities

    async def finish(self) -> Probabilities:
        """The last window, filled up with silence; nothing if none is open. Raises as ``feed`` does."""
        probabilities = await self.feed(missing(self._rest))
        self._usable = False
        return probabilities


class _Gain:
    """What raises quiet sound: one factor for each window, from the peaks up to it."""

    def __init__(self) -> None:
        self._peak = FIRST_PEAK

    def follow(self, windows: Windows) -> Windows:
        """Factors ``[n_windows, 1]`` of the next *windows*, of which each is multiplied whole, context and all."""
        factors = []
        for peak in np.abs(windows[:, CONTEXT:]).max(axis=1).tolist():
            self._peak = max(peak, self._peak * _KEPT)
            factors.append(min(max(QUIET_PEAK / self._peak, 1.0), MOST_LIVE_GAIN))
        return np.array(factors, np.float32)[:, None]

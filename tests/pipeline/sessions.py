"""What tests of live sessions are made of: sound, a detector that hears what is loud, an engine on a lead."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineFailed
from qasr.domain.live import (
    Endpointing,
    Failed,
    LiveEvent,
    LiveOptions,
    LiveSession,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from qasr.domain.live import Final as Told
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis, Token
from qasr.engines.base import Capabilities, LiveVad, Recognizer, Request, StreamText
from qasr.engines.registry import LoadedEngines
from qasr.engines.silero_vad import WINDOW, Probabilities, SileroVad
from qasr.engines.slots import EngineSlots
from qasr.pipeline.live import LiveLimits, live_session

FOUND: Final = LiveOptions(endpointing=Endpointing(threshold=0.5, silence_ms=640, prefix_ms=320, longest_ms=20_000))
MANUAL: Final = LiveOptions()
FRAME: Final = SAMPLE_RATE // 10


def loud(seconds: float) -> Pcm:
    """Stands for speech."""
    return np.asarray(0.3 * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.1), np.float32)


def quiet(seconds: float) -> Pcm:
    """Nothing is said."""
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def sound(*stretches: Pcm) -> Pcm:
    """One after the other."""
    return np.concatenate(stretches)


class LoudVad:
    """What is loud is speech."""

    def start(self) -> "LoudChannel":
        """A fresh channel."""
        return LoudChannel()


class LoudChannel:
    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    async def feed(self, pcm: Pcm) -> Probabilities:
        pcm = np.concatenate([self._rest, pcm])
        n_windows = len(pcm) // WINDOW
        self._rest = pcm[n_windows * WINDOW :]
        peaks = np.abs(pcm[: n_windows * WINDOW]).reshape(n_windows, WINDOW).max(axis=1, initial=0)
        return np.where(peaks > 0.1, 0.95, 0.02).astype(np.float32)

    async def finish(self) -> Probabilities:
        missing = -len(self._rest) % WINDOW
        return await self.feed(np.zeros(missing, np.float32))


Rule: TypeAlias = Callable[[Request], bool]


class Led:
    """An engine that a test leads: it notes what it was asked, waits where told, fails where told.

    It says ``w<second>`` for each second of a segment.
    """

    def __init__(
        self,
        *,
        parallel: int = 4,
        logprob: float | None = None,
        fail: Rule = lambda _: False,
        hold: Rule = lambda _: False,
        error: Exception | None = None,
    ) -> None:
        self.capabilities = Capabilities(
            name="led",
            languages=None if logprob is None else frozenset({"en"}),
            longest_s=30,
            parallel_calls=parallel,
            largest_batch=1,
            least_logprob=None if logprob is None else -0.8,
        )
        self.asked: list[Request] = []
        self.cancelled: list[Request] = []
        self.gate = asyncio.Event()
        self.error = error or EngineFailed("no")
        self._fail, self._hold, self._logprob = fail, hold, logprob

    @property
    def finals(self) -> list[Request]:
        """The whole segments that it was asked for."""
        return [request for request in self.asked if not request.is_open]

    @property
    def partials(self) -> list[Request]:
        """The growing ones."""
        return [request for request in self.asked if request.is_open]

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        self.asked += batch
        if any(map(self._hold, batch)):
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += batch
                raise
        else:
            await asyncio.sleep(0)
        if any(map(self._fail, batch)):
            raise self.error
        return [self._say(request) for request in batch]

    def _say(self, request: Request) -> Hypothesis:
        begin, length = request.segment.begin_ms // 1000, round(request.segment.duration_s)
        words = [f"w{begin + i}" for i in range(length)]
        tokens = [Token(id=1, text=word.encode(), logprob=self._logprob or 0.0) for word in words]
        return Hypothesis(text=" ".join(words), language="en", tokens=tuple(tokens))


class LedStreams(Led):
    """The same, with streams of its own; ``n_open`` of them are open."""

    def __init__(self, *, breaks: Exception | None = None) -> None:
        super().__init__()
        self.capabilities = Capabilities(name="led", languages=None, longest_s=30, parallel_calls=4, streaming=True)
        self.n_open = self.n_opened = self.n_samples = 0
        self.breaks = breaks

    def stream(self, hints: Hints) -> "LedStream":  # noqa: ARG002 - the port's
        self.n_open += 1
        self.n_opened += 1
        return LedStream(self)


class LedStream:
    def __init__(self, engine: LedStreams) -> None:
        self._engine, self._n_samples, self._is_open = engine, 0, True

    async def feed(self, pcm: Pcm) -> StreamText:
        assert self._is_open
        await asyncio.sleep(0)
        if self._engine.breaks:
            raise self._engine.breaks
        self._n_samples += len(pcm)
        self._engine.n_samples += len(pcm)
        words = [f"s{i}" for i in range(self._n_samples // SAMPLE_RATE)]
        return StreamText(stable=" ".join(words), tail=" …", language="en")

    def close(self) -> None:
        self._engine.n_open -= self._is_open
        self._is_open = False


@cache
def silero() -> SileroVad:
    """The real detector, loaded once."""
    return SileroVad()


@asynccontextmanager
async def engines(recognizer: Recognizer, vad: LiveVad | None = None) -> AsyncIterator[LoadedEngines]:
    """All that hears; times of words are estimated."""
    async with EngineSlots(recognizer, queue_audio_s=100) as slots:
        yield LoadedEngines(slots, silero(), vad or LoudVad(), None)


Act: TypeAlias = Pcm | LiveOptions | str
"""What a client does: sound, other options, ``commit``, ``clear``, or ``settle``: wait until all is calm."""


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(60):
        await asyncio.sleep(0)


async def act(session: LiveSession, acts: Sequence[Act], frame: int = FRAME) -> None:
    """Do as a client does, sound in frames of *frame* samples."""
    for one in acts:
        match one:
            case np.ndarray():
                for first in range(0, len(one), frame):
                    await session.feed(one[first : first + frame])
            case LiveOptions():
                await session.configure(one)
            case "commit":
                await session.commit()
            case "clear":
                await session.clear()
            case _:
                await settle()


async def talk(
    loaded: LoadedEngines,
    options: LiveOptions,
    *acts: Act,
    frame: int = FRAME,
    limits: LiveLimits | None = None,
) -> list[LiveEvent]:
    """A whole session: what it told; checked to be in order."""
    async with live_session(options, loaded, limits or LiveLimits(), owner="a") as session:

        async def client() -> None:
            await act(session, acts, frame)
            await session.finish()

        speaking = asyncio.create_task(client())
        try:
            async with asyncio.timeout(60):
                told = [event async for event in session.events()]
                await speaking
        finally:
            speaking.cancel()
    check_order(told)
    return told


def finals(told: Sequence[LiveEvent]) -> list[str]:
    """What was said, utterance by utterance."""
    return [event.text for event in told if isinstance(event, Told)]


def without_partials(told: Sequence[LiveEvent]) -> list[LiveEvent]:
    """All but them."""
    return [event for event in told if not isinstance(event, Partial)]


def check_order(told: Sequence[LiveEvent]) -> None:
    """What ``domain/live.py`` promises of any session."""
    starts = [event.utterance for event in told if isinstance(event, SpeechStarted)]
    stops = [event.utterance for event in told if isinstance(event, SpeechStopped)]
    ends = [event.utterance for event in told if isinstance(event, Told | Failed)]
    assert stops == list(range(1, len(stops) + 1))
    assert ends == stops
    assert starts == sorted(set(starts))
    times = [event.at_ms for event in told if isinstance(event, SpeechStarted | SpeechStopped)]
    assert times == sorted(times)
    for number in stops:
        check_utterance([event for event in told if event.utterance == number], has_start=number in starts)
    last_ms = 0
    for event in told:
        if isinstance(event, Told):
            for word in event.words:
                assert max(last_ms, event.begin_ms) <= word.begin_ms <= word.end_ms <= event.end_ms
                last_ms = word.end_ms


def check_utterance(told: Sequence[LiveEvent], *, has_start: bool) -> None:
    """Start, partials, stop, partials, end; confirmed text only ever grows."""
    assert has_start == isinstance(told[0], SpeechStarted)
    assert isinstance(told[-1], Told | Failed)
    kinds = [type(event) for event in told if not isinstance(event, Partial)]
    assert [SpeechStarted] * has_start + [SpeechStopped, kinds[-1]] == kinds
    partials = [event for event in told if isinstance(event, Partial)]
    for before, after in pairwise(partials):
        assert after.confirmed.startswith(before.confirmed)
        assert (before.confirmed, before.tentative) != (after.confirmed, after.tentative)
    for partial in partials:
        assert partial.confirmed + partial.tentative
        ends = [word.end_ms for word in partial.words]
        assert ends == sorted(ends)

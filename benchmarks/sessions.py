"""Live sessions, without the sockets before them: how well they hear, how soon they tell, and what they cost.

Accuracy: the default engine hears all clips live, at different settings, as fast as it can; word errors are compared
with those of the same clips as recordings. Delay: many sessions of the ``scripted`` engine at the pace of speech, in
frames of 100 ms. Which frame causes an event is found by one session that is fed slowly; its delay is the time from
there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, Final, TypeAlias

import numpy as np

from benchmarks.accuracy import edits, words
from benchmarks.bench import Bench
from benchmarks.table import Row, at_most
from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.live import Endpointing, LiveEvent, LiveOptions, Partial
from qasr.domain.live import Final as Told
from qasr.domain.options import Hints
from qasr.engines.base import Request
from qasr.engines.registry import LoadedEngines
from qasr.engines.room import Choice, EngineRoom
from qasr.engines.slots import Lane
from qasr.pipeline.live import LiveLimits, live_session

FRAME_S: Final = 0.1
FRAME: Final = int(FRAME_S * SAMPLE_RATE)
AT_ONCE: Final = 4
"""Clips that are heard at once."""
SESSIONS: Final = 200
LIVE_S: Final = 20
SLOWLY_S: Final = 0.03
"""Between two frames of the session that shows which frame causes what."""
SILENCES_MS: Final = (400, 800, 1300)
PARTING: Final = np.zeros(2 * SAMPLE_RATE, np.float32)
"""Behind each clip, so that its last utterance ends by silence."""

Key: TypeAlias = tuple[str, int, str]
"""What tells events apart: kind, utterance, text."""


async def measure(bench: Bench) -> list[Row]:
    """Accuracy, then delay and costs."""
    return [*await _accuracy(bench), *await _delays(bench)]


async def _accuracy(bench: Bench) -> list[Row]:
    wanted = [words(clip.reference) for clip in bench.corpus.clips]

    def rate(texts: Sequence[str]) -> float:
        wrong = sum(edits(reference, words(text)) for reference, text in zip(wanted, texts, strict=True))
        return 100 * wrong / sum(map(len, wanted))

    async with _engines("moonshine") as engines:
        recorded = rate(await _each([_recorded(engines, sound.segments) for sound in bench.sounds]))
        rows = [Row("sessions", "word error rate, as recordings", recorded, "%")]
        settings = {f"live, {ms} ms of silence": _detected(ms) for ms in SILENCES_MS[: 1 if bench.quick else None]} | {
            "live, committed": LiveOptions()
        }
        for name, options in settings.items():
            found = rate(await _each([_live(engines, options, sound.pcm) for sound in bench.sounds]))
            rows.append(Row("sessions", f"word error rate, {name}", found, "%", at_most(recorded + 5)))
    return rows


@asynccontextmanager
async def _engines(name: str) -> AsyncIterator[LoadedEngines]:
    async with EngineRoom(lambda _: [Choice(engine=name)], queue_audio_s=10_000) as room, room.lease() as engines:
        yield engines


async def _each(work: Sequence[Coroutine[Any, Any, str]]) -> list[str]:
    """A few at once, in their order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(coroutine: Coroutine[Any, Any, str]) -> str:
        async with places:
            return await coroutine

    return await asyncio.gather(*map(one, work))


async def _recorded(engines: LoadedEngines, segments: Sequence[Segment]) -> str:
    requests = [Request(segment=segment, hints=Hints()) for segment in segments]
    heard = [await engines.slots.recognize(one, lane=Lane.SYNC, owner="bench") for one in requests]
    return " ".join(one.text for one in heard)


async def _live(engines: LoadedEngines, options: LiveOptions, pcm: Pcm) -> str:
    frames = _frames(np.concatenate([pcm, PARTING]))
    told = [event async for event in _told(engines, options, frames, lambda _: asyncio.sleep(0))]
    return " ".join(event.text for event in told if isinstance(event, Told))


def _detected(silence_ms: int, *, partials: bool = False) -> LiveOptions:
    found = Endpointing(threshold=0.5, silence_ms=silence_ms, prefix_ms=300, longest_ms=60_000)
    return LiveOptions(endpointing=found, partials=partials)


def _frames(pcm: Pcm) -> list[Pcm]:
    return [pcm[at : at + FRAME] for at in range(0, len(pcm), FRAME)]


async def _told(
    engines: LoadedEngines,
    options: LiveOptions,
    frames: Sequence[Pcm],
    pace: Callable[[int], Coroutine[Any, Any, None]],
) -> AsyncIterator[LiveEvent]:
    """All that a session tells that is fed *frames*, each after *pace* of its number."""
    async with live_session(options, engines, LiveLimits(), owner="bench") as session:

        async def feed() -> None:
            for number, frame in enumerate(frames):
                await pace(number)
                await session.feed(frame)
            await session.finish()

        feeding = asyncio.create_task(feed())
        async for event in session.events():
            yield event
        await feeding


async def _delays(bench: Bench) -> list[Row]:
    n_sessions, seconds = (2, 3) if bench.quick else (SESSIONS, LIVE_S)
    pcm = np.concatenate([part for sound in bench.sounds[:10] for part in (sound.pcm, PARTING)])
    frames = _frames(pcm[: seconds * SAMPLE_RATE])
    options = _detected(800, partials=True)
    delays: list[float] = []
    async with _engines("scripted") as engines:
        causes = await _causes(engines, options, frames)
        start = time.perf_counter()

        async def session(offset_s: float) -> None:
            due = [start + offset_s + number * FRAME_S for number in range(len(frames))]

            async def pace(number: int) -> None:
                await asyncio.sleep(due[number] - time.perf_counter())

            async for event in _told(engines, options, frames, pace):
                now = time.perf_counter()
                if (cause := causes.get(_key(event))) is not None:
                    delays.append(now - due[cause])

        used, before_mb = time.process_time(), _rss_mb()
        running = [asyncio.create_task(session(FRAME_S * i / n_sessions)) for i in range(n_sessions)]
        await asyncio.sleep(0.9 * seconds)
        held_mb = _rss_mb() - before_mb
        await asyncio.gather(*running)
        cpu = (time.process_time() - used) / seconds
    name = f"{n_sessions} sessions, scripted"
    return [
        Row(
            "sessions",
            f"event after the frame that caused it, p95, {name}",
            1000 * quantiles(delays, n=20)[-1],
            "ms",
            at_most(150),
        ),
        Row("sessions", f"processors in use, {name}", cpu, ""),
        Row("sessions", f"memory per session, {name}", max(0.0, held_mb) / n_sessions, "MB"),
    ]


async def _causes(engines: LoadedEngines, options: LiveOptions, frames: Sequence[Pcm]) -> dict[Key, int]:
    """The number of the frame after which each event came; what came at the end of the sound is left out."""
    fed = 0

    async def pace(number: int) -> None:
        nonlocal fed
        await asyncio.sleep(SLOWLY_S)
        fed = number

    found = {_key(event): fed async for event in _told(engines, options, frames, pace)}
    return {key: cause for key, cause in found.items() if cause < len(frames) - 1}


def _key(event: LiveEvent) -> Key:
    text = event.confirmed + event.tentative if isinstance(event, Partial) else ""
    return type(event).__name__, event.utterance, text


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6

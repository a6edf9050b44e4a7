"""The engine without a server: the recognizer itself, or the scheduler in front of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from benchmarks.clips import Sound
from qasr.domain.audio import Segment
from qasr.domain.options import Hints
from qasr.engines.base import Recognizer, Request
from qasr.engines.slots import EngineSlots, Lane

HINTS = Hints()


async def batches_s(recognizer: Recognizer, sounds: Sequence[Sound]) -> float:
    """Seconds for all *sounds*, whole, in the largest batches of about equal length, as many at once as it takes."""
    able = recognizer.capabilities
    ordered = sorted((sound.whole[0] for sound in sounds), key=lambda segment: -len(segment.pcm))
    batches = iter([ordered[at : at + able.largest_batch] for at in range(0, len(ordered), able.largest_batch)])

    async def work() -> None:
        for batch in batches:
            await recognizer.recognize([Request(segment=segment, hints=HINTS) for segment in batch])

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(able.parallel_calls)))
    return time.perf_counter() - begun


async def slots_s(slots: EngineSlots, clips: Sequence[Sequence[Segment]], *, concurrency: int) -> float:
    """Seconds for all *clips* (each one or more segments), *concurrency* of them in flight, in their order."""
    waiting = iter(clips)

    async def work(clips: Iterator[Sequence[Segment]]) -> None:
        for clip in clips:
            await hear(slots, clip)

    begun = time.perf_counter()
    await asyncio.gather(*(work(waiting) for _ in range(concurrency)))
    return time.perf_counter() - begun


async def hear(slots: EngineSlots, clip: Sequence[Segment]) -> None:
    """All segments of *clip* at once, as the pipeline hands them over."""
    await asyncio.gather(
        *(slots.recognize(Request(segment=s, hints=HINTS), lane=Lane.SYNC, owner="bench") for s in clip)
    )

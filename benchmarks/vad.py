"""What voice activity detection costs: of recordings, and of live sessions, with their calls shared and not.

Sessions feed 100 ms each 100 ms, their clocks spread evenly.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import Final, TypeAlias

import numpy as np

from benchmarks.bench import Bench
from benchmarks.table import Row
from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.silero_vad import Probabilities, SileroVad
from qasr.engines.vad_batcher import VadBatcher

CHUNK_S: Final = 0.1
SESSIONS: Final = (1, 50, 200)
LIVE_S: Final = 5
BLOCK: Final = 10 * SAMPLE_RATE

Feed: TypeAlias = Callable[[Pcm], Awaitable[Probabilities]]


async def measure(bench: Bench) -> list[Row]:
    """Recordings, then live sessions, each way."""
    vad = SileroVad()
    pcm = np.concatenate([sound.pcm for sound in bench.sounds])
    state, begun = vad.start(), time.process_time()
    for at in range(0, len(pcm), BLOCK):
        state.feed(pcm[at : at + BLOCK])
    speed = len(pcm) / SAMPLE_RATE / (time.process_time() - begun)
    rows = [Row("vad", "VAD of recordings", speed, "audio s per CPU s")]
    async with VadBatcher(vad) as batcher:
        for n in SESSIONS[:1] if bench.quick else SESSIONS:
            rows += await _live(f"{n} live, shared calls", [batcher.start().feed for _ in range(n)], pcm)
            rows += await _live(f"{n} live, a call each", [_alone(vad) for _ in range(n)], pcm)
    return rows


def _alone(vad: SileroVad) -> Feed:
    state = vad.start()
    return lambda pcm: asyncio.to_thread(state.feed, pcm)


async def _live(name: str, feeds: list[Feed], pcm: Pcm) -> list[Row]:
    waits: list[float] = []
    start, used = time.perf_counter(), time.process_time()

    async def session(feed: Feed, phase_s: float) -> None:
        size = int(CHUNK_S * SAMPLE_RATE)
        for turn in range(int(LIVE_S / CHUNK_S)):
            await asyncio.sleep(start + phase_s + turn * CHUNK_S - time.perf_counter())
            at, begun = turn * size % (len(pcm) - size), time.perf_counter()
            await feed(pcm[at : at + size])
            waits.append(time.perf_counter() - begun)

    await asyncio.gather(*(session(feed, CHUNK_S * i / len(feeds)) for i, feed in enumerate(feeds)))
    cpu_s = time.process_time() - used
    return [
        Row("vad", f"CPU per session second, {name}", 1000 * cpu_s / (LIVE_S * len(feeds)), "ms"),
        Row("vad", f"wait p95, {name}", 1000 * quantiles(waits, n=20)[-1], "ms"),
    ]

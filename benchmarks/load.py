"""What the server adds to its engine, under load and for one client alone.

The server is asked over HTTP (``audio/transcriptions``); the bare pool is the same scheduler (``EngineSlots``) on the
same engine, fed decoded clips by as many callers, without HTTP, decoding and voice activity detection. Both take turns,
so that whatever else the machine does hits both alike. The pool hears whole clips; it also hears the segments that the
server cuts, which tells what cutting by itself gains or loses. The targets are against whole clips: that is what one
would feed an engine without a server.
"""

import time
from statistics import median
from typing import Final

from benchmarks import pool
from benchmarks.bench import Bench
from benchmarks.client import send, send_here
from benchmarks.server import Server, serving
from benchmarks.table import Row, at_least, at_most
from qasr.engines import moonshine
from qasr.engines.slots import EngineSlots

CONCURRENCY: Final = 8
QUEUE_AUDIO_S: Final = 3600.0


async def measure(bench: Bench) -> list[Row]:
    """Server and pool in turns."""
    async with (
        serving() as server,
        moonshine.factory({}) as recognizer,
        EngineSlots(recognizer, queue_audio_s=QUEUE_AUDIO_S) as slots,
    ):
        warm = slice(0, CONCURRENCY)
        await send(server.port, "form", bench.corpus.paths[warm], concurrency=CONCURRENCY)
        await pool.slots_s(slots, [sound.whole for sound in bench.sounds[warm]], concurrency=CONCURRENCY)
        return [*await _throughput(bench, server, slots), *await _latency(bench, server, slots)]


async def _throughput(bench: Bench, server: Server, slots: EngineSlots) -> list[Row]:
    served, whole, cut = [], [], []
    for _ in range(bench.rounds):
        served.append((await send(server.port, "form", bench.corpus.paths, concurrency=CONCURRENCY)).wall_s)
        whole.append(await pool.slots_s(slots, [s.whole for s in bench.sounds], concurrency=CONCURRENCY))
        cut.append(await pool.slots_s(slots, [s.segments for s in bench.sounds], concurrency=CONCURRENCY))
    speed, of_whole, of_cut = (bench.audio_s / median(times) for times in (served, whole, cut))
    n = CONCURRENCY
    return [
        Row("load", f"server, {n} clients", speed, "audio s/s"),
        Row("load", f"bare pool, {n} callers, whole clips", of_whole, "audio s/s"),
        Row("load", f"bare pool, {n} callers, the server's segments", of_cut, "audio s/s"),
        Row("load", "server / bare pool, whole clips", speed / of_whole, "", at_least(0.9)),
        Row("load", "server / bare pool, the server's segments", speed / of_cut, ""),
    ]


async def _latency(bench: Bench, server: Server, slots: EngineSlots) -> list[Row]:
    """One request at a time, each clip by the server and by the pool, one right after the other."""
    served: list[float] = []
    whole: list[float] = []
    cut: list[float] = []
    for path, sound in zip(bench.corpus.paths, bench.sounds, strict=True):
        served.append(await send_here(server.port, "form", path))
        for times, clip in ((whole, sound.whole), (cut, sound.segments)):
            begun = time.perf_counter()
            await pool.hear(slots, clip)
            times.append(time.perf_counter() - begun)
    of_server, of_whole, of_cut = median(served), median(whole), median(cut)
    return [
        Row("load", "latency p50, server, 1 client", 1000 * of_server, "ms"),
        Row("load", "latency p50, bare pool, whole clips", 1000 * of_whole, "ms"),
        Row("load", "latency p50, bare pool, the server's segments", 1000 * of_cut, "ms"),
        Row("load", "latency p50, server / bare pool, whole clips", of_server / of_whole, "", at_most(1.1)),
        Row("load", "latency p50, server / bare pool, the server's segments", of_server / of_cut, ""),
    ]

"""How much audio the engine itself hears per second, when it is given its largest batches."""

from statistics import median

from benchmarks import pool
from benchmarks.bench import Bench
from benchmarks.table import Row, at_least
from qasr.engines import moonshine


async def measure(bench: Bench) -> list[Row]:
    """The bare recognizer, warmed up by one batch."""
    async with moonshine.factory({}) as recognizer:
        await pool.batches_s(recognizer, bench.sounds[:8])
        times = [await pool.batches_s(recognizer, bench.sounds) for _ in range(bench.rounds)]
    return [Row("speed", "engine alone, full batches", bench.audio_s / median(times), "audio s/s", at_least(60))]

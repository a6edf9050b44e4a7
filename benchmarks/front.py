"""All that the server does besides hearing: HTTP, base64, decoding, voice activity detection; and what it costs.

The ``scripted`` engine answers at once, so what remains is ours. Requests are chat completions with a data URL.
"""

from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.client import send
from benchmarks.costs import cost_rows, cpu_s
from benchmarks.server import serving
from benchmarks.table import Row, at_least

CONCURRENCY: Final = 8


async def measure(bench: Bench) -> list[Row]:
    """All clips, again and again."""
    async with serving(ENGINES__DEFAULT="scripted") as server:
        await send(server.port, "chat", bench.corpus.paths, concurrency=CONCURRENCY)
        before = server.processes()
        rounds = [
            await send(server.port, "chat", bench.corpus.paths, concurrency=CONCURRENCY) for _ in range(bench.rounds)
        ]
        after = server.processes()
    audio_s = bench.audio_s * bench.rounds
    speed = bench.audio_s / median(answers.wall_s for answers in rounds)
    costs = cpu_s(before, after) | {"client": sum(answers.cpu_s for answers in rounds)}
    return [
        Row("front", f"scripted engine, {CONCURRENCY} clients, base64 in JSON", speed, "audio s/s", at_least(400)),
        *cost_rows("front", "scripted engine", costs, audio_s),
    ]

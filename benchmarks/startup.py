"""How long ``qasr serve`` takes until it can answer."""

from statistics import median

from benchmarks.bench import Bench
from benchmarks.server import serving
from benchmarks.table import Row, at_most


async def measure(bench: Bench) -> list[Row]:
    """The default engine; files are in the page cache."""
    times = []
    for _ in range(1 if bench.quick else 5):
        async with serving() as server:
            times.append(server.start_s)
    return [Row("startup", "start until /readyz answers 200", median(times), "s", at_most(3))]

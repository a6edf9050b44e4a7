"""Memory of the server and its children after they have worked, and what each costs in processor time."""

from benchmarks.bench import Bench
from benchmarks.client import send
from benchmarks.costs import cost_rows, cpu_s
from benchmarks.front import CONCURRENCY
from benchmarks.server import serving
from benchmarks.table import Row, at_most


async def measure(bench: Bench) -> list[Row]:
    """The default server, after all clips, eight at a time."""
    async with serving() as server:
        before = server.processes()
        await send(server.port, "form", bench.corpus.paths, concurrency=CONCURRENCY)
        after = server.processes()
    costs = cpu_s(before, after)
    return [
        *(_rss(role, [p.rss_mb for p in after if p.role == role]) for role in costs),
        *cost_rows("memory", "default engine", costs, bench.audio_s),
    ]


def _rss(role: str, found_mb: list[float]) -> Row:
    """The largest, where there are several of a kind."""
    several = f" (largest of {len(found_mb)})" if len(found_mb) > 1 else ""
    target = at_most(250) if role == "server" else None
    return Row("memory", f"RSS after load, {role}{several}", max(found_mb), "MB", target)

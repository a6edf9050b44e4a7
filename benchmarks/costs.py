"""Processor time per second of audio: where the work is done."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.process import Process
from benchmarks.table import Row


def cpu_s(before: Sequence[Process], after: Sequence[Process]) -> dict[str, float]:
    """Processor seconds used between the two looks, by role."""
    used: dict[str, float] = defaultdict(float)
    then = {process.pid: process.cpu_s for process in before}
    for process in after:
        used[process.role] += process.cpu_s - then.get(process.pid, 0.0)
    return dict(used)


def cost_rows(measurement: str, engine: str, costs: Mapping[str, float], audio_s: float) -> list[Row]:
    """*costs* (seconds, by role) per second of the audio that caused them."""
    return [
        Row(measurement, f"CPU per audio second, {engine}: {role}", 1000 * cost / audio_s, "ms")
        for role, cost in costs.items()
    ]

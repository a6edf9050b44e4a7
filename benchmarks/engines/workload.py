"""What is measured: sounds of given lengths, each with as many tokens as speech of that length has.

Random weights write anything, so the number of tokens is set. Used in several environments: nothing but numpy here.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

RATE_HZ: Final = 16_000
TOKENS_PER_S: Final = 3.5
"""Of English speech; measured."""
WORKLOADS: Final[dict[str, list[float]]] = {
    "even": [30.0] * 16,
    "mixed": np.random.default_rng(0).permutation(np.linspace(1, 30, 32)).round(2).tolist(),
    "quick": [1.0, 3.0, 2.0],
    "first": [10.0],
}
"""Seconds of each sound."""


@dataclass(frozen=True)
class Item:
    """One sound."""

    seconds: float

    @property
    def n_tokens(self) -> int:
        """That are written for it."""
        return max(1, round(self.seconds * TOKENS_PER_S))

    @property
    def pcm(self) -> Any:
        """Noise whose loudness comes and goes; float32."""
        times = np.arange(int(self.seconds * RATE_HZ))
        noise = np.random.default_rng(times.size).standard_normal(times.size)
        return (0.1 * noise * np.abs(np.sin(times / 2000))).astype(np.float32)


def items(name: str) -> list[Item]:
    return [Item(seconds) for seconds in WORKLOADS[name]]


def batches(work: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [work[i : i + size] for i in range(0, len(work), size)]


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def report(**figures: object) -> None:
    """The last line of a measuring process."""
    sys.stdout.write(json.dumps(figures) + "\n")

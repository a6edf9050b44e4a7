"""How fast the machine itself is while something is measured on it: on a shared host that is not the same all the time.

A process of its own does the same small piece of work of the interpreter once a second and says how much CPU time it
took; that takes a hundredth of a core.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

EACH_S: Final = 1.0
N_STEPS: Final = 20_000


class Speed:
    """What the pieces took, one each second."""

    def __init__(self) -> None:
        self.took_s: list[float] = []
        """CPU time of each piece, oldest first."""

    def slowest(self) -> float:
        """Speed in the slowest minute, as a share of the mean; 1.0 if there is nothing yet."""
        if not self.took_s:
            return 1.0
        step = min(round(60 / EACH_S), len(self.took_s))
        slowest_s = max(_mean(self.took_s[at : at + step]) for at in range(len(self.took_s) - step + 1))
        return _mean(self.took_s) / slowest_s


@asynccontextmanager
async def watching() -> AsyncIterator[Speed]:
    """Look at the machine's speed until the block ends."""
    speed = Speed()
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.pace", stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    reading = asyncio.create_task(_read(program.stdout, speed))
    try:
        yield speed
    finally:
        reading.cancel()
        with suppress(ProcessLookupError):
            program.kill()
        await program.wait()


async def _read(lines: asyncio.StreamReader, speed: Speed) -> None:
    async for line in lines:
        speed.took_s.append(float(line))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _piece() -> None:
    chance = random.Random(1)
    found: dict[int, tuple[int, str]] = {}
    for number in range(N_STEPS):
        key = chance.getrandbits(14)
        found[key] = (number, str(key))


def _main() -> None:
    while True:
        begun = time.thread_time()
        _piece()
        print(time.thread_time() - begun, flush=True)
        time.sleep(EACH_S)


if __name__ == "__main__":
    _main()

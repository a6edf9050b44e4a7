"""``make bench``: measure, print one table, and write it to ``bench-results/``."""

import argparse
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks import (
    accuracy,
    context,
    diarization,
    front,
    hotwords,
    itn,
    live,
    load,
    memory,
    mixed,
    sessions,
    speed,
    startup,
    tasks,
    vad,
)
from benchmarks.bench import Bench
from benchmarks.clips import ROOT, corpus, sounds
from benchmarks.table import Results, Row

MEASUREMENTS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "accuracy": accuracy.measure,
    "hotwords": hotwords.measure,
    "context": context.measure,
    "speed": speed.measure,
    "load": load.measure,
    "front": front.measure,
    "vad": vad.measure,
    "sessions": sessions.measure,
    "itn": itn.measure,
    "memory": memory.measure,
    "startup": startup.measure,
}
ABOUT: Final = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 if a target is missed and ``--check`` was given."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["tasks"]:  # hours of audio: asked for by name only
        return tasks.main(arguments[1:])
    if arguments[:1] == ["live"]:  # at the speed of speech
        return live.main(arguments[1:])
    if arguments[:1] == ["diarization"]:  # only with the recordings of several people
        return diarization.main(arguments[1:])
    if arguments[:1] == ["mixed"]:  # half an hour
        return mixed.main(arguments[1:])
    asked = _parser().parse_args(arguments)
    names = asked.measurements or list(MEASUREMENTS)
    results = uvloop.run(_measure(names, quick=asked.quick))
    results.write(asked.output, Console())
    return int(asked.check and any(row.met is False for row in results.rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "measurements", nargs="*", metavar="MEASUREMENT", help=f"of {', '.join(MEASUREMENTS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="two clips, once: does it run at all?")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--output", type=Path, default=ROOT / "bench-results", help="folder for the results")
    return parser


async def _measure(names: Sequence[str], *, quick: bool) -> Results:
    clips = corpus(quick=quick)
    bench = Bench(clips, await sounds(clips), quick)
    rows: list[Row] = []
    for name in names:
        ABOUT.print(f"measuring {name} …")
        rows += await MEASUREMENTS[name](bench)
    return Results(clips, bench.audio_s, quick, rows)


if __name__ == "__main__":
    sys.exit(main())

"""Numbers in digits: how much of the table is right, and how fast text is read."""

import csv
import time
from typing import Final

from benchmarks.bench import Bench
from benchmarks.clips import ROOT
from benchmarks.table import Row, at_least
from qasr.pipeline.itn import normalize

TABLE: Final = ROOT / "tests" / "data" / "itn.tsv"
CHARACTERS: Final = 100_000


async def measure(bench: Bench) -> list[Row]:
    """The table that the tests go by, as a share and by time."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    right = sum(normalize(case["spoken"]).text == case["written"] for case in cases)
    spoken = "\n".join(case["spoken"] for case in cases)
    text = (spoken * (CHARACTERS // len(spoken) + 1))[: CHARACTERS // (10 if bench.quick else 1)]
    begun = time.process_time()
    normalize(text)
    speed = len(text) / (time.process_time() - begun)
    return [
        Row("itn", f"right of {len(cases)} cases", 100 * right / len(cases), "%", at_least(100)),
        Row("itn", "text in, one thread", speed / 1000, "thousand characters per CPU s"),
    ]

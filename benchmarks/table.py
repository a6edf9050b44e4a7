"""Results: rows with a target each, as a table for people and as JSON for programs."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.clips import Corpus
from qasr.workers import available_cpus


@dataclass(frozen=True, slots=True)
class Target:
    """What a value should reach."""

    bound: float
    at_most: bool

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"

    def met_by(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


def at_most(bound: float) -> Target:
    return Target(bound, at_most=True)


def at_least(bound: float) -> Target:
    return Target(bound, at_most=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    measurement: str
    name: str
    value: float
    unit: str
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """None: nothing was asked."""
        return None if self.target is None else self.target.met_by(self.value)

    @property
    def cells(self) -> tuple[str, str, str, str]:
        met = {None: "", True: "yes", False: "no"}[self.met]
        return self.name, f"{self.value:.{_places(self.value)}f} {self.unit}".rstrip(), str(self.target or ""), met


def _places(value: float) -> int:
    return 0 if abs(value) >= 100 else 2


@dataclass(frozen=True, slots=True)
class Results:
    """One run."""

    corpus: Corpus
    audio_s: float
    quick: bool
    rows: Sequence[Row]

    @property
    def about(self) -> str:
        clips = f"{len(self.corpus.clips)} clips, {self.audio_s:.0f} s: {self.corpus.about}"
        return f"{machine()}; {clips}"

    def write(self, folder: Path, console: Console) -> None:
        """``table.md`` and ``results.json`` into *folder*, and the table to *console*."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(self._markdown(), encoding="utf-8")
        (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(self._json())))
        table = Table("figure", "value", "target", "met", caption=self.about)
        for row in self.rows:
            table.add_row(*row.cells, style="red" if row.met is False else None)
        console.print(table)

    def _markdown(self) -> str:
        lines = [self.about, "", "| figure | value | target | met |", "|---|---|---|---|"]
        return "\n".join([*lines, *("| " + " | ".join(row.cells) + " |" for row in self.rows), ""])

    def _json(self) -> object:
        return {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "quick": self.quick,
            "clips": {"about": self.corpus.about, "count": len(self.corpus.clips), "audio_s": round(self.audio_s, 3)},
            "rows": [
                {
                    "measurement": row.measurement,
                    "name": row.name,
                    "value": row.value,
                    "unit": row.unit,
                    "target": None if row.target is None else str(row.target),
                    "met": row.met,
                }
                for row in self.rows
            ],
        }


def machine() -> str:
    """What it was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{available_cpus()} cores {platform.machine().replace('_', '-')}, {memory:.0f} GiB"

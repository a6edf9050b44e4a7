"""Who spoke when, compared with who was found to: the diarization error rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

FRAME_MS: Final = 10
COLLAR_MS: Final = 250
"""Around each begin and end of the reference, nothing counts: people do not agree about these either."""

Frames = npt.NDArray[np.bool_]
"""Who speaks: ``[n_frames, n_people]``."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Somebody speaks."""

    begin_ms: float
    end_ms: float
    who: str


@dataclass(frozen=True, slots=True)
class Errors:
    """In frames; ``spoken`` counts those in which several speak several times."""

    spoken: int
    missed: int
    invented: int
    confused: int

    @property
    def rate(self) -> float:
        """Diarization error rate, in per cent."""
        return 100 * (self.missed + self.invented + self.confused) / self.spoken

    @property
    def confusion(self) -> float:
        """The part of it that is taking one for another."""
        return 100 * self.confused / self.spoken


def errors(wanted: Sequence[Spoken], found: Sequence[Spoken], length_ms: float) -> Errors:
    """What *found* gets wrong; overlapping speech counts, and everybody in it."""
    n_frames = int(length_ms / FRAME_MS) + 1
    reference, hypothesis = _frames(wanted, n_frames), _frames(found, n_frames)
    counts = np.ones(n_frames, np.bool_)
    for one in wanted:
        for edge_ms in (one.begin_ms, one.end_ms):
            counts[max(0, int((edge_ms - COLLAR_MS) / FRAME_MS)) : int((edge_ms + COLLAR_MS) / FRAME_MS)] = False
    reference, hypothesis = reference[counts], hypothesis[counts]
    together = reference.T.astype(np.int64) @ hypothesis.astype(np.int64)
    right = sum(int(together[one, other]) for one, other in matched(together))
    n_wanted, n_found = reference.sum(axis=1), hypothesis.sum(axis=1)
    return Errors(
        spoken=int(n_wanted.sum()),
        missed=int(np.maximum(n_wanted - n_found, 0).sum()),
        invented=int(np.maximum(n_found - n_wanted, 0).sum()),
        confused=int(np.minimum(n_wanted, n_found).sum()) - right,
    )


def matched(together: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Which column is which row, so that as much as possible agrees; at most 16 of the fewer."""
    if together.shape[0] > together.shape[1]:
        return [(one, other) for other, one in matched(together.T)]
    n_rows, n_columns = together.shape

    @cache
    def best(column: int, rows: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        if column == n_columns:
            return 0, ()
        found = best(column + 1, rows)
        for row in range(n_rows):
            if not rows >> row & 1:
                score, pairs = best(column + 1, rows | 1 << row)
                found = max(found, (score + int(together[row, column]), ((row, column), *pairs)))
        return found

    return list(best(0, 0)[1])


def _frames(spoken: Sequence[Spoken], n_frames: int) -> Frames:
    people = sorted({one.who for one in spoken})
    frames = np.zeros((n_frames, max(1, len(people))), np.bool_)
    for one in spoken:
        frames[int(one.begin_ms / FRAME_MS) : int(one.end_ms / FRAME_MS), people.index(one.who)] = True
    return frames


def read_rttm(path: Path) -> list[Spoken]:
    """A reference in the usual form."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("SPEAKER"):
            fields = line.split()
            begin_s, length_s = float(fields[3]), float(fields[4])
            found.append(Spoken(1000 * begin_s, 1000 * (begin_s + length_s), fields[7]))
    return found

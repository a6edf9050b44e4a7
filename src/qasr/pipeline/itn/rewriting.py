"""A text and what of it is written otherwise; so each place of the new text still knows where it came from."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """The characters from ``begin`` up to ``end`` are written as ``text``. Nothing is ever deleted."""

    begin: int
    end: int
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end or not self.text:
            raise ValueError(f"no edit: {self.begin}-{self.end} {self.text!r}")


class Rewriting:
    """*source* with *edits*, which do not overlap."""

    def __init__(self, source: str, edits: Iterable[Edit]) -> None:
        self.source = source
        self.edits = tuple(sorted(edits))
        if any(before.end > after.begin for before, after in pairwise(self.edits)):
            raise ValueError("edits overlap")
        parts, place = [], 0
        for edit in self.edits:
            parts += [source[place : edit.begin], edit.text]
            place = edit.end
        self.text = "".join([*parts, source[place:]])
        self._grown = [0, *accumulate(len(edit.text) - (edit.end - edit.begin) for edit in self.edits)]
        self._begins = [edit.begin + grown for edit, grown in zip(self.edits, self._grown, strict=False)]

    def origin(self, begin: int, end: int) -> tuple[int, int]:
        """Where the characters of ``text`` from *begin* up to *end* stood in ``source``; edits are taken whole."""
        return self._source_of(begin)[0], self._source_of(end - 1)[1]

    def _source_of(self, place: int) -> tuple[int, int]:
        number = bisect_right(self._begins, place)
        if number:
            edit = self.edits[number - 1]
            if place < self._begins[number - 1] + len(edit.text):
                return edit.begin, edit.end
        place -= self._grown[number]
        return place, place + 1

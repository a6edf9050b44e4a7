"""Sentences as cues that people can read while they listen: short, long enough on the screen, broken where clauses are.

::

    sentence ─ atoms (words with what follows them) ─▶ cheapest cuts ─▶ cues of one or two lines ─▶ times

Where to cut is a shortest path: each cue costs something, more if it breaks a clause, is a scrap, or lasts too long. A
column is the width of a Latin letter; Chinese characters take two. Limits are those of subtitlers (42 columns, two
lines, 7 s, some 20 columns a second), kept where the speech allows it.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from qasr.domain.transcript import Sentence

LINE: Final = 42
"""Columns."""
LINES: Final = 2
LONGEST_MS: Final = 7_000
SHORTEST_MS: Final = 833
"""Five sixths of a second."""
COLUMNS_PER_S: Final = 20

_UNSPACED: Final = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_OPENING: Final = "《〈「『【（([“‘"
_ATOM: Final = re.compile(
    rf"[{_OPENING}]*[{_UNSPACED}][^\w\s{_OPENING}]*\s*|[^\s{_UNSPACED}{_OPENING}]+\s*|[{_OPENING}]+[^\s{_UNSPACED}]*\s*"
)
"""What is never broken: a word, or a character of a script without blanks, with its punctuation."""
_SENTENCE_END: Final = re.compile(r"[.!?…。！？][\"'”’)\]」』）]*\s*$")
_CLAUSE_END: Final = re.compile(r"[,;:–—，；：、][\"'”’)\]」』）]*\s*$")
_CLAUSE_BEGIN: Final = re.compile(
    r"(?:and|but|or|because|that|which|who|when|while|where|if|so|than|as|with|for|from|to|of|in|on|at)\b",
    re.IGNORECASE,
)
"""Words that rather begin a line than end one."""

_CUE: Final = 100.0
_SPLIT_CLAUSE: Final = 40.0
_SPLIT_PHRASE: Final = 70.0
_SPLIT_NUMBER: Final = 150.0
_SCRAP: Final = 60.0
_SCRAP_COLUMNS: Final = 16
_TOO_LONG_PER_S: Final = 40.0
_NEVER: Final = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What stands on the screen at once."""

    begin_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Atom:
    text: str
    begin_ms: int
    end_ms: int


class _Mark(NamedTuple):
    """Characters of a text, and when they were said."""

    begin: int
    end: int
    begin_ms: int
    end_ms: int


def cues(sentences: Iterable[Sentence]) -> list[Cue]:
    """All cues of *sentences*, in order of their begins. A change of speakers is told at the head of a cue."""
    found: list[Cue] = []
    speaker = None
    for sentence in sentences:
        prefix = ""
        if sentence.speaker is not None and sentence.speaker != speaker:
            prefix = f"Speaker {sentence.speaker + 1}: "
        speaker = sentence.speaker
        if atoms := _atoms(sentence, prefix):
            found += _Layout(atoms).cues()
    return _readable(sorted(found, key=lambda cue: cue.begin_ms))


def columns(text: str) -> int:
    """The width of *text*."""
    return sum(_columns_of(char) for char in text)


@cache
def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


# ---- atoms and their times


def _atoms(sentence: Sentence, prefix: str) -> list[_Atom]:
    text = " ".join(sentence.text.split())
    marks = list(_marks(sentence, text))
    atoms: list[_Atom] = []
    for begin, end in _pieces(text):
        begin_ms, end_ms = _time(marks, begin, is_end=False), _time(marks, end, is_end=True)
        begin_ms = max(begin_ms, atoms[-1].end_ms) if atoms else begin_ms
        atoms.append(_Atom(text[begin:end], begin_ms, max(begin_ms, end_ms)))
    if atoms and prefix:
        atoms.insert(0, _Atom(prefix, atoms[0].begin_ms, atoms[0].begin_ms))
    return atoms


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where the atoms of *text* lie; what is wider than a line is cut."""
    for match in _ATOM.finditer(text):
        begin = match.start()
        while columns(text[begin : match.end()].rstrip()) > LINE:
            end = begin + LINE // 2
            yield begin, end
            begin = end
        yield begin, match.end()


def _marks(sentence: Sentence, text: str) -> Iterator[_Mark]:
    """Where words lie in *text*, and when they were said; the whole sentence if there are none."""
    place, found = 0, False
    for word in sentence.words:
        begin = text.find(word.text, place)
        if begin >= 0 and word.text:
            place, found = begin + len(word.text), True
            yield _Mark(begin, place, word.begin_ms, word.end_ms)
    if not found:
        yield _Mark(0, len(text), sentence.begin_ms, sentence.end_ms)


def _time(marks: Sequence[_Mark], place: int, *, is_end: bool) -> int:
    """When the character at *place* begins, or the one before it ends."""
    if is_end:
        mark = marks[max(0, bisect_left(marks, place, key=lambda mark: mark.begin) - 1)]
    else:
        mark = marks[min(len(marks) - 1, bisect_right(marks, place, key=lambda mark: mark.end))]
    inside = min(max(place, mark.begin), mark.end) - mark.begin
    return mark.begin_ms + (mark.end_ms - mark.begin_ms) * inside // max(1, mark.end - mark.begin)


# ---- where to cut


class _Layout:
    """Where a sentence may be cut, and what that costs. Places count atoms; a stretch is what lies between two."""

    def __init__(self, atoms: Sequence[_Atom]) -> None:
        self._atoms = atoms
        self._widths = [0, *accumulate(columns(atom.text) for atom in atoms)]
        self._blanks = [0, *(columns(atom.text) - columns(atom.text.rstrip()) for atom in atoms)]
        self._costs = [0.0, *(_break_cost(a.text, b.text) for a, b in pairwise(atoms)), 0.0]

    def cues(self) -> Iterator[Cue]:
        """The cheapest way to cut."""
        places = self._places()
        totals, lasts = [0.0], [0]
        for number, end in enumerate(places[1:], start=1):
            best, last = float("inf"), number - 1
            for before in range(number - 1, -1, -1):
                begin = places[before]
                if not self._fits(begin, end):
                    break
                if (total := totals[before] + self._cost(begin, end)) < best:
                    best, last = total, before
            totals.append(best)
            lasts.append(last)
        ends, number = [], len(places) - 1
        while number:
            ends.append(number)
            number = lasts[number]
        for number in reversed(ends):
            begin, end = places[lasts[number]], places[number]
            begin_ms, end_ms = self._atoms[begin].begin_ms, self._atoms[end - 1].end_ms
            yield Cue(begin_ms=begin_ms, end_ms=end_ms, lines=self._lines(begin, end))

    def _places(self) -> list[int]:
        """Where clauses part; and where they are longer than a line, anywhere."""
        parts = [place for place, cost in enumerate(self._costs) if cost < _SPLIT_PHRASE]
        places = [0]
        for begin, end in pairwise(parts):
            places += [end] if self._width(begin, end) <= LINE else range(begin + 1, end + 1)
        return places

    def _width(self, begin: int, end: int) -> int:
        return self._widths[end] - self._widths[begin] - self._blanks[end]

    def _fits(self, begin: int, end: int) -> bool:
        if self._width(begin, end) <= LINE:
            return True
        middle = bisect_right(self._widths, self._widths[begin] + LINE) - 1
        middle += middle + 1 < end and self._width(begin, middle + 1) <= LINE  # a blank may hang over
        return self._width(middle, end) <= LINE

    def _cost(self, begin: int, end: int) -> float:
        is_scrap = self._width(begin, end) < _SCRAP_COLUMNS and end - begin < len(self._atoms)
        too_long_ms = max(0, self._atoms[end - 1].end_ms - self._atoms[begin].begin_ms - LONGEST_MS)
        return _CUE + self._costs[end] + _SCRAP * is_scrap + _TOO_LONG_PER_S * too_long_ms / 1000

    def _lines(self, begin: int, end: int) -> tuple[str, ...]:
        """One line, or two that are alike in length and break where it hurts least."""
        if self._width(begin, end) <= LINE:
            return (self._text(begin, end),)

        def cost(middle: int) -> float:
            upper, lower = self._width(begin, middle), self._width(middle, end)
            return self._costs[middle] + 2 * abs(upper - lower) + _NEVER * (max(upper, lower) > LINE)

        middle = min(range(begin + 1, end), key=cost)
        return self._text(begin, middle), self._text(middle, end)

    def _text(self, begin: int, end: int) -> str:
        return "".join(atom.text for atom in self._atoms[begin:end]).strip()


def _break_cost(before: str, after: str) -> float:
    """Of breaking between two atoms, lines as well as cues."""
    if _SENTENCE_END.search(before):
        return 0.0
    if _CLAUSE_END.search(before):
        return _SPLIT_CLAUSE / 4
    if not before[-1].isspace() and (before[-1].isdigit() or after[0].isdigit()):
        return _SPLIT_NUMBER  # 2025|年
    return _SPLIT_CLAUSE if before[-1].isspace() and _CLAUSE_BEGIN.match(after) else _SPLIT_PHRASE


# ---- when to show


def _readable(found: Sequence[Cue]) -> list[Cue]:
    """Cues stay long enough to be read, if the next one leaves them the time, and no longer than is useful."""
    shown: list[Cue] = []
    for number, cue in enumerate(found):
        needed_ms = max(SHORTEST_MS, 1000 * sum(map(columns, cue.lines)) // COLUMNS_PER_S)
        end_ms = max(
            min(cue.end_ms, cue.begin_ms + LONGEST_MS), min(cue.begin_ms + needed_ms, cue.begin_ms + LONGEST_MS)
        )
        if number + 1 < len(found) and end_ms > cue.end_ms:
            end_ms = max(cue.end_ms, min(end_ms, found[number + 1].begin_ms))
        shown.append(replace(cue, end_ms=end_ms))
    return shown

"""A text and what of it is written otherwise; so each place of the new text still knows where it came from.

That is how words keep the times that they were said at, whatever is made of them: digits, or nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from qasr.domain.transcript import Sentence, Word
from qasr.pipeline.words import locate_words, make_words, spread


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """The characters from ``begin`` up to ``end`` are written as ``text``; as nothing, where it is empty."""

    begin: int
    end: int
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
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


def rewritten(sentence: Sentence, rewriting: Rewriting) -> Sentence | None:
    """*sentence* with the text of *rewriting*; None where no word is left. Engine tokens stay those of what was said.

    Where its first or last word goes, the sentence begins later or ends earlier.
    """
    if not rewriting.edits:
        return sentence
    if not re.search(r"\w", rewriting.text):
        return None
    before = sentence.words
    words = retimed(before, rewriting) if before else ()
    begin_ms, end_ms = sentence.begin_ms, sentence.end_ms
    if words:
        begin_ms += max(0, words[0].begin_ms - max(begin_ms, before[0].begin_ms))
        end_ms -= max(0, min(end_ms, before[-1].end_ms) - words[-1].end_ms)
    return replace(sentence, text=rewriting.text, words=words, begin_ms=begin_ms, end_ms=max(begin_ms, end_ms))


def retimed(words: Sequence[Word], rewriting: Rewriting) -> tuple[Word, ...]:
    """The words of the new text: each lasts from the first to the last of those it stands for.

    Where several stand for the same, or *words* are not those of the old text, times are spread and marked as such.
    """
    old = [(begin, end) for _, _, begin, end in locate_words(rewriting.source)]
    new = locate_words(rewriting.text)
    if len(old) != len(words):
        times = spread([word for word, _, _, _ in new], words[0].begin_ms, words[-1].end_ms)
        return make_words([(word, punctuation) for word, punctuation, _, _ in new], times, estimated=True)
    found: list[Word] = []
    for first, last, group in _groups(old, new, rewriting):
        said, pieces = words[first:last], [(word, punctuation) for word, punctuation in group]
        begin_ms, end_ms = said[0].begin_ms, max(word.end_ms for word in said)
        times = spread([word for word, _ in pieces], begin_ms, end_ms)
        estimated = len(pieces) > 1 or any(word.estimated for word in said)
        found += make_words(pieces, times, estimated=estimated)
    return tuple(found)


def _groups(
    old: Sequence[tuple[int, int]], new: Sequence[tuple[str, str, int, int]], rewriting: Rewriting
) -> list[tuple[int, int, list[tuple[str, str]]]]:
    """Stretches of old words, first and behind the last, and the new words that stand for each."""
    groups: list[tuple[int, int, list[tuple[str, str]]]] = []
    at = 0
    for word, punctuation, begin, end in new:
        source_begin, source_end = rewriting.origin(begin, end)
        while old[at][1] <= source_begin and at < len(old) - 1:
            at += 1
        first = last = at
        while last < len(old) and (last == first or old[last][0] < source_end):
            last += 1
        if groups and first < groups[-1][1]:
            before, behind, pieces = groups.pop()
            groups.append((before, max(behind, last), [*pieces, (word, punctuation)]))
        else:
            groups.append((first, last, [(word, punctuation)]))
    return groups

"""Words of a client's own that its results must not show: covered by asterisks of the same number, or left out."""

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from qasr.domain.options import HiddenWords
from qasr.domain.transcript import Sentence
from qasr.pipeline.filters.removal import Span, without
from qasr.pipeline.rewriting import Rewriting, retimed, rewritten
from qasr.pipeline.words import locate_words

_LETTER: Final = re.compile("[^\\W\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")
"""Of scripts with blanks; in the others, a hidden word may stand inside of anything."""


def hide(sentence: Sentence, hidden: HiddenWords) -> Sentence | None:
    """*sentence* as its client wants it; None where nothing is left to show. Words keep their times."""
    left: Sentence | None = sentence
    if hidden.removed:
        left = rewritten(sentence, without(sentence.text, _finder(hidden.removed).find))
    return _covered(left, _finder(hidden.starred)) if left is not None and hidden.starred else left


def _covered(sentence: Sentence, finder: "_Finder") -> Sentence:
    """A phrase may span several words; each keeps its length, so each stays where it is."""
    text = sentence.text
    for begin, end in finder.find(text):
        text = text[:begin] + re.sub(r"\S", "*", text[begin:end]) + text[end:]
    if text == sentence.text:
        return sentence
    words, places = sentence.words, locate_words(sentence.text)
    if words and len(words) != len(places):  # an engine's own: none of them may show what a phrase hides
        words = retimed(words, Rewriting(sentence.text, ()))
    shown = (replace(word, text=text[begin:end]) for word, (_, _, begin, end) in zip(words, places, strict=False))
    return replace(sentence, text=text, words=tuple(shown))


class _Finder:
    """Finds words, the longest at each place, in any case, and not inside of longer words of scripts with blanks.

    No pattern: clients may send a thousand words of two hundred characters, and a pattern of these takes seconds.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        self._known = {_lower(" ".join(word.split())) for word in words}
        self._lengths: dict[str, list[int]] = {}
        for first in {word[0] for word in self._known}:
            theirs = {len(word) for word in self._known if word[0] == first}
            self._lengths[first] = sorted(theirs, reverse=True)

    def find(self, text: str) -> list[Span]:
        """Where they stand, in order; each blank of a phrase may be several."""
        places = [
            place for place, char in enumerate(text) if not (char.isspace() and text[place - 1 : place].isspace())
        ]
        line = _lower("".join(" " if text[place].isspace() else text[place] for place in places))
        found: list[Span] = []
        place = 0
        while place < len(line):
            end = self._end(line, place)
            if end is not None:
                found.append((places[place], places[end - 1] + 1))
            place = end or place + 1
        return found

    def _end(self, line: str, begin: int) -> int | None:
        """Where the longest that begins at *begin* ends."""
        for length in self._lengths.get(line[begin], ()):
            end = begin + length
            if (
                end <= len(line)
                and line[begin:end] in self._known
                and not _inside(line, begin)
                and not _inside(line, end)
            ):
                return end
        return None


_finder = lru_cache(maxsize=64)(_Finder)


def _lower(text: str) -> str:
    """In lower case, of the same length."""
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def _inside(line: str, place: int) -> bool:
    """Whether a word of a script with blanks goes on at *place*."""
    return 0 < place < len(line) and all(map(_LETTER.match, line[place - 1 : place + 1]))

"""What is certain of an utterance that is still being spoken: local agreement.

Sound that grows is decoded again and again. What two decodes in a row agree on, from the beginning, is *confirmed* and
will not change any more; the rest is *tentative*::

    decode 1   and so my fellow a
    decode 2   and so my fellow Americans ask         confirmed: and so my fellow
    decode 3   and though my fellow Americans ask not confirmed: and so my fellow Americans ask   (kept, and grown)

Words agree if they differ in case and punctuation at most; languages without blanks agree by characters. A decode that
contradicts what is confirmed does not change it: it is laid beside it where the two fit best, and what it has behind
that place goes on from there.

An utterance may have several pieces, one after the other: ``settle`` ends one with its last text. No I/O.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qasr.domain.transcript import UNSPACED, separator
from qasr.pipeline.words import PIECE

_CHARACTER: Final = re.compile(r"\w[^\w\s]*")


@dataclass(frozen=True, slots=True)
class _Unit:
    """A word, or a character of a language without blanks, and where it lies in its text."""

    key: str
    """What is compared: no case, no punctuation."""
    end: int
    """Behind the word."""
    closed: int
    """Behind the punctuation that follows it."""


class Agreement:
    """Invariant: ``confirmed`` is a prefix of every later ``confirmed + tentative``."""

    def __init__(self) -> None:
        self._settled = ""  # the pieces that are over
        self._confirmed = ""  # of the open piece
        self._before: list[_Unit] = []  # the open piece's last decode
        self._text_before = ""
        self.tentative = ""
        """What may still change."""

    @property
    def confirmed(self) -> str:
        """What will not change."""
        return self._settled + self._confirmed

    def hear(self, text: str, language: str | None = None) -> None:
        """The open piece, decoded once more."""
        text = self._continued(text, language)
        units = _units(text, language)
        agreed = 0
        for old, new in zip(self._before, units, strict=False):
            if old.key != new.key:
                break
            is_last = old is self._before[-1] or new is units[-1]  # engines like to end with a full stop
            same = not is_last and self._text_before[old.end : old.closed] == text[new.end : new.closed]
            agreed = new.closed if same else new.end
        self._before, self._text_before = units, text
        self._confirm(text, max(agreed, len(self._confirmed)))

    def take(self, stable: str, tail: str, language: str | None = None) -> None:
        """The open piece, as an engine tells it that knows itself what is *stable*."""
        text = self._continued(stable, language)
        self._confirm(text + tail, len(text))

    def settle(self, text: str, language: str | None = None) -> None:
        """The open piece is over and was heard as *text*; the next begins."""
        self._settled += self._continued(text, language)
        self._confirmed = self.tentative = self._text_before = ""
        self._before = []

    def _confirm(self, text: str, end: int) -> None:
        self._confirmed, self.tentative = text[:end], text[end:]

    def _continued(self, text: str, language: str | None) -> str:
        """*text* so that it begins with what is confirmed of its piece."""
        text = text.strip()
        if text and self._settled:
            text = separator(language) + text
        if text.startswith(self._confirmed):
            return text
        units = _units(text, language)
        known = [unit.key for unit in _units(self._confirmed, language)]
        n_known = _best_fit(known, [unit.key for unit in units])
        if not n_known:
            rest = text if text.startswith(" ") else separator(language) + text if text else ""
        elif _is_punctuation(self._confirmed[-1]):
            rest = text[units[n_known - 1].closed :]
        else:
            rest = text[units[n_known - 1].end :]
        return self._confirmed + rest


def _units(text: str, language: str | None) -> list[_Unit]:
    found: list[_Unit] = []
    for match in (_CHARACTER if language in UNSPACED else PIECE).finditer(text):
        piece = match.group()
        key = "".join(c for c in piece if not _is_punctuation(c)).casefold()
        if key:
            bare = piece
            while _is_punctuation(bare[-1]):
                bare = bare[:-1]
            found.append(_Unit(key, match.start() + len(bare), match.end()))
        elif found:
            found[-1] = _Unit(found[-1].key, found[-1].end, match.end())
    return found


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _best_fit(known: Sequence[str], heard: Sequence[str]) -> int:
    """How many of *heard* are worth *known*: the fewest edits make them so; of these, the last word and the length."""
    costs = list(range(len(heard) + 1))
    for i, word in enumerate(known, 1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(heard, 1):
            diagonal, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, diagonal + (word != other))
    last = known[-1] if known else None
    return min(range(len(heard) + 1), key=lambda n: (costs[n], n == 0 or heard[n - 1] != last, abs(n - len(known))))

"""Hotwords: a text that was heard is heard again, with phrases in it that were expected.

::

    heard:      … │ or ▁Case ▁supposed …         log-probability of this part    -6.1
    tried:      … │ or ▁Carrich ▁supposed …      of that part                    -7.0   near enough: taken
                  ▲                 ▲
            a word begins     the tried text goes on by itself until it says two tokens in a row that were heard, too

The decoder heard the segment once, without hotwords. Where a word begins, the tree of phrases is walked as far as the
decoder's log-probabilities allow (``Hotwords.root``). What is left is said in place of what was heard, and the decoder
goes on from there by itself until both texts meet again. The two ways are compared as a whole: the phrase is taken if
its way is at most ``NEARNESS`` per weight less likely. So it is the sound that decides, and a phrase that was not said
is mostly many times less likely than what was. Why not by adding to the logits while decoding: see
docs/decisions/0014-hotwords.md.

Phrases of negative weight take the opposite way: where one was heard, the likeliest text without it is taken if it is
near.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qasr.engines.moonshine.hotwords import Hotwords, Node, Spelling
from qasr.engines.moonshine.model import Decoded, Rehearing
from qasr.engines.moonshine.tokenizer import END, Tokenizer, text_of

NEARNESS: Final = 0.9
"""Nats per weight that a phrase may be less likely than what was heard. Measured, see docs/decisions/0014."""
FORCED_WEIGHT: Final = 50
FORCED: Final = 10.0
"""The same for the weight that forces."""
DISTANCE: Final = 1.5
"""Nats per negative weight that another text may be less likely than a suppressed phrase."""
LEAST_TOKEN: Final = -5.0
"""No token of a phrase may be less likely, unless its way is the likelier one: a phrase fits in all its parts."""
REACH: Final = 8
"""Tokens of the heard text that a phrase may stand for."""
MOST_DROPPED: Final = 4
"""Tokens that a text may become shorter by: one that says less is likelier for that alone."""
LONGEST_DETOUR: Final = 16
"""Tokens after a phrase within which both texts must meet; else it was no phrase that made the difference."""
MOST_CHANGES: Final = 32
"""Of one segment."""
MOST_WALKS: Final = 64
"""Sequences that are looked at together."""
MOST_BANS: Final = 3
"""Other beginnings that are tried for a suppressed phrase."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Another way through the segment: ``ids`` are said instead of the tokens from ``begin`` to ``end``."""

    begin: int
    end: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    n_first: int
    """So many of ``ids`` are the phrase."""
    gain: float
    """Nats that it is likelier than what was heard."""


class Biasing:
    """Revises what was heard; a ``Revision``.

    Args:
        hotwords: of the request.
        tokenizer: the model's.
        inside: which tokens go on with a word, ``[vocabulary]``.
    """

    def __init__(self, hotwords: Hotwords, tokenizer: Tokenizer, inside: npt.NDArray[np.bool_]) -> None:
        self._hotwords, self._tokenizer, self._inside = hotwords, tokenizer, inside

    def __call__(self, rehearing: Rehearing, heard: Decoded) -> Decoded:
        """*heard*, or what it becomes."""
        if heard.truncated or not heard.ids:
            return heard
        text = _Text(rehearing, heard)
        finders = [self._favored] * bool(self._hotwords.root.after) + [self._escaped] * bool(self._hotwords.suppressed)
        for find in finders:
            first = 0
            for _ in range(MOST_CHANGES):
                if (way := find(text, first)) is None:
                    break
                text.change(way)
                first = way.begin + way.n_first
        return text.decoded

    def _places(self, text: "_Text", first: int) -> Iterator[tuple[int, str]]:
        """Where words begin, from *first* on, and the text that follows there; the end of the text is the last."""
        pieces = self._tokenizer.pieces(text.ids)
        for i in range(first, len(pieces)):
            if i == 0 or pieces[i].startswith(b" "):
                yield i, text_of(pieces[i:])
        yield len(pieces), ""

    # phrases that are wanted

    def _favored(self, text: "_Text", first: int) -> _Way | None:
        """The leftmost place where a phrase may stand, and the phrase that fits best there."""
        for begin, said in self._places(text, first):
            ways = [
                way
                for spelling, logprobs in self._walk(text, begin)
                if not _begins_with(said, spelling.text, folded=spelling.text.islower())
                and (way := self._with_phrase(text, begin, spelling, logprobs)) is not None
            ]
            if ways:
                return max(ways, key=lambda way: way.gain)
        return None

    def _walk(self, text: "_Text", begin: int) -> Iterator[tuple[Spelling, tuple[float, ...]]]:
        """Phrases that may be said from *begin* on, with the log-probabilities of their tokens.

        What follows a phrase cannot make it likelier, so a branch ends where it is too unlikely already.
        """
        heard = text.likelihood(begin, begin + REACH)
        level: list[tuple[tuple[int, ...], tuple[float, ...], Node]] = [((), (), self._hotwords.root)]
        following = text.logprobs[begin : begin + 1]
        while level:
            reached = [
                ((*said, token), (*logprobs, float(after[token])), node)
                for (said, logprobs, above), after in zip(level, following, strict=True)
                for token, node in above.after.items()
                if sum(logprobs) + float(after[token]) >= heard - nearness(node.weight)
            ]
            reached.sort(key=lambda walk: -sum(walk[1]))
            for _, logprobs, node in reached[:MOST_WALKS]:
                if node.spelling is not None:
                    yield node.spelling, logprobs
            level = [walk for walk in reached[:MOST_WALKS] if walk[2].after]
            if level:
                following = text.rehearing.instead(begin, [said for said, _, _ in level])

    def _with_phrase(self, text: "_Text", begin: int, spelling: Spelling, logprobs: tuple[float, ...]) -> _Way | None:
        """The way with the phrase at *begin*; None if it does not fit."""
        way = text.way(begin, spelling.evidence, logprobs, spelling.written, self._inside)
        if way is None or way.gain < -nearness(spelling.weight):
            return None
        fits = way.gain >= 0 or spelling.weight == FORCED_WEIGHT or min(logprobs) >= LEAST_TOKEN
        return way if fits else None

    # phrases that are not

    def _escaped(self, text: "_Text", first: int) -> _Way | None:
        """The leftmost suppressed phrase in whose place something else may stand."""
        for begin, said in self._places(text, first):
            for phrase, weight in self._hotwords.suppressed:
                if _begins_with(said, phrase, folded=True):
                    way = self._without_phrase(text, begin, phrase)
                    if way is not None and way.gain >= DISTANCE * weight:
                        return way
        return None

    def _without_phrase(self, text: "_Text", begin: int, phrase: str) -> _Way | None:
        """The likeliest way on which *phrase* is not said at *begin*; it may leave the text at any of its tokens."""
        ways = []
        for place in range(begin, begin + self._length(text, begin, phrase)):
            row = text.logprobs[place].copy()
            row[[text.ids[place], END]] = -np.inf
            for token in np.argsort(-row)[:MOST_BANS].tolist():
                way = text.way(place, (token,), (float(row[token]),), (token,), None)
                if way is not None:
                    ids = [*text.ids[begin:place], *way.ids, *text.ids[way.end :]]
                    if not _begins_with(text_of(self._tokenizer.pieces(ids)), phrase, folded=True):
                        ways.append(way)
        return max(ways, key=lambda way: way.gain, default=None)

    def _length(self, text: "_Text", begin: int, phrase: str) -> int:
        """Tokens of *phrase*, which is said at *begin*."""
        for n in range(1, len(text.ids) - begin):
            if len(text_of(self._tokenizer.pieces(text.ids[begin : begin + n]))) >= len(phrase):
                return n
        return len(text.ids) - begin


def nearness(weight: int) -> float:
    """Nats that a phrase of this *weight* may be less likely than what was heard."""
    return FORCED if weight >= FORCED_WEIGHT else NEARNESS * weight


class _Text:
    """What is said in the segment, as far as we know; ``logprobs`` ``[n + 1, vocabulary]`` of each next token."""

    def __init__(self, rehearing: Rehearing, heard: Decoded) -> None:
        self.rehearing = rehearing
        self.ids, self._reported = list(heard.ids), list(heard.logprobs)
        self._say()

    def _say(self) -> None:
        self.logprobs = self.rehearing.say(self.ids)
        own = self.logprobs[np.arange(len(self.ids) + 1), [*self.ids, END]]
        self._until = np.concatenate([[0.0], np.cumsum(own, dtype=np.float64)])

    @property
    def decoded(self) -> Decoded:
        return Decoded(self.ids, self._reported, truncated=False)

    def likelihood(self, begin: int, end: int) -> float:
        """Log-probability of the tokens from *begin* to *end*; that of the end of the text counts as one of them."""
        return float(self._until[min(end, len(self.ids) + 1)] - self._until[begin])

    def change(self, way: _Way) -> None:
        """Say it another way."""
        self.ids[way.begin : way.end] = way.ids
        self._reported[way.begin : way.end] = [min(0.0, logprob) for logprob in way.logprobs]
        self._say()

    def way(
        self,
        begin: int,
        first: tuple[int, ...],
        logprobs: tuple[float, ...],
        written: tuple[int, ...],
        inside: npt.NDArray[np.bool_] | None,
    ) -> _Way | None:
        """Say *first* at *begin*, and what the decoder says then, until that is what was heard; None if it never is.

        Args:
            begin: token of the text.
            first: with *logprobs*, what is said.
            logprobs: as long as *first*.
            written: what stands for *first* in the text.
            inside: tokens that may not come next, because a word is to end here.
        """
        onward = self.rehearing.onward(begin, first)
        after: list[int] = []
        likelihood, told = sum(logprobs), []
        for _ in range(LONGEST_DETOUR):
            row = onward.logprobs if inside is None or after else np.where(inside, -np.inf, onward.logprobs)
            token = int(row.argmax())
            likelihood += float(row[token])
            end = len(self.ids) if token == END else self._meeting(begin, [*after, token])
            if token != END:
                after.append(token)
                told.append(float(row[token]))
            if end is not None:
                if end - begin - len(first) - len(after) > MOST_DROPPED:
                    return None
                mean = sum(logprobs) / len(logprobs)
                return _Way(
                    begin=begin,
                    end=end,
                    ids=(*written, *after),
                    logprobs=(*(logprobs if written == first else [mean] * len(written)), *told),
                    n_first=len(written),
                    gain=likelihood - self.likelihood(begin, end + (token == END)),
                )
            onward.take(token)
        return None

    def _meeting(self, begin: int, after: list[int]) -> int | None:
        """Where the last two tokens stand in the text, or rather what follows them there."""
        if len(after) < 2:
            return None
        return next((i + 2 for i in range(begin, len(self.ids) - 1) if self.ids[i : i + 2] == after[-2:]), None)


def _begins_with(said: str, phrase: str, *, folded: bool) -> bool:
    """Whether *said* begins with *phrase*, and a word ends there."""
    if folded:
        said, phrase = said.casefold(), phrase.casefold()
    return said.startswith(phrase) and not said[len(phrase) : len(phrase) + 1].isalnum()

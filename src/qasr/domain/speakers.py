"""Who spoke when.

A *voice* is somebody in a stretch of at most a few seconds; nobody knows yet who that is in the next stretch. A
*speaker* is a number from 0: the voices of a whole recording that are one person's, counted by who speaks first. A
*turn* is a speaker, speaking::

    voices   ▇▇▇ ▇    ▇▇▇▇▇  ▇▇    embeddings tell that the first and the third are one person's
               ▇▇▇▇▇      ▇▇▇
    speakers 000 1110 00000 1100
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from qasr.domain.transcript import Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Somebody who speaks in a stretch of a recording; times in ms from its start."""

    begin_ms: int
    end_ms: int
    embedding: bytes
    """What they sound like: float32, as many as the model gives; only that model compares them."""
    clear_ms: int
    """How long they are heard in the stretch while nobody else speaks."""
    channel: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A speaker, speaking; times count from the start of the recording."""

    begin_ms: int
    end_ms: int
    speaker: int


def turns_of(voices: Sequence[Voice], speakers: Sequence[int]) -> list[Turn]:
    """The turns of *voices*, of which each is one of *speakers*, in order of time; those that touch are one."""
    found: dict[int, list[tuple[int, int]]] = {}
    for voice, speaker in zip(voices, speakers, strict=True):
        found.setdefault(speaker, []).append((voice.begin_ms, voice.end_ms))
    turns = [
        Turn(begin_ms=begin, end_ms=end, speaker=speaker)
        for speaker, spans in found.items()
        for begin, end in _joined(sorted(spans))
    ]
    return sorted(turns, key=lambda turn: (turn.begin_ms, turn.end_ms, turn.speaker))


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for begin, end in spans:
        if last is not None and begin <= last[1]:
            last = last[0], max(last[1], end)
            continue
        if last is not None:
            yield last
        last = begin, end
    if last is not None:
        yield last


class Turns:
    """Asks whose a moment is.

    Args:
        turns: in order of time, as ``turns_of`` gives them.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._begins = [turn.begin_ms for turn in turns]
        self._longest_ms = max((turn.end_ms - turn.begin_ms for turn in turns), default=0)

    def __iter__(self) -> Iterator[Turn]:
        """In order of time."""
        return iter(self._turns)

    def speaker(self, begin_ms: int, end_ms: int, before: int | None = None) -> int | None:
        """Who speaks most between the two; of several who do, *before*, or else who begins first.

        Where nobody does, it is whose turn is nearest; None: there are no turns.
        """
        shares: dict[int, int] = {}
        for turn in self._near(begin_ms, end_ms):
            share = min(end_ms, turn.end_ms) - max(begin_ms, turn.begin_ms)
            if share > 0:
                shares[turn.speaker] = shares.get(turn.speaker, 0) + share
        if shares:
            most = max(shares.values())
            return before if before is not None and shares.get(before) == most else max(shares, key=shares.__getitem__)
        return self._nearest(begin_ms, end_ms)

    def _near(self, begin_ms: int, end_ms: int) -> Sequence[Turn]:
        """Those that may overlap, and more."""
        first = bisect_left(self._begins, begin_ms - self._longest_ms)
        return self._turns[first : bisect_left(self._begins, end_ms)]

    def _nearest(self, begin_ms: int, end_ms: int) -> int | None:
        if not self._turns:
            return None
        behind = bisect_left(self._begins, end_ms)
        before = self._near(begin_ms, end_ms) or self._turns[max(0, behind - 1) : behind]
        after = self._turns[behind : behind + 1]
        gaps = [(begin_ms - turn.end_ms, turn.speaker) for turn in before]
        gaps += [(turn.begin_ms - end_ms, turn.speaker) for turn in after]
        return min(gaps, key=lambda gap: gap[0])[1]


def named(sentences: Sequence[Sentence]) -> list[tuple[str, Sentence]]:
    """A conversation: sentences in order of time, each with what people call who says it; nothing where nobody was
    told apart.
    """
    by_channel = len({sentence.channel for sentence in sentences}) > 1
    ordered = sorted(sentences, key=lambda sentence: (sentence.begin_ms, sentence.channel)) if by_channel else sentences
    return [(_name(sentence, by_channel=by_channel), sentence) for sentence in ordered]


def _name(sentence: Sentence, *, by_channel: bool) -> str:
    names = [f"Channel {sentence.channel}"] if by_channel else []
    if sentence.speaker is not None:
        names.append(f"Speaker {sentence.speaker + 1}")
    return ", ".join(names)


__all__ = ["Turn", "Turns", "Voice", "named", "turns_of"]

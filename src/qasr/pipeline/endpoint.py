"""Where utterances begin and end: speech probabilities in, begins and ends out. No sound, no clocks.

It thinks in windows of the voice activity detector, numbered from 0::

    probability   ▁▁▇▇▇▇▁▇▇▇▇▁▁▁▁▁▁▁▁▁▇▇▇▇
    utterance    [pre······speech··tail]         an end is known ``silence_ms`` later
    certain      ──────────────────▶│            up to here the sound belongs to the utterance, come what may

An utterance opens when there is enough speech above the threshold, and reaches back by the prefix, but never into the
utterance before. Speech goes on as long as the probability stays above a second, lower threshold. What grows longer
than it may ends at its next short pause; if none comes, at its quietest point within ``OVERTIME_MS``, and the next
utterance begins right there: no window is lost and none is used twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from qasr.domain.live import Endpointing
from qasr.engines.silero_vad import WINDOW_MS, Probabilities

LEAST_SPEECH_MS: Final = 96
"""Shorter bursts are clicks, and open nothing."""
MOST_HYSTERESIS: Final = 0.15
HYSTERESIS: Final = 0.3
"""Share of the threshold by which speech may fall below it and still be speech."""
TAIL_MS: Final = 192
"""Kept behind the speech: consonants fade; at most half of the silence, whose other half is the next one's prefix."""
SHORT_PAUSE_MS: Final = 160
"""Silence that ends an utterance which has grown too long."""
OVERTIME_MS: Final = 3_000
"""How long a short pause is waited for then."""


@dataclass(frozen=True, slots=True)
class Began:
    """An utterance begins at the start of *window*, which lies in the past."""

    window: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The open utterance ends before *window*."""

    window: int


Mark: TypeAlias = Began | Ended
Quietest: TypeAlias = Callable[[int, int], int]
"""The quietest of the windows from the first to before the second."""


def hysteresis(threshold: float) -> float:
    """How far below *threshold* speech that has begun is still speech."""
    return min(MOST_HYSTERESIS, HYSTERESIS * threshold)


class Endpointer:
    """Feed probabilities in order; the same ones in other portions give the same marks.

    Args:
        policy: how to find begins and ends; may be changed by ``configure``.
        quietest: asked where to cut an utterance that grew too long without any pause, for windows from ``needed`` on.
    """

    def __init__(self, policy: Endpointing, quietest: Quietest) -> None:
        self._quietest = quietest
        self._window = 0  # windows seen
        self._free = 0  # windows before it belong to utterances that have ended, or were cleared
        self._speech: int | None = None  # first window of speech, of an open or a coming utterance
        self._last = 0  # window behind the last speech
        self._begin: int | None = None  # of the open utterance
        self._certain = 0
        self.configure(policy)

    def configure(self, policy: Endpointing) -> None:
        """Another policy from now on."""
        self._enter, self._stay = policy.threshold, policy.threshold - hysteresis(policy.threshold)
        self._silence = _windows(policy.silence_ms)
        self._prefix = -(-policy.prefix_ms // WINDOW_MS)
        self._longest = _windows(policy.longest_ms)
        self._tail = min(_windows(TAIL_MS), self._silence // 2)

    @property
    def is_open(self) -> bool:
        """Whether an utterance has begun and not ended."""
        return self._begin is not None

    @property
    def certain(self) -> int:
        """Windows of the open utterance before this one belong to it, whatever follows."""
        return self._certain

    @property
    def needed(self) -> int:
        """The first window whose sound may still be asked for or told about."""
        if self._begin is not None:
            return self._certain
        return max(self._free, (self._window if self._speech is None else self._speech) - self._prefix)

    def feed(self, probabilities: Probabilities) -> list[Mark]:
        """What the next windows tell."""
        return [mark for probability in probabilities.tolist() for mark in self._step(probability)]

    def end(self) -> list[Mark]:
        """End the open utterance, if there is one, with all sound there is."""
        return self._end(self._window) if self._begin is not None else []

    def clear(self) -> None:
        """Forget the open or coming utterance; the next begins behind what was fed."""
        self._begin = self._speech = None
        self._free = self._window

    def _step(self, probability: float) -> list[Mark]:
        window = self._window
        self._window += 1
        if self._speech is None:
            if probability < self._enter:
                return []
            self._speech, self._last = window, window + 1
        elif probability >= self._stay:
            self._last = window + 1
        if self._begin is None:
            return self._open()
        if self._window - self._last >= self._silence:
            return self._end(self._last + self._tail)
        overtime = self._window - (self._begin + self._longest)
        if overtime >= 0:
            if self._window - self._last >= _windows(SHORT_PAUSE_MS):
                return self._end(self._last + _windows(TAIL_MS))
            if overtime >= _windows(OVERTIME_MS):
                return self._cut(self._quietest(max(self._begin + self._longest, self._certain), self._window))
        self._settle()
        return []

    def _open(self) -> list[Mark]:
        """Begin an utterance if there is enough speech; else forget it if it is over."""
        assert self._speech is not None
        if (self._last - self._speech) * WINDOW_MS >= LEAST_SPEECH_MS:
            self._begin = self._certain = max(self._speech - self._prefix, self._free)
            self._settle()
            return [Began(self._begin)]
        if (self._window - self._last) * WINDOW_MS >= LEAST_SPEECH_MS:
            self._speech = None
        return []

    def _settle(self) -> None:
        assert self._begin is not None
        limit = min(self._last + self._tail, self._window, self._begin + self._longest)
        self._certain = max(self._certain, limit)

    def _end(self, window: int) -> list[Mark]:
        self._free = max(min(window, self._window), self._certain)
        self._begin = self._speech = None
        return [Ended(self._free)]

    def _cut(self, window: int) -> list[Mark]:
        """End the open utterance at *window*, where the next begins if there is speech behind."""
        has_more = self._last > window
        (ended,) = self._end(window)
        if not has_more:
            return [ended]
        self._begin = self._speech = self._certain = self._free
        self._settle()
        return [ended, Began(self._begin)]


def _windows(ms: int) -> int:
    """Windows that last *ms*, at least one."""
    return max(1, -(-ms // WINDOW_MS))

"""A session's sound, divided into utterances: blocks and their speech probabilities in, changes out. No clocks, no I/O.

``Detected`` finds the utterances itself, ``Committed`` makes one of all it is given. Both keep what belongs to no
utterance yet, and that is little: the prefix of the next one, or nothing.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from qasr.domain.audio import Pcm
from qasr.domain.live import Endpointing
from qasr.engines.silero_vad import WINDOW, Probabilities
from qasr.pipeline.endpoint import Began, Ended, Endpointer
from qasr.pipeline.tape import Tape


@dataclass(frozen=True, slots=True)
class Opened:
    """An utterance begins at *sample* of the session."""

    sample: int


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """More sound of the open utterance, with the probabilities of the windows that it completes."""

    pcm: Pcm
    probabilities: Probabilities


@dataclass(frozen=True, slots=True)
class Completed:
    """The open utterance ends before *sample* of the session."""

    sample: int


Change: TypeAlias = Opened | Grown | Completed


class Divider(Protocol):
    """Divides sound from a certain sample of the session on. The same sound in other blocks is divided the same."""

    def feed(self, pcm: Pcm, probabilities: Probabilities) -> list[Change]:
        """What *pcm* changes. *probabilities* belong to the windows that it completes."""
        ...

    def finish(self, probabilities: Probabilities) -> list[Change]:
        """No more sound comes; *probabilities* belong to the last, incomplete window."""
        ...

    def configure(self, endpointing: Endpointing | None) -> bool:
        """Divide otherwise from now on; False: this divider cannot, it takes another."""
        ...


class Detected:
    """Utterances as the endpointer finds them.

    Args:
        endpointing: how.
        origin: sample of the session at which the first block begins.
    """

    def __init__(self, endpointing: Endpointing, origin: int) -> None:
        self._origin = origin
        self._endpointer = Endpointer(endpointing, self._quietest)
        self._tape = Tape()
        self._probabilities: list[float] = []
        self._first = 0  # window of the first of them
        self._told = 0  # windows of the open utterance that were told

    def feed(self, pcm: Pcm, probabilities: Probabilities) -> list[Change]:
        """What *pcm* changes."""
        self._tape.append(pcm)
        if not len(probabilities):
            return []
        self._probabilities += probabilities.tolist()
        changes = [change for mark in self._endpointer.feed(probabilities) for change in self._changes(mark)]
        if self._endpointer.is_open:
            changes += self._grown(self._endpointer.certain)
        self._forget()
        return changes

    def finish(self, probabilities: Probabilities) -> list[Change]:
        """The last of the open utterance."""
        changes = self.feed(np.zeros(0, np.float32), probabilities)
        return changes + [change for mark in self._endpointer.end() for change in self._changes(mark)]

    def configure(self, endpointing: Endpointing | None) -> bool:
        """Another way to find them."""
        if endpointing is None:
            return False
        self._endpointer.configure(endpointing)
        return True

    def _changes(self, mark: Began | Ended) -> list[Change]:
        match mark:
            case Began(window):
                self._told = window
                return [Opened(self._origin + window * WINDOW)]
            case Ended(window):
                end = self._origin + min(window * WINDOW, self._tape.end)
                return [*self._grown(window), Completed(end)]

    def _grown(self, end: int) -> list[Change]:
        """Windows before *end* that were not told yet."""
        begin, self._told = self._told, max(end, self._told)
        if begin >= end:
            return []
        probabilities = self._probabilities[begin - self._first : end - self._first]
        return [Grown(self._tape.copy(begin * WINDOW, end * WINDOW), np.array(probabilities, np.float32))]

    def _forget(self) -> None:
        needed = self._endpointer.needed
        self._tape.forget(needed * WINDOW)
        if needed > self._first:
            del self._probabilities[: needed - self._first]
            self._first = needed

    def _quietest(self, begin: int, end: int) -> int:
        audio = self._tape.copy(begin * WINDOW, end * WINDOW)
        energy = np.square(audio[: len(audio) // WINDOW * WINDOW].reshape(-1, WINDOW)).mean(axis=1)
        smooth = np.convolve(energy, np.ones(3) / 3, mode="same")
        return begin + int(np.argmin(smooth[1:-1])) + 1 if len(smooth) > 2 else begin


class Committed:
    """All sound is one utterance.

    Args:
        origin: sample of the session at which the first block begins.
    """

    def __init__(self, origin: int) -> None:
        self._begin = self._end = origin

    def feed(self, pcm: Pcm, probabilities: Probabilities) -> list[Change]:
        """It grows."""
        opened: list[Change] = [Opened(self._begin)] if self._end == self._begin else []
        self._end += len(pcm)
        return [*opened, Grown(pcm, probabilities)]

    def finish(self, probabilities: Probabilities) -> list[Change]:
        """It is complete, if there was any sound."""
        if self._end == self._begin:
            return []
        return [Grown(np.zeros(0, np.float32), probabilities), Completed(self._end)]

    def configure(self, endpointing: Endpointing | None) -> bool:
        """There is nothing to choose."""
        return endpointing is None

"""Sound that grows at its end and is forgotten at its beginning, addressed by samples from its start."""

from typing import Final

import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm

LEAST_ROOM: Final = SAMPLE_RATE // 2
"""Samples; smaller buffers are not worth the copies."""


class Tape:
    """Samples ``begin`` to ``end`` of one channel.

    Appending costs the same however much is held, and what is held takes at most a few times its own length.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(LEAST_ROOM, np.float32)
        self._offset = 0  # of the first sample held, in the buffer
        self.begin = 0
        """The first sample held."""
        self.end = 0
        """Behind the last sample held."""

    def append(self, pcm: Pcm) -> None:
        """More sound at the end."""
        n_held = self.end - self.begin
        if self._offset + n_held + len(pcm) > len(self._buffer):
            self._move(2 * (n_held + len(pcm)))
        at = self._offset + n_held
        self._buffer[at : at + len(pcm)] = pcm
        self.end += len(pcm)

    def copy(self, begin: int, end: int) -> Pcm:
        """Samples *begin* to *end*, as far as they are held."""
        shift = self._offset - self.begin
        return self._buffer[max(begin, self.begin) + shift : max(min(end, self.end), self.begin) + shift].copy()

    def forget(self, before: int) -> None:
        """Samples before *before* are not needed any more."""
        gone = min(max(before - self.begin, 0), self.end - self.begin)
        self.begin += gone
        self._offset += gone
        room = max(2 * (self.end - self.begin), LEAST_ROOM)
        if len(self._buffer) > 2 * room:
            self._move(room)

    def _move(self, room: int) -> None:
        n_held = self.end - self.begin
        buffer = np.empty(max(room, LEAST_ROOM), np.float32)
        buffer[:n_held] = self._buffer[self._offset : self._offset + n_held]
        self._buffer, self._offset = buffer, 0

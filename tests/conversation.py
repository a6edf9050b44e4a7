"""Three real people who speak in turn, put together from ``tests/data``; who speaks when is known exactly."""

import io
import wave
from dataclasses import dataclass
from typing import Final

import numpy as np
from tests.conftest import Speech

from qasr.domain.audio import SAMPLE_RATE, Pcm, to_ms

READ: Final = (
    ("jfk.flac", 0.0, 5.2),
    ("LJ001-0001.flac", 0.0, 4.5),
    ("jfk.flac", 5.2, 11.0),
    ("austen-0870.flac", 0.0, 4.5),
)
WHO: Final = (0, 1, 0, 2)
"""Whose turn each is, by who speaks first."""


@dataclass(frozen=True)
class Conversation:
    """What is heard, and whose turn is when."""

    pcm: Pcm
    turns: tuple[tuple[int, int, int], ...]
    """Begin and end in ms, and who."""

    def who(self, begin_ms: int, end_ms: int) -> int:
        """Whose turn it is in the middle; between two turns, whose is nearest."""
        middle = (begin_ms + end_ms) / 2
        return min(self.turns, key=lambda turn: max(turn[0] - middle, middle - turn[1], 0))[2]


def conversation(speech: Speech, *, times: int = 1) -> Conversation:
    """Four turns of three people, *times* times, each person as loud as the others."""
    pieces: list[Pcm] = []
    turns = []
    n_samples = 0
    for (name, begin_s, end_s), who in list(zip(READ, WHO, strict=True)) * times:
        clip = speech(name)[int(begin_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]
        said = clip * np.float32(0.05 / np.sqrt(np.square(clip).mean()))
        pause = np.zeros(SAMPLE_RATE // 2, np.float32)
        turns.append((to_ms(n_samples), to_ms(n_samples + len(said)), who))
        pieces += [said, pause]
        n_samples += len(said) + len(pause)
    return Conversation(np.concatenate(pieces), tuple(turns))


def wav(*channels: Pcm) -> bytes:
    """All *channels*, as long as the longest."""
    length = max(map(len, channels))
    samples = np.stack([np.pad(channel, (0, length - len(channel))) for channel in channels], axis=1)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(channels))
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()

"""Audio as the pipeline knows it: 16 kHz mono float32, and the only place where samples become milliseconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE: Final = 16_000
"""Hz. Every engine we know was trained on it; decoding resamples to it."""

Pcm: TypeAlias = npt.NDArray[np.float32]
"""Samples ``[n_samples]`` at ``SAMPLE_RATE``, one channel, within [-1, 1]."""


def to_ms(n_samples: int) -> int:
    """Length of *n_samples* in whole milliseconds, rounded down, so that no time lies behind the end."""
    return n_samples * 1000 // SAMPLE_RATE


def to_samples(ms: int) -> int:
    """Number of samples in *ms* milliseconds."""
    return ms * SAMPLE_RATE // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A recording behind a public address: ``http(s)://`` or ``oss://`` of our own upload flow."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesSource:
    """A recording that came inside the request (data URL, bare base64)."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A recording that lies on this machine already: a spooled multipart part, or a file named on the command line.

    Never made from something a network client wrote: a client's text must not choose a local path.
    """

    path: Path


Source: TypeAlias = UrlSource | BytesSource | FileSource
"""Where a recording comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What a recording may cost us; catalogue data, see ``catalogue/models.toml``.

    ``max_ms`` counts decoded audio, never what a header claims.
    """

    max_bytes: int
    max_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFormat:
    """How headerless PCM is to be read: signed 16-bit little-endian, interleaved."""

    rate_hz: int
    channels: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What the decoder found in a recording before it decoded it."""

    container: str
    codec: str
    rate_hz: int
    channels: int
    claimed_ms: int | None = None
    """What the file says of its own length, or what its bit rate makes likely. For people who wait; nothing is decided
    by it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A stretch of one channel that is handed to an engine whole; times count from the start of the recording."""

    pcm: Pcm
    begin_ms: int
    channel: int = 0
    speech_probability: float = 1.0
    """Mean of the voice activity detector over the segment's speech, within [0, 1]."""

    @property
    def end_ms(self) -> int:
        """Where the segment ends, in milliseconds from the start of the recording."""
        return self.begin_ms + to_ms(len(self.pcm))

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.pcm) / SAMPLE_RATE

"""Live sound that needs no decoder becomes samples in this process: PCM, WAV and G.711.

Nothing here depends on how the bytes are cut: what is short of a sample, a header or a filter's reach waits.
"""

import math
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Final, Protocol

import av
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, SAMPLE_RATE, LiveFormat, Pcm
from qasr.domain.errors import Undecodable
from qasr.pipeline.resample import Resampler

FAILED: Final = "Failed to decode audio"
"""What the service says where the bytes are not of the format."""
MOST_HEADER: Final = 64 * 1024
"""Bytes of a wav file before its sound."""
MOST_CHANNELS: Final = 8

_NOTHING: Final[Pcm] = np.zeros(0, np.float32)


class Sound(Protocol):
    """One stream on its way to 16 kHz."""

    def feed(self, data: bytes) -> Pcm:
        """The samples that *data* completes. Raises ``Undecodable``."""
        ...

    def finish(self) -> Pcm:
        """The last samples; half a sample is dropped. Raises ``Undecodable``."""
        ...


def sound(form: LiveFormat) -> Sound:
    """For one stream of ``pcm``, ``wav``, ``mulaw`` or ``alaw``."""
    match form.codec:
        case "pcm":
            return LinearSound(form.rate_hz)
        case "wav":
            return WavSound()
        case "mulaw":
            return CompandedSound(form.rate_hz, MULAW)
        case "alaw":
            return CompandedSound(form.rate_hz, ALAW)
    raise ValueError(form.codec)


class _Mono:
    """Samples at any rate in, 16 kHz out."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler: Resampler | None = None

    def push(self, pcm: Pcm) -> Pcm:
        """*pcm* ``[n_samples]`` at the rate that came, as far as the filter's reach lets it out."""
        if self._rate_hz == SAMPLE_RATE or not len(pcm):
            return pcm
        frame = av.AudioFrame.from_ndarray(pcm[None], "flt", "mono")
        frame.sample_rate, frame.time_base = self._rate_hz, Fraction(1, self._rate_hz)
        if self._resampler is None:
            self._resampler = Resampler(frame, layout="mono")
        return _joined(self._resampler.push(frame))

    def finish(self) -> Pcm:
        """What the filter still holds."""
        return _NOTHING if self._resampler is None else _joined(self._resampler.push(None))


def _joined(parts: Iterable[npt.NDArray[np.float32]]) -> Pcm:
    pcm: Pcm = np.concatenate([_NOTHING, *(part[0] for part in parts)])
    return np.clip(pcm, -1.0, 1.0, out=pcm)  # the filter swings over where the sound is full


class LinearSound:
    """Interleaved integer PCM, little-endian; several channels become their mean.

    Args:
        rate_hz: of the samples.
        n_bytes: of one sample, 1 to 4; one byte is unsigned, as in wav files.
        n_channels: at most ``MOST_CHANNELS``.
    """

    def __init__(self, rate_hz: int, *, n_bytes: int = 2, n_channels: int = 1) -> None:
        self._resampler = _Mono(rate_hz)
        self._n_bytes, self._n_channels = n_bytes, n_channels
        self._rest = b""

    def feed(self, data: bytes) -> Pcm:
        """The samples that *data* completes."""
        data = self._rest + data
        end = len(data) - len(data) % (self._n_bytes * self._n_channels)
        self._rest = data[end:]
        pcm = _linear(data[:end], self._n_bytes)
        if self._n_channels > 1:
            pcm = pcm.reshape(-1, self._n_channels).mean(axis=1, dtype=np.float32)
        return self._resampler.push(pcm)

    def finish(self) -> Pcm:
        """The last samples."""
        return self._resampler.finish()


def _linear(data: bytes, n_bytes: int) -> Pcm:
    match n_bytes:
        case 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(2**7)
        case 2:
            return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(2**15)
        case 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return _linear(wide.tobytes(), 4)
        case _:
            return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(2**31)


class CompandedSound:
    """G.711: each byte stands for the sample in *table* ``[256]``."""

    def __init__(self, rate_hz: int, table: Pcm) -> None:
        self._resampler = _Mono(rate_hz)
        self._table = table

    def feed(self, data: bytes) -> Pcm:
        """The samples that *data* stands for."""
        return self._resampler.push(self._table[np.frombuffer(data, np.uint8)])

    def finish(self) -> Pcm:
        """The last samples."""
        return self._resampler.finish()


def _mulaw() -> Pcm:
    """Source: ITU-T G.711, table 2a."""
    code = ~np.arange(256) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return _signed(size, code & 0x80 == 0)


def _alaw() -> Pcm:
    """Source: ITU-T G.711, table 1a."""
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    size = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return _signed(size, code & 0x80 != 0)


def _signed(size: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_]) -> Pcm:
    return (np.where(positive, size, -size) / 2**15).astype(np.float32)


MULAW: Final = _mulaw()
ALAW: Final = _alaw()


class WavSound:
    """A wav file while it is being written, or one after another.

    ::

        RIFF size WAVE ─▶ chunk, chunk, … ─▶ data size ─▶ sound ─▶ chunk, RIFF, or more sound

    Who writes into a pipe cannot know how long it will be, so the size of the sound is believed only if what comes
    behind it is a chunk that belongs there, or another file; else the sound goes on to the end.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._next: Callable[[], Pcm | None] = self._riff
        self._sound: LinearSound | None = None
        self._shape: tuple[int, int, int] | None = None
        self._left: float = 0  # bytes of the chunk we are in
        self._padding = 0  # bytes behind the sound, to make its length even
        self._n_header = 0
        self._heard = False

    def feed(self, data: bytes) -> Pcm:
        """The samples that *data* completes."""
        self._buffer += data
        heard = [_NOTHING]
        while (part := self._next()) is not None:
            heard.append(part)
        return np.concatenate(heard)

    def finish(self) -> Pcm:
        """The last samples; bytes that never came to the sound of a file are none."""
        if not self._heard:
            if self._n_header or self._buffer:
                raise Undecodable(FAILED)
            return _NOTHING
        assert self._sound is not None
        rest = self._sound.feed(self._buffer) if self._next == self._behind else _NOTHING
        return np.concatenate([rest, self._sound.finish()])

    def _take(self, n_bytes: int) -> bytes:
        taken, self._buffer = self._buffer[:n_bytes], self._buffer[n_bytes:]
        return taken

    def _riff(self) -> Pcm | None:
        word = self._buffer[:4]
        if not any(known.startswith(word) for known in _RIFF):
            raise Undecodable(FAILED)
        if len(self._buffer) < _RIFF_BYTES:
            return None
        if not self._take(_RIFF_BYTES).endswith(b"WAVE"):
            raise Undecodable(FAILED)
        self._next, self._n_header = self._chunk, _RIFF_BYTES
        return _NOTHING

    def _chunk(self) -> Pcm | None:
        if len(self._buffer) < _CHUNK.size:
            return None
        name, size = _CHUNK.unpack_from(self._buffer)
        padded = size + size % 2
        if name == b"data":
            if self._sound is None:
                raise Undecodable(FAILED)
            self._left, self._padding, self._next, self._heard = size or math.inf, size % 2, self._inside, True
        elif name == b"fmt " and padded <= MOST_HEADER:
            if len(self._buffer) < _CHUNK.size + padded:
                return None
            self._set_up(self._buffer[_CHUNK.size :][:size])
            self._take(padded)
        else:
            self._left, self._next = padded, self._aside
        self._take(_CHUNK.size)
        self._n_header += _CHUNK.size + (0 if name == b"data" else padded)
        if self._n_header > MOST_HEADER and not self._heard:
            raise Undecodable(FAILED)
        return _NOTHING

    def _set_up(self, form: bytes) -> None:
        if len(form) < _FORMAT.size:
            raise Undecodable(FAILED)
        tag, n_channels, rate_hz, _, _, bits = _FORMAT.unpack_from(form)
        if tag == _EXTENSIBLE:
            tag = int.from_bytes(form[24:26], "little")
        shape = (rate_hz, bits, n_channels)
        usable = (
            tag == _PCM
            and bits in {8, 16, 24, 32}
            and 1 <= n_channels <= MOST_CHANNELS
            and LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ
        )
        if not usable or self._shape not in {None, shape}:
            raise Undecodable(FAILED)
        if self._sound is None:
            self._sound, self._shape = LinearSound(rate_hz, n_bytes=bits // 8, n_channels=n_channels), shape

    def _aside(self) -> Pcm | None:
        """In a chunk that is passed over."""
        if self._left and not self._buffer:
            return None
        self._left -= len(self._take(int(self._left)))
        if not self._left:
            self._next = self._between if self._heard else self._chunk
        return _NOTHING

    def _between(self) -> Pcm | None:
        """At a chunk's end, the sound behind us."""
        if len(self._buffer) < _CHUNK.size:
            return None
        self._next = self._riff if self._buffer[:4] in _RIFF else self._chunk
        return _NOTHING

    def _inside(self) -> Pcm | None:
        if not self._buffer:
            return None
        part = self._take(int(min(self._left, len(self._buffer))))
        self._left -= len(part)
        if not self._left:
            self._next = self._behind
        assert self._sound is not None
        return self._sound.feed(part)

    def _behind(self) -> Pcm | None:
        """Where the sound should end."""
        if len(self._buffer) < self._padding + _CHUNK.size:
            return None
        if self._buffer[self._padding :][:4] in _AFTER_SOUND | _RIFF:
            self._take(self._padding)
            self._next = self._between
        else:
            self._left, self._next = math.inf, self._inside
        return _NOTHING


_RIFF: Final = frozenset({b"RIFF", b"RF64"})
_RIFF_BYTES: Final = 12
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_PCM, _EXTENSIBLE = 1, 0xFFFE
_AFTER_SOUND: Final = frozenset(
    {b"LIST", b"id3 ", b"ID3 ", b"JUNK", b"PEAK", b"fact", b"cue ", b"bext", b"smpl", b"iXML"}
)
"""Chunks that writers put behind the sound."""

"""Recordings of many hours, made once and kept under ``bench-results/cache``: the clips of ``tests/data`` with silences
between, ten minutes encoded and then repeated packet by packet.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

import av
import numpy as np
import numpy.typing as npt

from benchmarks.clips import ROOT

Kind: TypeAlias = Literal["mp3", "m4a"]

CACHE: Final = ROOT / "bench-results" / "cache"
RATE_HZ: Final = 44_100
BITS_PER_S: Final = 64_000
PIECE_S: Final = 600
MARGIN_S: Final = 2.0
GAPS_S: Final = (0.4, 2.5, 0.9, 1.6)
CODECS: Final[dict[Kind, tuple[str, str]]] = {"mp3": ("libmp3lame", "mp3"), "m4a": ("aac", "ipod")}
"""Encoder and container."""


def recording(seconds: int, kind: Kind) -> Path:
    """A file of *seconds*, or a moment less, since 12 hours are the most: mono, 44.1 kHz, 64 kbit/s."""
    path = CACHE / f"{seconds}.{kind}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        piece, part = CACHE / f"piece.{kind}", path.with_suffix(".part")
        if not piece.exists():
            _encode(piece, _speech(), kind)
        if kind == "mp3":
            part.write_bytes(b"".join(bytes(packet) for packet in _packets(piece, seconds)))
        else:
            _remux(piece, part, seconds)
        part.rename(path)
    return path


def clip(seconds: float) -> npt.NDArray[np.int16]:
    """The beginning of a spoken clip, 16 bits at ``RATE_HZ``."""
    return _samples(ROOT / "tests" / "data" / "jfk.flac")[: int(seconds * RATE_HZ)]


def _speech() -> npt.NDArray[np.int16]:
    """Ten minutes of it."""
    clips = [_samples(path) for path in sorted((ROOT / "tests" / "data").glob("*.flac"))]
    gaps = itertools.cycle(np.zeros(int(gap_s * RATE_HZ), np.int16) for gap_s in GAPS_S)
    parts: list[npt.NDArray[np.int16]] = []
    n_samples = 0
    for samples in itertools.cycle(clips):
        parts += [samples, next(gaps)]
        n_samples += len(parts[-2]) + len(parts[-1])
        if n_samples >= PIECE_S * RATE_HZ:
            return np.concatenate(parts)[: PIECE_S * RATE_HZ]
    raise AssertionError("no clips")


def _samples(path: Path) -> npt.NDArray[np.int16]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def _encode(path: Path, samples: npt.NDArray[np.int16], kind: Kind) -> None:
    codec, container = CODECS[kind]
    options = {"write_xing": "0", "id3v2_version": "0"} if kind == "mp3" else {}
    with av.open(str(path), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.bit_rate = BITS_PER_S
        for start in range(0, len(samples), RATE_HZ):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + RATE_HZ], format="s16", layout="mono")
            frame.sample_rate = RATE_HZ
            frame.pts = start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _packets(piece: Path, seconds: int) -> Iterator["av.Packet"]:
    """Packets of *piece*, again and again, until they are *seconds* together."""
    left = seconds - MARGIN_S
    while True:
        with av.open(str(piece)) as container:
            for packet in container.demux(audio=0):
                if packet.dts is None:
                    continue
                left -= float(packet.duration * packet.time_base)
                if left < 0:
                    return
                yield packet


def _remux(piece: Path, path: Path, seconds: int) -> None:
    with av.open(str(piece)) as container, av.open(str(path), "w", format="ipod") as out:
        stream = out.add_stream_from_template(container.streams.audio[0])
        at = 0
        for packet in _packets(piece, seconds):
            packet.pts = packet.dts = at
            at += packet.duration
            packet.stream = stream
            out.mux(packet)

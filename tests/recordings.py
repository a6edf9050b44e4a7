"""Recordings that several tests share, made once: from real speech, and from nothing."""

from pathlib import Path
from typing import Final

import av
import numpy as np
import pytest
from tests.conftest import Speech
from tests.media import Media

from qasr.domain.audio import SAMPLE_RATE, Pcm

PAUSE_S: Final = 2.5
"""Longer than the pause at which a recording is cut."""


def write_flac(path: Path, samples: Pcm | None, silence_s: float = 0.0, *, declared: bool = True) -> Path:
    """*samples* at 16 kHz and then silence, as flac; *declared*: the header tells how long it is."""
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        pcm = np.zeros(0, np.float32) if samples is None else samples
        blocks = [pcm[i : i + SAMPLE_RATE] for i in range(0, len(pcm), SAMPLE_RATE)]
        blocks += [np.zeros(SAMPLE_RATE, np.float32)] * int(silence_s)
        for block in blocks:
            frame = av.AudioFrame.from_ndarray((block * 32767).astype(np.int16)[None, :], "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if not declared:
        data = bytearray(path.read_bytes())
        data[21] &= 0xF0  # STREAMINFO: the last 36 bits of these five bytes count the samples; 0 is "not known"
        data[22:26] = bytes(4)
        path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """Files of all formats, and broken ones."""
    return Media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def three_utterances(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, one after the other, with pauses: three segments, 37 seconds."""
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    samples = np.concatenate(
        [speech("jfk.flac"), pause, speech("LJ001-0001.flac"), pause, speech("LJ001-0003.flac"), pause]
    )
    return write_flac(tmp_path_factory.mktemp("recordings") / "three.flac", samples)


@pytest.fixture(scope="session")
def silence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of nothing."""
    return write_flac(tmp_path_factory.mktemp("recordings") / "silence.flac", None, 3)

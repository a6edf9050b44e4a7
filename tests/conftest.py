"""What all tests share: the event loop's kind, and real speech from ``tests/data``."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import av
import numpy as np
import pytest

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.workers import available_cpus

pytest_plugins = ("tests.databases", "tests.recordings", "tests.server", "tests.access")

DATA: Final = Path(__file__).parent / "data"

Speech: TypeAlias = Callable[[str], Pcm]
"""From a file's name in ``tests/data`` to its samples: 16 kHz, mono."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a server, and not for a processor."""
    return available_cpus() + 1


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@cache
def _decode(name: str) -> Pcm:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(DATA / name)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    frames += resampler.resample(None)
    pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)
    pcm.setflags(write=False)
    return pcm


@pytest.fixture(scope="session")
def speech() -> Speech:
    """Samples of a file in ``tests/data``."""
    return _decode


@pytest.fixture(scope="session")
def references() -> dict[str, str]:
    """What is said in each file of ``tests/data``."""
    texts: dict[str, str] = json.loads((DATA / "references.json").read_text(encoding="utf-8"))
    return texts

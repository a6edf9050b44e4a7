"""Log-mel features as Kaldi computes them, which speaker models were trained on."""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm

FRAME: Final = 400
"""Samples: 25 ms."""
HOP: Final = 160
N_FFT: Final = 512
MELS: Final = 80
LOWEST_HZ: Final = 20.0
FULL_SCALE: Final = 32768.0
"""Kaldi counts in 16-bit steps."""
PREEMPHASIS: Final = 0.97
FLOOR: Final = float(np.finfo(np.float32).eps)

Features = npt.NDArray[np.float32]


def fbank(pcm: Pcm) -> Features:
    """Features ``[n_frames, 80]`` of *pcm*, one frame per 10 ms, with their mean over time taken away.

    As ``kaldi.fbank`` with a Hamming window, no dither and the energy left out.
    """
    n_frames = count(len(pcm))
    if n_frames == 0:
        return np.zeros((0, MELS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float32) * np.float32(FULL_SCALE), FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft((frames - np.float32(PREEMPHASIS) * before) * _window(), N_FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    features = np.log(np.maximum(power @ _filters(), np.float32(FLOOR)))
    return np.asarray(features - features.mean(axis=0), np.float32)


def count(n_samples: int) -> int:
    """How many frames there are in so many samples."""
    return 0 if n_samples < FRAME else 1 + (n_samples - FRAME) // HOP


@cache
def _window() -> Features:
    return np.hamming(FRAME).astype(np.float32)


@cache
def _filters() -> Features:
    """Triangles in mel, ``[n_fft / 2 + 1, 80]``."""

    def mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))

    edges = np.linspace(mel(LOWEST_HZ), mel(SAMPLE_RATE / 2), MELS + 2)
    bins = mel(np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters[-1] = 0.0  # Kaldi leaves out the highest bin
    return filters.astype(np.float32)

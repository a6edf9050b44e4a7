"""Log-mel features of sound that may still grow, in the encoder's windows of eight seconds.

::

    pcm ──short-time Fourier transform──▶ log10 mel [128, n], 10 ms each ──floor, scale──▶ windows [128, ≤ 800]
          only frames that are new                              the floor is 8 below the loudest of all frames

The same numbers as the library's feature extractor gives for the whole sound at once. Two things of an earlier frame
change when sound is added: the last two frames, which look beyond the end, and, if the new sound is louder than all
before, the floor. So a window is finished only for the floor that it was made with: whoever keeps what the encoder made
of one compares the features.
"""

from typing import Final

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from qasr.domain.audio import SAMPLE_RATE, Pcm

N_FFT: Final = 400
HOP: Final = 160
MELS: Final = 128
FEWEST_SAMPLES: Final = SAMPLE_RATE // 2
"""Shorter sound is filled up with silence, as the model's authors do."""
WINDOW: Final = 800
"""Frames that attend to each other in the encoder: 8 s."""
RANGE: Final = 8.0
"""Powers of ten below the loudest; quieter is cut off."""

_FILTERS: Final = torch.from_numpy(
    mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=MELS,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    ).T.astype(np.float32)
)


class Sound:
    """One segment's samples and features; ``add`` more at any time."""

    def __init__(self, pcm: Pcm | None = None) -> None:
        self._pcm = np.zeros(0, np.float32)
        self._settled = torch.zeros(MELS, 0)  # log10 mel of frames that no later sample can change
        if pcm is not None:
            self.add(pcm)

    def add(self, pcm: Pcm) -> None:
        """Append samples; what is not a number is silence."""
        self._pcm = np.concatenate([self._pcm, np.nan_to_num(pcm, posinf=0.0, neginf=0.0)])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self._pcm) / SAMPLE_RATE

    @property
    def n_frames(self) -> int:
        """Frames of all its windows."""
        return max(len(self._pcm), FEWEST_SAMPLES) // HOP

    @property
    def is_silent(self) -> bool:
        """Whether all samples are zero."""
        return not self._pcm.any()

    def windows(self) -> list[torch.Tensor]:
        """Features of all of it: float32 ``[128, 1 to 800]`` each, all but the last of full length."""
        pcm = self._pcm
        if len(pcm) < FEWEST_SAMPLES:
            pcm = np.pad(pcm, (0, FEWEST_SAMPLES - len(pcm)))
        known = self._settled.shape[1]
        frames = torch.cat([self._settled, _log_mel(pcm, known)], 1)
        n_settled = min(max(0, (len(self._pcm) - N_FFT // 2) // HOP + 1), frames.shape[1])
        self._settled = frames[:, :n_settled]
        scaled = (torch.maximum(frames, frames.max() - RANGE) + 4.0) / 4.0
        return list(scaled.split(WINDOW, 1))


def _log_mel(pcm: Pcm, first: int) -> torch.Tensor:
    """Frames of *pcm* from number *first* on: ``[128, len(pcm) // 160 - first]``; beyond the ends *pcm* is mirrored."""
    half = N_FFT // 2
    begin = first * HOP - half
    left = pcm[-begin:0:-1] if begin < 0 else pcm[:0]
    needed = np.concatenate([left, pcm[max(0, begin) :], pcm[-2 : -half - 2 : -1]])
    spectrum = torch.stft(
        torch.from_numpy(needed), N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True
    )
    power = spectrum[:, :-1].abs() ** 2
    return (_FILTERS @ power).clamp(min=1e-10).log10()

"""The audio encoder over windows of eight seconds, which never look at each other.

Windows of several segments go through it in one call, chunk behind chunk as if they were one long sound; where one ends
stands in ``cu_seqlens``. What it makes of a window is kept with the window's features, so that a sound that grows pays
for its last window only::

    windows of a sound    [ 0 – 8 s ][ 8 – 16 s ][ 16 – 19.3 s ]
    kept from last time      same        same        changed   ──▶ encoded again
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from qasr.engines.qwen3.features import Sound

CHUNK: Final = 100
"""Frames that go through the convolutions together: 1 s, 13 embeddings."""
MOST_CHUNKS: Final = 64
"""In one call; a chunk's convolutions hold about 6 MB in bfloat16."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Window:
    """Eight seconds or less, encoded."""

    features: torch.Tensor
    """``[128, n_frames]``."""
    embeddings: torch.Tensor
    """``[n, width of the decoder]``, 13 per full second."""
    number: int
    """Another one for each window that was ever encoded; the decoder's cache knows windows by it."""


class Encoder:
    """The encoder and the projector behind it, as the library has them."""

    def __init__(self, model: Any, dtype: torch.dtype, device: str) -> None:
        self._tower, self._projector = model.audio_tower, model.multi_modal_projector
        self._dtype, self._device = dtype, device
        if self._tower.config.n_window * 2 != CHUNK:
            raise ValueError(f"an encoder with chunks of {self._tower.config.n_window * 2} frames is not known here")

    def encode(self, sounds: Sequence[tuple[Sound, Sequence[Window]]]) -> list[list[Window]]:
        """The windows of each sound; those among its earlier windows that are still true are taken over."""
        answers: list[list[Window | None]] = []
        wanted: list[tuple[int, int, torch.Tensor]] = []
        for place, (sound, earlier) in enumerate(sounds):
            answers.append([])
            for i, features in enumerate(sound.windows()):
                known = earlier[i] if i < len(earlier) and torch.equal(earlier[i].features, features) else None
                answers[-1].append(known)
                if known is None:
                    wanted.append((place, i, features))
        for group in _groups(wanted):
            encoded = self._encode([features for _, _, features in group])
            for (place, i, features), embeddings in zip(group, encoded, strict=True):
                answers[place][i] = Window(features, embeddings, next(_numbers))
        return [[window for window in windows if window is not None] for windows in answers]

    def _encode(self, windows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        n_frames = [window.shape[1] for window in windows]
        padded = [-(-n // CHUNK) * CHUNK for n in n_frames]
        features = torch.zeros(1, windows[0].shape[0], sum(padded))
        mask = torch.zeros(1, sum(padded), dtype=torch.long)
        for begin, window in zip(itertools.accumulate(padded, initial=0), windows, strict=False):
            features[0, :, begin : begin + window.shape[1]] = window
            mask[0, begin : begin + window.shape[1]] = 1
        lengths = [n_embeddings(n) for n in n_frames]
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=self._device)
        hidden = self._tower(
            input_features=features.to(self._device, self._dtype),
            input_features_mask=mask.to(self._device),
            cu_seqlens=ends,
        ).last_hidden_state
        return list(self._projector(hidden).split(lengths))


def n_embeddings(n_frames: int) -> int:
    """How many embeddings the encoder makes of *n_frames*: 13 of a full chunk, every eighth frame of the rest."""
    return n_frames // CHUNK * 13 + -(-(n_frames % CHUNK) // 8)


def _groups(wanted: list[tuple[int, int, torch.Tensor]]) -> list[list[tuple[int, int, torch.Tensor]]]:
    """Windows that are encoded in one call, bounded by their memory."""
    groups: list[list[tuple[int, int, torch.Tensor]]] = []
    room = 0
    for item in wanted:
        n_chunks = -(-item[2].shape[1] // CHUNK)
        if n_chunks > room:
            groups.append([])
            room = MOST_CHUNKS
        groups[-1].append(item)
        room -= n_chunks
    return groups

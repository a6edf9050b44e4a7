"""The audio encoder over windows of eight seconds, which never look at each other.

::

    features of a window   [ 1 s ][ 1 s ][ 1 s ][ 1 s ][ .4 s]      chunks: convolved each by itself, 13 steps of 80 ms
    transformer            [ attention over the whole window ]
    projector              [ embeddings as the decoder reads ]

What was made of a window is kept with its features, and so are its convolutions, which are most of the work. A sound
that grows pays for convolving what is new and for one transformer pass over its last window; a finished window costs
nothing. New chunks and windows of several sounds go through together.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.linear import packed

CHUNK: Final = 100
"""Frames that are convolved together: 1 s."""
STEPS: Final = 13
"""That a full chunk has after its convolutions."""
MOST_CHUNKS: Final = 8
"""Convolved in one call; each holds about 6 MB in bfloat16."""
ORDER: Final = torch.channels_last
"""Of what is convolved: what oneDNN prefers; ``benchmarks/engines/parts.py`` has both."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Window:
    """Eight seconds or less, encoded."""

    features: torch.Tensor
    """``[128, n_frames]``."""
    convolved: torch.Tensor
    """``[n, width of the encoder]``."""
    embeddings: torch.Tensor
    """``[n, width of the decoder]``."""
    number: int
    """Another one for each window that was ever encoded; the decoder's cache knows windows by it."""


@dataclass(slots=True)
class _Wanted:
    """A window that must be encoded, and what is known of its beginning."""

    features: torch.Tensor
    known: torch.Tensor | None
    n_known: int
    """Chunks."""


class Encoder:
    """The encoder and the projector behind it, with the library's weights and layers."""

    def __init__(self, model: Any, dtype: torch.dtype, device: str) -> None:
        self._tower, self._projector = model.audio_tower, model.multi_modal_projector
        self._dtype, self._device = dtype, device
        self._convolutions = [
            layer.to(memory_format=ORDER) for layer in (self._tower.conv2d1, self._tower.conv2d2, self._tower.conv2d3)
        ]
        for part in (self._tower, self._projector):
            _pack(part)
        if self._tower.config.n_window * 2 != CHUNK:
            raise ValueError(f"an encoder with chunks of {self._tower.config.n_window * 2} frames is not known here")

    def encode(self, sounds: Sequence[tuple[Sound, Sequence[Window]]]) -> list[list[Window]]:
        """The windows of each sound; what is still true of its earlier windows is taken over."""
        answers: list[list[Window | _Wanted]] = [
            [
                _compared(features, earlier[i] if i < len(earlier) else None)
                for i, features in enumerate(sound.windows())
            ]
            for sound, earlier in sounds
        ]
        wanted = [window for windows in answers for window in windows if isinstance(window, _Wanted)]
        encoded = iter(self._encode(wanted) if wanted else [])
        return [[next(encoded) if isinstance(w, _Wanted) else w for w in windows] for windows in answers]

    def _encode(self, wanted: Sequence[_Wanted]) -> list[Window]:
        fresh = self._convolve(chunk for window in wanted for chunk in _new_chunks(window))
        convolved = []
        for window in wanted:
            parts = [] if window.known is None else [window.known]
            parts += [next(fresh) for _ in range(window.n_known * CHUNK, window.features.shape[1], CHUNK)]
            convolved.append(torch.cat(parts))
        lengths = [len(part) for part in convolved]
        hidden = torch.cat(convolved)
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=self._device)
        for layer in self._tower.layers:
            output = layer(hidden, ends)
            hidden = output[0] if isinstance(output, tuple) else output
        embeddings = self._projector(self._tower.ln_post(hidden)).split(lengths)
        return [
            Window(window.features, part, embedded, next(_numbers))
            for window, part, embedded in zip(wanted, convolved, embeddings, strict=True)
        ]

    def _convolve(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks ``[128, 1 to 100]`` to ``[1 to 13, width]`` each."""
        tower, positions = self._tower, self._tower.positional_embedding.positional_embedding
        waiting = iter(chunks)
        while group := list(itertools.islice(waiting, MOST_CHUNKS)):
            x = torch.stack([F.pad(chunk, (0, CHUNK - chunk.shape[1])) for chunk in group])[:, None]
            x = x.to(self._device, self._dtype, memory_format=ORDER)
            for convolution in self._convolutions:
                x = torch.ops.aten.gelu_(convolution(x))  # in place: it is 25 MB
            x = tower.conv_out(x.permute(0, 3, 1, 2).flatten(2))
            x = x + positions[: x.shape[1]].to(x.dtype)
            for chunk, one in zip(group, x, strict=True):
                yield one[: n_embeddings(chunk.shape[1])]


def _pack(part: Any) -> None:
    """Have all linear layers in *part* read their weights as this processor does best."""
    for layer in part.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.forward = packed(layer.weight, layer.bias)
            layer.weight = None  # its memory is free before the next one is copied


def _compared(features: torch.Tensor, earlier: Window | None) -> Window | _Wanted:
    """*earlier*, if it has the same features; else what must be done, but for full chunks at the same beginning."""
    if earlier is None:
        return _Wanted(features, None, 0)
    if torch.equal(earlier.features, features):
        return earlier
    n_known = 0
    for begin in range(0, min(earlier.features.shape[1], features.shape[1]) - CHUNK + 1, CHUNK):
        if not torch.equal(earlier.features[:, begin : begin + CHUNK], features[:, begin : begin + CHUNK]):
            break
        n_known += 1
    return _Wanted(features, earlier.convolved[: n_known * STEPS], n_known)


def _new_chunks(window: _Wanted) -> Sequence[torch.Tensor]:
    rest = window.features[:, window.n_known * CHUNK :]
    return rest.split(CHUNK, 1) if rest.shape[1] else ()


def n_embeddings(n_frames: int) -> int:
    """How many embeddings the encoder makes of *n_frames*: 13 of a full chunk, every eighth frame of the rest."""
    return n_frames // CHUNK * STEPS + -(-(n_frames % CHUNK) // 8)

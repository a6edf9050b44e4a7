"""A segment in windows of ten seconds, and who is heard in each.

The segmentation model tells for each frame of a window which of up to three people speak. Windows overlap by half, so
that everything is heard with what stands around it; each window answers for the middle of it alone::

    segment   ├──────────────────────────────────┤
    windows   ├────────────────┤                     answers for ├───────────┤
                      ├────────────────┤                                     ├───────┤
                                 ├───────────────┤                                   ├──────────┤
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm, to_ms

STEP_S: Final = 5.0
"""From window to window."""
PAUSE_S: Final = 0.12
"""So short a pause does not part what somebody says."""
LONGEST_S: Final = 3.0
"""What somebody says longer is cut into equal parts: the model may have missed that somebody else went on."""
ENOUGH_S: Final = 1.5
"""Of speech; what is shorter is known in part by what else the window holds of the same person."""
LEAST_S: Final = 0.3
"""Of somebody speaking alone; with less, what they say at the same time as others counts too."""
FEWEST: Final = 40
"""Frames of 10 ms that the embedding model gets at least."""

Activity = npt.NDArray[np.bool_]
"""Who speaks: ``[n_frames, n_people]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the segmentation model sees a window, in samples."""

    window: int = 160_000
    first: int = 495
    """Middle of the first frame."""
    step: int = 270
    """From frame to frame."""


class Ears(Protocol):
    """The two models."""

    name: str
    """Of the models: embeddings of others mean nothing to them."""
    shape: Shape
    threshold: float
    """Mean cosine from which on voices are one speaker's."""

    def active(self, window: Pcm) -> Activity:
        """Who speaks in *window*, of ``shape.window`` samples, when."""
        ...

    def embedding(self, sound: Pcm, speaks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """What somebody in *sound* sounds like, who *speaks* in some of its frames of 10 ms."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Somebody who says something; times in ms from the start of the segment."""

    begin_ms: int
    end_ms: int
    embedding: npt.NDArray[np.float32]
    clear_ms: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Samples of the segment: where it begins and ends, and what it answers for."""

    begin: int
    end: int
    own_begin: int
    own_end: int


def windows(n_samples: int, size: int) -> list[_Window]:
    """The windows of a segment; what they answer for makes up the segment."""
    step = int(STEP_S * SAMPLE_RATE)
    begins = [*range(0, max(1, n_samples - size), step)]
    if n_samples > size:
        begins.append(n_samples - size)
    ends = [min(begin + size, n_samples) for begin in begins]
    cuts = [0, *((end + begin) // 2 for end, begin in zip(ends[:-1], begins[1:], strict=True)), n_samples]
    return [_Window(*place) for place in zip(begins, ends, cuts[:-1], cuts[1:], strict=True)]


def voices(pcm: Pcm, ears: Ears) -> Iterator[Found]:
    """Everybody who is heard in the segment *pcm*, window by window."""
    for window in windows(len(pcm), ears.shape.window):
        yield from _in_window(pcm[window.begin : window.end], window, ears)


def _in_window(sound: Pcm, window: _Window, ears: Ears) -> Iterator[Found]:
    shape = ears.shape
    active = ears.active(np.pad(sound, (0, shape.window - len(sound))))
    middles = shape.first + shape.step * np.arange(len(active))
    own = (middles >= window.own_begin - window.begin) & (middles < window.own_end - window.begin)
    alone = active.sum(axis=1) == 1
    for person in range(active.shape[1]):
        spans = list(_spans(active[:, person] & own, shape))
        frames = [_known_by(span, active[:, person], alone, shape) for span in spans]
        own_embeddings = [ears.embedding(sound, _at_100_hz(one, middles, len(sound))) for one in frames]
        clear = [int((one & alone).sum()) * shape.step for one in frames]
        for span, embedding, n_clear in zip(spans, _supported(own_embeddings, clear), clear, strict=True):
            begin, end = (window.begin + shape.first + shape.step * place - shape.step // 2 for place in span)
            yield Found(
                begin_ms=to_ms(max(begin, window.own_begin)),
                end_ms=to_ms(min(end, window.own_end)),
                embedding=embedding,
                clear_ms=to_ms(n_clear),
            )


def _spans(speaks: npt.NDArray[np.bool_], shape: Shape) -> Iterator[tuple[int, int]]:
    """First frame and that after the last of what is said without a pause, in parts of at most ``LONGEST_S``."""
    per_s = SAMPLE_RATE / shape.step
    joined: list[tuple[int, int]] = []
    for is_speech, run in groupby(range(len(speaks)), key=lambda place: bool(speaks[place])):
        places = list(run)
        if is_speech and joined and places[0] - joined[-1][1] <= PAUSE_S * per_s:
            joined[-1] = joined[-1][0], places[-1] + 1
        elif is_speech:
            joined.append((places[0], places[-1] + 1))
    for first, last in joined:
        n_parts = max(1, int(np.ceil((last - first) / (LONGEST_S * per_s))))
        cuts = np.linspace(first, last, n_parts + 1).astype(int).tolist()
        yield from pairwise(cuts)


def _known_by(
    span: tuple[int, int], speaks: npt.NDArray[np.bool_], alone: npt.NDArray[np.bool_], shape: Shape
) -> npt.NDArray[np.bool_]:
    """The frames whose sound tells who it is."""
    within = np.zeros_like(speaks)
    within[slice(*span)] = speaks[slice(*span)]
    clear = within & alone
    return clear if clear.sum() * shape.step >= LEAST_S * SAMPLE_RATE else within


def _at_100_hz(frames: npt.NDArray[np.bool_], middles: npt.NDArray[np.int_], n_samples: int) -> npt.NDArray[np.bool_]:
    hop = SAMPLE_RATE // 100
    moments = np.arange(max(1, n_samples // hop)) * hop + hop // 2
    return np.asarray(frames[np.searchsorted(middles, moments).clip(0, len(middles) - 1)])


def _supported(embeddings: list[npt.NDArray[np.float32]], clear: list[int]) -> Iterator[npt.NDArray[np.float32]]:
    """*embeddings* of one person by the model's word; those of little speech lean on the others."""
    if not embeddings:
        return
    weights = np.asarray(clear, np.float32) + 1
    together = (weights[:, None] * np.stack(embeddings)).sum(axis=0) / weights.sum()
    for embedding, n_clear in zip(embeddings, clear, strict=True):
        share = min(1.0, n_clear / (ENOUGH_S * SAMPLE_RATE))
        yield np.asarray(share * embedding + (1 - share) * together, np.float32)

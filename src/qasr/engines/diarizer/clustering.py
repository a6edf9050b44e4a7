"""Whose voice it is: embeddings of a whole recording in, a speaker for each out.

::

    embeddings that are clear enough, in blocks ──▶ clusters of each block ──▶ clusters of their centers ──▶ speakers
    all embeddings ──▶ the nearest speaker

Clusters are merged from the bottom up while they are alike on average. A block is bounded, so time and memory grow with
the recording's length and not with its square; the answer depends on the embeddings and their order alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 800
"""Embeddings that are compared with each other: half an hour of talk."""
CLEAR_MS: Final = 1000
"""Embeddings of less clear speech decide nothing about who is there."""
LEAST_MS: Final = 2000
"""Clusters of less clear speech are nobody of their own, where others are larger."""

Vectors = npt.NDArray[np.float64]
"""``[n, width]``, of length 1."""


@dataclass(frozen=True, slots=True)
class _Clusters:
    centers: Vectors
    clear_ms: npt.NDArray[np.float64]


def identify(
    embeddings: npt.NDArray[np.float32], clear_ms: Sequence[int], *, threshold: float, count: int | None = None
) -> list[int]:
    """The speaker of each embedding, from 0, in order of first appearance.

    Args:
        embeddings: ``[n, width]``, in order of time.
        clear_ms: how much clear speech each was made of.
        threshold: mean cosine from which on clusters are one speaker's; it belongs to the model.
        count: how many speakers there are, as far as there are so many embeddings; None: that is to be found out.
    """
    if not len(embeddings):
        return []
    vectors, weights = _unit(np.asarray(embeddings, np.float64)), np.asarray(clear_ms, np.float64) + 1.0
    clear = np.flatnonzero(weights > min(CLEAR_MS, float(np.quantile(weights, 0.75)) - 1.0))
    centers = _speakers(vectors[clear], weights[clear], threshold, count)
    return _in_order_of_appearance((vectors @ centers.T).argmax(axis=1).tolist())


def _speakers(vectors: Vectors, weights: npt.NDArray[np.float64], threshold: float, count: int | None) -> Vectors:
    """The center of each speaker's embeddings."""
    blocks = -(-len(vectors) // BLOCK)
    parts = [
        _clusters(own, own_weights, threshold)
        for own, own_weights in zip(np.array_split(vectors, blocks), np.array_split(weights, blocks), strict=True)
    ]
    found = parts[0]
    if blocks > 1:
        centers = np.concatenate([part.centers for part in parts])
        found = _clusters(centers, np.concatenate([part.clear_ms for part in parts]), threshold)
    found = _without_small(found, count)
    if count is None or len(found.centers) == count:
        return found.centers
    if len(found.centers) > count:
        return _clusters(found.centers, found.clear_ms, threshold, count=count).centers
    some = vectors[:: -(-len(vectors) // BLOCK)]  # more than were found: the voices themselves, or some of them, decide
    return _clusters(some, weights[:: -(-len(vectors) // BLOCK)], 1.0, count=count).centers


def _without_small(found: _Clusters, count: int | None) -> _Clusters:
    """Only those with enough to say, or as many as there are known to be."""
    order = np.argsort(-found.clear_ms, kind="stable")
    n_large = max(1, int((found.clear_ms >= min(LEAST_MS, found.clear_ms.max())).sum()), count or 1)
    kept = np.sort(order[:n_large])
    return _Clusters(found.centers[kept], found.clear_ms[kept])


def _clusters(vectors: Vectors, weights: npt.NDArray[np.float64], threshold: float, count: int = 0) -> _Clusters:
    labels = agglomerate(vectors, weights, threshold=threshold, count=count)
    marks = np.eye(int(labels.max()) + 1)[labels] * weights[:, None]
    return _Clusters(_unit(marks.T @ vectors), marks.sum(axis=0))


def agglomerate(
    vectors: Vectors, weights: npt.NDArray[np.float64], *, threshold: float, count: int = 0
) -> npt.NDArray[np.intp]:
    """Merge the two clusters that are most alike, until no two reach *threshold*; or, given *count*, until so many are
    left. The likeness of two clusters is the mean cosine of their members, by *weights*.
    """
    n = len(vectors)
    likeness, sizes = vectors @ vectors.T, weights.copy()
    np.fill_diagonal(likeness, -np.inf)
    labels = np.arange(n)
    for _ in range(n - max(1, count)):
        one, other = sorted(divmod(int(likeness.argmax()), n))
        if not count and likeness[one, other] < threshold:
            break
        share = sizes[one] / (sizes[one] + sizes[other])
        merged = share * likeness[one] + (1.0 - share) * likeness[other]  # -inf wherever either is gone
        merged[one] = -np.inf
        likeness[one], likeness[:, one] = merged, merged
        likeness[other], likeness[:, other] = -np.inf, -np.inf
        sizes[one] += sizes[other]
        labels[labels == other] = one
    return np.unique(labels, return_inverse=True)[1]


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


def _in_order_of_appearance(labels: Sequence[int]) -> list[int]:
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]

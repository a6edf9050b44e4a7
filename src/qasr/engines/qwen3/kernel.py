"""What lies between the decoder's products on a CPU, compiled by numba for the processor that it runs on.

In torch each of these is several passes over memory, and attention of a step is products of two query rows with the
keys of each head, which read at a third of the speed of memory or less. Here every value is read once and used at
once, by as many threads as torch has. Both give their work to the same OpenMP, so their threads do not fight.

What is called for the first time is compiled, which takes some seconds; ``prepare`` does it beforehand.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numba
import numpy as np
import torch
from numba.extending import overload

Array: TypeAlias = Any
"""As numba has it."""

numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

LARGEST: Final = 127
MIDDLE: Final = 128
"""The byte that stands for zero in the input: the product is fast for unsigned bytes only."""
LEAST: Final = 1e-8
"""A row of zeros has this scale."""


def prepare(dtype: torch.dtype) -> None:
    """Have everything compiled for activations of *dtype*, float32 or bfloat16, with keys and values in bfloat16."""
    keys = torch.zeros(1, 1, 1, 2, dtype=torch.bfloat16)
    x, weight = torch.zeros(1, 2, dtype=dtype), torch.zeros(2, dtype=dtype)
    place = torch.zeros(1, dtype=torch.int64)
    keep(x.view(1, 1, 2), x.view(1, 1, 2), keys, keys, place, place)
    look(x.view(1, 1, 1, 2), keys, keys, place, place + 1)
    turned(x.view(1, 1, 2), (0, 1), weight, 1.0, x[:, :1], x[:, :1])
    gated(normed(x, weight, 1.0))
    in_bytes(x.float())
    chosen(x.float())
    softmax(keys[0], 1)


def keep(
    k: torch.Tensor,
    v: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    places: torch.Tensor,
) -> None:
    """Write *k* and *v* ``[rows, heads, width]`` into *keys* and *values*, each row to its slot and place."""
    _keep(*_arrays(k.contiguous(), v.contiguous(), keys, values, slots, places))


def look(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Let one token of each row look at the places of its slot.

    Args:
        q: ``[rows, heads, query heads of each, width]``.
        keys: ``[slots, heads, places, width]``, bfloat16.
        values: as *keys*.
        slots: of each row, int64.
        lengths: places of each row, at least one; int64.

    Returns:
        As *q*; sums are in float32.
    """
    out = torch.empty_like(q)
    _look(q.shape[-1] ** -0.5, *_arrays(q, keys, values, slots, lengths, out))
    return out


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """See ``operations``."""
    out = torch.empty_like(x)
    _normed(eps, *_arrays(x, weight, out))
    return out


def turned(
    x: torch.Tensor, heads: tuple[int, int], weight: torch.Tensor, eps: float, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """See ``operations``."""
    out = x.new_empty(len(x), heads[1] - heads[0], x.shape[2])
    _turned(heads[0], eps, *_arrays(x, weight, cos, sin, out))
    return out


def gated(x: torch.Tensor) -> torch.Tensor:
    """See ``operations``."""
    out = x.new_empty(len(x), x.shape[1] // 2)
    _gated(*_arrays(x, out))
    return out


def chosen(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """See ``operations``."""
    ids, logprobs = torch.empty(len(logits), dtype=torch.int64), torch.empty(len(logits))
    _chosen(*_arrays(logits, ids, logprobs))
    return ids, logprobs


def softmax(scores: torch.Tensor, n_first: int) -> None:
    """Turn *scores* ``[heads, rows, places]``, bfloat16, into shares of one, in place.

    The first row sees *n_first* places, each next row one more; what a row does not see gets nothing.
    """
    _softmax(n_first, *_arrays(scores))


def in_bytes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 *x* ``[n, width]`` as bytes, ``MIDDLE`` for zero, and the scale of each row, ``[n, 1]``."""
    out, scales = torch.empty(x.shape, dtype=torch.uint8), torch.empty(len(x), 1)
    _in_bytes(*_arrays(x, out, scales))
    return out, scales


def _arrays(*tensors: torch.Tensor) -> tuple[Any, ...]:
    """The same memory, of bfloat16 the bits. All are contiguous: for other layouts numba would compile once more."""
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    return tuple(
        (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy() for tensor in tensors
    )


def _wide(x: Any) -> Any:
    """A float32, or what the bits of a bfloat16 say."""


@overload(_wide, inline="always")  # type: ignore[untyped-decorator]
def _wide_compiled(x: Any) -> Any:
    def itself(x: Any) -> Any:
        return x

    def of_bits(x: Any) -> Any:
        return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)

    return itself if isinstance(x, numba.types.Float) else of_bits


def _like(x: Any, value: Any) -> Any:
    """Float32 *value* as *x* is: itself, or the bits of the nearest bfloat16."""


@overload(_like, inline="always")  # type: ignore[untyped-decorator]
def _like_compiled(x: Any, value: Any) -> Any:  # noqa: ARG001
    def itself(x: Any, value: Any) -> Any:  # noqa: ARG001
        return value

    def nearest(x: Any, value: Any) -> Any:  # noqa: ARG001
        bits = np.float32(value).view(np.uint32)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return itself if isinstance(x, numba.types.Float) else nearest


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """On several threads; kept on disk where there is a place for it, as other compiled Python is."""
    try:
        return numba.njit(parallel=True, fastmath=True, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # there is none
        return numba.njit(parallel=True, fastmath=True)(function)  # type: ignore[no-any-return]


@numba.njit(inline="always", fastmath=True)  # type: ignore[untyped-decorator]
def _exp(x: Array) -> Any:
    """The power of e to some millionths; unlike the library's, of many numbers at once."""
    x = min(max(x, np.float32(-87)), np.float32(88))
    twos = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - twos * np.float32(0.69314718)
    series = np.float32(1 / 120) + rest * np.float32(1 / 720)
    series = np.float32(1 / 6) + rest * (np.float32(1 / 24) + rest * series)
    series = np.float32(1) + rest * (np.float32(1) + rest * (np.float32(1 / 2) + rest * series))
    return series * np.uint32((np.int32(twos) + np.int32(127)) << np.int32(23)).view(np.float32)


@numba.njit  # type: ignore[untyped-decorator]
def _largest(values: Array) -> Any:
    """Of float32 ``[n]``, by their bits, which, unlike floats, are compared many at once."""
    largest = np.int32(-0x80000000)
    for i in range(len(values)):
        bits = np.float32(values[i]).view(np.int32)
        ordered = np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))  # negative ones the other way round
        largest = np.int32(max(largest, ordered))
    return np.int32(largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@_compiled
def _keep(k: Array, v: Array, keys: Array, values: Array, slots: Array, places: Array) -> None:
    n_heads, width = k.shape[1:]
    for row in numba.prange(len(k)):
        slot, place = slots[row], places[row]
        for head in range(n_heads):
            for i in range(width):
                keys[slot, head, place, i] = _like(keys[slot, head, place, i], _wide(k[row, head, i]))
                values[slot, head, place, i] = _like(values[slot, head, place, i], _wide(v[row, head, i]))


@_compiled
def _look(scale: float, q: Array, keys: Array, values: Array, slots: Array, lengths: Array, out: Array) -> None:
    n_heads, n_each, width = q.shape[1:]
    for i in numba.prange(len(q) * n_heads):
        row, head = i // n_heads, i % n_heads
        key, value = keys[slots[row], head], values[slots[row], head]
        asked = np.empty((n_each, width), np.float32)
        for each in range(n_each):
            for j in range(width):
                asked[each, j] = _wide(q[row, head, each, j]) * np.float32(scale)
        scores = np.empty((n_each, lengths[row]), np.float32)
        _score(asked, key, scores)
        _weigh(scores, value, asked)
        for each in range(n_each):
            for j in range(width):
                out[row, head, each, j] = _like(out[row, head, each, j], asked[each, j])


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _score(q: Array, keys: Array, scores: Array) -> None:
    """Softmax over the products of *q* ``[n, width]`` with *keys* ``[places, width]``."""
    n, n_places = scores.shape
    for place in range(n_places):
        for each in range(n):
            score = np.float32(0)
            for j in range(q.shape[1]):
                score += q[each, j] * _wide(keys[place, j])
            scores[each, place] = score
    for each in range(n):
        largest, total = _largest(scores[each]), np.float32(0)
        for place in range(n_places):
            scores[each, place] = _exp(scores[each, place] - largest)
            total += scores[each, place]
        for place in range(n_places):
            scores[each, place] /= total


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator]
def _weigh(scores: Array, values: Array, out: Array) -> None:
    """Sums of *values* ``[places, width]`` with the weights *scores* ``[n, places]``; four at once, to write less."""
    n, n_places = scores.shape
    out[:] = 0
    n_even = n_places // 4 * 4
    for place in range(0, n_even, 4):
        for each in range(n):
            a, b, c, d = (
                scores[each, place],
                scores[each, place + 1],
                scores[each, place + 2],
                scores[each, place + 3],
            )
            for j in range(out.shape[1]):
                out[each, j] += (
                    a * _wide(values[place, j])
                    + b * _wide(values[place + 1, j])
                    + c * _wide(values[place + 2, j])
                    + d * _wide(values[place + 3, j])
                )
    for place in range(n_even, n_places):
        for each in range(n):
            for j in range(out.shape[1]):
                out[each, j] += scores[each, place] * _wide(values[place, j])


@_compiled
def _normed(eps: float, x: Array, weight: Array, out: Array) -> None:
    width = x.shape[1]
    for row in numba.prange(len(x)):
        squares = np.float32(0)
        for i in range(width):
            squares += _wide(x[row, i]) * _wide(x[row, i])
        factor = np.float32(1 / np.sqrt(squares / width + eps))
        for i in range(width):
            out[row, i] = _like(out[row, i], _wide(x[row, i]) * factor * _wide(weight[i]))


@_compiled
def _turned(begin: int, eps: float, x: Array, weight: Array, cos: Array, sin: Array, out: Array) -> None:
    n_heads, width = out.shape[1:]
    half = width // 2
    for row in numba.prange(len(x)):
        for head in range(n_heads):
            squares = np.float32(0)
            for i in range(width):
                squares += _wide(x[row, begin + head, i]) * _wide(x[row, begin + head, i])
            factor = np.float32(1 / np.sqrt(squares / width + eps))
            for i in range(half):
                left = _wide(x[row, begin + head, i]) * factor * _wide(weight[i])
                right = _wide(x[row, begin + head, half + i]) * factor * _wide(weight[half + i])
                a, b = _wide(cos[row, i]), _wide(sin[row, i])
                out[row, head, i] = _like(out[row, head, i], left * a - right * b)
                out[row, head, half + i] = _like(out[row, head, i], right * a + left * b)


@_compiled
def _gated(x: Array, out: Array) -> None:
    width = out.shape[1]
    for row in numba.prange(len(x)):
        for i in range(width):
            gate = _wide(x[row, i])
            let_through = gate / (np.float32(1) + _exp(-gate)) * _wide(x[row, width + i])
            out[row, i] = _like(out[row, i], let_through)


@_compiled
def _chosen(logits: Array, ids: Array, logprobs: Array) -> None:
    for row in numba.prange(len(logits)):
        largest, total = _largest(logits[row]), np.float32(0)
        for i in range(logits.shape[1]):
            total += _exp(logits[row, i] - largest)
        logprobs[row] = -np.log(total)
        first = 0
        while first < logits.shape[1] - 1 and logits[row, first] != largest:  # the bound is for what is no number
            first += 1
        ids[row] = first


@_compiled
def _softmax(n_first: int, scores: Array) -> None:
    n_heads, n_rows = scores.shape[:2]
    for i in numba.prange(n_heads * n_rows):
        head, row = i // n_rows, i % n_rows
        n_seen = n_first + row
        shares, total = np.empty(n_seen, np.float32), np.float32(0)
        for place in range(n_seen):
            shares[place] = _wide(scores[head, row, place])
        largest = _largest(shares)
        for place in range(n_seen):
            shares[place] = _exp(shares[place] - largest)
            total += shares[place]
        for place in range(n_seen):
            scores[head, row, place] = _like(scores[head, row, place], shares[place] / total)
        scores[head, row, n_seen:] = 0


@_compiled
def _in_bytes(x: Array, out: Array, scales: Array) -> None:
    for row in numba.prange(len(x)):
        largest = np.int32(0)  # of the bits: they are ordered as what they stand for, and are compared many at once
        for i in range(x.shape[1]):
            bits = np.int32(np.float32(x[row, i]).view(np.int32) & np.int32(0x7FFFFFFF))
            largest = np.int32(max(largest, bits))
        scale = max(np.int32(largest).view(np.float32), np.float32(LEAST)) / np.float32(LARGEST)
        scales[row, 0] = scale
        for i in range(x.shape[1]):
            out[row, i] = np.uint8(np.int32(x[row, i] / scale + np.float32(MIDDLE + 0.5)))

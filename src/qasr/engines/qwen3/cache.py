"""Keys and values of all rows, in fixed slots that are written in place.

One tensor of keys and one of values per layer, ``[slots, heads, places, width]``. They are made once; on a CPU, memory
is taken as places are first written. A row owns one slot while it is decoded; what a slot held stays there afterwards,
so a row that begins with the same (the next partial of a live session) takes over the beginning.

A forward pass reads and writes through one of these plans::

    Prefill        several rows with many tokens each: every row looks at its own slot, causally
    Step           one token for each of several rows: rows in neighboring slots with like lengths share one call
    CompiledStep   the same on a CPU in bfloat16, where a kernel of our own lets each row look at just its places
"""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from qasr.engines.qwen3 import kernel

CALL_PLACES: Final = 128
"""What one more call of attention costs, in places of keys and values: 0.15 ms against 0.7 µs for each place of a row,
true size, two cores; measured."""


BLOCK: Final = 128
"""New tokens of a row that look at once, in bfloat16 on a CPU: as products of matrices, of which none is much larger
than it need be. 5 ms against torch's 12 for 410 tokens; two cores, ``benchmarks/engines/parts.py``."""


class Plan(Protocol):
    """Where the tokens of a forward pass go, and what they look at."""

    positions: torch.Tensor
    """``[n]``, of each token in its row."""

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Store *k* and *v* ``[n, heads, width]``, and let *q* ``[n, query heads, width]`` look; as *q*."""
        ...


class KvSlots:
    """The storage."""

    def __init__(
        self, *, layers: int, slots: int, heads: int, places: int, width: int, dtype: torch.dtype, device: str
    ) -> None:
        shape = (slots, heads, places, width)
        self.keys = [_zeros(shape, dtype, device) for _ in range(layers)]
        self.values = [_zeros(shape, dtype, device) for _ in range(layers)]
        self.n_slots, self.places, self.device = slots, places, device
        self._is_compiled = device == "cpu" and dtype == torch.bfloat16

    def step(self, rows: Sequence[tuple[int, int]]) -> Plan:
        """One token for each of *rows*: ``(slot, places filled)``, slots ascending."""
        return CompiledStep(self, rows) if self._is_compiled else Step(self, rows)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Zeros, not just any memory: what a mask hides must still be a number. On a CPU untouched pages cost nothing, and
    are large where the system has such, which spares faults at the first use of a slot.
    """
    if device != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)  # torch would write every zero
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


@dataclass(frozen=True, slots=True)
class Span:
    """New tokens of one row."""

    slot: int
    begin: int
    """Places of the slot that are filled already and stay."""
    count: int


class Prefill:
    """Several rows with many tokens each, packed one behind the other."""

    def __init__(self, cache: KvSlots, spans: Sequence[Span]) -> None:
        self._cache, self._spans = cache, spans
        self.positions = torch.cat([torch.arange(s.begin, s.begin + s.count) for s in spans]).to(cache.device)
        self._masks = [_causal(span, cache.device) for span in spans]

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See ``Plan``."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        out = torch.empty_like(q)
        counts = [span.count for span in self._spans]
        for span, mask, rows, new_k, new_v, looked in zip(
            self._spans, self._masks, q.split(counts), k.split(counts), v.split(counts), out.split(counts), strict=True
        ):
            end = span.begin + span.count
            keys[span.slot, :, span.begin : end] = new_k.transpose(0, 1)
            values[span.slot, :, span.begin : end] = new_v.transpose(0, 1)
            looks = _look_in_blocks if keys.dtype == torch.bfloat16 and keys.device.type == "cpu" else _look
            looked.copy_(looks(rows.to(keys.dtype), keys[span.slot, :, :end], values[span.slot, :, :end], mask))
        return out


def _look(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """*q* ``[n, query heads, width]`` looks at ``[heads, places, width]``, of which its own places are the last."""
    seen = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )
    return seen[0].transpose(0, 1)


def _look_in_blocks(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, _mask: object) -> torch.Tensor:
    """As ``_look``; scores are rounded to bfloat16 before the softmax, as the library's plain attention has it."""
    n, _, width = q.shape
    heads, places = keys.shape[:2]
    begin, out = places - n, torch.empty_like(q)
    for at in range(0, n, BLOCK):
        rows = q[at : at + BLOCK]
        end = begin + at + len(rows)
        grouped = rows.view(len(rows), heads, -1, width).permute(1, 2, 0, 3)  # query heads that share keys
        scores = torch.baddbmm(
            q.new_empty(1), grouped.reshape(heads, -1, width), keys[:, :end].mT, beta=0, alpha=width**-0.5
        )
        kernel.softmax(scores.view(-1, len(rows), end), begin + at + 1)
        seen = torch.bmm(scores, values[:, :end])
        out[at : at + BLOCK] = seen.view(grouped.shape).permute(2, 0, 1, 3).reshape(rows.shape)
    return out


def _causal(span: Span, device: str) -> torch.Tensor | None:
    """Which places each new token sees; None: the plain triangle."""
    if not span.begin:
        return None
    places = torch.arange(span.begin + span.count, device=device)
    return places[None] <= places[span.begin :, None]


class Step:
    """One token for each row. *rows* are ``(slot, places filled)``, slots ascending."""

    def __init__(self, cache: KvSlots, rows: Sequence[tuple[int, int]]) -> None:
        self._cache = cache
        self._slots = torch.tensor([slot for slot, _ in rows], device=cache.device)
        self.positions = torch.tensor([filled for _, filled in rows], device=cache.device)
        call_places = CALL_PLACES if cache.device == "cpu" else cache.places
        self._runs = [
            (begin, end, rows[begin][0], longest, _mask([n + 1 for _, n in rows[begin:end]], longest, cache))
            for begin, end in _runs(rows, call_places)
            for longest in [max(n for _, n in rows[begin:end]) + 1]
        ]

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See ``Plan``."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._slots, :, self.positions] = k.to(keys.dtype)
        values[self._slots, :, self.positions] = v.to(values.dtype)
        n_heads = keys.shape[1]
        grouped = q.view(len(q), n_heads, -1, q.shape[-1]).to(keys.dtype)  # query heads that share keys stand together
        parts = [
            F.scaled_dot_product_attention(
                grouped[begin:end],
                keys[slot : slot + end - begin, :, :longest],
                values[slot : slot + end - begin, :, :longest],
                attn_mask=mask,
            )
            for begin, end, slot, longest, mask in self._runs
        ]
        return torch.cat(parts).view(q.shape).to(q.dtype)


class CompiledStep:
    """As ``Step``, for ``KvSlots`` in bfloat16 on a CPU."""

    def __init__(self, cache: KvSlots, rows: Sequence[tuple[int, int]]) -> None:
        self._cache = cache
        self._slots, self.positions = (torch.tensor(numbers) for numbers in zip(*rows, strict=True))
        self._lengths = self.positions + 1

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """See ``Plan``."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        kernel.keep(k, v, keys, values, self._slots, self.positions)
        grouped = q.view(len(q), keys.shape[1], -1, q.shape[-1])  # query heads that share keys stand together
        return kernel.look(grouped, keys, values, self._slots, self._lengths).view(q.shape)


def _mask(lengths: Sequence[int], longest: int, cache: KvSlots) -> torch.Tensor | None:
    """What each row of a run sees: ``[rows, 1, 1, longest]``; None where all see everything."""
    if min(lengths) == longest:
        return None
    seen = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return seen[:, None, None].to(cache.device)


def _runs(rows: Sequence[tuple[int, int]], call_places: int) -> list[tuple[int, int]]:
    """Rows that share one call: neighbors whose padding costs less than another call would."""
    runs: list[tuple[int, int]] = []
    longest = 0
    for i, (slot, filled) in enumerate(rows):
        if runs:
            begin, end = runs[-1]
            together = (i + 1 - begin) * max(longest, filled)
            if slot == rows[i - 1][0] + 1 and together <= (end - begin) * longest + filled + call_places:
                runs[-1] = (begin, i + 1)
                longest = max(longest, filled)
                continue
        runs.append((i, i + 1))
        longest = filled
    return runs

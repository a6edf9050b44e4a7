"""What numba compiles gives what torch gives."""

import math
from typing import Any

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numba.core import caching

from qasr.engines.qwen3 import kernel
from qasr.engines.qwen3.operations import Operations, TorchOperations

OURS: Operations = kernel
TORCH = TorchOperations()
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
ROWS = pytest.mark.parametrize("n_rows", [1, 5, 130])


def assert_close(ours: torch.Tensor, exact: torch.Tensor) -> None:
    """To rounding of the type of *ours*; *exact* is in float32."""
    step = 2.0**-8 if ours.dtype == torch.bfloat16 else 2.0**-18
    torch.testing.assert_close(ours.float(), exact, rtol=step, atol=step * float(exact.abs().max()) / 8)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    torch.manual_seed(7)


@DTYPES
@ROWS
def test_norm(dtype: torch.dtype, n_rows: int) -> None:
    x, weight = (5 * torch.randn(n_rows, 96)).to(dtype), torch.randn(96).to(dtype)

    ours = OURS.normed(x, weight, 1e-6)

    assert ours.dtype == dtype
    assert_close(ours, TORCH.normed(x.float(), weight.float(), 1e-6))


@DTYPES
@ROWS
def test_heads_are_turned(dtype: torch.dtype, n_rows: int) -> None:
    x, weight = torch.randn(n_rows, 6, 16).to(dtype), torch.randn(16).to(dtype)
    angles = 9 * torch.randn(n_rows, 8)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)

    ours = OURS.turned(x, (1, 4), weight, 1e-6, cos, sin)

    assert ours.shape == (n_rows, 3, 16)
    assert_close(ours, TORCH.turned(x.float(), (1, 4), weight.float(), 1e-6, cos.float(), sin.float()))


@DTYPES
def test_gate(dtype: torch.dtype) -> None:
    """Also where the gate is so far open or shut that a power of e is beyond float32."""
    x = torch.cat([torch.randn(40, 64), 300 * torch.randn(40, 64)]).to(dtype)

    assert_close(OURS.gated(x), TORCH.gated(x.float()))


@ROWS
def test_choice_of_a_token(n_rows: int) -> None:
    """The best one, with its log-probability; negative logits too, and of equals the first."""
    logits = torch.randn(n_rows, 777) - 50
    logits[0, [3, 700]] = -1.0

    ids, logprobs = OURS.chosen(logits)

    expected = logits.log_softmax(-1).max(-1)
    assert ids.tolist() == [3, *expected.indices.tolist()[1:]]
    torch.testing.assert_close(logprobs, expected.values, rtol=1e-5, atol=1e-5)


def test_choice_among_what_is_no_number() -> None:
    """Some token of the vocabulary, and no reading beyond it."""
    ids, _ = OURS.chosen(torch.full((2, 50), math.nan))

    assert all(0 <= token < 50 for token in ids.tolist())


@DTYPES
@pytest.mark.parametrize("n_each", [1, 2, 3])
def test_rows_look_at_their_own_places(dtype: torch.dtype, n_each: int) -> None:
    """Rows of several lengths, in slots out of order; the rest of a slot does not matter."""
    slots, lengths = torch.tensor([4, 0, 3]), torch.tensor([1, 7, 30])
    keys, values = (torch.full((5, 2, 40, 16), math.nan).bfloat16() for _ in range(2))
    q = 3 * torch.randn(3, 2, n_each, 16).to(dtype)
    for slot, length in zip(slots.tolist(), lengths.tolist(), strict=True):
        keys[slot, :, :length], values[slot, :, :length] = torch.randn(2, 2, length, 16).bfloat16()

    seen = kernel.look(q, keys, values, slots, lengths)

    for row, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
        exact = F.scaled_dot_product_attention(
            q[row].float(), keys[slot, :, :length].float(), values[slot, :, :length].float()
        )
        assert_close(seen[row], exact)


@DTYPES
def test_keys_and_values_are_kept_where_they_belong(dtype: torch.dtype) -> None:
    keys, values = (torch.zeros(3, 2, 6, 4, dtype=torch.bfloat16) for _ in range(2))
    both = torch.randn(2, 5, 4).to(dtype)

    kernel.keep(both[:, :2], both[:, 2:4], keys, values, torch.tensor([2, 0]), torch.tensor([5, 1]))

    for kept, given in ((keys, both[:, :2]), (values, both[:, 2:4])):
        torch.testing.assert_close(kept[2, :, 5], given[0].bfloat16(), rtol=0, atol=0)
        torch.testing.assert_close(kept[0, :, 1], given[1].bfloat16(), rtol=0, atol=0)
        assert int(kept.count_nonzero()) == 16


def test_shares_of_a_prefill() -> None:
    """Each row sees one place more than the one before it."""
    scores = (4 * torch.randn(3, 5, 9)).bfloat16()
    later = torch.ones(5, 9, dtype=torch.bool).triu(5)
    exact = scores.float().masked_fill(later, -math.inf).softmax(-1)

    kernel.softmax(scores, 5)

    assert_close(scores, exact)
    assert not scores[:, later].any()


def test_bytes() -> None:
    """Each row to its own scale; zeros stay zero."""
    x = torch.randn(4, 50) * torch.tensor([[1.0], [1e-4], [1e5], [0.0]])

    rounded, scales = kernel.in_bytes(x)

    assert rounded.dtype == torch.uint8
    assert rounded[:3].amin(1).tolist() >= [1, 1, 1]
    error = (rounded.float() - kernel.MIDDLE) * scales - x
    assert (error.abs() <= scales * 0.501).all()
    assert (rounded[3] == kernel.MIDDLE).all()


def test_it_runs_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code is kept on disk; where there is no place, it is compiled each time."""
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])

    def double(x: Any) -> None:
        for i in numba.prange(len(x)):
            x[i] *= 2

    numbers = np.arange(3.0)
    kernel._compiled(double)(numbers)

    assert numbers.tolist() == [0, 2, 4]

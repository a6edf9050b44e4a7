"""Matrix products of the decoder: as they are, as a processor reads them best, or with eight-bit weights.

``dense`` keeps the weights as they are. ``packed`` lays weights in bfloat16 in the order in which oneDNN reads them:
the same numbers come out, and a step of a few rows, which otherwise lays them anew each time, takes two thirds of the
time. ``Int8`` keeps one byte per weight with a scale per output, and gives every row
of the input a scale of its own (w8a8, dynamic); sums are exact, so a row's result does not depend on its neighbors::

    x [n, inputs] ──÷ its row's largest──▶ bytes, 1 to 255 ──· weights, -127 to 127──▶ sums ──· scales──▶ [n, outputs]

Products take two thirds of the time on a CPU with VNNI (``benchmarks/engines/parts.py``). It is less exact, by an
amount that nobody has measured on the released weights. One scale for the whole input, as ``quantized.linear_dynamic``
has it, is no faster, and loses rows that are small beside their neighbors (measured: an error of 72 % for one a
hundredth as large as the largest, instead of 1 %).
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from qasr.engines.qwen3.kernel import LARGEST, LEAST, MIDDLE, in_bytes

Linear: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From ``[n, inputs]`` to ``[n, outputs]``."""

MakeLinear: TypeAlias = Callable[[torch.Tensor], Linear]
"""From weights ``[outputs, inputs]`` to the product with them."""

FEW: Final = 16
"""Rows that the order of the weights is best for."""


def dense(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The exact product."""
    weight = weight.detach()
    return lambda x: F.linear(x, weight, bias)


def packed(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The exact product with weights in bfloat16, faster; ``dense`` where oneDNN has none."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or not _has_packing():
        return dense(weight, bias)
    laid = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), FEW)  # noqa: SLF001 - what torch.compile uses, too
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, laid, bias, "none", [], "")  # noqa: SLF001


def _has_packing() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


class Int8:
    """The product with eight-bit weights; takes and gives float32. On a CPU only."""

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.detach().float()
        self._scales = weight.abs().amax(1).clamp(min=LEAST) / LARGEST
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs]`` to ``[n, outputs]``."""
        rounded, scales = in_bytes(x)
        product = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, MIDDLE, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return product.mul_(scales)


def check_int8() -> None:
    """Make sure that this processor adds bytes up exactly; older ones cut large sums off.

    Raises:
        ValueError: it does not, or this build of torch lacks the operators.
    """
    weights = torch.full((16, 64), float(LARGEST))
    try:
        product = Int8(weights)(torch.full((2, 64), float(LARGEST)))
    except (AttributeError, RuntimeError) as error:
        raise ValueError("precision=int8 needs a CPU build of torch with oneDNN") from error
    if not torch.allclose(product, torch.full((2, 16), 64.0 * LARGEST**2)):
        raise ValueError("precision=int8 needs a processor with exact eight-bit products (VNNI)")

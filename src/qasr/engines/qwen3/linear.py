"""Matrix products of the decoder: as they are, or with eight-bit weights.

``Dense`` keeps the weights' own type. ``Int8`` keeps one byte per weight with a scale per output, and gives each call's
input one scale of its own (w8a8, dynamic): 2.2 to 2.6 times as fast on a CPU, where reading the weights is what a step
costs. Two prices: it is less exact by an amount that nobody has measured on the released weights, and a row's result
depends a little on the rows beside it, with which it shares the scale. The library calls the operators deprecated; this
is the only file that knows them.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

Linear: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From ``[n, inputs]`` to ``[n, outputs]``."""

MakeLinear: TypeAlias = Callable[[torch.Tensor], Linear]
"""From weights ``[outputs, inputs]`` to the product with them."""


def dense(weight: torch.Tensor) -> Linear:
    """The exact product."""
    weight = weight.detach()
    return lambda x: F.linear(x, weight)


class Int8:
    """The product with eight-bit weights; takes and gives float32. On a CPU only."""

    def __init__(self, weight: torch.Tensor) -> None:
        weight = weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=1e-8) / 127
        zeros = torch.zeros_like(scales, dtype=torch.long)
        quantized = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(quantized, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, inputs]`` to ``[n, outputs]``."""
        y: torch.Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, reduce_range=False)
        return y


def choose_int8_engine() -> None:
    """Make the eight-bit operators use the processor's own dot products.

    Raises:
        ValueError: this build of torch has no such operators.
    """
    if "onednn" not in torch.backends.quantized.supported_engines:
        raise ValueError("int8 needs a CPU build of torch with oneDNN")
    torch.backends.quantized.engine = "onednn"

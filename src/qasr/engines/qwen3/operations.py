"""What lies between the decoder's products: norms, rotary positions, gates and the choice of a token, by torch.

On a CPU ``kernel.py`` has the same with fewer passes over memory; both are ``Operations``.
"""

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from qasr.engines.qwen3 import kernel


class Operations(Protocol):
    """Answers have the type of *x*; sums are in float32."""

    def normed(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """Rows ``[n, width]``, divided by the root of their mean square, times *weight* ``[width]``."""
        ...

    def turned(
        self,
        x: torch.Tensor,
        heads: tuple[int, int],
        weight: torch.Tensor,
        eps: float,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        """Of *x* ``[n, heads, width]`` those from the first to before the second of *heads*, ``normed`` and rotated.

        The halves of each head turn against each other by the angles of its row, *cos* and *sin* ``[n, width / 2]``.
        """
        ...

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        """The right half of each row ``[n, 2 · width]``, as far as the left one lets it through (SiLU)."""
        ...

    def chosen(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best token of each row ``[n, vocabulary]``, and its log-probability; logits are float32."""
        ...


class TorchOperations:
    """On every device, in every precision."""

    def normed(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """See ``Operations``."""
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)

    def turned(
        self,
        x: torch.Tensor,
        heads: tuple[int, int],
        weight: torch.Tensor,
        eps: float,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        """See ``Operations``."""
        x, cos, sin = self.normed(x[:, slice(*heads)], weight, eps), cos[:, None], sin[:, None]
        left, right = x.chunk(2, -1)
        out = torch.empty_like(x)
        new_left, new_right = out.chunk(2, -1)
        torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-1)
        torch.mul(right, cos, out=new_right).addcmul_(left, sin)
        return out

    def gated(self, x: torch.Tensor) -> torch.Tensor:
        """See ``Operations``."""
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    def chosen(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Operations``."""
        best = logits.max(-1)
        return best.indices, best.values - logits.logsumexp(-1)


def operations(device: str, dtype: torch.dtype, kv_dtype: torch.dtype) -> Operations:
    """The quickest for activations of *dtype* on *device*, ready to be used."""
    if device != "cpu" or kv_dtype != torch.bfloat16:
        return TorchOperations()
    kernel.prepare(dtype)
    return kernel

"""The text decoder (Qwen3), written out: the library's weights, our own forward pass.

One pass takes tokens of any number of rows, one behind the other, ``[n, width]``; only attention knows which row a
token belongs to, and asks the plan (``cache.py``). So a prefill of several prompts and a step of sixteen rows are the
same code. Queries, keys and values are one product, the two halves of the gate another: a third of the calls.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from qasr.engines.qwen3.cache import KvSlots, Plan
from qasr.engines.qwen3.linear import Linear, MakeLinear


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Linear
    out: Linear
    gate_up: Linear
    down: Linear
    norm_in: torch.Tensor
    norm_mid: torch.Tensor
    norm_q: torch.Tensor
    norm_k: torch.Tensor


class Decoder:
    """The decoder of *model* (the library's ``Qwen3ASRForConditionalGeneration``), whose layers are taken apart.

    Args:
        model: loses its decoder's layers.
        make: for the products.
        dtype: of the activations.
        kv_dtype: of keys and values.
    """

    def __init__(self, model: Any, make: MakeLinear, *, dtype: torch.dtype, kv_dtype: torch.dtype, device: str) -> None:
        text = model.model.language_model
        config = text.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_width = config.head_dim
        self._eps: float = config.rms_norm_eps
        self._dtype, self._kv_dtype, self._device = dtype, kv_dtype, device
        self._inverse = text.rotary_emb.inv_freq.float().to(device)
        self._embeddings = text.embed_tokens.weight.detach()
        self._norm = text.norm.weight.detach().to(dtype)
        self._head = make(model.lm_head.weight)
        self._layers = []
        for i, layer in enumerate(text.layers):
            self._layers.append(_taken_apart(layer, make, dtype))
            text.layers[i] = torch.nn.Identity()  # its memory is free before the next one is copied

    def slots(self, n_slots: int, places: int) -> KvSlots:
        """Storage for *n_slots* rows of at most *places* tokens."""
        return KvSlots(
            layers=len(self._layers),
            slots=n_slots,
            heads=self._kv_heads,
            places=places,
            width=self._head_width,
            dtype=self._kv_dtype,
            device=self._device,
        )

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """``[n]`` to ``[n, width]``."""
        return F.embedding(ids, self._embeddings).to(self._dtype)

    def forward(self, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Embedded tokens ``[n, width]`` to hidden states of the same shape; keys and values go where *plan* says."""
        angles = plan.positions[:, None].float() * self._inverse
        cos, sin = angles.cos()[:, None].to(self._dtype), angles.sin()[:, None].to(self._dtype)
        n_q, n_kv = self._heads, self._kv_heads
        for i, layer in enumerate(self._layers):
            qkv = layer.qkv(self._normed(x, layer.norm_in)).view(len(x), n_q + 2 * n_kv, self._head_width)
            q, k, v = qkv.split((n_q, n_kv, n_kv), 1)
            q = _rotated(self._normed(q, layer.norm_q), cos, sin)
            k = _rotated(self._normed(k, layer.norm_k), cos, sin)
            x = x + layer.out(plan.attend(i, q, k, v).reshape(len(x), -1))
            gate, up = layer.gate_up(self._normed(x, layer.norm_mid)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states ``[n, width]`` to float32 ``[n, vocabulary]``."""
        return self._head(self._normed(x, self._norm)).float()

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)).to(x.dtype)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: the two halves of each head turn against each other."""
    left, right = x.chunk(2, -1)
    out = torch.empty_like(x)
    new_left, new_right = out.chunk(2, -1)
    torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=new_right).addcmul_(left, sin)
    return out


def _taken_apart(layer: Any, make: MakeLinear, dtype: torch.dtype) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    if attention.q_proj.bias is not None:
        raise ValueError("a decoder with biases in its attention is not known here")
    return _Layer(
        qkv=make(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
        out=make(attention.o_proj.weight),
        gate_up=make(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])),
        down=make(mlp.down_proj.weight),
        norm_in=layer.input_layernorm.weight.detach().to(dtype),
        norm_mid=layer.post_attention_layernorm.weight.detach().to(dtype),
        norm_q=attention.q_norm.weight.detach().to(dtype),
        norm_k=attention.k_norm.weight.detach().to(dtype),
    )

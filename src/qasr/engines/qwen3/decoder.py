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
from qasr.engines.qwen3.operations import operations


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
        self._operations = operations(device, dtype, kv_dtype)
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
        cos, sin = angles.cos().to(self._dtype), angles.sin().to(self._dtype)
        n_q, n_kv, eps = self._heads, self._kv_heads, self._eps
        normed, turned, gated = self._operations.normed, self._operations.turned, self._operations.gated
        for i, layer in enumerate(self._layers):
            qkv = layer.qkv(normed(x, layer.norm_in, eps)).view(len(x), n_q + 2 * n_kv, self._head_width)
            q = turned(qkv, (0, n_q), layer.norm_q, eps, cos, sin)
            k = turned(qkv, (n_q, n_q + n_kv), layer.norm_k, eps, cos, sin)
            x = x + layer.out(plan.attend(i, q, k, qkv[:, n_q + n_kv :]).reshape(len(x), -1))
            x = x + layer.down(gated(layer.gate_up(normed(x, layer.norm_mid, eps))))
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states ``[n, width]`` to float32 ``[n, vocabulary]``."""
        return self._head(self._operations.normed(x, self._norm, self._eps)).float()

    def chosen(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The best token of each row of *logits*, and its log-probability."""
        return self._operations.chosen(logits)


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

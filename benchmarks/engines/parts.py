"""How fast the parts of Qwen3-ASR 0.6B are by themselves on a CPU: ``python -m benchmarks.engines.parts``.

One layer of the decoder at a time, with several copies of what it reads, so that none stays in the cache; the best
quarter of a dozen rounds. What the engine does stands beside other ways to the same result.
"""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from rich.console import Console

from benchmarks.table import machine
from qasr.engines.qwen3 import kernel
from qasr.engines.qwen3.cache import CompiledStep, KvSlots, Plan, Prefill, Span, Step
from qasr.engines.qwen3.linear import Int8, packed
from qasr.engines.qwen3.operations import TorchOperations

ROWS: Final = 16
FILLED: Final = 460
"""Places of a row in the middle of 30 s of speech."""
PROMPT: Final = 410
"""Tokens that 30 s have before the first one is written."""
LAYERS: Final = 8
"""Copies; together larger than any cache."""
HEADS, KV_HEADS, WIDTH = 16, 8, 128
PRODUCTS: Final = {"qkv": (4096, 1024), "out": (1024, 2048), "gate_up": (6144, 1024), "down": (1024, 3072)}
"""Outputs and inputs."""
CHUNKS: Final = 8


def main() -> None:
    """Print a line for each part."""
    console = Console(file=sys.stdout)
    console.print(machine())
    with torch.inference_mode():
        parts = (
            _steps(torch.bfloat16),
            _steps(torch.float32),
            _prefills(),
            _products(),
            _operations(),
            _convolutions(),
        )
        for name, value in itertools.chain(*parts):
            console.print(f"{name}: {value}")


def _steps(dtype: torch.dtype) -> Iterator[tuple[str, str]]:
    cache = _cache(dtype)
    q, k, v = (torch.randn(ROWS, heads, WIDTH, dtype=dtype) for heads in (HEADS, KV_HEADS, KV_HEADS))
    rows = [(slot, FILLED - 1) for slot in range(ROWS)]
    read_gb = 2 * ROWS * KV_HEADS * FILLED * WIDTH * dtype.itemsize / 1e9
    name = f"attention of a step, {ROWS} rows of {FILLED}, {str(dtype).removeprefix('torch.')}"
    plans: dict[str, Plan] = {"torch's own": Step(cache, rows)}
    if dtype == torch.bfloat16:
        plans["compiled"] = CompiledStep(cache, rows)
    for kind, plan in plans.items():
        seconds = _timed(lambda i, plan=plan: plan.attend(i, q, k, v))
        yield f"{name}, {kind}", f"{1000 * seconds:.2f} ms, {read_gb / seconds:.1f} GB/s"
    grouped = q.view(ROWS, KV_HEADS, -1, WIDTH)

    def batched(i: int) -> None:
        keys, values = cache.keys[i][:, :, :FILLED], cache.values[i][:, :, :FILLED]
        torch.matmul((torch.matmul(grouped, keys.mT) / math.sqrt(WIDTH)).softmax(-1), values)

    yield f"{name}, as batched products", f"{1000 * _timed(batched):.2f} ms"


def _prefills() -> Iterator[tuple[str, str]]:
    cache = _cache(torch.bfloat16)
    q, k, v = (torch.randn(PROMPT, heads, WIDTH).bfloat16() for heads in (HEADS, KV_HEADS, KV_HEADS))
    plan = Prefill(cache, [Span(0, 0, PROMPT)])
    yield f"attention of a prefill of {PROMPT}, in blocks", f"{1000 * _timed(lambda i: plan.attend(i, q, k, v)):.2f} ms"

    def plain(i: int) -> None:
        keys, values = cache.keys[i][:1, :, :PROMPT], cache.values[i][:1, :, :PROMPT]
        F.scaled_dot_product_attention(q.transpose(0, 1)[None], keys, values, is_causal=True, enable_gqa=True)

    yield f"attention of a prefill of {PROMPT}, torch's own", f"{1000 * _timed(plain):.2f} ms"


def _products() -> Iterator[tuple[str, str]]:
    for name, (outputs, inputs) in PRODUCTS.items():
        for kind, make, dtype in (("bf16", packed, torch.bfloat16), ("int8", Int8, torch.float32)):
            layers = [make(torch.randn(outputs, inputs).bfloat16()) for _ in range(LAYERS)]
            for n in (ROWS, PROMPT):
                x = torch.randn(n, inputs, dtype=dtype)
                seconds = _timed(lambda i, x=x, layers=layers: layers[i](x))
                gflop = 2 * n * outputs * inputs / 1e9
                yield f"product {name}, {kind}, {n} rows", f"{1000 * seconds:.2f} ms, {gflop / seconds:.0f} GFLOP/s"


def _operations() -> Iterator[tuple[str, str]]:
    """What lies between products."""
    for dtype, n in itertools.product((torch.bfloat16, torch.float32), (ROWS, PROMPT)):
        kernel.prepare(dtype)
        x, weight = torch.randn(n, 1024, dtype=dtype), torch.ones(1024, dtype=dtype)
        halves = torch.randn(n, 6144, dtype=dtype)
        for kind, operations in (("torch's", TorchOperations()), ("compiled", kernel)):
            norm = _timed(lambda _, do=operations, x=x, weight=weight: do.normed(x, weight, 1e-6))
            gate = _timed(lambda _, do=operations, halves=halves: do.gated(halves))
            name = f"{n} rows, {str(dtype).removeprefix('torch.')}, {kind}"
            yield f"norm and gate, {name}", f"{1000 * norm:.3f} ms, {1000 * gate:.3f} ms"


def _convolutions() -> Iterator[tuple[str, str]]:
    """The second of the three, which is the largest: 480 channels, 64 x 50 to 32 x 25."""
    layer = torch.nn.Conv2d(480, 480, 3, 2, 1).bfloat16()
    gflop = 2 * CHUNKS * 32 * 25 * 480 * 480 * 9 / 1e9
    for order in (torch.channels_last, torch.contiguous_format):
        layer.to(memory_format=order)
        x = torch.randn(CHUNKS, 480, 64, 50).bfloat16().to(memory_format=order)
        seconds = _timed(lambda _, x=x: layer(x))
        kind = str(order).removeprefix("torch.")
        yield f"convolution of {CHUNKS} s, {kind}", f"{1000 * seconds:.1f} ms, {gflop / seconds:.0f} GFLOP/s"


def _cache(dtype: torch.dtype) -> KvSlots:
    cache = KvSlots(layers=LAYERS, slots=ROWS, heads=KV_HEADS, places=600, width=WIDTH, dtype=dtype, device="cpu")
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    return cache


def _timed(work: Callable[[int], object]) -> float:
    """Seconds of one call, each with another layer."""
    times = []
    for _ in range(13):
        begin = time.perf_counter()
        for i in range(LAYERS):
            work(i)
        times.append((time.perf_counter() - begin) / LAYERS)
    return sorted(times)[3]


if __name__ == "__main__":
    main()

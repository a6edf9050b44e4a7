"""One measurement of our engine, in a process of its own: ``python -m benchmarks.engines.ours '{"model": …}'``.

Batching is ``one`` (one row), ``static`` (sixteen rows, and none joins before the last has ended) or ``continuous``.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch

from benchmarks.engines.workload import Item, batches, items, report, timed
from qasr.engines.qwen3 import setup as setups
from qasr.engines.qwen3.cache import Prefill
from qasr.engines.qwen3.decoder import Decoder
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.loop import Job
from qasr.engines.qwen3.model import Model, assemble

ROWS: Final = 16


def main(config: dict[str, Any]) -> None:
    rows = 1 if config["batching"] == "one" else ROWS
    setup = setups.Setup(
        folder=config["model"],
        precision=config["precision"],
        threads=config["threads"],
        device=config["device"],
        rows=rows,
        spare_rows=0,
        context_tokens=64,
    )
    model = assemble(setup, cut_loops=False)
    model.loop._end_ids = frozenset()  # noqa: SLF001 - answers have the length that is set
    work = items(config["workload"])
    hear(model, [Item(2.0)])  # what is made at first use
    shares = Shares(model.device)
    with shares.measured():
        wall_s = timed(lambda: [hear(model, batch) for batch in _groups(work, config["batching"])])
    report(
        wall_s=wall_s,
        audio_s=sum(item.seconds for item in work),
        first_s=first_token_s(model, config["first_s"]),
        peak_mb=_peak_mb(model.device),
        steps=shares.counts["decode"],
        **{f"{name}_s": seconds for name, seconds in shares.seconds.items()},
        read_gb=_read_gb(model, setup.precision, work, shares.counts["decode"]),
        gb_per_s=_bandwidth(model.device),
        device=torch.cuda.get_device_name() if model.device == "cuda" else "cpu",
    )


def _groups(work: Sequence[Item], batching: str) -> list[Sequence[Item]]:
    return batches(work, ROWS) if batching == "static" else [work]


def hear(model: Model, work: Sequence[Item]) -> None:
    prompt = model.prompts.build("", "en", most_context=0)
    for item in work:
        model.loop.submit(Job(sound=Sound(item.pcm), prompt=prompt, most_tokens=item.n_tokens - 1))
    while model.loop.tick():
        pass


def first_token_s(model: Model, seconds: float) -> float:
    """From a sound of *seconds* to its first token, nobody else there."""
    item, found = Item(seconds), []
    take = model.loop._take  # noqa: SLF001

    def watched(*arguments: Any) -> None:
        take(*arguments)
        found.append(time.perf_counter())

    model.loop._take = watched  # type: ignore[method-assign]  # noqa: SLF001
    times = []
    for _ in range(3):
        found.clear()
        begin = time.perf_counter()
        hear(model, [Item(item.seconds)])
        times.append(found[0] - begin)
    return min(times)


class Shares:
    """Where the time goes."""

    def __init__(self, device: str) -> None:
        self.seconds = {"encoder": 0.0, "prefill": 0.0, "decode": 0.0}
        self.counts: Counter[str] = Counter()
        self._device = device

    @contextmanager
    def measured(self) -> Iterator[None]:
        """The classes are watched as long as the block lasts."""
        encode, forward, logits = Encoder.encode, Decoder.forward, Decoder.logits
        last = ["prefill"]

        def named(plan: object) -> str:
            last[0] = "prefill" if isinstance(plan, Prefill) else "decode"
            self.counts[last[0]] += 1
            return last[0]

        Encoder.encode = lambda *a: self._timed(lambda: encode(*a), "encoder")  # type: ignore[method-assign]
        Decoder.forward = lambda s, x, plan: self._timed(lambda: forward(s, x, plan), named(plan))  # type: ignore[method-assign]
        Decoder.logits = lambda *a: self._timed(lambda: logits(*a), last[0])  # type: ignore[method-assign]
        try:
            yield
        finally:
            Encoder.encode, Decoder.forward, Decoder.logits = encode, forward, logits  # type: ignore[method-assign]

    def _timed(self, work: Callable[[], Any], name: str) -> Any:
        begin = time.perf_counter()
        answer = work()
        if self._device == "cuda":
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - begin
        return answer


def _read_gb(model: Model, precision: str, work: Sequence[Item], steps: int) -> float:
    """What all decode steps together must read at least: the weights once per step, keys and values of each row."""
    decoder = model.loop._decoder  # noqa: SLF001
    width, vocabulary = decoder._embeddings.shape[1], decoder._embeddings.shape[0]  # noqa: SLF001
    heads, kv_heads, head_width = decoder._heads, decoder._kv_heads, decoder._head_width  # noqa: SLF001
    inner = 3 * width  # as in all released sizes
    layer = width * head_width * (2 * heads + 2 * kv_heads) + 3 * width * inner
    n_weights = layer * len(decoder._layers) + width * vocabulary  # noqa: SLF001
    place_bytes = 2 * len(decoder._layers) * kv_heads * head_width * (4 if precision == "fp32" else 2)  # noqa: SLF001
    places = sum((13 * item.seconds + 20 + item.n_tokens / 2) * item.n_tokens for item in work)
    return (n_weights * {"int8": 1, "bf16": 2, "fp32": 4}[precision] * steps + place_bytes * places) / 1e9


def _bandwidth(device: str) -> float:
    """GB per second that a plain sum reads."""
    numbers = torch.ones(2**28, device=device)
    if device == "cuda":
        torch.cuda.synchronize()
    times = [timed(lambda: float(numbers.sum())) for _ in range(4)]
    return numbers.nbytes / min(times) / 1e9


def _peak_mb(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

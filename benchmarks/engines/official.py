"""One measurement of the authors' package, in its own environment; the same arguments and answer as ``ours.py``.

All rows of its batch write as many tokens as the longest needs: that is what its loop does with true weights.
"""

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from qwen_asr import Qwen3ASRModel

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.engines.workload import RATE_HZ, Item, batches, items, report, timed


def main(config: dict[str, Any]) -> None:
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = "cuda" if config["device"] != "cpu" and torch.cuda.is_available() else "cpu"
    model = Qwen3ASRModel.from_pretrained(
        config["model"], dtype=torch.bfloat16, device_map=device, max_inference_batch_size=-1
    )
    generate = model.model.generate

    def exactly(**arguments: Any) -> Any:
        return generate(**arguments, min_new_tokens=arguments["max_new_tokens"], do_sample=False)

    model.model.generate = exactly
    work = items(config["workload"])
    _hear(model, [Item(2.0)])
    wall_s = timed(lambda: [_hear(model, batch) for batch in batches(work, config["size"])])
    report(
        wall_s=wall_s,
        audio_s=sum(item.seconds for item in work),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        device=device,
    )


def _hear(model: Any, batch: Sequence[Item]) -> None:
    model.max_new_tokens = max(item.n_tokens for item in batch)
    model.transcribe(audio=[(item.pcm, RATE_HZ) for item in batch], language="English")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

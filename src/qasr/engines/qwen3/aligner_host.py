"""The child process of the aligner: ``align`` takes words as its body and samples, float32, as its payload."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch

from qasr.engines.qwen3 import checkpoint
from qasr.engines.qwen3.aligner import AlignerSetup
from qasr.engines.qwen3.alignment import WordAligner
from qasr.engines.qwen3.checkpoint import BadCheckpoint
from qasr.engines.qwen3.host import Broken
from qasr.engines.qwen3.model import choose_device
from qasr.workers.child import Answer, Cancelled, Refusal


class AlignerHost:
    """Answers calls with a loaded model, one at a time."""

    parallel = 1

    def __init__(self, model: WordAligner, device: str) -> None:
        self.about: Mapping[str, object] = {"device": device}
        self._model = model

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """Answer one call with one item: the words' spans, or None."""
        if method != "align":
            raise Refusal("unknown_method", method)
        words = msgspec.msgpack.decode(body, type=list[str])
        if not cancelled():
            yield self._model.align(np.frombuffer(payload, np.float32), words), b""


def factory(config: Mapping[str, object]) -> AlignerHost | Broken:
    """The handler for ``qasr.workers.child``; *config* is an ``AlignerSetup``."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is ever fetched from here
    setup = msgspec.convert(config, AlignerSetup)
    try:
        device = choose_device(setup.device, setup.precision)
        if setup.threads:
            torch.set_num_threads(setup.threads)
        dtype = torch.float32 if setup.precision == "fp32" else torch.bfloat16
        loaded = checkpoint.load(Path(setup.folder), dtype=dtype, device=device)
        return AlignerHost(WordAligner(loaded, dtype, device), device)
    except (BadCheckpoint, ValueError, RuntimeError, MemoryError) as error:
        return Broken(str(error) or type(error).__name__)

"""Tests of the engine that needs torch: `make test-engines` runs them, in an environment that has it.

Where torch is missing they are not collected at all, so that `make test` tells only of what it can test.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.engines.qwen3.checkpoints import Kind, Layout

    from qasr.domain.audio import Pcm

collect_ignore_glob = []
if importlib.util.find_spec("torch"):
    os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would download something fails
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
else:
    collect_ignore_glob.append("test_*.py")

Folders: TypeAlias = "Callable[[Kind, Layout], Path]"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of tiny checkpoints with random weights; the same weights in each layout."""
    from tests.engines.qwen3.checkpoints import write_checkpoint  # noqa: PLC0415 - needs torch

    made: dict[tuple[str, str], Path] = {}

    def folder(kind: "Kind", layout: "Layout") -> Path:
        if (kind, layout) not in made:
            path = tmp_path_factory.mktemp(f"{kind}-{layout}")
            made[kind, layout] = write_checkpoint(path, kind=kind, layout=layout)
        return made[kind, layout]

    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny products are slower on several threads."""
    import torch  # noqa: PLC0415

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def clip() -> "Callable[..., Pcm]":
    """Sound of a length that differs by *seed*: noise whose loudness comes and goes."""

    def make(n_samples: int, seed: int = 0) -> "Pcm":
        rng = np.random.default_rng(seed)
        times = np.arange(n_samples)
        loudness = np.abs(np.sin(times / rng.integers(500, 5000))) * 0.1
        noise: Pcm = (rng.standard_normal(n_samples) * loudness).astype(np.float32)
        return noise

    return make

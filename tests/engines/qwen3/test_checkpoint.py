"""Reading checkpoints of both layouts, and refusing what does not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engines.qwen3.checkpoints import CLASS_MS, Kind, Layout
from tests.engines.qwen3.conftest import Folders

from qasr.domain.audio import Pcm
from qasr.engines.qwen3.checkpoint import BadCheckpoint, load
from qasr.engines.qwen3.encoder import Encoder
from qasr.engines.qwen3.features import Sound


@pytest.mark.parametrize("kind", ["asr", "aligner"])
def test_both_layouts_give_the_same_model(checkpoints: Folders, kind: Kind, clip: Callable[..., Pcm]) -> None:
    """The same weights under other names compute the same numbers, to the bit."""
    one, other = (load(checkpoints(kind, layout), dtype=torch.float32) for layout in ("hf", "original"))
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        logits = [checkpoint.model(input_ids=ids).logits for checkpoint in (one, other)]
        sounds = [
            Encoder(checkpoint.model.model, torch.float32, "cpu").encode([(Sound(clip(40_000)), ())])[0][0]
            for checkpoint in (one, other)
        ]

    assert torch.equal(*logits)
    assert torch.equal(sounds[0].embeddings, sounds[1].embeddings)
    assert one.end_ids == other.end_ids
    assert (kind == "aligner") == one.is_aligner == other.is_aligner
    assert CLASS_MS == one.class_ms == other.class_ms


@pytest.fixture(params=["hf", "original"])
def damaged(request: pytest.FixtureRequest, checkpoints: Folders, tmp_path: Path) -> Path:
    layout: Layout = request.param
    return Path(shutil.copytree(checkpoints("asr", layout), tmp_path / "copy"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def some(weights: dict[str, torch.Tensor]) -> str:
    return next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))


def test_a_missing_weight_is_refused(damaged: Path) -> None:
    """The library would fill it up with random numbers."""
    rewrite(damaged, lambda weights: weights.pop(some(weights)))

    with pytest.raises(BadCheckpoint, match=r"1 missing keys, as .*layers\.1\.mlp\.down_proj"):
        load(damaged, dtype=torch.float32)


def test_a_weight_too_many_is_refused(damaged: Path) -> None:
    """It belongs to a model that we do not know."""
    rewrite(damaged, lambda weights: weights.update({"model.gate.weight": torch.zeros(3)}))

    with pytest.raises(BadCheckpoint, match=r"1 unexpected keys, as model\.gate\.weight"):
        load(damaged, dtype=torch.float32)


def test_a_weight_of_another_shape_is_refused(damaged: Path) -> None:
    """The configuration and the weights are of two models."""
    rewrite(damaged, lambda weights: weights.update({some(weights): torch.zeros(3, 3)}))

    with pytest.raises(BadCheckpoint):
        load(damaged, dtype=torch.float32)


def test_a_damaged_file_is_refused(damaged: Path) -> None:
    """An interrupted download has a name and no content."""
    whole = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(BadCheckpoint):
        load(damaged, dtype=torch.float32)


@pytest.mark.parametrize("names", [["config.json"], ["vocab.json", "tokenizer.json"], ["model.safetensors"]])
def test_a_missing_file_is_refused(damaged: Path, names: list[str]) -> None:
    """By the folder's name."""
    for name in names:
        (damaged / name).unlink(missing_ok=True)

    with pytest.raises(BadCheckpoint, match="copy"):
        load(damaged, dtype=torch.float32)


def test_another_model_is_refused(damaged: Path) -> None:
    """A folder of some other family is told by its type."""
    (damaged / "config.json").write_text(json.dumps({"model_type": "whisper"}))

    with pytest.raises(BadCheckpoint, match="'whisper'"):
        load(damaged, dtype=torch.float32)

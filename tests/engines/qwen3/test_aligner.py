"""Word times: the library's own, in order whatever the model says, in a child process."""

from collections.abc import Callable
from pathlib import Path

import anyio
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.qwen3.conftest import Folders
from transformers import AutoProcessor
from transformers.models.qwen3_asr.processing_qwen3_asr import _fix_timestamps

from qasr.domain.audio import SAMPLE_RATE, Pcm, to_ms
from qasr.domain.errors import EngineUnavailable
from qasr.engines.qwen3.aligner import aligner
from qasr.engines.qwen3.alignment import LONGEST_S, WordAligner, in_order, kept
from qasr.engines.qwen3.checkpoint import load

TEXTS = [
    ("en", "And so, my fellow Americans: ask not what you're told!", 60_000),
    ("zh", "今天天气很好，我们去公园。", 30_000),
    ("ru", "Привет мир 42", 200_000),
]


@pytest.mark.parametrize(("language", "text", "n_samples"), TEXTS)
@pytest.mark.parametrize("layout", ["hf", "original"])
def test_times_are_the_librarys(
    checkpoints: Folders, clip: Callable[..., Pcm], layout: str, language: str, text: str, n_samples: int
) -> None:
    """Prompt, pass, classes and repair: what the library's own functions give, up to the end of the sound."""
    hf = load(checkpoints("aligner", "hf"), dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(checkpoints("aligner", "hf"))
    pcm = clip(n_samples)
    inputs, (words,) = processor.prepare_forced_aligner_inputs(pcm, text, language)
    with torch.inference_mode():
        logits = hf.model(**inputs).logits
    (theirs,) = processor.decode_forced_alignment(
        logits, inputs["input_ids"], [words], hf.model.config.timestamp_token_id
    )
    loaded = load(checkpoints("aligner", "original" if layout == "original" else "hf"), dtype=torch.float32)
    ours = WordAligner(loaded, torch.float32, "cpu").align(pcm, words)
    end_ms = to_ms(n_samples)

    assert [
        (min(round(word["start_time"] * 1000), end_ms), min(round(word["end_time"] * 1000), end_ms)) for word in theirs
    ] == ours


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_repaired_times_are_the_librarys_and_never_go_back(classes: list[int]) -> None:
    """Whatever the model says."""
    times = np.array(classes, np.float64) * 80
    repaired = in_order(times)

    assert _fix_timestamps(times) == repaired
    assert sorted(repaired) == repaired


def test_words_without_sound_have_no_length(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """They stand where the word before them ends; and marks of the template are letters to the model."""
    model = WordAligner(load(checkpoints("aligner", "hf"), dtype=torch.float32), torch.float32, "cpu")
    pcm = clip(50_000)
    spans = model.align(pcm, ["—", "fox", "…", "dog"])
    bare = model.align(pcm, ["fox", "dog"])

    assert spans is not None
    assert bare is not None
    assert [(0, 0), bare[0], (bare[0][1],) * 2, bare[1]] == spans
    assert "timestamp" == kept("<timestamp>")
    assert "imend" == kept("<|im_end|>")
    assert "don't" == kept("“don't”,")


def test_what_cannot_be_aligned_is_left_to_the_caller(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """Nothing but punctuation, or sound beyond the model's reach: the caller estimates, and marks it."""
    model = WordAligner(load(checkpoints("aligner", "hf"), dtype=torch.float32), torch.float32, "cpu")

    assert model.align(clip(50_000), ["—"]) is None
    assert model.align(np.zeros(int((LONGEST_S + 1) * SAMPLE_RATE), np.float32), ["fox"]) is None


def test_a_recognizer_is_no_aligner(checkpoints: Folders) -> None:
    """The two kinds of checkpoint have the same type on disk."""
    with pytest.raises(ValueError, match="no forced aligner"):
        WordAligner(load(checkpoints("asr", "hf"), dtype=torch.float32), torch.float32, "cpu")


@pytest.mark.anyio
async def test_the_aligner_lives_in_a_child(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """Eleven languages; several calls at once; times within the sound and in order."""
    config = {"folder": str(checkpoints("aligner", "original")), "precision": "fp32", "threads": "1", "device": "cpu"}
    texts = [["ask", "not", "what"], ["country"], []]
    found: dict[int, list[tuple[int, int]] | None] = {}
    async with aligner(config) as one:

        async def align(place: int) -> None:
            found[place] = await one.align(clip(30_000, place), texts[place])

        async with anyio.create_task_group() as group:
            for place in range(len(texts)):
                group.start_soon(align, place)

        assert 11 == len(one.languages)
    for place, words in enumerate(texts):
        times = [ms for span in found[place] or () for ms in span]
        assert len(times) == 2 * len(words)
        assert sorted(times) == times
        assert all(0 <= ms <= to_ms(30_000) for ms in times)


@pytest.mark.anyio
async def test_a_missing_aligner_is_told() -> None:
    """A folder that was set and is not there is no reason for estimates in silence."""
    with anyio.fail_after(120), pytest.raises(EngineUnavailable, match="QASR_QWEN3_ALIGNER__FOLDER"):
        async with aligner({"folder": str(Path("/nowhere"))}):
            pass

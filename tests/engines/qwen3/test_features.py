"""Features and encoder windows: the library's numbers, whole or piece by piece."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.qwen3.conftest import Folders
from transformers import Qwen3ASRFeatureExtractor

from qasr.domain.audio import Pcm
from qasr.engines.qwen3.checkpoint import load
from qasr.engines.qwen3.encoder import Encoder, n_embeddings
from qasr.engines.qwen3.features import Sound

LENGTHS = [1, 7_999, 8_001, 16_160, 128_000, 128_200, 150_001, 300_000]


def by_library(pcm: Pcm) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = Qwen3ASRFeatureExtractor()(
        [pcm], sampling_rate=16_000, padding=True, n_window=50, return_attention_mask=True
    )
    return inputs["input_features"], inputs["attention_mask"]


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_features_are_the_librarys(clip: Callable[..., Pcm], n_samples: int) -> None:
    """Of any length, mirrored at the ends and filled up alike."""
    pcm = clip(n_samples)
    features, mask = by_library(pcm)
    ours = torch.cat(Sound(pcm).windows(), 1)

    assert torch.equal(features[0][:, mask[0].bool()], ours)


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_embeddings_are_the_librarys(checkpoints: Folders, clip: Callable[..., Pcm], n_samples: int) -> None:
    """Windows by themselves give what the library makes of the whole."""
    model = load(checkpoints("asr", "hf"), dtype=torch.float32).model
    pcm = clip(n_samples)
    features, mask = by_library(pcm)
    with torch.inference_mode():
        expected = model.get_audio_features(features, mask).pooler_output
        (windows,) = Encoder(model.model, torch.float32, "cpu").encode([(Sound(pcm), ())])
    ours = torch.cat([window.embeddings for window in windows])

    assert n_embeddings(int(mask.sum())) == len(ours)
    assert torch.allclose(expected, ours, atol=1e-4)


@given(cuts=st.lists(st.integers(0, 40_000), min_size=1, max_size=6), louder=st.booleans())
@settings(max_examples=25, deadline=None)
def test_sound_that_grows_has_the_features_of_the_whole(
    clip: Callable[..., Pcm], cuts: list[int], louder: bool
) -> None:
    """Whatever the pieces, also when the last is louder than all before."""
    pieces = [clip(n, seed) for seed, n in enumerate(cuts)]
    pieces[-1] = pieces[-1] * np.float32(30 if louder else 1)
    growing = Sound()
    for piece in pieces:
        growing.add(piece)
        got = torch.cat(growing.windows(), 1)
    whole = torch.cat(Sound(np.concatenate(pieces)).windows(), 1)

    assert torch.allclose(whole, got, atol=1e-5)


def test_finished_windows_are_not_encoded_again(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """What was encoded of eight full seconds is taken over; a louder sound later makes it untrue."""
    encoder = Encoder(load(checkpoints("asr", "hf"), dtype=torch.float32).model.model, torch.float32, "cpu")
    sound = Sound(clip(290_000))
    with torch.inference_mode():
        (first,) = encoder.encode([(sound, ())])
        sound.add(clip(30_000, 1) * np.float32(0.5))
        (second,) = encoder.encode([(sound, first)])
        sound.add(clip(30_000, 2) * np.float32(50))
        (third,) = encoder.encode([(sound, second)])
        (fresh,) = encoder.encode([(sound, ())])

    assert [True, True, False] == [a is b for a, b in zip(first, second, strict=True)]
    assert not any(a is b for a, b in zip(second, third, strict=True))
    for kept, new in zip(third, fresh, strict=True):
        assert torch.allclose(kept.embeddings, new.embeddings, atol=1e-4)


def test_not_numbers_are_silence() -> None:
    """A decoder's accident does not spread over the whole segment."""
    sound = Sound(np.array([np.nan, np.inf, -np.inf] * 4000, np.float32))

    assert sound.is_silent
    assert all(torch.isfinite(window).all() for window in sound.windows())

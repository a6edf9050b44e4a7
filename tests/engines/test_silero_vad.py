"""Voice activity."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import Speech

from qasr.domain.audio import Pcm
from qasr.engines.silero_vad import CONTEXT, WINDOW, SileroVad, _model_path


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def heard(vad: SileroVad, pcm: Pcm, sizes: tuple[int, ...] = (160_000,)) -> list[float]:
    """Probabilities of *pcm*, fed in blocks of *sizes*."""
    state = vad.start()
    found: list[float] = []
    position = turn = 0
    while position < len(pcm):
        size = sizes[turn % len(sizes)]
        found += state.feed(pcm[position : position + size]).tolist()
        position, turn = position + size, turn + 1
    found += state.finish().tolist()
    return found


def test_the_widened_model_says_what_the_original_says(vad: SileroVad, speech: Speech) -> None:
    """Convolutions over two axes, one of length 1, are convolutions over one."""
    pcm = speech("jfk.flac")
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(pcm, (CONTEXT, 0)), CONTEXT + WINDOW)[::WINDOW]
    state = np.zeros((1, 1, 128), np.float32)
    original = onnxruntime.InferenceSession(str(_model_path()), providers=["CPUExecutionProvider"])

    expected = original.run(None, {"input": np.ascontiguousarray(windows), "h": state, "c": state})[0]

    np.testing.assert_allclose(heard(vad, pcm)[: len(expected)], expected, atol=1e-4)


def test_one_probability_for_each_begun_window(vad: SileroVad, speech: Speech) -> None:
    """The last, incomplete window counts too."""
    pcm = speech("jfk.flac")[:16_001]

    assert -(-len(pcm) // WINDOW) == len(heard(vad, pcm))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(100, 50_000), min_size=1, max_size=4))
def test_blocks_do_not_matter(sizes: list[int]) -> None:
    """The state is carried over; loud enough sound is not scaled block by block."""
    vad = SileroVad()
    rng = np.random.default_rng(1)
    pcm = (0.3 * rng.standard_normal(60_000)).clip(-1, 1).astype(np.float32)
    pcm[::50] = 0.9  # every block is loud

    np.testing.assert_allclose(heard(vad, pcm), heard(vad, pcm, tuple(sizes)), atol=1e-4)


def test_speech_is_speech_and_silence_is_not(vad: SileroVad, speech: Speech) -> None:
    """Also when it is 50 dB quieter."""
    pcm = speech("jfk.flac")

    assert np.mean(heard(vad, pcm)) > 0.5
    assert np.mean(heard(vad, pcm * np.float32(0.003))) > 0.5
    assert max(heard(vad, np.zeros(32_000, np.float32))) < 0.2

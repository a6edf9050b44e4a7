"""Voices by the embedded models and by those of a folder, and how they become speakers."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Speech
from tests.conversation import conversation
from tests.engines.tiny_sherpa import F, Graph

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.errors import EngineUnavailable
from qasr.domain.speakers import turns_of
from qasr.engines.diarizer import clustering, community, diarizer, is_installed
from qasr.engines.diarizer.clustering import identify
from qasr.engines.diarizer.fbank import FRAME, HOP, MELS, count, fbank
from qasr.engines.diarizer.windows import windows

THRESHOLD: Final = 0.4


# ---- features


def test_features_are_those_of_kaldi() -> None:
    """One frame, computed by the letter of Kaldi's documentation."""
    pcm = np.random.default_rng(3).normal(0, 0.1, FRAME + 5 * HOP).astype(np.float32)
    frame = pcm[2 * HOP : 2 * HOP + FRAME].astype(np.float64) * 32768
    frame -= frame.mean()
    frame -= 0.97 * np.concatenate([frame[:1], frame[:-1]])
    power = np.abs(np.fft.rfft(frame * np.hamming(FRAME), 512)) ** 2
    mels = [1127 * np.log(1 + hz / 700) for hz in (20.0, 8000.0)]
    wanted = []
    for number in range(MELS):
        left, middle, right = (mels[0] + (number + k) * (mels[1] - mels[0]) / (MELS + 1) for k in range(3))
        total = 0.0
        for place in range(256):
            mel = 1127 * np.log(1 + place * SAMPLE_RATE / 512 / 700)
            if left < mel < right:
                total += power[place] * (
                    (mel - left) / (middle - left) if mel <= middle else (right - mel) / (right - middle)
                )
        wanted.append(np.log(max(total, 1.1920929e-07)))

    found = fbank(pcm)

    assert (count(len(pcm)), MELS) == found.shape == (6, 80)
    assert np.abs(found.mean(axis=0)).max() < 1e-4
    assert np.allclose(np.array(wanted) - np.array(wanted)[0], (found[2] - found[2, 0]) + _mean_shift(pcm), atol=2e-3)


def _mean_shift(pcm: Pcm) -> npt.NDArray[np.float32]:
    """What taking the mean away has moved, against the first band."""
    from qasr.engines.diarizer import fbank as module  # noqa: PLC0415 - its parts

    frames = np.lib.stride_tricks.sliding_window_view(pcm * np.float32(32768), FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * module._window(), 512)) ** 2
    mean = np.log(np.maximum(power @ module._filters(), module.FLOOR)).mean(axis=0)
    return np.asarray(mean - mean[0], np.float32)


@given(n_samples=st.integers(1, 40 * SAMPLE_RATE))
def test_windows_answer_for_every_sample_once(n_samples: int) -> None:
    """What they answer for makes up the segment, and lies in them; none is longer than the model takes."""
    size = 10 * SAMPLE_RATE
    found = windows(n_samples, size)

    assert [0, *(window.own_end for window in found)] == [*(window.own_begin for window in found), n_samples]
    for window in found:
        assert 0 <= window.begin <= window.own_begin <= window.own_end <= window.end <= n_samples
        assert window.end - window.begin <= size


# ---- whose voices


def people(n_people: int, n_voices: int) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Embeddings around a center for each person, and whose each is; everybody speaks, the first one first."""
    chance = np.random.default_rng(0)
    centers = np.linalg.qr(chance.normal(size=(64, n_people)))[0].T
    who = [*range(n_people), *chance.integers(n_people, size=n_voices - n_people).tolist()]
    noise = chance.normal(size=(n_voices, 64)) / 16
    return (centers[who] + noise).astype(np.float32), who


@pytest.mark.parametrize("n_people", [1, 2, 5, 12])
def test_the_number_of_speakers_is_found(n_people: int) -> None:
    """And they are counted by who speaks first."""
    embeddings, who = people(n_people, 20 * n_people)

    assert who == identify(embeddings, [2000] * len(who), threshold=THRESHOLD)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_a_number_that_is_given_is_kept_to(count: int) -> None:
    """Whether more or fewer would be found; as far as there are so many voices."""
    embeddings, who = people(3, 60)

    assert count == len(set(identify(embeddings, [2000] * 60, threshold=THRESHOLD, count=count)))
    assert min(count, 2) == len(set(identify(embeddings[:2], [2000] * 2, threshold=THRESHOLD, count=count)))
    assert who == identify(embeddings, [2000] * 60, threshold=THRESHOLD, count=3)


def test_scraps_make_no_speaker() -> None:
    """A cough is somebody's who is there."""
    embeddings, who = people(2, 30)
    cough = np.concatenate([embeddings, np.random.default_rng(9).normal(size=(1, 64)).astype(np.float32)])

    found = identify(cough, [2000] * 30 + [200], threshold=THRESHOLD)

    assert who == found[:30]
    assert found[30] in (0, 1)


def test_numbers_stay_for_twelve_hours() -> None:
    """Block after block, the same person has the same number; nothing is compared with everything."""
    embeddings, who = people(6, 14_000)

    assert len(embeddings) > 10 * clustering.BLOCK
    assert who == identify(embeddings, [2500] * len(who), threshold=THRESHOLD)


def test_nobody_is_nobody() -> None:
    """No voices, no speakers; one voice of nothing is one."""
    assert [] == identify(np.zeros((0, 256), np.float32), [], threshold=THRESHOLD)
    assert [0] == identify(np.zeros((1, 256), np.float32), [0], threshold=THRESHOLD)
    assert [0, 0] == identify(np.zeros((2, 256), np.float32), [0, 0], threshold=0.0)


# ---- the embedded models


@pytest.mark.anyio
async def test_three_people_are_told_apart(speech: Speech) -> None:
    """Four turns; where a turn lies, its speaker is found for nearly all of it."""
    talk = conversation(speech)
    async with diarizer({"threads": "1"}) as ears:
        voices = await ears.voices(Segment(pcm=talk.pcm, begin_ms=7000))
        speakers = await ears.identify(voices, None)
        assert speakers == await ears.identify(voices, 3)
        assert [] == await ears.identify([], None)
    turns = turns_of(voices, speakers)

    assert {0, 1, 2} == set(speakers)
    for begin, end, who in talk.turns:
        shares = [0, 0, 0]
        for turn in turns:
            shares[turn.speaker] += max(0, min(end + 7000, turn.end_ms) - max(begin + 7000, turn.begin_ms))
        assert shares[who] > 0.5 * (end - begin), (begin, shares)  # Kennedy pauses for long
        assert shares[who] > 0.9 * sum(shares), (begin, shares)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "pcm", [np.zeros(1, np.float32), np.zeros(SAMPLE_RATE, np.float32), np.full(3 * SAMPLE_RATE, np.nan, np.float32)]
)
async def test_silence_has_no_voices(pcm: Pcm) -> None:
    """Nor has what is shorter than a frame, or no sound at all."""
    async with diarizer({"threads": "1"}) as ears:
        assert [] == await ears.voices(Segment(pcm=pcm, begin_ms=0))


def test_other_files_are_not_taken_for_the_models(tmp_path: Path) -> None:
    """A package of another version; the message says what helps."""
    library = tmp_path / "libmoonshine.so"
    library.write_bytes(b"\0\0\0\0ORTM" * 100)

    with pytest.raises(EngineUnavailable, match=r"moonshine-voice==0\.0\.73"):
        community.load(library)
    library.write_bytes(b"")
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        community.load(library)


@pytest.mark.anyio
@pytest.mark.parametrize("settings", [{"threads": "-1"}, {"threshold": "1.5"}, {"threads": "many"}])
async def test_wrong_settings_are_refused(settings: dict[str, str]) -> None:
    """Before a process is started."""
    with pytest.raises(ValueError, match=r"diarizer|invalid literal"):
        async with diarizer(settings):
            pass


# ---- models of a folder


def segmentation(folder: Path, *, without: str = "") -> None:
    """As pyannote's: 7 classes per frame of 10 s; one person speaks where it is loud, another where it is louder."""
    g = Graph(x=(F, ["N", 1, 160_000]))
    g("Abs", "x", to="loudness")
    mean = g("AveragePool", "loudness", kernel_shape=[991], strides=[270], pads=[0, 0])
    row = g("Transpose", mean, perm=[0, 2, 1])
    zero, one, two = (g("Mul", row, g.constant([slope])) for slope in (0.0, 10.0, 40.0))
    levels = [g("Add", level, g.constant([start])) for level, start in ((zero, 0.0), (one, -0.05), (two, -2.0))]
    never = g("Add", zero, g.constant([-100.0]))
    g("Concat", *levels, never, never, never, never, to="y", axis=2)
    properties: dict[str, Any] = {
        "num_speakers": 3, "powerset_max_classes": 2, "num_classes": 7, "sample_rate": SAMPLE_RATE,
        "window_size": 160_000, "receptive_field_size": 991, "receptive_field_shift": 270,
        "model_type": "pyannote-segmentation-3.0",
    }  # fmt: skip
    properties.pop(without, None)
    g.save(folder / "segmentation.onnx", {"y": (F, ["N", "T", 7])}, **properties)


def embedding(folder: Path, *, without: str = "") -> None:
    """As WeSpeaker's: the mean of the features over time."""
    g = Graph(feats=(F, ["B", "T", 80]))
    g("ReduceMean", "feats", to="embs", axes=[1], keepdims=0)
    properties: dict[str, Any] = {
        "framework": "wespeaker", "language": "English", "url": "", "comment": "", "sample_rate": SAMPLE_RATE,
        "output_dim": 80, "normalize_features": 1, "feature_normalize_type": "",
        "normalize_samples": 1,
    }  # fmt: skip
    properties.pop(without, None)
    g.save(folder / "embedding.onnx", {"embs": (F, ["B", 80])}, **properties)


@pytest.mark.anyio
async def test_models_of_a_folder_are_used(tmp_path: Path) -> None:
    """The true library with models of some kilobytes, of the true signatures."""
    segmentation(tmp_path)
    embedding(tmp_path)
    noise = np.random.default_rng(1).normal(size=8 * SAMPLE_RATE).astype(np.float32)
    noise[: 3 * SAMPLE_RATE] *= 0.03
    noise[3 * SAMPLE_RATE : 4 * SAMPLE_RATE] = 0
    noise[4 * SAMPLE_RATE :] *= 0.15

    async with diarizer({"folder": str(tmp_path), "threads": "1"}) as ears:
        voices = await ears.voices(Segment(pcm=noise, begin_ms=0))
        speakers = await ears.identify(voices, None)

    assert "segmentation.onnx embedding.onnx" == ears.name
    assert len(speakers) == len(voices) > 2
    assert {80 * 4} == {len(voice.embedding) for voice in voices}
    spans = sorted((voice.begin_ms, voice.end_ms) for voice in voices)
    assert spans[0][0] < 200
    assert not [span for span in spans if span[0] < 3300 and span[1] > 3700]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("files", "named"),
    [
        ((), "segmentation"),
        (("segmentation",), "embedding"),
        (("segmentation-num_speakers", "embedding"), "num_speakers"),
        (("segmentation", "embedding-output_dim"), "output_dim"),
        (("damaged", "embedding"), "damaged"),
    ],
)
async def test_folders_that_lack_something_are_refused(tmp_path: Path, files: tuple[str, ...], named: str) -> None:
    """By name, and before the library would end its process."""
    for file in files:
        name, _, without = file.partition("-")
        if name == "damaged":
            (tmp_path / "segmentation.onnx").write_bytes(b"no model" * 100)
        else:
            {"segmentation": segmentation, "embedding": embedding}[name](tmp_path, without=without)

    with pytest.raises(EngineUnavailable, match=named):
        async with diarizer({"folder": str(tmp_path)}):
            pass


def test_what_is_installed_is_known_without_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder counts, whatever is in it: what is wrong with it is told to who asks."""
    assert is_installed({})
    monkeypatch.setattr(community, "locate", lambda: None)

    assert not is_installed({})
    assert is_installed({"folder": "models"})

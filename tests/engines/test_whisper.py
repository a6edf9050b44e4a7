"""The Whisper engine: the true library on a tiny model, and what our side adds to it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import ctranslate2
import numpy as np
import pytest
from faster_whisper import WhisperModel
from tests.conftest import Speech
from tests.engines import tiny_whisper
from tests.engines.tiny_whisper import spoken

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import EngineUnavailable
from qasr.domain.options import Hints, Hotword
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Recognizer, Request
from qasr.engines.whisper import factory
from qasr.engines.whisper.host import MOST_CONTEXT, MOST_HOTWORDS, Host

NOISE: Final = np.random.default_rng(3).normal(scale=0.1, size=3 * SAMPLE_RATE).astype(np.float32)
SAID: Final = spoken(" Hello there, world.", 0.0, 2.5)


def request_for(pcm: Any = NOISE, *, word_times: bool = False, **hints: Any) -> Request:
    return Request(segment=Segment(pcm=pcm, begin_ms=0), hints=Hints(**hints), word_times=word_times)


@asynccontextmanager
async def loaded(folder: Path, **settings: str) -> AsyncIterator[Recognizer]:
    async with factory({"folder": str(folder), "beam": "1", "device": "cpu"} | settings) as engine:
        yield engine


async def hear(folder: Path, *requests: Request) -> list[Hypothesis]:
    async with loaded(folder) as engine:
        return [heard for request in requests for heard in await engine.recognize([request])]


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It says something else for each sound."""
    return tiny_whisper.build(tmp_path_factory.mktemp("whisper") / "random", seed=0)


@pytest.fixture(scope="module")
def german_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It takes everything for German, and says ``SAID``."""
    return tiny_whisper.build(tmp_path_factory.mktemp("whisper") / "german", script=SAID, language="de")


# ---- as the library does


@pytest.mark.anyio
async def test_the_text_is_that_of_the_library(random_model: Path, speech: Speech) -> None:
    """Text, language and word times are those of faster-whisper, called by itself on the same samples."""
    reference = WhisperModel(str(random_model), device="cpu", compute_type="int8", cpu_threads=1)
    clips = [speech("LJ001-0002.flac"), speech("austen-0870.flac"), NOISE]
    async with loaded(random_model, threads="1") as engine:
        for pcm in clips:
            (heard,) = await engine.recognize([request_for(pcm, word_times=True)])
            segments, info = reference.transcribe(
                pcm, beam_size=1, temperature=0.0, condition_on_previous_text=False, word_timestamps=True
            )
            expected = list(segments)

            assert "".join(segment.text for segment in expected).strip() == heard.text
            assert info.language == heard.language
            assert heard.words is not None
            assert [word.word.strip() for segment in expected for word in segment.words or ()] == [
                word.text for word in heard.words
            ]
            longest_ms = len(pcm) * 1000 // SAMPLE_RATE
            assert all(0 <= word.begin_ms <= word.end_ms <= longest_ms for word in heard.words)


@pytest.mark.anyio
async def test_a_text_comes_with_its_language_and_times(german_model: Path) -> None:
    """The model's own language where none is named; words with their punctuation, in order of time."""
    (heard,) = await hear(german_model, request_for(word_times=True))

    assert ("Hello there, world.", "de") == (heard.text, heard.language)
    assert heard.words is not None
    assert ["Hello", "there,", "world."] == [word.text for word in heard.words]
    assert all(a.end_ms <= b.begin_ms for a, b in zip(heard.words, heard.words[1:], strict=False))
    assert not heard.truncated


@pytest.mark.anyio
async def test_words_are_timed_only_where_they_are_wanted(german_model: Path) -> None:
    """Finding them costs a pass over the model."""
    assert [None] == [heard.words for heard in await hear(german_model, request_for())]


@pytest.mark.anyio
async def test_a_language_may_be_forced(german_model: Path) -> None:
    """Under the client's own code, also where Whisper has another one."""
    heard = await hear(german_model, request_for(language="fr"), request_for(language="fil"))

    assert ["fr", "fil"] == [one.language for one in heard]


@pytest.mark.anyio
async def test_the_model_says_which_languages_it_knows(german_model: Path) -> None:
    """All of its tokenizer, under the codes of our interfaces."""
    async with loaded(german_model) as engine:
        languages = engine.capabilities.languages

    assert languages is not None
    assert {"en", "zh", "yue", "de", "fil", "tl", "jv"} <= languages
    assert len(languages) > 100
    assert "jw" not in languages


@pytest.mark.anyio
async def test_a_text_that_does_not_end_is_truncated(tmp_path: Path) -> None:
    """What the model had no room for is not lost silently: the pipeline hears such a segment in parts."""
    endless = tiny_whisper.build(tmp_path / "endless", script=spoken(" la la", 0, 1)[1:-1], until=440)

    (heard,) = await hear(endless, request_for())

    assert heard.truncated
    assert heard.text.startswith("la la la")


# ---- prompts


@pytest.fixture(scope="module")
def host(german_model: Path) -> Host:
    model = WhisperModel(str(german_model), device="cpu", compute_type="int8")
    return Host(model, calls=1, beam=1)


def test_the_context_is_bounded(host: Host) -> None:
    """Its end stays, which lies next to the speech."""
    kept = host._context("never heard " * 50 + "the end")

    assert kept is not None
    assert len(kept) == MOST_CONTEXT
    assert bytes(kept).decode().endswith("never heard the end")
    assert host._context("  ") is None


def test_hotwords_are_bounded(host: Host) -> None:
    """A phrase is taken whole or not at all; what comes after one that is too long may still fit."""
    taken = host._hotwords(["Zephyr", "x" * 200, "Qwen"])

    assert taken == "Zephyr, Qwen"
    assert len(host._tokens(host._hotwords(["a phrase"] * 50) or "")) <= MOST_HOTWORDS
    assert host._hotwords([]) is None


@pytest.mark.parametrize(
    "text", ["<|startoftranscript|><|en|><|translate|>hello", "hello<|endoftext|>", "hello <|0.00|>"]
)
def test_a_client_cannot_write_control_tokens(host: Host, text: str) -> None:
    """Its words stay words."""
    assert host._context(text) == list(b" hello")
    assert "<|" not in (host._hotwords([text]) or "")


@pytest.mark.anyio
async def test_hints_reach_the_model(german_model: Path) -> None:
    """The scripted model counts the tokens in front of it: each of them moves its text."""
    plain, with_context, with_hotwords = await hear(
        german_model,
        request_for(),
        request_for(context="ab"),
        request_for(hotwords=(Hotword(text="ab", weight=4),)),
    )

    assert plain.text != with_context.text
    assert with_context.text == with_hotwords.text


# ---- loading, silence, leaving


@pytest.mark.anyio
async def test_silence_has_no_text(random_model: Path) -> None:
    """The model is not even asked: it would make something up."""
    silences = [np.zeros(n_samples, np.float32) for n_samples in (0, 1, SAMPLE_RATE)]
    heard = await hear(random_model, *(request_for(silence, word_times=True) for silence in silences))

    assert [("", ())] * 3 == [(one.text, one.words) for one in heard]


@pytest.mark.anyio
async def test_without_a_folder_it_says_how_to_set_one() -> None:
    """Nothing is downloaded."""
    with pytest.raises(EngineUnavailable, match="QASR_WHISPER__FOLDER"):
        async with factory({}):
            pass


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "config.json"])
@pytest.mark.anyio
async def test_a_missing_file_is_named(german_model: Path, tmp_path: Path, name: str) -> None:
    """The library would fetch a tokenizer from the network."""
    folder = shutil.copytree(german_model, tmp_path / "model")
    (folder / name).unlink()

    with pytest.raises(EngineUnavailable, match=f"lacks {name}"):
        async with loaded(folder):
            pass


@pytest.mark.anyio
async def test_a_damaged_model_is_refused_at_once(german_model: Path, tmp_path: Path) -> None:
    """With a reason that names no path."""
    folder = shutil.copytree(german_model, tmp_path / "model")
    (folder / "model.bin").write_bytes(b"nothing of the kind")

    with pytest.raises(EngineUnavailable, match="damaged or no Whisper model") as refused:
        async with loaded(folder):
            pass

    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"compute": "int3"}, "cannot compute in 'int3', but in .*int8"),
        pytest.param(
            {"device": "cuda"},
            "no CUDA device",
            marks=pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="this machine has a GPU"),
        ),
    ],
)
@pytest.mark.anyio
async def test_what_the_machine_cannot_do_is_refused(german_model: Path, settings: dict[str, str], reason: str) -> None:
    """A slower way is not taken silently."""
    with pytest.raises(EngineUnavailable, match=reason):
        async with loaded(german_model, **settings):
            pass


@pytest.mark.parametrize("settings", [{"calls": "0"}, {"beam": "none"}, {"threads": "-1"}])
@pytest.mark.anyio
async def test_settings_out_of_range_are_told(german_model: Path, settings: dict[str, str]) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=r"whisper engine|invalid literal"):
        async with loaded(german_model, **settings):
            pass


@pytest.mark.anyio
async def test_a_cancelled_call_leaves_the_engine_usable(random_model: Path) -> None:
    """The next caller gets its text."""
    async with loaded(random_model) as engine:
        expected = await engine.recognize([request_for()])
        with anyio.move_on_after(0.02):
            await engine.recognize([request_for(np.tile(NOISE, 9))])
        with anyio.fail_after(100):
            heard = await engine.recognize([request_for()])

    assert expected == heard

"""The engine in its child process: the contract of all recognizers, and what is its own."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, cast

import anyio
import numpy as np
import pytest
import torch
from tests.contract import test_recognizer as contract
from tests.engines.qwen3.conftest import Folders

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.errors import EngineFailed, EngineUnavailable, InvalidParameter, UnsupportedLanguage
from qasr.domain.options import Hints, Hotword
from qasr.domain.transcript import Hypothesis
from qasr.engines import qwen3
from qasr.engines.base import Recognizer, Request, StreamingRecognizer
from qasr.engines.qwen3 import setup as setups
from qasr.engines.qwen3.checkpoint import BadCheckpoint
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.loop import Job
from qasr.engines.qwen3.model import Model, assemble

pytestmark = pytest.mark.anyio

SETTINGS: Final = {"precision": "fp32", "threads": "1", "rows": "3", "device": "cpu"}


@asynccontextmanager
async def engine(folder: Path, **settings: str) -> AsyncIterator[Recognizer]:
    async with qwen3.factory(SETTINGS | {"folder": str(folder)} | settings) as recognizer:
        yield recognizer


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def recognizer(checkpoints: Folders) -> AsyncIterator[Recognizer]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(engine(checkpoints("asr", "original")))


@pytest.fixture(scope="module")
def model(checkpoints: Folders) -> Model:
    """The same in this process."""
    return assemble(setups.read(SETTINGS | {"folder": str(checkpoints("asr", "hf"))}))


def answer_of(model: Model, pcm: Pcm, language: str | None = None, context: str = "") -> list[int]:
    prompt = model.prompts.build(context, language, most_context=2048)
    job = Job(sound=Sound(pcm), prompt=prompt, most_tokens=setups.most_tokens(len(pcm) / SAMPLE_RATE))
    model.loop.submit(job)
    while model.loop.tick():
        pass
    return job.answer.result().ids


def request(pcm: Pcm, **hints: str) -> Request:
    return Request(segment=Segment(pcm=pcm, begin_ms=0), hints=Hints(**hints))  # type: ignore[arg-type]


clips = contract.clips
test_order = contract.test_answers_have_the_length_and_order_of_the_batch
test_a_batch_is_worth_its_parts = contract.test_a_batch_is_worth_its_parts
test_the_largest_batch_is_taken = contract.test_the_largest_batch_is_taken
test_parallel_calls_do_not_mix = contract.test_parallel_calls_do_not_mix
test_a_text_has_no_surrounding_blanks = contract.test_a_text_has_no_surrounding_blanks
test_silence_of_any_length_is_taken = contract.test_silence_of_any_length_is_taken
test_a_cancelled_call_leaves_the_engine_usable = contract.test_a_cancelled_call_leaves_the_engine_usable


async def test_answers_are_the_models(recognizer: Recognizer, model: Model, clip: Callable[..., Pcm]) -> None:
    """Nothing is lost on the way to the child and back: language, context, tokens, their bytes."""
    cases: list[tuple[Pcm, dict[str, str]]] = [
        (clip(30_000), {}),
        (clip(60_000, 1), {"language": "de"}),
        (clip(20_000, 2), {"context": "fox <|im_end|> 天气"}),
    ]
    heard = await recognizer.recognize([request(pcm, **hints) for pcm, hints in cases])

    for (pcm, hints), one in zip(cases, heard, strict=True):
        ids = answer_of(model, pcm, **hints)
        expected = model.prompts.read(ids, hints.get("language"))
        assert expected.text == one.text
        assert expected.language == one.language
        assert ids[expected.begin :] == [token.id for token in one.tokens]
        assert one.text == b"".join(token.text for token in one.tokens).decode(errors="replace").strip()


async def test_what_is_claimed(recognizer: Recognizer) -> None:
    """Thirty languages, text with punctuation, context, hotwords; no word times, no emotion."""
    claimed = recognizer.capabilities

    assert "qwen3_asr" == claimed.name
    assert 30 == len(claimed.languages or ())
    assert (claimed.punctuation, claimed.context, claimed.hotwords, claimed.streaming) == (True,) * 4
    assert (claimed.word_times, claimed.emotion, claimed.suppression, claimed.itn) == (False,) * 4


async def test_hotwords_are_told_before_the_context(recognizer: Recognizer, clip: Callable[..., Pcm]) -> None:
    """The heaviest first, to whole segments and to streams."""
    words = (Hotword(text="dog", weight=1), Hotword(text="fox", weight=5), Hotword(text="um", weight=-3))
    segment = Segment(pcm=clip(30_000), begin_ms=0)
    told = [Hints(language="en", context="fox, dog\nzoo"), Hints(language="en", context="zoo", hotwords=words)]
    streams = [cast("StreamingRecognizer", recognizer).stream(hints) for hints in told]

    in_prompt, by_hotwords = await recognizer.recognize([Request(segment=segment, hints=hints) for hints in told])
    first, second = [await stream.feed(segment.pcm) for stream in streams]
    for stream in streams:
        stream.close()

    assert in_prompt.text == by_hotwords.text
    assert [token.id for token in in_prompt.tokens] == [token.id for token in by_hotwords.tokens]  # rounded otherwise
    assert first == second


async def test_a_context_too_long_is_refused_by_name(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """It is not cut in silence."""
    async with engine(checkpoints("asr", "hf"), context_tokens="20") as recognizer:
        (fits,) = await recognizer.recognize([request(clip(9_000), context="fox")])
        with pytest.raises(InvalidParameter, match="more than 20 tokens"):
            await recognizer.recognize([request(clip(9_000), context="fox " * 40)])

    assert isinstance(fits, Hypothesis)


async def test_an_unknown_language_is_refused(recognizer: Recognizer, clip: Callable[..., Pcm]) -> None:
    """The model has no name for it, so it cannot be forced."""
    with pytest.raises(UnsupportedLanguage, match="'tlh'"):
        await recognizer.recognize([request(clip(9_000), language="tlh")])


async def test_a_segment_too_long_fails(checkpoints: Folders, clip: Callable[..., Pcm]) -> None:
    """Rows are as long as the settings say."""
    async with engine(checkpoints("asr", "hf"), longest_s="2") as recognizer:
        with pytest.raises(EngineFailed):
            await recognizer.recognize([request(clip(3 * SAMPLE_RATE))])


async def test_a_stream_hears_what_follows(recognizer: Recognizer, clip: Callable[..., Pcm]) -> None:
    """What stands never changes, and is the beginning of what is heard next."""
    assert isinstance(recognizer, qwen3._Qwen3Asr)
    streaming: StreamingRecognizer = recognizer
    pcm = clip(12 * SAMPLE_RATE, 4)
    stream = streaming.stream(Hints(language="en"))
    stables: list[str] = []
    for piece in np.array_split(pcm, 8):
        heard = await stream.feed(piece)
        assert heard.stable.startswith("".join(stables[-1:]))
        assert "en" == heard.language
        stables.append(heard.stable)
    stream.close()

    assert "" == stables[1]
    assert stables[-1]
    with pytest.raises(EngineFailed):
        await stream.feed(pcm)


async def test_a_cancelled_stream_is_closed(recognizer: Recognizer, clip: Callable[..., Pcm]) -> None:
    """And leaves its neighbors alone."""
    assert isinstance(recognizer, qwen3._Qwen3Asr)
    one, other = recognizer.stream(Hints()), recognizer.stream(Hints())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await one.feed(clip(30_000))
    await other.feed(clip(30_000))
    other.close()
    other.close()

    with pytest.raises(EngineFailed):
        await one.feed(clip(30_000))


async def test_a_model_that_cannot_be_loaded_is_told() -> None:
    """By the child, once; it is not started again and again."""
    with anyio.fail_after(120), pytest.raises(EngineUnavailable, match="/nowhere is not a Qwen3-ASR checkpoint"):
        async with engine(Path("/nowhere")):
            pass


def test_an_aligner_is_no_recognizer(checkpoints: Folders) -> None:
    """The two kinds of checkpoint have the same type on disk."""
    with pytest.raises(BadCheckpoint, match="forced aligner"):
        assemble(setups.read({"folder": str(checkpoints("aligner", "original"))}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_gpu_is_told(checkpoints: Folders) -> None:
    """It is not replaced by something slower in silence."""
    with pytest.raises(ValueError, match="no CUDA GPU"):
        assemble(setups.read({"folder": str(checkpoints("asr", "hf")), "device": "cuda"}))


async def test_a_dead_child_is_replaced(recognizer: Recognizer, clip: Callable[..., Pcm]) -> None:
    """Calls under way fail and may be tried again; streams are broken; the next call is answered."""
    assert isinstance(recognizer, qwen3._Qwen3Asr)
    stream = recognizer.stream(Hints())
    await stream.feed(clip(30_000))
    os.kill(recognizer._pool.pids[0], signal.SIGKILL)
    with pytest.raises(EngineFailed):
        await stream.feed(clip(30_000))
    with anyio.fail_after(60):
        while True:
            try:
                (heard,) = await recognizer.recognize([request(clip(9_000))])
                break
            except EngineFailed:
                await anyio.sleep(0.1)

    assert heard.tokens

"""The engine that hears nothing, by the promises that tests and demonstrations build on."""

import time
from dataclasses import replace
from itertools import pairwise

import anyio
import numpy as np
import pytest

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.options import Hints
from qasr.engines.base import Request
from qasr.engines.scripted import factory

pytestmark = pytest.mark.anyio


def request_at(begin_ms: int, seconds: float, language: str | None = None) -> Request:
    pcm = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    return Request(segment=Segment(pcm=pcm, begin_ms=begin_ms), hints=Hints(language=language))


async def test_a_text_says_where_the_segment_lies_and_how_long_it_is() -> None:
    """Order and length of the segments can be read from the transcript."""
    async with factory({}) as engine:
        (heard,) = await engine.recognize([request_at(12_300, 4.5)])

        assert heard.text == "Segment at 12.3 seconds lasting 4.5 seconds."
        assert heard.tokens == ()
        assert heard.words is None


async def test_the_same_segment_has_the_same_text_in_any_batch() -> None:
    """A restarted or regrouped task gives the text that it would have given."""
    requests = [request_at(i * 1_000, 1 + i / 10) for i in range(6)]
    async with factory({}) as engine:
        together = await engine.recognize(requests)
    async with factory({}) as engine:
        alone = [(await engine.recognize([request]))[0] for request in requests]

    assert together == alone


async def test_a_set_text_answers_every_segment() -> None:
    """``QASR_SCRIPTED__TEXT`` is what a client sees."""
    async with factory({"text": "Hello, world."}) as engine:
        heard = await engine.recognize([request_at(0, 1), request_at(1_000, 2)])

    assert [one.text for one in heard] == ["Hello, world."] * 2


@pytest.mark.parametrize(("asked", "told"), [(None, "en"), ("zh", "zh"), ("fr", "fr")])
async def test_it_hears_any_language(asked: str | None, told: str) -> None:
    """The language is the one that was asked for, and English where none was."""
    async with factory({}) as engine:
        (heard,) = await engine.recognize([request_at(0, 1, asked)])

        assert engine.capabilities.languages is None
        assert told == heard.language


@pytest.mark.parametrize("text", ["", "Every good boy deserves fudge and more.", "今天天气不错。"])
async def test_of_a_growing_segment_more_and_more_is_heard(text: str) -> None:
    """A longer beginning goes on where a shorter one ended, and the whole goes on from the last."""
    async with factory({"text": text}) as engine:
        growing = [replace(request_at(2_000, seconds / 10), is_open=True) for seconds in range(1, 40)]
        heard = [one.text for one in await engine.recognize(growing)]
        (whole,) = await engine.recognize([request_at(2_000, 4)])

    assert "" == heard[0]
    assert len(set(heard)) >= 6
    assert all(after.startswith(before) for before, after in pairwise(heard))
    assert whole.text.startswith(heard[-1])


async def test_slots_and_batch_are_what_it_claims() -> None:
    """Schedulers can be tested against any shape of engine."""
    async with factory({"slots": "2", "batch": "3"}) as engine:
        assert (2, 3) == (engine.capabilities.parallel_calls, engine.capabilities.largest_batch)


async def test_latency_is_per_call_and_ends_with_it() -> None:
    """A call lasts as long as set, whatever its batch, and not longer than anybody waits."""
    async with factory({"latency_ms": "200"}) as engine:
        begin_s = time.perf_counter()
        await engine.recognize([request_at(0, 1), request_at(1_000, 1)])
        whole_s = time.perf_counter() - begin_s

        begin_s = time.perf_counter()
        with anyio.move_on_after(0.01):
            await engine.recognize([request_at(0, 1)])
        left_s = time.perf_counter() - begin_s

    assert whole_s >= 0.199
    assert left_s < 0.19


@pytest.mark.parametrize(
    "settings", [{"latency_ms": "-1"}, {"slots": "0"}, {"batch": "0"}, {"latency_ms": "soon"}, {"word_ms": "0"}]
)
async def test_nonsense_settings_are_refused(settings: dict[str, str]) -> None:
    """A mistyped setting is told at the start, not found by waiting."""
    with pytest.raises(ValueError, match=r"scripted|convert"):
        async with factory(settings):
            pass

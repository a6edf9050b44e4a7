"""What every engine keeps that hears growing segments by itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import cast

import pytest

from qasr.domain.audio import Pcm
from qasr.domain.options import Hints
from qasr.engines import scripted
from qasr.engines.base import EngineFactory, StreamingRecognizer, StreamText

pytestmark = pytest.mark.anyio

FACTORIES: dict[str, tuple[EngineFactory, dict[str, str]]] = {"scripted": (scripted.factory, {"word_ms": "300"})}


@pytest.fixture(params=FACTORIES)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[StreamingRecognizer]:
    factory, settings = FACTORIES[request.param]
    async with AsyncExitStack() as stack:
        yield cast("StreamingRecognizer", await stack.enter_async_context(factory(settings)))


async def heard(engine: StreamingRecognizer, pcm: Pcm, n_samples: int) -> list[StreamText]:
    """What is told after each block of *n_samples*."""
    stream = engine.stream(Hints(language="en"))
    told = [await stream.feed(pcm[first : first + n_samples]) for first in range(0, len(pcm), n_samples)]
    stream.close()
    return told


async def test_it_says_that_it_streams(engine: StreamingRecognizer) -> None:
    """The pipeline asks for nothing that is not claimed."""
    assert engine.capabilities.streaming


async def test_stable_text_only_grows(engine: StreamingRecognizer, speech: Callable[[str], Pcm]) -> None:
    """What an engine calls stable it never takes back."""
    told = await heard(engine, speech("jfk.flac"), 6_400)

    assert all(after.stable.startswith(before.stable) for before, after in pairwise(told))
    assert told[-1].stable


async def test_blocks_do_not_matter(engine: StreamingRecognizer, speech: Callable[[str], Pcm]) -> None:
    """The same sound in other blocks gives the same text in the end."""
    pcm = speech("jfk.flac")
    few, many = await heard(engine, pcm, len(pcm)), await heard(engine, pcm, 1_600)

    assert few[-1].stable + few[-1].tail == many[-1].stable + many[-1].tail


async def test_streams_do_not_mix(engine: StreamingRecognizer, speech: Callable[[str], Pcm]) -> None:
    """Each hears its own sound, whatever others hear in between."""
    pcm = speech("jfk.flac")
    alone = await heard(engine, pcm, 16_000)
    one, other = engine.stream(Hints(language="en")), engine.stream(Hints(language="en"))
    told = []
    for first in range(0, len(pcm), 16_000):
        await other.feed(pcm[:1_600])
        told.append(await one.feed(pcm[first : first + 16_000]))

    assert alone == told
    one.close()
    other.close()
    other.close()

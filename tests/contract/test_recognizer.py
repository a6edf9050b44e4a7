"""What every recognizer keeps, whatever is behind it."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import anyio
import numpy as np
import pytest
from tests.engines import tiny_sherpa, tiny_whisper
from tests.engines.upstream.vllm import vllm

from qasr.domain.audio import SAMPLE_RATE, Pcm, Segment
from qasr.domain.options import Hints
from qasr.engines import moonshine, scripted, sherpa, upstream, whisper
from qasr.engines.base import EngineFactory, Recognizer, Request

pytestmark = pytest.mark.anyio

FACTORIES: dict[str, EngineFactory] = {
    "moonshine": moonshine.factory,
    "scripted": scripted.factory,
    "sherpa": sherpa.factory,
    "upstream": upstream.factory,
    "whisper": whisper.factory,
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """Of engines that do not bring their model: tiny ones with random weights, and a server that knows what to say."""
    whispering = tiny_whisper.build(tmp_path_factory.mktemp("whisper"))
    sensing = tiny_sherpa.sense_voice(tmp_path_factory.mktemp("sherpa"))
    with vllm() as server:
        yield {
            "whisper": {"folder": str(whispering), "beam": "1", "calls": "2", "device": "cpu"},
            "sherpa": {"folder": str(sensing), "itn": "asked"},
            "upstream": {"urls": server.url},
        }


@pytest.fixture(params=FACTORIES)
async def recognizer(request: pytest.FixtureRequest, settings: dict[str, dict[str, str]]) -> AsyncIterator[Recognizer]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(FACTORIES[request.param](settings.get(request.param, {})))


@pytest.fixture
def clips(speech: Callable[[str], Pcm]) -> list[Request]:
    names = ("LJ001-0004.flac", "LJ001-0002.flac", "austen-0870.flac")
    return as_requests([speech(name) for name in names])


def as_requests(pcms: Sequence[Pcm]) -> list[Request]:
    hints = Hints(language="en")
    return [
        Request(segment=Segment(pcm=pcm, begin_ms=i * 10_000), hints=hints, word_times=True)
        for i, pcm in enumerate(pcms)
    ]


async def test_answers_have_the_length_and_order_of_the_batch(recognizer: Recognizer, clips: list[Request]) -> None:
    """The caller matches answers to segments by position alone."""
    forward = await recognizer.recognize(clips)
    backward = await recognizer.recognize(clips[::-1])

    assert [one.text for one in forward] == [one.text for one in backward[::-1]]
    assert len({one.text for one in forward}) == len(clips)


async def test_a_batch_is_worth_its_parts(recognizer: Recognizer, clips: list[Request]) -> None:
    """How the scheduler groups segments does not show in the text of clear speech.

    Where an engine quantizes over the whole batch, doubtful words may go one way or the other.
    """
    together = await recognizer.recognize(clips)
    alone = [(await recognizer.recognize([clip]))[0] for clip in clips]

    assert [one.text for one in alone] == [one.text for one in together]


async def test_the_largest_batch_is_taken(recognizer: Recognizer, clips: list[Request]) -> None:
    """What is claimed is kept."""
    n_segments = recognizer.capabilities.largest_batch
    heard = await recognizer.recognize([clips[1]] * n_segments)

    assert n_segments == len(heard)
    assert len({one.text for one in heard}) == 1


async def test_parallel_calls_do_not_mix(recognizer: Recognizer, clips: list[Request]) -> None:
    """Calls that overlap, even more of them than claimed, each get their own answer."""
    alone = [(await recognizer.recognize([clip]))[0].text for clip in clips]
    heard: dict[int, str] = {}

    async def hear(place: int) -> None:
        heard[place] = (await recognizer.recognize([clips[place % len(clips)]]))[0].text

    n_calls = recognizer.capabilities.parallel_calls * len(clips)
    async with anyio.create_task_group() as group:
        for place in range(n_calls):
            group.start_soon(hear, place)

    assert [alone[place % len(clips)] for place in range(n_calls)] == [heard[place] for place in range(n_calls)]


async def test_capabilities_are_constant_and_kept(recognizer: Recognizer, clips: list[Request]) -> None:
    """What an engine claims is true of its answers."""
    before = recognizer.capabilities
    (heard,) = await recognizer.recognize(clips[:1])

    assert before == recognizer.capabilities
    assert before.name in FACTORIES
    assert before.languages is None or heard.language in before.languages
    assert before.word_times == (heard.words is not None)
    assert heard.emotion is None or before.emotion


async def test_a_text_has_no_surrounding_blanks(recognizer: Recognizer, clips: list[Request]) -> None:
    """Joining sentences is the pipeline's affair."""
    for one in await recognizer.recognize(clips):
        assert one.text.strip() == one.text


@pytest.mark.parametrize("n_samples", [0, 1, SAMPLE_RATE // 100, SAMPLE_RATE])
async def test_silence_of_any_length_is_taken(recognizer: Recognizer, n_samples: int) -> None:
    """A segment that holds nothing is answered, not failed."""
    heard = await recognizer.recognize(as_requests([np.zeros(n_samples, np.float32)]))

    assert len(heard) == 1


async def test_a_cancelled_call_leaves_the_engine_usable(recognizer: Recognizer, clips: list[Request]) -> None:
    """Whoever leaves early takes nothing away from the next."""
    expected = (await recognizer.recognize(clips[:1]))[0].text
    for _ in range(recognizer.capabilities.parallel_calls + 1):
        with anyio.move_on_after(0.01):
            await recognizer.recognize(clips)
    with anyio.fail_after(20):
        (heard,) = await recognizer.recognize(clips[:1])

    assert expected == heard.text

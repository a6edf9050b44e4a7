"""Whose segment is heard next, and what happens to those who leave or fail."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import EngineFailed, InvalidParameter, QueueFull
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Capabilities, Request
from qasr.engines.slots import EngineSlots, Lane

pytestmark = pytest.mark.anyio


class Gated:
    """A recognizer whose calls wait until the test lets them go, and which notes what it was given."""

    def __init__(self, *, parallel: int = 1, batch: int = 1, fail: Callable[[str], bool] = lambda _: False) -> None:
        self.capabilities = Capabilities(
            name="gated", languages=None, longest_s=30, parallel_calls=parallel, largest_batch=batch
        )
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.gate = asyncio.Event()
        self._fail = fail

    async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
        names = [request.hints.context for request in batch]
        self.calls.append(names)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(names)
            raise
        if "refused" in names:
            raise InvalidParameter("not this", parameter="messages")
        if any(map(self._fail, names)):
            raise EngineFailed("no")
        return [Hypothesis(text=name) for name in names]


def request(name: str, seconds: float = 1.0) -> Request:
    """A request that can be told apart by its name."""
    segment = Segment(pcm=np.zeros(int(seconds * SAMPLE_RATE), np.float32), begin_ms=0)
    return Request(segment=segment, hints=Hints(context=name))


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_live_before_synchronous_before_files() -> None:
    """When the engine becomes free, the most urgent lane goes first, whatever came first."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        for name, lane in (("busy", Lane.SYNC), ("file", Lane.FILE), ("sync", Lane.SYNC), ("live", Lane.LIVE)):
            group.start_soon(partial(slots.recognize, request(name), lane=lane, owner="a"))
            await settle()
        engine.gate.set()

    assert [["busy"], ["live"], ["sync"], ["file"]] == engine.calls


async def test_files_are_served_beside_a_steady_stream_of_urgent_work() -> None:
    """Weights, not absolute priority: a file moves on although synchronous requests never run out."""
    engine = Gated()
    engine.gate.set()
    async with EngineSlots(engine, queue_audio_s=1000) as slots, anyio.create_task_group() as group:
        for i in range(40):
            group.start_soon(partial(slots.recognize, request(f"sync{i}"), lane=Lane.SYNC, owner="a"))
        group.start_soon(partial(slots.recognize, request("file1"), lane=Lane.FILE, owner="a"))
        group.start_soon(partial(slots.recognize, request("file2"), lane=Lane.FILE, owner="a"))

    order = [name for call in engine.calls for name in call]

    assert order.index("file1") < 15
    assert order.index("file2") < 35


async def test_partials_wait_for_all_finals() -> None:
    """What will be heard again goes behind what is heard once, however much of that there is; files are not starved."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        for name, lane in (("busy", Lane.SYNC), ("partial", Lane.PARTIAL), ("file", Lane.FILE)):
            group.start_soon(partial(slots.recognize, request(name), lane=lane, owner="a"))
            await settle()
        for i in range(200):
            group.start_soon(partial(slots.recognize, request(f"final{i}"), lane=Lane.LIVE, owner="b"))
        await settle()

        assert slots.has_waiting(Lane.LIVE)
        engine.gate.set()

    order = [name for call in engine.calls for name in call]
    assert order.index("file") < order.index("partial")
    assert max(order.index(f"final{i}") for i in range(200)) < order.index("partial")


async def test_live_speech_is_never_refused() -> None:
    """A live session bounds what it holds itself: a final that found the queue full would be lost."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=2) as slots, anyio.create_task_group() as group:
        for lane in (Lane.LIVE, Lane.PARTIAL):
            for i in range(5):
                group.start_soon(partial(slots.recognize, request(str(i)), lane=lane, owner="a"))
        await settle()
        engine.gate.set()

    assert 10 == sum(len(call) for call in engine.calls)


async def test_owners_take_turns() -> None:
    """A key with much waiting does not delay a key with little."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        for i in range(5):
            group.start_soon(partial(slots.recognize, request(f"much{i}"), lane=Lane.SYNC, owner="much"))
        await settle()
        group.start_soon(partial(slots.recognize, request("little"), lane=Lane.SYNC, owner="little"))
        await settle()
        engine.gate.set()

    assert 2 >= [call[0] for call in engine.calls].index("little")


async def test_segments_of_like_length_share_a_call() -> None:
    """A batch holds like lengths only, since its rows wait for the longest."""
    engine = Gated(batch=8)
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        group.start_soon(partial(slots.recognize, request("busy"), lane=Lane.SYNC, owner="a"))
        await settle()
        for name, seconds in (("a", 10.0), ("b", 1.0), ("c", 11.0), ("d", 1.5)):
            group.start_soon(partial(slots.recognize, request(name, seconds), lane=Lane.SYNC, owner="a"))
        await settle()
        engine.gate.set()

    assert [["busy"], ["a", "c"], ["b", "d"]] == engine.calls


async def test_a_batch_leaves_work_for_the_other_free_calls() -> None:
    """Two free calls and two segments: one each, not both in one batch."""
    engine = Gated(parallel=2, batch=8)
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        for name in ("one", "two"):
            group.start_soon(partial(slots.recognize, request(name), lane=Lane.SYNC, owner=name))
        await settle()
        engine.gate.set()

    assert [["one"], ["two"]] == engine.calls


async def test_a_cancelled_caller_frees_the_call_at_once() -> None:
    """Who leaves while being heard gives the engine to the next."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=100) as slots, anyio.create_task_group() as group:
        leaving = asyncio.create_task(slots.recognize(request("leaving"), lane=Lane.SYNC, owner="a"))
        await settle()
        group.start_soon(partial(slots.recognize, request("next"), lane=Lane.SYNC, owner="a"))
        await settle()
        leaving.cancel()
        await settle()

        assert [["leaving"]] == engine.cancelled
        assert [["leaving"], ["next"]] == engine.calls
        engine.gate.set()


async def test_a_cancelled_caller_leaves_its_neighbors_alone() -> None:
    """One row of a batch may go; the others get their answers."""
    engine = Gated(batch=8)
    async with EngineSlots(engine, queue_audio_s=100) as slots:
        busy = asyncio.create_task(slots.recognize(request("busy"), lane=Lane.SYNC, owner="a"))
        await settle()
        stays = asyncio.create_task(slots.recognize(request("stays"), lane=Lane.SYNC, owner="a"))
        goes = asyncio.create_task(slots.recognize(request("goes"), lane=Lane.SYNC, owner="a"))
        await settle()
        busy.cancel()  # the next two go together now
        await settle()
        goes.cancel()
        await settle()
        engine.gate.set()

        assert "stays" == (await stays).text
        assert [["busy"]] == engine.cancelled


async def test_who_leaves_the_queue_is_never_heard() -> None:
    """A caller that is cancelled while it waits costs the engine nothing."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=100) as slots:
        busy = asyncio.create_task(slots.recognize(request("busy"), lane=Lane.SYNC, owner="a"))
        await settle()
        waiting = asyncio.create_task(slots.recognize(request("waiting"), lane=Lane.SYNC, owner="a"))
        await settle()
        waiting.cancel()
        await settle()
        engine.gate.set()
        await busy

        assert 0.0 == sum(slots.waiting_audio_s.values())
        assert [["busy"]] == engine.calls


async def test_a_poisonous_segment_fails_alone() -> None:
    """A batch that fails is tried again one by one; only the segment that fails every time is lost."""
    engine = Gated(batch=8, fail=lambda name: name == "poison")
    engine.gate.set()
    async with EngineSlots(engine, queue_audio_s=100) as slots:
        names = ("a", "poison", "b")
        calls = [slots.recognize(request(name), lane=Lane.SYNC, owner="x") for name in names]
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert ["a", "b"] == [result.text for result in results if isinstance(result, Hypothesis)]
    assert isinstance(results[1], EngineFailed)


async def test_what_an_engine_refuses_is_not_tried_again() -> None:
    """The one whose fault it is gets the reason; who shared its batch is heard."""
    engine = Gated(batch=8)
    engine.gate.set()
    async with EngineSlots(engine, queue_audio_s=100) as slots:
        calls = [slots.recognize(request(name), lane=Lane.SYNC, owner="x") for name in ("a", "refused", "b")]
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert ["a", "b"] == [result.text for result in results if isinstance(result, Hypothesis)]
    assert isinstance(results[1], InvalidParameter)
    assert 1 == engine.calls.count(["refused"])


async def test_a_full_queue_says_so() -> None:
    """What cannot be heard soon is refused and not collected."""
    engine = Gated()
    async with EngineSlots(engine, queue_audio_s=2) as slots:
        tasks = [asyncio.create_task(slots.recognize(request(str(i)), lane=Lane.SYNC, owner="a")) for i in range(4)]
        await settle()

        with pytest.raises(QueueFull):
            await slots.recognize(request("late"), lane=Lane.SYNC, owner="a")
        engine.gate.set()
        await asyncio.gather(*tasks)


@given(
    st.lists(st.tuples(st.sampled_from(Lane), st.sampled_from("abc"), st.floats(0.1, 30)), max_size=30),
    st.integers(1, 3),
    st.integers(1, 8),
)
def test_every_request_gets_its_own_answer(work: list[tuple[Lane, str, float]], parallel: int, batch: int) -> None:
    """Whatever the mixture of lanes, owners, lengths and batches: one answer each, and the right one."""

    async def run() -> list[str]:
        engine = Gated(parallel=parallel, batch=batch)
        engine.gate.set()
        async with EngineSlots(engine, queue_audio_s=10_000) as slots:
            calls = [
                slots.recognize(request(str(i), seconds), lane=lane, owner=owner)
                for i, (lane, owner, seconds) in enumerate(work)
            ]
            answers = [hypothesis.text for hypothesis in await asyncio.gather(*calls)]
        assert all(len(call) <= batch for call in engine.calls)
        return answers

    assert [str(i) for i in range(len(work))] == asyncio.run(run())

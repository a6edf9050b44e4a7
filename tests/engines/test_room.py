"""The engine room: the right engine for each name, no more of them than wanted, none taken away from who hears."""

import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.errors import EngineUnavailable, QueueFull
from qasr.domain.options import Hints
from qasr.engines import room as rooms
from qasr.engines import scripted
from qasr.engines.base import Recognizer, Request
from qasr.engines.registry import LoadedEngines
from qasr.engines.room import DEFAULT, Choice, EngineRoom
from qasr.engines.slots import Lane

pytestmark = pytest.mark.anyio

SMALL = Choice(engine="scripted", settings={"text": "small"}, checkpoint="small", n_bytes=100)
LARGE = Choice(engine="scripted", settings={"text": "large"}, checkpoint="large", n_bytes=300)
BROKEN = Choice(engine="nonesuch", checkpoint="broken")
NAMES = {DEFAULT: [SMALL], "one": [SMALL], "also-one": [SMALL], "two": [LARGE], "none": []}


def choices(names: Mapping[str, Sequence[Choice]] = NAMES) -> Callable[[str], Sequence[Choice]]:
    return lambda model: names[model]


async def says(engines: LoadedEngines) -> str:
    """What they hear in a second of nothing."""
    segment = Segment(pcm=np.zeros(SAMPLE_RATE, np.float32), begin_ms=0, channel=0, speech_probability=1.0)
    heard = await engines.slots.recognize(Request(segment=segment, hints=Hints()), lane=Lane.SYNC, owner="me")
    return heard.text


def names(room: EngineRoom) -> list[str | None]:
    """Checkpoints of what is loaded."""
    return [state.checkpoint for state in room.states() if state.state == "loaded"]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - a room tells nobody
            await anyio.sleep(0.005)


async def test_each_name_is_heard_by_its_own_engine() -> None:
    """Two names, two engines, at the same time; each tells what it was loaded from."""
    async with EngineRoom(choices()) as room, room.lease("one") as one, room.lease("two") as two:
        assert ("small", "large") == (await says(one), await says(two))
        assert ("small", "large") == (one.checkpoint, two.checkpoint)
        assert "scripted" == one.name


async def test_names_share_what_they_have_in_common() -> None:
    """One engine per checkpoint, one detector of speech and one aligner for all."""
    async with (
        EngineRoom(choices()) as room,
        room.lease("one") as one,
        room.lease("also-one") as same,
        room.lease("two") as two,
    ):
        assert one is same
        assert one.vad is two.vad
        assert one.live_vad is two.live_vad
        assert one.aligner is two.aligner
        assert [("small", 2), ("large", 1)] == sorted(((s.checkpoint, s.leases) for s in room.states()), reverse=True)


async def test_only_what_is_wanted_is_loaded() -> None:
    """At the start the default engine, or none, or more; others when they are asked for."""
    async with EngineRoom(choices()) as room:
        assert "loading" in str(room.problem)
        await until(lambda: room.problem is None)
        assert ["small"] == names(room)

    async with EngineRoom(choices(), preload=()) as room:
        assert room.problem is None
        assert [] == room.states()
        async with room.lease("two"):
            assert ["large"] == names(room)

    async with EngineRoom(choices(), preload=("one", "two")) as room:
        await until(lambda: room.problem is None)
        assert ["large", "small"] == names(room)


async def test_many_who_ask_at_once_get_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory is entered once; who gives up while it loads takes nothing from the others."""
    entered = []

    @asynccontextmanager
    async def factory(settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
        entered.append(settings)
        await anyio.sleep(0.05)
        async with scripted.factory(settings) as recognizer:
            yield recognizer

    monkeypatch.setattr(scripted, "slow", factory, raising=False)
    register(monkeypatch, slow="qasr.engines.scripted:slow")
    heard: list[str] = []

    async def ask() -> None:
        async with room.lease("one") as engines:
            heard.append(await says(engines))

    slow = Choice(engine="slow", settings={"text": "slow"})
    async with EngineRoom(lambda _: [slow], preload=()) as room, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        with anyio.move_on_after(0.01):
            await ask()

    assert ["slow"] * 5 == heard
    assert 1 == len(entered)


async def test_idle_engine_is_unloaded_and_comes_back() -> None:
    """But not while it is used, and never the default one."""
    async with EngineRoom(choices(), idle_s=0.02) as room:
        async with room.lease("two") as engines:
            await anyio.sleep(0.1)  # longer than it may be idle
            assert "large" == await says(engines)
        await until(lambda: ["small"] == names(room))
        await anyio.sleep(0.1)
        assert ["small"] == names(room)
        async with room.lease("two") as engines:
            assert "large" == await says(engines)


async def test_memory_is_taken_from_the_engine_that_was_idle_longest() -> None:
    """The one that was used last stays."""
    third = Choice(engine="scripted", settings={"text": "third"}, checkpoint="third", n_bytes=100)
    served = choices(NAMES | {"three": [third]})
    async with EngineRoom(served, preload=(), memory_bytes=400) as room:
        for model in ("one", "two", "one", "three"):
            async with room.lease(model):
                pass

        assert ["small", "third"] == names(room)


async def test_engine_in_use_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants another waits for it, and is told to come later when that takes too long."""
    monkeypatch.setattr(rooms, "MEMORY_WAIT_S", 0.05)
    async with EngineRoom(choices(), preload=(), memory_bytes=300) as room:
        async with room.lease("one") as one:
            with pytest.raises(QueueFull, match="later"):
                await room.lease("two").__aenter__()
            assert "small" == await says(one)
        async with room.lease("two") as two:
            assert "large" == await says(two)
        assert ["large"] == names(room)


async def test_waiting_for_memory_ends_when_it_is_given_back() -> None:
    """The engine that was in use is unloaded before the other one is loaded."""
    async with EngineRoom(choices(), preload=(), memory_bytes=300) as room, anyio.create_task_group() as group:
        heard = []

        async def ask() -> None:
            async with room.lease("two") as engines:
                heard.append((await says(engines), names(room)))

        async with room.lease("one"):
            group.start_soon(ask)
            await until(lambda: any(state.state == "waiting" for state in room.states()))

    assert [("large", ["large"])] == heard


async def test_engine_that_never_fits_gives_way_to_the_next() -> None:
    """More than all memory: the next choice is taken; where there is none, the message names the setting."""
    async with EngineRoom(choices({"m": [LARGE, SMALL], "n": [LARGE]}), preload=(), memory_bytes=200) as room:
        async with room.lease("m") as engines:
            assert "small" == await says(engines)
        with pytest.raises(EngineUnavailable, match="memory_mb"):
            await room.lease("n").__aenter__()


async def test_engine_that_does_not_load_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later, not with each request; where all fail, each is named with its reason."""
    served: dict[str, list[Choice]] = {"m": [BROKEN, SMALL], "n": [BROKEN]}
    async with EngineRoom(choices(served), preload=()) as room:
        async with room.lease("m") as engines:
            assert "small" == await says(engines)
        with pytest.raises(EngineUnavailable, match="broken: no such engine is installed"):
            await room.lease("n").__aenter__()

        register(monkeypatch, nonesuch="qasr.engines.scripted:factory")
        async with room.lease("m") as engines:
            assert "small" == engines.checkpoint
        monkeypatch.setattr(rooms, "RETRY_S", 0.0)
        async with room.lease("m") as engines:
            assert "broken" == engines.checkpoint


async def test_default_that_does_not_load_is_a_problem_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room goes on trying."""
    monkeypatch.setattr(rooms, "RETRY_S", 0.05)
    async with EngineRoom(choices({DEFAULT: [BROKEN]})) as room:
        await until(lambda: "no such engine" in str(room.problem))
        register(monkeypatch, nonesuch="qasr.engines.scripted:factory")
        await until(lambda: room.problem is None)


async def test_bug_of_an_engine_is_told_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory that raises whatever it likes."""

    @asynccontextmanager
    async def factory(_settings: Mapping[str, str]) -> AsyncIterator[Recognizer]:
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(scripted, "buggy", factory, raising=False)
    register(monkeypatch, buggy="qasr.engines.scripted:buggy")
    async with EngineRoom(choices({"m": [Choice(engine="buggy")], "one": [SMALL]}), preload=()) as room:
        with pytest.raises(EngineUnavailable, match="'buggy' failed"):
            await room.lease("m").__aenter__()
        async with room.lease("one") as engines:
            assert "small" == await says(engines)


async def test_model_is_swapped_under_those_who_hear() -> None:
    """A name comes to mean another checkpoint: who hears goes on with the old one, which goes when it is idle."""
    served = {DEFAULT: [SMALL]}
    async with EngineRoom(choices(served), idle_s=0.02) as room:
        async with room.lease() as old:
            served[DEFAULT] = [LARGE, SMALL]
            async with room.lease() as new:
                assert ("small", "large") == (await says(old), await says(new))
        await until(lambda: ["large"] == names(room))


async def test_what_serves_a_name_is_told_without_loading_it() -> None:
    """Its first choice."""
    async with EngineRoom(choices(), preload=()) as room:
        assert "large" == room.chosen("two").name
        assert [] == room.states()
        with pytest.raises(EngineUnavailable, match="installed"):
            room.chosen("none")
        with pytest.raises(EngineUnavailable, match="installed"):
            await room.lease("none").__aenter__()


async def test_leaving_ends_all_that_goes_on() -> None:
    """While engines load, too: who waits for one is told, and nothing hangs."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, EngineRoom(choices(), preload=()) as room:
            group.start_soon(_see_the_end, room)
            await until(lambda: bool(room.states()))


async def _see_the_end(room: EngineRoom) -> None:
    with pytest.raises(EngineUnavailable, match="stopping"):
        await room.lease("one").__aenter__()


def register(monkeypatch: pytest.MonkeyPatch, **engines: str) -> None:
    """Install *engines* for the test: names and what they name."""
    real = importlib.import_module("qasr.engines.registry").installed()
    points = {name: EntryPoint(name, value, "qasr.engines") for name, value in engines.items()}
    monkeypatch.setattr(rooms, "installed", lambda: {**real, **points})

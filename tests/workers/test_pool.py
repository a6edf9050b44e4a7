"""Child processes: calls, cancels, deaths."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import pytest

from qasr.workers import CallFailed, WorkerDied, WorkerKilled, WorkerPool
from qasr.workers import pool as pool_module
from qasr.workers.child import Answer, Cancelled, Refusal

pytestmark = pytest.mark.anyio


class Echo:
    """A handler for the tests; lives in the child."""

    parallel = 1
    about: Mapping[str, object] = {"ready": True}

    def handle(self, method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        match method:
            case "echo":
                yield msgspec.msgpack.decode(body), payload
            case "count":
                for i in range(msgspec.msgpack.decode(body, type=int)):
                    yield i, b""
            case "until-cancelled":
                yield "begun", b""
                while not cancelled():
                    time.sleep(0.005)
            case "stubborn":
                yield "begun", b""
                time.sleep(60)
            case "flood":
                while not cancelled():
                    yield "more", b"x" * 100_000
            case "refuse":
                raise Refusal("why", "because")
            case "babble":
                babble()
            case "environment":
                yield dict(os.environ), b""
            case _:
                os._exit(3)


def babble() -> None:
    for descriptor in range(3, 10):  # one of them leads to the parent
        with suppress(OSError):
            os.write(descriptor, b"\xff" * 8)
    time.sleep(60)


def stuck_once(config: Mapping[str, object]) -> Echo:
    """The first to come never gets ready."""
    try:
        Path(str(config["marker"])).touch(exist_ok=False)
    except FileExistsError:
        return Echo()
    time.sleep(600)
    raise AssertionError


def echo(_config: Mapping[str, object]) -> Echo:
    """Factory for the child."""
    return Echo()


def fussy(_config: Mapping[str, object]) -> Echo:
    """Factory that refuses, with its reason."""
    raise Refusal("model", "the file is empty")


def doomed(_config: Mapping[str, object]) -> Echo:
    """Factory that takes its process along, as libraries do."""
    os._exit(3)


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerPool]:
    monkeypatch.setenv("QASR_AUTH__KEYS", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # noqa: PTH120
    async with WorkerPool("test_pool:echo", {}) as pool:
        yield pool


async def ask(pool: WorkerPool, method: str, body: object = None, payload: bytes = b"") -> list[tuple[object, bytes]]:
    async with pool.call(method, body, payload) as replies:
        return [(msgspec.msgpack.decode(reply), data) async for reply, data in replies]


async def test_values_and_bytes_come_back(pool: WorkerPool) -> None:
    """What goes in comes out, also when it is large."""
    payload = os.urandom(3_000_000)

    assert [({"a": 1}, payload)] == await ask(pool, "echo", {"a": 1}, payload)


async def test_a_slow_reader_holds_the_child_back(pool: WorkerPool) -> None:
    """All items of a long answer arrive, in order, through a bounded queue."""
    assert list(range(1000)) == [item for item, _ in await ask(pool, "count", 1000)]


async def test_a_child_is_free_before_its_answer_is_read(pool: WorkerPool) -> None:
    """What has been answered waits with the reader, and the child serves the next."""
    async with pool.call("count", 3) as slow_reader:
        assert [(1, b"")] == await ask(pool, "echo", 1)
        assert [0, 1, 2] == [msgspec.msgpack.decode(item) async for item, _ in slow_reader]


async def test_a_refusal_keeps_its_word(pool: WorkerPool) -> None:
    """The parent learns why, and the child goes on."""
    with pytest.raises(CallFailed, match="because") as caught:
        await ask(pool, "refuse")

    assert "why" == caught.value.kind
    assert [(1, b"")] == await ask(pool, "echo", 1)


async def test_a_refusal_to_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the child hears why it will not come up, and does not wait any longer."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # noqa: PTH120
    async with WorkerPool("test_pool:fussy", {}) as pool:
        with pytest.raises(CallFailed, match="the file is empty") as told:
            await pool.wait_ready()

        assert told.value.kind == "model"
        assert not pool.is_ready


async def test_a_child_that_dies_while_it_loads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be chance once, but not again and again."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # noqa: PTH120
    async with WorkerPool("test_pool:doomed", {}) as pool:
        with pytest.raises(WorkerDied):
            await pool.wait_ready()


async def test_a_child_that_hangs_while_it_loads_keeps_no_other_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They start one after the other, but not only if the one before was lucky."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))  # noqa: PTH120
    monkeypatch.setattr(pool_module, "NEXT_S", 0.05)
    async with WorkerPool("test_pool:stuck_once", {"marker": str(tmp_path / "marker")}, size=2) as pool:
        assert [(1, b"")] == await ask(pool, "echo", 1)

        assert 2 == len(pool.pids)


async def test_a_death_fails_one_call_only(pool: WorkerPool) -> None:
    """The call in hand learns of it; the next one finds a new child."""
    with pytest.raises(WorkerDied) as died:
        await ask(pool, "die")

    assert not isinstance(died.value, WorkerKilled)
    assert [(1, b"")] == await ask(pool, "echo", 1)


async def test_a_killed_child_is_replaced(pool: WorkerPool) -> None:
    """Also when it dies while idle."""
    await pool.wait_ready()
    (before,) = pool.pids
    os.kill(before, signal.SIGKILL)
    with anyio.fail_after(30):
        while before in pool.pids:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)

    assert [(1, b"")] == await ask(pool, "echo", 1)
    assert [before] != pool.pids


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
async def test_a_call_learns_that_its_child_was_killed_by_somebody(pool: WorkerPool, by: signal.Signals) -> None:
    """It may be made again, for the death was not its doing."""
    async with pool.call("until-cancelled") as replies:
        await anext(replies)
        os.kill(pool.pids[0], by)
        with pytest.raises(WorkerKilled):
            await anext(replies)

    assert [(1, b"")] == await ask(pool, "echo", 1)


async def test_a_child_that_speaks_nonsense_is_ended_at_once(pool: WorkerPool) -> None:
    """And that is its call's fault, though it was we who killed it."""
    with pytest.raises(WorkerDied) as died:
        await ask(pool, "babble")

    assert not isinstance(died.value, WorkerKilled)
    assert [(1, b"")] == await ask(pool, "echo", 1)


async def test_leaving_early_frees_the_child(pool: WorkerPool) -> None:
    """A cancelled call ends in the child too, and the same child serves the next."""
    async with pool.call("until-cancelled") as replies:
        await anext(replies)
    pids = pool.pids

    assert [(1, b"")] == await ask(pool, "echo", 1)
    assert pids == pool.pids


async def test_a_child_that_does_not_let_go_is_replaced(pool: WorkerPool) -> None:
    """Nobody waits for a call that ignores its cancel."""
    async with pool.call("stubborn") as replies:
        await anext(replies)
    (before,) = pool.pids

    assert [(1, b"")] == await ask(pool, "echo", 1)
    assert [before] != pool.pids


async def test_a_child_does_not_know_our_secrets(pool: WorkerPool) -> None:
    """A parser that is broken into finds no API key in its environment."""
    ((environment, _),) = await ask(pool, "environment")

    assert isinstance(environment, dict)
    assert not [name for name in environment if name.startswith("QASR_")]


async def test_a_child_that_is_killed_while_it_speaks(pool: WorkerPool) -> None:
    """Output that nobody reads any more does not keep a dead child from being replaced."""
    async with pool.call("flood") as replies:
        await anext(replies)
        await asyncio.sleep(0.2)
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)

    assert [(1, b"")] == await ask(pool, "echo", 1)


async def test_the_end_leaves_no_process_behind() -> None:
    """Leaving the pool ends its children."""
    async with WorkerPool("qasr.pipeline.media:factory", {}) as pool:
        await pool.wait_ready()
        (pid,) = pool.pids

    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110, ASYNC240

"""The durable engine keeps what its port promises, on a SQLite file."""

import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import TypeAlias

import anyio
import msgspec
import pytest
from dbos._error import DBOSAwaitedWorkflowCancelledError

from qasr.domain.task import TaskId
from qasr.jobs.dbos import LAST, _Seldom, durable
from qasr.jobs.port import JobEngine, Steps, Work
from qasr.jobs.workflow import in_order
from qasr.storage.database import create_engine

pytestmark = pytest.mark.anyio

Start: TypeAlias = Callable[[Work], AbstractAsyncContextManager[JobEngine]]
"""Begins a life of the engine, over the same file each time."""


class Value(msgspec.Struct):
    """What the steps here return."""

    text: str


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def life(work: Work) -> AbstractAsyncContextManager[JobEngine]:
        engine = create_engine(f"sqlite:///{tmp_path / 'workflows.db'}")
        return durable(work, engine, executor_id="one", concurrency=2, grace_s=0.5)

    return life


class Journal:
    """A task of ten steps, three at once, that writes down what it does."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.ended = anyio.Event()
        self.before: Callable[[int], Awaitable[None]] = self._nothing
        self.values: list[str] = []

    @staticmethod
    async def _nothing(_number: int) -> None:
        pass

    async def __call__(self, task_id: TaskId, steps: Steps) -> None:
        values: dict[int, str] = {}

        async def one(number: int) -> None:
            async def work() -> Value:
                await self.before(number)
                self.done[f"{task_id}/{number}"] += 1
                return Value(f"value {number}")

            values[number] = (await steps.step(f"step {number}", work, Value)).text

        await in_order(one, range(10), at_once=3)
        self.values = [values[number] for number in range(10)]
        self.ended.set()


async def ended(journal: Journal) -> None:
    with anyio.fail_after(20):
        await journal.ended.wait()


async def wait_until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.02)


async def test_a_task_is_done_and_each_step_once(start: Start) -> None:
    journal = Journal()
    async with start(journal) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        await engine.enqueue(TaskId("a"), priority=1)
        await ended(journal)

    assert [f"value {number}" for number in range(10)] == journal.values
    assert {1} == set(journal.done.values())


async def test_the_next_life_goes_on_where_the_last_one_stopped(start: Start) -> None:
    """What was done is not done again, and its values are what they were."""
    first, second = Journal(), Journal()

    async def hang(number: int) -> None:
        if number >= 5:
            await anyio.sleep_forever()

    first.before = hang
    async with start(first) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        await wait_until(lambda: len(first.done) == 5)
        await anyio.sleep(0.3)  # the last of them is being recorded
    async with start(second):
        await ended(second)

    assert [f"value {number}" for number in range(10)] == second.values
    assert {f"a/{number}" for number in range(5, 10)} == set(second.done)


async def test_told_to_stop_it_lets_steps_end_and_begins_no_more(start: Start) -> None:
    journal = Journal()

    async def slow(_number: int) -> None:
        await anyio.sleep(0.2)

    journal.before = slow
    async with start(journal) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        await wait_until(lambda: len(journal.done) >= 1)
        await engine.stop(5)
        done = len(journal.done)
        await anyio.sleep(0.5)

    assert done == len(journal.done) < 10


async def test_an_error_of_the_house_is_not_remembered(start: Start) -> None:
    """A step that raises (a database that is away, say) is as if it had not begun; the task is picked up again."""
    journal = Journal()
    failures = [OSError("the disk is full"), OSError("the disk is full")]

    async def fail(number: int) -> None:
        if number == 4 and failures:
            raise failures.pop()

    journal.before = fail
    async with start(journal) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        with anyio.fail_after(20):
            while not journal.ended.is_set():
                await engine.pick_up()
                await anyio.sleep(0.3)

    assert [f"value {number}" for number in range(10)] == journal.values
    assert not failures
    assert 1 == journal.done["a/0"]


async def test_a_database_that_is_locked_for_a_while_is_waited_for(start: Start, tmp_path: Path) -> None:
    journal = Journal()
    async with start(journal) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        await wait_until(lambda: len(journal.done) >= 1)
        with closing(sqlite3.connect(tmp_path / "workflows.db", isolation_level=None)) as rude:
            rude.execute("BEGIN IMMEDIATE")
            await anyio.sleep(2)
            rude.execute("ROLLBACK")
        await ended(journal)

    assert {1} == set(journal.done.values())


async def test_ended_and_forgotten_tasks_are_told_from_living_ones(start: Start) -> None:
    journal = Journal()
    gate = anyio.Event()

    async def wait(_number: int) -> None:
        await gate.wait()

    async with start(journal) as engine:
        await engine.enqueue(TaskId("a"), priority=1)
        await ended(journal)
        journal.before, journal.ended = wait, anyio.Event()
        await engine.enqueue(TaskId("b"), priority=1)
        with anyio.fail_after(10):
            while await engine.vanished([TaskId("a")]) != ["a"]:  # noqa: ASYNC110 - it tells nobody
                await anyio.sleep(0.05)
        vanished = await engine.vanished([TaskId("a"), TaskId("b"), TaskId("c")])
        gate.set()
        await ended(journal)
        await engine.forget([TaskId("a"), TaskId("b")])

        assert ["a", "c"] == vanished
        assert ["a", "b"] == await engine.vanished([TaskId("a"), TaskId("b")])


async def test_a_canceled_task_is_not_begun(start: Start) -> None:
    journal = Journal()
    gate = anyio.Event()

    async def wait(_number: int) -> None:
        await gate.wait()

    journal.before = wait
    async with start(journal) as engine:
        for name in ("a", "b", "c"):  # two at once: the third waits
            await engine.enqueue(TaskId(name), priority=2)
        await engine.cancel(TaskId("c"))
        gate.set()
        await wait_until(lambda: len(journal.done) >= 20)
        await anyio.sleep(0.5)

    assert {"a", "b"} == {name.partition("/")[0] for name in journal.done}


async def test_who_has_one_task_waits_for_nobody_who_has_many(start: Start) -> None:
    """Even if those that are under way never end."""
    begun: list[str] = []

    async def hang() -> Value:
        await anyio.sleep_forever()
        return Value("never")

    async def work(task_id: TaskId, steps: Steps) -> None:
        begun.append(task_id)
        if task_id.startswith("many"):
            await steps.step("hang", hang, Value)

    async with start(work) as engine:
        for number in range(1, 9):
            await engine.enqueue(TaskId(f"many-{number}"), priority=number)
        await wait_until(lambda: len(begun) == 3)  # the first, and two others
        await engine.enqueue(TaskId("alone"), priority=1)
        await wait_until(lambda: "alone" in begun)

    assert {"many-1", "many-2", "many-3", "alone"} == set(begun)


async def test_a_place_beyond_the_last_one_is_taken(start: Start) -> None:
    """Turns are counted on for as long as somebody waits."""
    journal = Journal()
    async with start(journal) as engine:
        await engine.enqueue(TaskId("late"), priority=LAST + 1)
        await wait_until(lambda: len(journal.done) >= 10)

    assert {"late"} == {name.partition("/")[0] for name in journal.done}


async def test_what_is_picked_up_keeps_its_place(start: Start) -> None:
    """A task that was interrupted waits again where it waited before."""
    begun: list[str] = []

    async def work(task_id: TaskId, _steps: Steps) -> None:
        begun.append(task_id)
        if begun.count(task_id) == 1 and task_id == "alone":
            raise OSError("the database is away")
        if task_id != "alone":
            await anyio.sleep_forever()

    async with start(work) as engine:
        for number in range(2):
            await engine.enqueue(TaskId(f"many-{number}"), priority=2)
        await wait_until(lambda: len(begun) == 2)
        await engine.enqueue(TaskId("alone"), priority=1)
        await wait_until(lambda: "alone" in begun)
        with anyio.fail_after(20):
            while begun.count("alone") < 2:
                await engine.pick_up()
                await anyio.sleep(0.05)

    assert 2 == begun.count("alone")


def test_a_cancel_is_no_error_in_the_log() -> None:
    """DBOS tells of a workflow that was canceled as it began with a traceback; of a broken one it should."""
    found = []
    for error in (DBOSAwaitedWorkflowCancelledError("a"), ValueError("broken")):
        record = logging.LogRecord(
            "dbos", logging.ERROR, "", 0, "Exception in workflow", None, (type(error), error, None)
        )
        found.append(_Seldom().filter(record))

    assert [False, True] == found

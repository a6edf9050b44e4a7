"""Housekeeping of tasks: nothing stays unfinished for ever, and nothing is kept for ever."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import AsyncMock, patch

import anyio
import pytest
import sqlalchemy as sa

from qasr.domain.errors import RateLimited
from qasr.domain.options import RecognitionOptions
from qasr.domain.task import TaskId, TaskOrder, TaskState
from qasr.jobs.desk import GRACE_S, Desk
from qasr.jobs.port import ALONE
from qasr.jobs.reaper import Keeper
from qasr.storage.database import Database, executors
from qasr.storage.executors import Executors, stable_id
from qasr.storage.tasks import Tasks

pytestmark = pytest.mark.anyio

ORDER = TaskOrder(owner="me", model="m", dialect="d", urls=("https://a/1.wav",), options=RecognitionOptions())
HOUR_MS = 3_600_000


class Engine:
    """A durable engine that does nothing but remember."""

    def __init__(self) -> None:
        self.known: dict[TaskId, int] = {}
        self.forgotten: list[TaskId] = []
        self.taken_over: list[str] = []
        self.is_away = False
        self.stopped_with_s: list[float] = []

    async def enqueue(self, task_id: TaskId, *, priority: int) -> None:
        self._check()
        self.known.setdefault(task_id, priority)

    async def cancel(self, task_id: TaskId) -> None:
        self._check()
        self.known.pop(task_id)

    async def take_over(self, executor_id: str) -> int:
        self.taken_over.append(executor_id)
        return 1

    async def pick_up(self) -> int:
        return 0

    async def vanished(self, task_ids: Sequence[TaskId]) -> list[TaskId]:
        return [task_id for task_id in task_ids if task_id not in self.known]

    async def forget(self, task_ids: Sequence[TaskId]) -> None:
        self.forgotten += task_ids

    async def stop(self, grace_s: float) -> None:
        self.stopped_with_s.append(grace_s)

    def _check(self) -> None:
        if self.is_away:
            raise OSError("the database is away")


class House:
    """Rows, a desk and a keeper over one database, on a clock of their own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now_ms = 1_000_000_000
        self.tasks = Tasks(database, clock=lambda: self.now_ms)
        self.engine = Engine()
        self.desk = Desk(self.tasks, most_unfinished=3, clock=lambda: self.now_ms / 1000)
        self.objects_of: list[str] = []
        self.unforgettable: set[str] = set()

        async def forget(task_id: str) -> None:
            if task_id in self.unforgettable:
                raise OSError("read-only")
            self.objects_of.append(task_id)

        self.keeper = Keeper(
            self.tasks,
            Executors(database),
            self.engine,
            forget,
            executor_id="one",
            keep=timedelta(hours=24),
            clock=lambda: self.now_ms,
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'tasks.db'}")
    database.migrate()
    yield House(database)
    database.close()


async def test_a_submission_that_was_cut_off_is_completed(house: House) -> None:
    """A row without a workflow gets one, but not while it may still be on its way."""
    task_id = TaskId("cut-off")
    await house.tasks.add(task_id, ORDER)
    await house.keeper.mend()
    early = dict(house.engine.known)
    house.now_ms += 10_000
    await house.keeper.mend()

    assert {} == early
    assert [task_id] == list(house.engine.known)
    assert [] == await house.tasks.not_enqueued(before_ms=house.now_ms, limit=10)


async def test_a_task_whose_workflow_has_vanished_fails(house: House) -> None:
    """It does not stay running for ever."""
    await house.desk.attach(house.engine)
    lost, kept = [await house.desk.submit(ORDER) for _ in range(2)]
    await house.tasks.begin(lost)
    await house.tasks.begin(kept)
    del house.engine.known[lost]
    house.now_ms += 120_000
    await house.keeper.mend()
    found = [await house.tasks.get(task_id) for task_id in (lost, kept)]

    assert [TaskState.FAILED, TaskState.RUNNING] == [task and task.state for task in found]


async def test_tasks_of_a_name_that_nobody_has_any_more_are_taken_over(house: House) -> None:
    """On SQLite, too: there the server itself had another name once. One that lives is left alone."""
    now_ms = int(time.time() * 1000)
    rows = sa.insert(executors).values([{"id": "old", "beat_ms": now_ms - 60_000}, {"id": "slow", "beat_ms": now_ms}])
    await house.database.write(lambda connection: connection.execute(rows))
    await house.keeper.reap()
    await house.keeper.reap()

    assert ["old"] == house.engine.taken_over


async def test_what_was_handed_in_before_the_engine_came_is_done(house: House) -> None:
    task_id = await house.desk.submit(ORDER)
    await house.desk.attach(house.engine)

    assert [task_id] == list(house.engine.known)


async def test_an_engine_that_is_away_fails_no_submission(house: House) -> None:
    """The row is enough: the client gets the id, and the task is enqueued once the engine is back. Cancels likewise."""
    await house.desk.attach(house.engine)
    house.engine.is_away = True
    task_id = await house.desk.submit(ORDER)
    withdrawn = await house.desk.submit(ORDER)
    canceled = await house.desk.cancel(withdrawn, "me")
    house.engine.is_away = False
    house.now_ms += 10_000
    await house.keeper.mend()
    task = await house.desk.query(withdrawn, "me")

    assert canceled
    assert task is not None
    assert TaskState.CANCELED is task.state
    assert [task_id] == list(house.engine.known)


async def test_what_is_handed_in_between_two_engines_is_done_by_the_second(house: House) -> None:
    """The first one has ended, and is not asked any more."""
    await house.desk.attach(house.engine)
    house.desk.detach()
    house.engine.is_away = True
    task_id = await house.desk.submit(ORDER)
    await house.desk.attach(second := Engine())

    assert [task_id] == list(second.known)


async def test_winding_down_stops_the_engine_with_grace_and_no_other_is_to_come(house: House) -> None:
    """What is handed in until the process has ended is in its row, for the next one."""
    await house.desk.attach(house.engine)
    before = house.desk.is_stopping
    await house.desk.wind_down()
    house.desk.detach()
    task_id = await house.desk.submit(ORDER)
    house.now_ms += 10_000

    assert (False, True) == (before, house.desk.is_stopping)
    assert [GRACE_S] == house.engine.stopped_with_s
    assert [task_id] == await house.tasks.not_enqueued(before_ms=house.now_ms, limit=10)


async def test_a_task_that_cannot_be_enqueued_keeps_no_other_from_being_mended(house: House) -> None:
    """What its engine refuses is tried again in the next round; rows whose workflow has vanished are ended all the
    same.
    """
    await house.desk.attach(house.engine)
    lost = await house.desk.submit(ORDER)
    del house.engine.known[lost]
    await house.tasks.add(TaskId("cut-off"), ORDER)
    house.engine.is_away = True
    house.now_ms += 120_000
    await house.keeper.mend()
    task = await house.tasks.get(lost)

    assert task is not None
    assert TaskState.FAILED is task.state
    assert ["cut-off"] == await house.tasks.not_enqueued(before_ms=house.now_ms, limit=10)


async def test_a_task_whose_objects_stay_is_kept_and_no_other(house: House) -> None:
    """The store refuses to remove one: the others go, and the round ends."""
    await house.desk.attach(house.engine)
    ids = [await house.desk.submit(ORDER) for _ in range(3)]
    for task_id in ids:
        await house.desk.cancel(task_id, "me")
    house.unforgettable.add(ids[1])
    house.now_ms += 25 * HOUR_MS
    await house.keeper.expire()
    left = [task_id for task_id in ids if await house.desk.query(task_id, "me") is not None]
    house.unforgettable.clear()
    await house.keeper.expire()

    assert [ids[1]] == left
    assert await house.desk.query(ids[1], "me") is None
    assert sorted(ids) == sorted(house.engine.forgotten)


async def test_ended_tasks_are_kept_for_a_day(house: House) -> None:
    """Then rows, objects and workflows go."""
    await house.desk.attach(house.engine)
    ended, running = [await house.desk.submit(ORDER) for _ in range(2)]
    assert await house.desk.cancel(ended, "me")
    house.now_ms += 23 * HOUR_MS
    await house.keeper.expire()
    kept = await house.desk.query(ended, "me")
    house.now_ms += 2 * HOUR_MS
    await house.keeper.expire()

    assert kept is not None
    assert await house.desk.query(ended, "me") is None
    assert await house.desk.query(running, "me") is not None
    assert [ended] == house.objects_of == house.engine.forgotten


async def test_owners_with_few_tasks_go_first(house: House) -> None:
    """Who has none unfinished waits for nobody who has; after that, owners take turns."""
    await house.desk.attach(house.engine)
    many = [await house.desk.submit(ORDER) for _ in range(3)]
    few = [await house.desk.submit(replace(ORDER, owner="you")) for _ in range(2)]

    assert [[ALONE, ALONE + 1, ALONE + 2], [ALONE, ALONE + 1]] == [
        [house.engine.known[task_id] for task_id in task_ids] for task_ids in (many, few)
    ]


async def test_what_is_completed_late_keeps_its_place(house: House) -> None:
    """It goes neither before nor after those that its owner has handed in meanwhile."""
    await house.desk.attach(house.engine)
    first = await house.desk.submit(ORDER)
    await house.tasks.add(TaskId("cut-off"), ORDER)
    house.now_ms += 10_000
    later = await house.desk.submit(ORDER)
    await house.keeper.mend()

    assert [first, "cut-off", later] == sorted(house.engine.known, key=lambda task_id: house.engine.known[task_id])


def test_a_server_keeps_its_name(tmp_path: Path) -> None:
    assert stable_id(tmp_path / "a") == stable_id(tmp_path / "a") != stable_id(tmp_path / "b")


async def test_who_has_too_many_tasks_is_not_counted_again_at_once(house: House) -> None:
    """What the last count has found is believed for as long as the owner is told to stay away, less what has ended
    since; then there is room for one, to find out.
    """
    await house.desk.attach(house.engine)
    first, second = [await house.desk.submit(ORDER) for _ in range(2)]
    house.desk.check_room("me")
    await house.desk.submit(ORDER)

    with patch.object(house.tasks, "add", side_effect=AssertionError):
        with pytest.raises(RateLimited):
            house.desk.check_room("me")
        with pytest.raises(RateLimited):
            await house.desk.submit(ORDER)
        house.desk.check_room("you")
    house.now_ms += 1000
    house.desk.check_room("me")
    with pytest.raises(RateLimited):
        await house.desk.submit(ORDER)
    with pytest.raises(RateLimited):
        house.desk.check_room("me")

    for task_id in (first, second):
        await house.desk.cancel(task_id, "me")
    assert await house.desk.submit(ORDER)
    house.desk.check_room("me")
    assert await house.desk.submit(ORDER)
    with pytest.raises(RateLimited):
        house.desk.check_room("me")


async def test_of_a_crowd_as_many_go_to_the_database_as_may_be(house: House) -> None:
    """The others are refused at once."""
    await house.desk.attach(house.engine)
    add = AsyncMock(wraps=house.tasks.add)
    found: list[bool] = []

    async def submit() -> None:
        try:
            await house.desk.submit(ORDER)
            found.append(True)
        except RateLimited:
            found.append(False)

    with patch.object(house.tasks, "add", add):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(submit)

    assert (3, 20, 3) == (sum(found), len(found), add.await_count)


async def test_tasks_of_one_owner_are_done_in_order(house: House) -> None:
    """Also those that were handed in while others waited: what comes later, when fewer wait, does not overtake them."""
    await house.desk.attach(house.engine)
    first, second = [await house.desk.submit(ORDER) for _ in range(2)]
    await house.desk.cancel(first, "me")
    third = await house.desk.submit(ORDER)

    assert house.engine.known[second] < house.engine.known[third]


async def test_owners_who_had_too_many_tasks_are_forgotten(house: House) -> None:
    """What is remembered of them does not grow with their number."""
    await house.desk.attach(house.engine)
    for number in range(20):
        order = replace(ORDER, owner=f"owner {number}")
        for _ in range(3):
            await house.desk.submit(order)
        with pytest.raises(RateLimited):
            await house.desk.submit(order)
        house.now_ms += 500

    assert 3 >= len(house.desk._known)

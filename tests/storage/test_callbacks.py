"""Webhooks that are due are claimed once, whatever database remembers them; and old rows learn of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import anyio
import pytest
import sqlalchemy as sa
from tests.migrations import to_version

from qasr.domain.options import RecognitionOptions
from qasr.domain.task import TaskId, TaskOrder
from qasr.storage.callbacks import Callbacks
from qasr.storage.database import Database
from qasr.storage.tasks import Tasks

N: Final = 40


@dataclass
class Clock:
    """Stands still until it is moved."""

    ms: int = 1_000_000

    def __call__(self) -> int:
        return self.ms


@dataclass
class House:
    """Two servers on one database."""

    tasks: Tasks
    one: Callbacks
    two: Callbacks
    clock: Clock

    async def ended(self, number: int, webhook: str | None = "https://hook") -> TaskId:
        order = TaskOrder(
            owner="me", model="m", dialect="d", urls=("a",), options=RecognitionOptions(), webhook=webhook
        )
        task_id = TaskId(f"task-{number}")
        await self.tasks.add(task_id, order)
        await self.tasks.cancel_pending(task_id, "me")
        return task_id


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    databases = [Database(database_url) for _ in range(2)]
    databases[0].migrate()
    clock = Clock()
    one, two = (Callbacks(database, clock=clock) for database in databases)
    yield House(Tasks(databases[0]), one, two, clock)
    for database in databases:
        database.close()


@pytest.mark.anyio
async def test_each_call_is_claimed_by_one_server(house: House) -> None:
    """Two that ask at the same moment, again and again, get each call once between them."""
    ids = {await house.ended(number) for number in range(N)}
    await house.ended(N, webhook=None)
    claimed: list[str] = []

    async def claim(callbacks: Callbacks) -> None:
        for _ in range(N):
            claimed.extend(call.task_id for call in await callbacks.claim(limit=3, lease_ms=60_000))

    async with anyio.create_task_group() as group:
        for callbacks in (house.one, house.two):
            group.start_soon(claim, callbacks)

    assert sorted(ids) == sorted(claimed)


@pytest.mark.anyio
async def test_a_call_comes_back_until_it_is_settled(house: House) -> None:
    """After its lease if nobody tells how it went, after a pause if it is postponed; each time it is counted."""
    task_id = await house.ended(0)
    counts: list[list[int]] = []

    async def later(ms: int) -> None:
        house.clock.ms += ms
        counts.append([call.calls for call in await house.two.claim(limit=9, lease_ms=60_000)])

    await later(0)
    await later(59_999)
    await later(1)
    await house.one.postpone(task_id, 5_000)
    await later(4_999)
    await later(1)
    await house.one.settle(task_id)
    await later(3_600_000)

    assert [[0], [], [1], [], [2], []] == counts


@pytest.mark.anyio
async def test_tasks_from_before_webhooks_get_their_calls(database_url: str) -> None:
    """The second migration, over rows of the first: those that have ended are not told of any more."""
    database = Database(database_url)
    to_version(database, "0001")
    row = {
        "owner": "me",
        "model": "m",
        "dialect": "d",
        "state": "PENDING",
        "options": "{}",
        "limits": "{}",
        "webhook": "https://hook",
        "submitted_ms": 1,
        "ended_ms": None,
        "enqueued": True,
        "cancel_requested": False,
        "attempts": 0,
        "attempts_since_ms": 0,
        "progress": 0,
    }
    rows = [
        row | {"id": "waits"},
        row | {"id": "has-none", "webhook": None},
        row | {"id": "has-ended", "state": "FAILED", "ended_ms": 2},
    ]
    first = sa.table("tasks", *(sa.column(name) for name in rows[0]))
    with database.engine.begin() as connection:
        connection.execute(sa.insert(first), rows)
    database.migrate()
    await Tasks(database).cancel_pending("waits", "me")
    due = await Callbacks(database).claim(limit=9, lease_ms=1)
    database.close()

    assert [("waits", "https://hook", 0)] == [(call.task_id, call.url, call.calls) for call in due]

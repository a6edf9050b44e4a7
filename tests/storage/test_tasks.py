"""Rows of tasks: they go only where the table of transitions lets them, and lists tell the truth."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock, patch

import anyio
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.migrations import newest, to_version

from qasr.domain.options import Hints, RecognitionOptions
from qasr.domain.task import ENDED, NEXT, Failure, Task, TaskId, TaskOrder, TaskState
from qasr.storage import database as room
from qasr.storage.database import HEAD, Database, metadata
from qasr.storage.database import tasks as tasks_table
from qasr.storage.tasks import _OTHERS, SEEN_S, Added, Lengths, PartEnd, TaskFilter, Tasks, _Seen

ID = TaskId("task-1")
ORDER = TaskOrder(
    owner="me",
    model="m",
    dialect="d",
    urls=("https://a/1.wav", "https://a/2.wav"),
    options=RecognitionOptions(hints=Hints(language="en"), word_times="words", channels=(0, 1)),
    webhook="https://hook",
)


class Clock:
    """Each look is a millisecond later."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


@pytest.fixture
async def tasks(database_url: str) -> AsyncIterator[Tasks]:
    database = Database(database_url)
    database.migrate()
    yield Tasks(database, clock=Clock())
    database.close()


@pytest.mark.anyio
async def test_what_was_ordered_comes_back_as_it_was(tasks: Tasks) -> None:
    await tasks.add(ID, ORDER)
    task = await tasks.get(ID, "me")

    assert task is not None
    assert ORDER == task.order
    assert TaskState.PENDING is task.state
    assert [TaskState.PENDING] * 2 == [subtask.state for subtask in task.subtasks]


@pytest.mark.anyio
async def test_a_task_of_another_owner_does_not_exist(tasks: Tasks) -> None:
    await tasks.add(ID, ORDER)

    assert await tasks.get(ID, "you") is None
    assert not await tasks.cancel_pending(ID, "you")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["begin", "cancel", "stop", "finish", "finish well"]), max_size=8))
def test_a_task_goes_only_where_the_table_lets_it(done: list[str]) -> None:
    """Whatever is done to it, in whatever order; ends are final."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{folder}/tasks.db")
            database.migrate()
            tasks = Tasks(database, clock=Clock())
            await tasks.add(ID, ORDER)
            state, is_told = TaskState.PENDING, False
            for what in done:
                if what == "begin":
                    is_told = await tasks.begin(ID) is not None
                elif what == "cancel":
                    is_told = await tasks.cancel_pending(ID, "me")
                elif what == "stop":
                    is_told = await tasks.request_cancel(ID) is not None
                else:
                    if what == "finish well":
                        await tasks.end_subtask(ID, PartEnd(number=0, failure=None))
                    is_told = await tasks.finish(ID) is not None
                task = await tasks.get(ID)
                assert task is not None
                assert task.state is state or task.state in NEXT[state] or (what[:6] == "finish" and state not in ENDED)
                assert is_told == (state not in ENDED and not (what == "cancel" and state is not TaskState.PENDING))
                assert (task.ended_ms is not None) == (task.state in ENDED)
                state = task.state
            database.close()

    asyncio.run(run())


async def turns(tasks: Tasks, owner: str, *names: str) -> list[int]:
    added = [await tasks.add(TaskId(name), replace(ORDER, owner=owner)) for name in names]
    return [one.turn for one in added if one is not None]


@pytest.mark.anyio
async def test_owners_take_turns(tasks: Tasks) -> None:
    """Who comes late stands behind what is served now, and not behind all that others have handed in."""
    turns_of = partial(turns, tasks)

    many = await turns_of("many", *(f"many-{number}" for number in range(6)))
    few = await turns_of("few", "few-0", "few-1")
    for number in range(4):
        assert await tasks.begin(TaskId(f"many-{number}")) is not None
    late = await turns_of("late", "late-0", "late-1")

    assert [0, 1, 2, 3, 4, 5] == many
    assert [0, 1] == few
    assert [3, 4] == late
    assert [6] == await turns_of("many", "many-6")
    assert 4 == await tasks.turn(TaskId("late-1"))


@pytest.mark.anyio
async def test_single_tasks_do_not_move_the_turn_on(tasks: Tasks) -> None:
    """Else who has two would wait behind all of one who has many, as long as others come with one each."""
    for number in range(4):
        await tasks.add(TaskId(f"many-{number}"), replace(ORDER, owner="many"))
    await tasks.begin(TaskId("many-0"))
    for number in range(10):
        await tasks.add(TaskId(f"single-{number}"), replace(ORDER, owner=f"single-{number}"))
        await tasks.begin(TaskId(f"single-{number}"))

    assert [0, 1] == await turns(tasks, "two", "two-0", "two-1")


@pytest.mark.anyio
async def test_many_at_once_get_no_more_places_than_there_are(tasks: Tasks) -> None:
    """One owner; others have their own, and one that has ended makes room for another."""
    found: list[Added] = []

    async def add(number: int, owner: str = "one") -> None:
        added = await tasks.add(TaskId(f"{owner}-{number}"), replace(ORDER, owner=owner), most_unfinished=3)
        if added is not None:
            found.append(added)

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(add, number)

    assert [(0, 0), (1, 1), (2, 2)] == sorted((added.others, added.turn) for added in found)
    await add(0, "two")
    total, some = await tasks.find(TaskFilter(owner="one", from_ms=0, to_ms=2**60), offset=0, limit=9)
    assert (4, 3) == (len(found), total)
    await tasks.cancel_pending(some[0].id, "one")
    await add(20)
    await add(21)
    assert [0, 2] == [added.others for added in found[3:]]


@pytest.mark.anyio
async def test_of_many_that_cancel_and_begin_one_wins(tasks: Tasks) -> None:
    """A worker and a client at the same moment: never both."""
    for number in range(10):
        task_id = TaskId(f"task-{number}")
        await tasks.add(task_id, ORDER)
        won: list[str] = []

        async def begin(task_id: TaskId, won: list[str]) -> None:
            if await tasks.begin(task_id) is not None:
                won.append("begin")

        async def cancel(task_id: TaskId, won: list[str]) -> None:
            if await tasks.cancel_pending(task_id, "me"):
                won.append("cancel")

        async with anyio.create_task_group() as group:
            for work in (begin, cancel, begin, cancel):
                group.start_soon(work, task_id, won)
        task = await tasks.get(task_id)

        assert won in (["begin"] * 2, ["cancel"])
        assert task is not None
        assert {"begin": TaskState.RUNNING, "cancel": TaskState.CANCELED}[won[0]] is task.state


@pytest.mark.anyio
async def test_what_was_read_is_not_read_again_until_it_changes(tasks: Tasks, database_url: str) -> None:
    """Where no other process may change it."""
    await tasks.add(ID, ORDER)
    with patch.object(tasks._database, "read", wraps=tasks._database.read) as read:
        found = [await tasks.get(ID, owner) for owner in ("me", "me", "you", None)]
        n_first = read.call_count
        await tasks.begin(ID)
        await tasks.begin_subtask(ID, 1)
        found += [await tasks.get(ID, "me") for _ in range(2)]

    states = [task and (task.state, task.subtasks[1].state) for task in found]
    first, then = (TaskState.PENDING, TaskState.PENDING), (TaskState.RUNNING, TaskState.RUNNING)
    assert [first, first, None, first, then, then] == states
    assert ((1, 2) if database_url.startswith("sqlite") else (4, 6)) == (n_first, read.call_count)


@pytest.mark.anyio
async def test_what_changes_while_it_is_read_is_read_again(tasks: Tasks) -> None:
    """What was read may be older than the change; and nothing is believed for long."""
    await tasks.add(ID, ORDER)
    clock, may, n_read = Mock(return_value=100.0), anyio.Event(), 0
    seen = _Seen(clock)

    async def read(task_id: str) -> Task | None:
        nonlocal n_read
        n_read += 1
        task = await tasks._get(task_id)
        await may.wait()
        return task

    async with anyio.create_task_group() as group:
        group.start_soon(seen.get, ID, read)
        await anyio.sleep(0.1)
        seen.forget(ID)
        may.set()
    for now_s in (100.0, 100.0 + SEEN_S - 0.1, 100.0 + SEEN_S):
        clock.return_value = now_s
        assert await seen.get(ID, read) is not None

    assert 3 == n_read  # the first, the one after the change, and the last
    assert await seen.get("nobody's", read) is None
    assert {} == seen._reading


@pytest.mark.anyio
async def test_progress_never_goes_back_and_ends_are_final(tasks: Tasks) -> None:
    await tasks.add(ID, ORDER)
    await tasks.begin(ID)
    await tasks.begin_subtask(ID, 0)
    await tasks.measure_subtask(ID, 0, Lengths(duration_ms=5000, speech_ms=4000))
    await tasks.advance_subtask(ID, 0, 3000)
    await tasks.advance_subtask(ID, 0, 1000)
    await tasks.end_subtask(ID, PartEnd(number=0, failure=None))
    await tasks.end_subtask(ID, PartEnd(number=0, failure=Failure(kind="EngineFailed", message="late")))
    await tasks.begin_subtask(ID, 0)
    task = await tasks.get(ID)

    assert task is not None
    assert (TaskState.SUCCEEDED, None, 3000) == (
        task.subtasks[0].state,
        task.subtasks[0].failure,
        task.subtasks[0].done_ms,
    )


@pytest.mark.anyio
async def test_a_task_succeeds_if_one_recording_does_and_the_rest_has_failed(tasks: Tasks) -> None:
    """Also recordings that nobody finished."""
    await tasks.add(ID, ORDER)
    await tasks.begin(ID)
    await tasks.end_subtask(ID, PartEnd(number=1, failure=None))

    task = await tasks.finish(ID)

    assert task is not None
    assert task == await tasks.get(ID)
    assert TaskState.SUCCEEDED is task.state
    assert [TaskState.FAILED, TaskState.SUCCEEDED] == [subtask.state for subtask in task.subtasks]
    assert await tasks.finish(ID) is None


@pytest.mark.anyio
async def test_recordings_may_end_with_their_task(tasks: Tasks) -> None:
    """Their ends count for the task's, and their lengths are kept; one that has ended before stays as it is."""
    late = Failure(kind="EngineFailed", message="late")
    await tasks.add(ID, ORDER)
    await tasks.begin(ID)
    await tasks.end_subtask(ID, PartEnd(number=0, failure=None))

    task = await tasks.finish(
        ID,
        PartEnd(number=0, failure=late),
        PartEnd(number=1, failure=None, lengths=Lengths(duration_ms=5000, speech_ms=4000, done_ms=4000)),
    )

    assert task is not None
    assert task == await tasks.get(ID)
    assert TaskState.SUCCEEDED is task.state
    assert [(TaskState.SUCCEEDED, None, 0, 0, 0), (TaskState.SUCCEEDED, None, 5000, 4000, 4000)] == [
        (part.state, part.failure, part.duration_ms, part.speech_ms, part.done_ms) for part in task.subtasks
    ]


@pytest.mark.anyio
async def test_a_task_that_is_to_stop_is_canceled(tasks: Tasks) -> None:
    """Its recordings are not begun, and those that have not ended are lost."""
    await tasks.add(ID, ORDER)
    await tasks.begin(ID)
    begun = [await tasks.begin_subtask(ID, 0)]
    await tasks.end_subtask(ID, PartEnd(number=0, failure=None))
    await tasks.request_cancel(ID)
    begun.append(await tasks.begin_subtask(ID, 1))
    task = await tasks.finish(ID)

    assert [True, False] == begun
    assert task is not None
    assert TaskState.CANCELED is task.state
    assert [TaskState.SUCCEEDED, TaskState.FAILED] == [subtask.state for subtask in task.subtasks]


@pytest.mark.anyio
async def test_attempts_count_from_the_last_progress(tasks: Tasks) -> None:
    await tasks.add(ID, ORDER)

    async def attempt() -> int:
        begun = await tasks.begin(ID)
        assert begun is not None
        return begun[1].number

    counts = [await attempt() for _ in range(3)]
    await tasks.measure_subtask(ID, 0, Lengths(duration_ms=5000, speech_ms=4000))
    after_cut = [await attempt() for _ in range(2)]
    await tasks.advance_subtask(ID, 0, 1000)

    assert [1, 2, 3] == counts
    assert [1, 2] == after_cut
    assert 1 == await attempt()


@pytest.mark.anyio
async def test_lists_are_newest_first_and_of_their_owner(tasks: Tasks) -> None:
    for number in range(5):
        await tasks.add(TaskId(f"task-{number}"), ORDER)
    await tasks.begin(TaskId("task-3"))
    everything = TaskFilter(owner="me", from_ms=0, to_ms=10_000)
    total, page = await tasks.find(everything, offset=1, limit=2)
    running = TaskFilter(owner="me", from_ms=0, to_ms=10_000, state=TaskState.RUNNING)

    assert 5 == total
    assert ["task-3", "task-2"] == [task.id for task in page]
    assert 1 == (await tasks.find(running, offset=0, limit=10))[0]
    assert 0 == (await tasks.find(TaskFilter(owner="you", from_ms=0, to_ms=10_000), offset=0, limit=10))[0]


@pytest.mark.anyio
async def test_old_tasks_are_found_and_forgotten(tasks: Tasks) -> None:
    await tasks.add(ID, ORDER)
    await tasks.cancel_pending(ID, "me")

    assert [] == await tasks.expired(before_ms=1_000, limit=10)
    assert [ID] == await tasks.expired(before_ms=10_000, limit=10)
    await tasks.delete([ID])
    assert await tasks.get(ID) is None


@pytest.mark.parametrize("begun_at", ["0001", None])
def test_all_migrations_make_the_tables_that_are_made_at_once(database_url: str, begun_at: str | None) -> None:
    """``Database.migrate`` takes short cuts: by the number of the newest one, and where there is no table yet."""
    database = Database(database_url)
    if begun_at is not None:
        to_version(database, begun_at)
    database.migrate()
    with database.engine.connect() as connection:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        looked_at = sa.inspect(connection)
        defaults = {
            (table, column["name"]): str(column["default"]).split("::")[0].strip("'")
            for table in looked_at.get_table_names()
            for column in looked_at.get_columns(table)
            if column["default"] is not None
        }
    database.migrate()
    database.close()

    assert HEAD == version == newest()
    assert [] == differences
    assert {("tasks", "webhook_calls"): "0", ("tasks", "turn"): "0"} == defaults


def test_tables_are_made_once_by_many(database_url: str) -> None:
    """A program for keys and a server may come at the same time."""
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(len(databases)) as pool:
        list(pool.map(Database.migrate, databases))
    with databases[0].engine.connect() as connection:
        found = sa.inspect(connection).get_table_names()
    for database in databases:
        database.close()

    assert {*metadata.tables, "alembic_version"} == set(found)


def test_tables_are_made_all_or_none(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted begins anew."""
    database = Database(database_url)
    with monkeypatch.context() as patched:
        patched.setattr(room._versions, "create", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            database.migrate()
    with database.engine.connect() as connection:
        assert [] == sa.inspect(connection).get_table_names()

    database.migrate()

    with database.engine.connect() as connection:
        assert HEAD == connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
    database.close()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (_OTHERS, "tasks_by_owner_and_turn"),
        (
            sa.select(tasks_table.c.id).where(tasks_table.c.owner == "me", tasks_table.c.submitted_ms > 1),
            "tasks_by_owner",
        ),
        (
            sa.select(tasks_table.c.id).where(tasks_table.c.state == "PENDING", tasks_table.c.submitted_ms < 1),
            "tasks_by_state",
        ),
    ],
)
def test_what_is_asked_often_is_looked_up(tmp_path: Path, query: sa.Select[tuple[object]], index: str) -> None:
    """Each submission counts the owner's unfinished tasks: not by reading all that he has had for a day."""
    database = Database(f"sqlite:///{tmp_path / 'tasks.db'}")
    database.migrate()
    compiled = query.params(owner="me").compile(database.engine, compile_kwargs={"literal_binds": True})
    with database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        steps = [row[3] for row in plan]
    database.close()

    assert [True] == [f"INDEX {index} (" in step for step in steps], steps

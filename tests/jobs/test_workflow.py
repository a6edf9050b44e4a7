"""The order of a task's steps, and what becomes of their failures, over steps in memory."""

from asyncio import Barrier
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
import pytest

from qasr.domain.audio import MediaLimits
from qasr.domain.errors import EngineFailed, FetchStatus, QasrError, QueueFull, UnsupportedLanguage
from qasr.domain.options import RecognitionOptions
from qasr.domain.task import Task, TaskId, TaskOrder, TaskState
from qasr.jobs.port import Stopping
from qasr.jobs.workflow import LEAST_STUCK_S, MOST_ATTEMPTS, Perform
from qasr.pipeline.filed import Asked, Heard, Place, Plan
from qasr.storage.database import Database
from qasr.storage.tasks import Tasks

pytestmark = pytest.mark.anyio

T = TypeVar("T", bound=msgspec.Struct)

ID = TaskId("11111111-2222-3333-4444-555555555555")


class Steps:
    """Steps that are remembered as a durable engine would: as JSON, by their place in the order."""

    def __init__(self) -> None:
        self.history: dict[int, tuple[str, bytes]] = {}
        self.begun = 0
        self.stop_after: int | None = None

    async def step(self, name: str, work: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        place, self.begun = self.begun, self.begun + 1
        if place in self.history:
            known, value = self.history[place]
            assert known == name, "steps were begun in another order"
            return msgspec.json.decode(value, type=kind)
        if self.stop_after is not None and len(self.history) >= self.stop_after:
            raise Stopping
        value = msgspec.json.encode(await work())
        self.history[place] = (name, value)
        return msgspec.json.decode(value, type=kind)

    def again(self) -> None:
        """A new life begins."""
        self.begun, self.stop_after = 0, None


class Recordings:
    """Recordings by their address: ``groups`` of 1000 ms each, and errors that they raise."""

    def __init__(self, groups: dict[str, int]) -> None:
        self.groups = groups
        self.cutting: dict[str, list[QasrError]] = {}
        self.hearing: dict[tuple[str, int], list[QasrError | None]] = {}
        self.calls: list[str] = []
        self.merged: list[int] = []
        self.cleared: list[int] = []

    async def cut(self, place: Place, asked: Asked) -> Plan:
        self.calls.append(f"cut {place.number}")
        if errors := self.cutting.get(asked.url):
            raise errors.pop(0)
        groups = self.groups[asked.url]
        return Plan(
            groups=groups,
            container="wav",
            codec="pcm_s16le",
            rate_hz=16_000,
            channels=(0,),
            duration_ms=groups * 2000 + 500,
            speech_ms=(groups * 1000,),
            damaged_packets=0,
        )

    async def hear(self, place: Place, group: int, asked: Asked) -> Heard:
        self.calls.append(f"hear {place.number}/{group}")
        if (errors := self.hearing.get((asked.url, group))) and (error := errors.pop(0)) is not None:
            raise error
        return Heard(ms=1000, sentences=1, language="en")

    async def merge(self, place: Place, plan: Plan, asked: Asked, language: str | None) -> None:  # noqa: ARG002
        self.merged.append(place.number)

    async def clear(self, place: Place, groups: int) -> None:  # noqa: ARG002
        self.cleared.append(place.number)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'tasks.db'}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
async def tasks(database: Database) -> Tasks:
    return Tasks(database)


async def no_sleep(_seconds: float) -> None:
    pass


async def submitted(tasks: Tasks, *urls: str) -> None:
    order = TaskOrder(owner="me", model="m", dialect="d", urls=urls, options=RecognitionOptions())
    await tasks.add(ID, order)


async def ended(tasks: Tasks) -> Task:
    task = await tasks.get(ID)
    assert task is not None
    return task


async def test_each_recording_is_cut_heard_and_merged(tasks: Tasks) -> None:
    """A task succeeds, and its rows tell the lengths."""
    recordings = Recordings({"a": 3, "b": 1})
    await submitted(tasks, "a", "b")

    await Perform(tasks, recordings)(ID, Steps())
    task = await ended(tasks)

    assert TaskState.SUCCEEDED is task.state
    assert [(6500, 3000, 3000), (2500, 1000, 1000)] == [(s.duration_ms, s.speech_ms, s.done_ms) for s in task.subtasks]
    assert {0, 1} == set(recordings.merged)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (0, ["cut 0"]),
        (1, ["cut 0"]),
        (2, ["cut 0", "hear 0/0", "hear 0/1", "merge 0"]),
    ],
)
async def test_a_short_recording_takes_one_step(tasks: Tasks, groups: int, expected: list[str]) -> None:
    """What fits into one group, or has no speech, is brought to its end in its first step."""
    await submitted(tasks, "a")
    steps = Steps()

    await Perform(tasks, Recordings({"a": groups}))(ID, steps)
    part = (await ended(tasks)).subtasks[0]

    assert expected == [name for _, (name, _) in sorted(steps.history.items())]
    assert (groups * 2000 + 500, groups * 1000, groups * 1000) == (part.duration_ms, part.speech_ms, part.done_ms)
    assert (TaskState.SUCCEEDED if groups else TaskState.FAILED) is part.state


async def test_short_recordings_are_heard_together(tasks: Tasks) -> None:
    """Two are cut at once, but four are heard: else an engine that takes batches had little to do."""
    recordings = Recordings(dict.fromkeys("abcd", 1))
    cutting = most = 0
    all_heard = Barrier(4)

    async def cut(place: Place, asked: Asked) -> Plan:
        nonlocal cutting, most
        cutting += 1
        most = max(most, cutting)
        await anyio.sleep(0.01)
        cutting -= 1
        return await Recordings.cut(recordings, place, asked)

    async def hear(place: Place, group: int, asked: Asked) -> Heard:
        await all_heard.wait()
        return await Recordings.hear(recordings, place, group, asked)

    recordings.cut, recordings.hear = cut, hear  # type: ignore[method-assign]
    await submitted(tasks, *"abcd")
    with anyio.fail_after(10):
        await Perform(tasks, recordings)(ID, Steps())

    assert 2 == most
    assert TaskState.SUCCEEDED is (await ended(tasks)).state


async def test_a_task_that_an_earlier_version_began_goes_on(tasks: Tasks) -> None:
    """It has cut a short recording, and recorded no more: the other steps follow as they did then."""
    await submitted(tasks, "a")
    recordings, steps = Recordings({"a": 1}), Steps()
    asked = Asked(url="a", owner="me", options=RecognitionOptions(), limits=MediaLimits(max_bytes=1, max_ms=1))
    plan = await recordings.cut(Place(task_id=ID, number=0), asked)
    steps.history[0] = ("cut 0", msgspec.json.encode({"plan": plan, "failure": None}))

    await Perform(tasks, recordings)(ID, steps)

    assert ["cut 0", "hear 0/0", "merge 0"] == [name for _, (name, _) in sorted(steps.history.items())]
    assert ["cut 0", "hear 0/0"] == recordings.calls
    assert TaskState.SUCCEEDED is (await ended(tasks)).state


async def test_a_failed_recording_fails_alone(tasks: Tasks) -> None:
    """The others go on, and the task succeeds as soon as one of them does."""
    recordings = Recordings({"a": 2, "b": 2, "c": 0})
    recordings.cutting["a"] = [FetchStatus("not there", status=404)]
    await submitted(tasks, "a", "b", "c")

    await Perform(tasks, recordings)(ID, Steps())
    task = await ended(tasks)

    assert TaskState.SUCCEEDED is task.state
    assert [TaskState.FAILED, TaskState.SUCCEEDED, TaskState.FAILED] == [s.state for s in task.subtasks]
    assert [("FetchStatus", 404), None, ("NoSpeech", None)] == [
        s.failure and (s.failure.kind, s.failure.status) for s in task.subtasks
    ]


async def test_a_task_without_one_good_recording_fails(tasks: Tasks) -> None:
    recordings = Recordings({"a": 0})
    await submitted(tasks, "a")

    await Perform(tasks, recordings)(ID, Steps())

    assert TaskState.FAILED is (await ended(tasks)).state


@pytest.mark.parametrize(("times", "state"), [(2, TaskState.SUCCEEDED), (3, TaskState.FAILED)])
async def test_a_failing_engine_is_tried_three_times(tasks: Tasks, times: int, state: TaskState) -> None:
    """What passes by itself does no harm; what does not, ends."""
    recordings = Recordings({"a": 1})
    recordings.hearing["a", 0] = [EngineFailed("no")] * times
    await submitted(tasks, "a")

    await Perform(tasks, recordings, sleep=no_sleep)(ID, Steps())

    assert state is (await ended(tasks)).state
    assert min(times + 1, 3) == recordings.calls.count("hear 0/0")


async def test_a_step_that_does_not_end_is_given_up(tasks: Tasks) -> None:
    """An engine that never answers cannot keep a task for ever; it is tried three times, as one that fails."""
    begun = 0

    async def hang() -> None:
        nonlocal begun
        begun += 1
        await anyio.sleep_forever()

    _, failure = await Perform(tasks, Recordings({}), sleep=no_sleep)._tried("hear", hang, limit_s=0.01)

    assert 3 == begun
    assert failure is not None
    assert "DeadlineExceeded" == failure.kind


async def test_a_full_queue_is_waited_for(tasks: Tasks) -> None:
    recordings = Recordings({"a": 1})
    recordings.hearing["a", 0] = [QueueFull("later")] * 50
    await submitted(tasks, "a")

    await Perform(tasks, recordings, sleep=no_sleep)(ID, Steps())

    assert TaskState.SUCCEEDED is (await ended(tasks)).state


async def test_after_a_failure_the_other_groups_are_not_heard(tasks: Tasks) -> None:
    """They are begun all the same, so that the order of steps is the same each time."""
    recordings = Recordings({"a": 40, "b": 1})
    recordings.hearing["a", 0] = [UnsupportedLanguage("what?")]
    await submitted(tasks, "a", "b")
    steps = Steps()

    await Perform(tasks, recordings)(ID, steps)
    task = await ended(tasks)

    assert 4 + 1 >= sum(call.startswith("hear 0/") for call in recordings.calls)
    assert 40 == sum(name.startswith("hear") for name, _ in steps.history.values())
    assert task.subtasks[0].failure is not None
    assert "UnsupportedLanguage" == task.subtasks[0].failure.kind
    assert TaskState.SUCCEEDED is task.subtasks[1].state
    assert [0] == recordings.cleared


@pytest.mark.parametrize("fails", [False, True])
async def test_cut_off_anywhere_it_goes_on_and_does_nothing_twice(tasks: Tasks, *, fails: bool) -> None:
    """After each number of steps: the steps that were done are not done again, and the end is the same."""
    await submitted(tasks, "a", "b", "c", "d", "e")
    recordings = Recordings(dict.fromkeys("abcde", 3))
    if fails:
        recordings.hearing["b", 1] = [UnsupportedLanguage("what?")]
        recordings.cutting["d"] = [FetchStatus("gone", status=404)]
    steps = Steps()
    for count in range(1, 60):
        steps.again()
        steps.stop_after = count
        try:
            await Perform(tasks, recordings)(ID, steps)
        except BaseExceptionGroup as group:
            assert group.subgroup(Stopping) is not None  # noqa: PT017
        except Stopping:
            pass
        else:
            break
    task = await ended(tasks)

    assert TaskState.SUCCEEDED is task.state
    assert len(set(recordings.calls)) == len(recordings.calls)
    expected = ["SUCCEEDED"] * 5 if not fails else ["SUCCEEDED", "FAILED", "SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert expected == [subtask.state for subtask in task.subtasks]


@pytest.mark.parametrize("stuck_s", [LEAST_STUCK_S - 1, LEAST_STUCK_S])
async def test_a_task_that_ends_the_process_each_time_is_given_up(database: Database, stuck_s: float) -> None:
    """Begun again and again without moving on, it fails with a reason; but not within minutes."""
    now_ms = 0
    tasks = Tasks(database, clock=lambda: now_ms)
    await submitted(tasks, "a")

    for _ in range(MOST_ATTEMPTS):
        steps = Steps()
        steps.stop_after = 0
        with pytest.raises(BaseExceptionGroup):
            await Perform(tasks, Recordings({"a": 1}))(ID, steps)
    now_ms = int(stuck_s * 1000)
    await Perform(tasks, Recordings({"a": 1}))(ID, Steps())
    task = await ended(tasks)

    if stuck_s < LEAST_STUCK_S:
        assert TaskState.SUCCEEDED is task.state
    else:
        assert TaskState.FAILED is task.state
        assert task.subtasks[0].failure is not None
        assert str(MOST_ATTEMPTS) in task.subtasks[0].failure.message


async def test_a_canceled_task_is_not_begun(tasks: Tasks) -> None:
    await submitted(tasks, "a")
    await tasks.cancel_pending(ID, "me")
    recordings = Recordings({"a": 1})

    await Perform(tasks, recordings)(ID, Steps())

    assert TaskState.CANCELED is (await ended(tasks)).state
    assert not recordings.calls


async def test_a_running_task_stops_before_its_next_step_when_the_operator_asks(tasks: Tasks) -> None:
    recordings = Recordings({"a": 30})
    await submitted(tasks, *"aaaaaa")

    async def cut(place: Place, asked: Asked) -> Plan:
        assert TaskState.RUNNING is await tasks.request_cancel(ID)
        return await Recordings.cut(recordings, place, asked)

    recordings.cut = cut  # type: ignore[method-assign]
    await Perform(tasks, recordings)(ID, Steps())

    assert TaskState.CANCELED is (await ended(tasks)).state
    assert {"cut 0"} <= set(recordings.calls) <= {"cut 0", "cut 1"}
    assert await tasks.request_cancel(ID) is None

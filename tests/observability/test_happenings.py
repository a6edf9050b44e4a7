"""What rooms tell of themselves, as it happens."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.pipeline.sessions import FOUND, Led, act, engines, loud, quiet, settle, sound, talk
from tests.pipeline.test_guards import Told, segment_of
from tests.pipeline.test_guards import hear as hear_guarded
from tests.workers.test_pool import ask

from qasr.domain import telemetry
from qasr.domain.errors import EngineFailed
from qasr.domain.options import Hints
from qasr.domain.telemetry import EngineCalled, EventTaken, GuardActed, PartialSkipped, SegmentHeard
from qasr.domain.transcript import Hypothesis
from qasr.engines.base import Request
from qasr.engines.slots import EngineSlots, Lane
from qasr.jobs.desk import Desk
from qasr.pipeline.live import LiveLimits, live_session
from qasr.storage.database import Database
from qasr.storage.tasks import Tasks
from qasr.workers import WorkerDied, WorkerPool

pytestmark = pytest.mark.anyio


@pytest.fixture
def told() -> Iterator[list[telemetry.Happening]]:
    """All that happens."""
    found: list[telemetry.Happening] = []
    with telemetry.listening(found.append):
        yield found


def skipped(told: list[telemetry.Happening]) -> list[str]:
    return [each.reason for each in told if isinstance(each, PartialSkipped)]


async def test_a_partial_that_is_cancelled_is_told(told: list[telemetry.Happening]) -> None:
    """Its segment was complete before it was heard."""
    engine = Led(hold=lambda request: request.is_open)
    async with engines(engine) as loaded:
        await talk(loaded, FOUND, loud(1), "settle", quiet(1))

    assert engine.cancelled
    assert ["complete"] == skipped(told)


async def test_a_partial_that_is_put_off_is_told_once(told: list[telemetry.Happening]) -> None:
    """However often the session looks whether its turn has come."""
    engine = Led(parallel=1, hold=lambda request: not request.is_open)
    async with engines(engine) as loaded, live_session(FOUND, loaded, LiveLimits(), owner="a") as session:
        await act(session, [loud(1), quiet(1), "settle", loud(1), quiet(1), "settle"])  # one is heard, one waits
        before = skipped(told)
        await act(session, [loud(2), "settle", loud(2), "settle"])
        after = skipped(told)
        engine.gate.set()
        await session.finish()
        async for _ in session.events():
            pass

    assert "busy" not in before
    assert 1 == after.count("busy")


async def test_a_partial_that_nobody_took_is_told(told: list[telemetry.Happening]) -> None:
    """A newer one says more; who reads at last gets one partial, and its delay is known."""
    async with engines(Led()) as loaded, live_session(FOUND, loaded, LiveLimits(), owner="a") as session:
        await act(session, [loud(1), "settle", loud(1), "settle", loud(1), "settle"])
        n_unread = len(skipped(told))
        await session.finish()
        async for _ in session.events():
            pass

    taken = [each for each in told if isinstance(each, EventTaken)]
    assert n_unread >= 1
    assert {"unread"} == set(skipped(told))
    assert ["partial", "final"] == [each.event for each in taken]
    assert all(each.lag_s >= 0 for each in taken)


async def test_finals_tell_how_late_they_are(told: list[telemetry.Happening]) -> None:
    """One of each utterance, those that failed too, and nothing is kept of it afterwards."""
    engine = Led(fail=lambda request: request.segment.begin_ms > 1_000 and not request.is_open)
    async with engines(engine) as loaded:
        await talk(loaded, replace(FOUND, partials=False), sound(loud(1), quiet(1), loud(1), quiet(1)))

    assert ["final", "final"] == [each.event for each in told if isinstance(each, EventTaken)]


async def test_calls_and_segments_are_told_of_each_try(told: list[telemetry.Happening]) -> None:
    """A call that failed and the one after it; the segment once, when it was heard."""
    segment = segment_of(3)
    failures = [EngineFailed("not now")]

    class Moody(Told):
        async def recognize(self, batch: Sequence[Request]) -> list[Hypothesis]:
            if failures:
                raise failures.pop()
            return await super().recognize(batch)

    async with EngineSlots(Moody((30, Hypothesis(text="yes"))), queue_audio_s=600) as slots:
        await slots.recognize(Request(segment=segment, hints=Hints()), lane=Lane.SYNC, owner="a")

    calls = [each for each in told if isinstance(each, EngineCalled)]
    (heard,) = [each for each in told if isinstance(each, SegmentHeard)]
    assert ["failed", "done"] == [call.outcome for call in calls]
    assert {("told", 1, 3.0)} == {(call.engine, call.n_segments, call.audio_s) for call in calls}
    assert ("told", "sync", 3.0) == (heard.engine, heard.lane, heard.audio_s)
    assert 0 <= heard.waited_s <= heard.wall_s


async def test_a_queue_tells_its_oldest() -> None:
    """Per lane; what is in a call waits no longer."""
    engine = Led(parallel=1, hold=lambda _: True)
    async with EngineSlots(engine, queue_audio_s=600) as slots:
        asking = [
            asyncio.ensure_future(
                slots.recognize(Request(segment=segment_of(2), hints=Hints()), lane=Lane.FILE, owner=owner)
            )
            for owner in ("a", "b", "b")
        ]
        await settle()
        states = {state.lane: state for state in slots.queues()}
        calls = slots.calls
        engine.gate.set()
        await asyncio.gather(*asking)
        calm = {state.lane: (state.segments, state.audio_s, state.oldest_s) for state in slots.queues()}

    assert (2, 4.0) == (states[Lane.FILE].segments, states[Lane.FILE].audio_s)
    assert states[Lane.FILE].oldest_s > 0
    assert (1, 0) == (calls, slots.calls)
    assert {(0, 0.0, 0.0)} == set(calm.values())


async def test_guards_are_told(told: list[telemetry.Happening]) -> None:
    """By engine and name, as they are counted."""
    await hear_guarded(Told((30, Hypothesis(text="la " * 30))), segment_of(3))

    assert [GuardActed(engine="told", guard="loop")] == [each for each in told if isinstance(each, GuardActed)]


async def test_a_process_that_dies_is_told(told: list[telemetry.Happening], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module that it ran; one that is no longer wanted has not died."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "workers"))
    async with WorkerPool("test_pool:echo", {}) as pool:
        await pool.wait_ready()
        with pytest.raises(WorkerDied):
            await ask(pool, "die")
        await pool.wait_ready()
    died = [each for each in told if isinstance(each, telemetry.WorkerDied)]

    assert [telemetry.WorkerDied(target="test_pool")] == died


async def test_a_database_that_is_away_is_a_trouble(tmp_path: Path) -> None:
    """It is told as long as it lasts, and numbers of tasks are not made up meanwhile."""
    database = Database(f"sqlite:///{tmp_path}/later/qasr.db")
    desk = Desk(Tasks(database), most_unfinished=1)
    await desk.look()
    away, counts = desk.trouble, desk.counts
    (tmp_path / "later").mkdir()
    database.migrate()
    await desk.look()
    database.close()

    assert "tasks: their database does not answer" == away
    assert counts is None
    assert {} == desk.counts
    assert "tasks wait: what does them is starting" == desk.trouble

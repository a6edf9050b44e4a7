"""Seats are bounded, nobody keeps the others waiting, and who leaves the line takes nothing with them."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from qasr.pipeline.seats import COMING_S, Seats

pytestmark = pytest.mark.anyio


class Room:
    """Works that sit until they are told to leave, in the order in which they sat down."""

    def __init__(self, group: TaskGroup, seats: Seats) -> None:
        self._group, self._seats = group, seats
        self.sat: list[str] = []
        self.ends: dict[str, anyio.Event] = {}
        self.scopes: dict[str, anyio.CancelScope] = {}

    async def enter(self, *names: str) -> None:
        """The first letter is the owner."""
        for name in names:
            self.ends[name] = anyio.Event()
            self._group.start_soon(self._one, name)
            await anyio.wait_all_tasks_blocked()

    async def leave(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await anyio.wait_all_tasks_blocked()

    async def _one(self, name: str) -> None:
        with anyio.CancelScope() as scope:
            self.scopes[name] = scope
            async with self._seats.seat(name[0]):
                self.sat.append(name)
                await self.ends[name].wait()


@asynccontextmanager
async def opened(total: int, most_of_one: int) -> AsyncIterator[Room]:
    async with anyio.create_task_group() as group:
        yield Room(group, Seats(total, most_of_one=most_of_one))
        group.cancel_scope.cancel()


async def test_who_has_little_finds_a_seat_beside_who_has_much() -> None:
    """A line of a hundred keeps nobody else waiting."""
    async with opened(4, 3) as room:
        await room.enter(*(f"a{n}" for n in range(100)))
        await room.enter("b0")

        assert ["a0", "a1", "a2", "b0"] == room.sat


async def test_lines_take_turns() -> None:
    """However long they are, and whoever came first."""
    async with opened(2, 2) as room:
        await room.enter("a0", "a1", "a2", "a3", "a4", "b0", "b1", "c0")
        await room.leave("a0", "a1", "a2", "b0", "c0")

        assert ["a0", "a1", "a2", "b0", "c0", "a3", "b1"] == room.sat


async def test_who_leaves_the_line_takes_no_seat() -> None:
    """The next one gets it."""
    async with opened(1, 1) as room:
        await room.enter("a0", "b0", "c0")
        room.scopes["b0"].cancel()
        await anyio.wait_all_tasks_blocked()
        await room.leave("a0")

        assert ["a0", "c0"] == room.sat


@pytest.mark.parametrize("steps", range(6))
async def test_a_seat_that_was_just_given_is_given_back(steps: int) -> None:
    """Between the giving and the sitting down, some steps of the loop later, the work may be cancelled."""
    async with opened(1, 1) as room:
        await room.enter("a0", "b0")
        room.ends["a0"].set()
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        room.scopes["b0"].cancel()
        await anyio.wait_all_tasks_blocked()
        await room.enter("c0")

        assert "c0" == room.sat[-1]


@pytest.mark.parametrize(("total", "most"), [(0, 0), (1, 2), (2, 0)])
async def test_senseless_rooms_are_refused(total: int, most: int) -> None:
    with pytest.raises(ValueError, match="seats"):
        Seats(total, most_of_one=most)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 4), st.data())
def test_all_are_seated_within_the_bounds(owners: list[str], total: int, data: st.DataObject) -> None:
    """Never more than there may be, and everybody in the end."""
    most = data.draw(st.integers(1, total))
    sitting: list[str] = []
    done: list[str] = []

    async def run() -> None:
        seats = Seats(total, most_of_one=most)

        async def one(owner: str) -> None:
            async with seats.seat(owner):
                sitting.append(owner)
                assert len(sitting) <= total
                assert sitting.count(owner) <= most
                await anyio.lowlevel.checkpoint()
                sitting.remove(owner)
                done.append(owner)

        async with anyio.create_task_group() as group:
            for owner in owners:
                group.start_soon(one, owner)

    anyio.run(run)

    assert sorted(owners) == sorted(done)


async def test_a_line_has_an_end() -> None:
    """Who would be seated is never sent away; of what may wait, each owner has a share."""
    async with anyio.create_task_group() as group:
        seats = Seats(3, most_of_one=2)
        room = Room(group, seats)
        await room.enter("a1")
        assert not seats.is_full("a", most_waiting=0)
        await room.enter("a2", "a3", "a4")

        assert [True, False] == [seats.is_full(owner, most_waiting=2) for owner in "ab"]
        assert not seats.is_full("a", most_waiting=3)

        await room.enter("b1", "b2")
        assert [True, True, False] == [seats.is_full(owner, most_waiting=3) for owner in "abc"]
        group.cancel_scope.cancel()


async def test_a_crowd_is_not_let_in_for_one_place() -> None:
    """Places are kept for those who were told that there is room: who comes later is told that there is none."""
    now_s = 0.0
    seats = Seats(3, most_of_one=2, clock=lambda: now_s)
    held = ExitStack()

    def let_in(owners: str) -> list[bool]:
        found = []
        for owner in owners:
            found.append(not seats.is_full(owner, most_waiting=2))
            if found[-1]:
                held.enter_context(seats.expected(owner))
        return found

    assert [True] * 4 + [False] == let_in("aaaaa")  # two seats, two in the line
    assert [True, True, False] == let_in("bbb")  # the third seat, and a fair share of the line

    for _ in range(2):
        seats.arrive("a")
    assert [True, False] == let_in("aa")
    now_s = COMING_S
    assert [True] * 4 + [False] == let_in("aaaaa")  # nobody came
    seats.arrive("c")  # of whom nothing was known
    held.close()  # they were refused for something else, or went away
    assert [True] * 4 + [False] == let_in("aaaaa")

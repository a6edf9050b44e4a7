"""Room for a bounded number of works at once, in which no owner keeps the others waiting.

::

    A A A A A …  ─┐  most_of_one of A's sit, the others stand in A's line
    B            ─┼─▶ [A][A][A][B]
    C C          ─┘  a seat that becomes free goes to the next line in turn

Who was told that there is room may need a moment to come: a body is read and decoded first. Until then, or for
``COMING_S``, a place is kept; else all of a crowd are let in for one place, at a cost, and turned back there.

A line is first in, first out; lines take turns. An owner who has as many seats as one may have is passed over, so that
somebody who comes with little finds a seat free, or one that soon will be.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

COMING_S: Final = 1.0
"""How long a place is kept; who sends slowly is not to keep others out meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A place for somebody who was let in and is not here yet."""

    until_s: float
    owner: str


class Seats:
    """So many works at once.

    Args:
        total: of all owners together.
        most_of_one: of one owner.
        clock: monotonic seconds.
    """

    def __init__(self, total: int, *, most_of_one: int, clock: Callable[[], float] = time.monotonic) -> None:
        if not 1 <= most_of_one <= total:
            raise ValueError(f"{most_of_one} seats of {total} for one owner")
        self._free, self._most_of_one = total, most_of_one
        self._taken: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        self._clock = clock
        self._coming: deque[_Kept] = deque()
        """In order of time."""

    def is_full(self, owner: str, *, most_waiting: int) -> bool:
        """Whether *owner* would wait where *most_waiting* wait already; of these, each owner has a fair share."""
        self._forget_late()
        coming = Counter(kept.owner for kept in self._coming)
        sitting = {name: min(n, self._most_of_one - self._taken[name]) for name, n in coming.items()}
        n_sitting = sum(sitting.values())
        if self._free > n_sitting and self._taken[owner] + coming[owner] < self._most_of_one:
            return False
        n_lines = len(self._lines.keys() | coming.keys())
        n_waiting = sum(map(len, self._lines.values())) + len(self._coming) - min(n_sitting, self._free)
        own_sitting = sitting.get(owner, 0)
        own_sitting = max(0, min(own_sitting, self._free - (n_sitting - own_sitting)))
        n_own = len(self._lines.get(owner, ())) + coming[owner] - own_sitting
        return n_waiting >= most_waiting and n_own >= most_waiting // max(1, n_lines)

    @contextmanager
    def expected(self, owner: str) -> Iterator[None]:
        """Keep a place for *owner*, until ``arrive``, for as long as the block lasts."""
        kept = _Kept(self._clock() + COMING_S, owner)
        self._coming.append(kept)
        try:
            yield
        finally:
            if kept in self._coming:
                self._coming.remove(kept)

    def arrive(self, owner: str) -> None:
        """Who was expected is here, or somebody else of *owner*."""
        for kept in self._coming:
            if kept.owner == owner:
                self._coming.remove(kept)
                return

    def _forget_late(self) -> None:
        while self._coming and self._coming[0].until_s <= self._clock():
            self._coming.popleft()

    @asynccontextmanager
    async def seat(self, owner: str) -> AsyncIterator[None]:
        """A seat for *owner*, from when one is free until the block ends."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(owner, deque()).append(turn)
        self._seat_all()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # cancelled just after it was seated
                self._leave(owner)
            else:
                self._step_out(owner, turn)
            raise
        try:
            yield
        finally:
            self._leave(owner)

    def _leave(self, owner: str) -> None:
        self._free += 1
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]
        self._seat_all()

    def _step_out(self, owner: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(owner, deque())
        if turn in line:
            line.remove(turn)
            if not line:
                del self._lines[owner]

    def _seat_all(self) -> None:
        while self._free and (owner := self._next()) is not None:
            line = self._lines.pop(owner)
            turn = line.popleft()
            if line:
                self._lines[owner] = line  # to the end of the turn order
            if not turn.cancelled():  # else who stood there is about to step out
                turn.set_result(None)
                self._free -= 1
                self._taken[owner] += 1

    def _next(self) -> str | None:
        return next((owner for owner in self._lines if self._taken[owner] < self._most_of_one), None)

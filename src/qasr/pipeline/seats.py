"""Room for a bounded number of works at once, in which no owner keeps the others waiting.

::

    A A A A A …  ─┐  most_of_one of A's sit, the others stand in A's line
    B            ─┼─▶ [A][A][A][B]
    C C          ─┘  a seat that becomes free goes to the next line in turn

A line is first in, first out; lines take turns. An owner who has as many seats as one may have is passed over, so that
somebody who comes with little finds a seat free, or one that soon will be.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Seats:
    """So many works at once.

    Args:
        total: of all owners together.
        most_of_one: of one owner.
    """

    def __init__(self, total: int, *, most_of_one: int) -> None:
        if not 1 <= most_of_one <= total:
            raise ValueError(f"{most_of_one} seats of {total} for one owner")
        self._free, self._most_of_one = total, most_of_one
        self._taken: Counter[str] = Counter()
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}

    def is_full(self, owner: str, *, most_waiting: int) -> bool:
        """Whether *owner* would wait where *most_waiting* wait already; of these, each owner has a fair share."""
        if self._free and self._taken[owner] < self._most_of_one:
            return False
        line = self._lines.get(owner, ())
        n_waiting = sum(map(len, self._lines.values()))
        return n_waiting >= most_waiting and len(line) >= most_waiting // max(1, len(self._lines))

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

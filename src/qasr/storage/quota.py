"""How much of what clients send is kept: of each owner, and of all together.

A file has its row before it has its object, so that two that arrive at once cannot both take the last room. A row stays
as long as its file does; what a crash leaves between the two goes with time.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import sqlalchemy as sa

from qasr.domain.errors import QuotaExceeded
from qasr.storage.database import Database, files
from qasr.storage.tasks import now_ms

LOCK: Final = 0x71617174
"""Key of an advisory lock of PostgreSQL: sums are true until the row that they let in is there."""
AGAIN_S: Final = 3600
"""When to come back: files whose time is over go every hour."""


class Quota:
    """Bytes of files.

    Args:
        most_of_one: of one owner.
        most: of all.
        clock: Unix milliseconds.
    """

    def __init__(self, database: Database, *, most_of_one: int, most: int, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._most_of_one, self._most, self._clock = database, most_of_one, most, clock

    @asynccontextmanager
    async def room(self, owner: str, n_bytes: int, *, keep_ms: int) -> AsyncIterator[None]:
        """For a file of *owner* that is stored inside the block and kept for *keep_ms*; if it is not, the room is free
        again.

        Raises:
            QuotaExceeded: there is not enough.
        """
        row = {"id": str(uuid.uuid4()), "owner": owner, "n_bytes": n_bytes, "until_ms": self._clock() + keep_ms}

        def take(connection: sa.Connection) -> None:
            if not self._database.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            self._check(connection, owner, n_bytes)
            connection.execute(sa.insert(files).values(row))

        await self._database.write(take)
        try:
            yield
        except BaseException:
            with anyio.CancelScope(shield=True):
                give_back = sa.delete(files).where(files.c.id == row["id"])
                await self._database.write(lambda connection: connection.execute(give_back))
            raise

    async def check(self, owner: str) -> None:
        """Before a file is sent whose size nobody has told.

        Raises:
            QuotaExceeded: there is room for none.
        """
        await self._database.read(lambda connection: self._check(connection, owner, 1))

    async def sweep(self) -> None:
        """Forget files whose time is over."""
        old = sa.delete(files).where(files.c.until_ms < self._clock())
        await self._database.write(lambda connection: connection.execute(old))

    def _check(self, connection: sa.Connection, owner: str, n_bytes: int) -> None:
        kept = sa.func.coalesce(sa.func.sum(files.c.n_bytes), 0)
        own = int(connection.execute(sa.select(kept).where(files.c.owner == owner)).scalar_one())
        if own + n_bytes > self._most_of_one:
            message = f"Allocated quota exceeded: the files of this key may take {self._most_of_one} bytes."
            raise QuotaExceeded(message, retry_after_s=AGAIN_S)
        if int(connection.execute(sa.select(kept)).scalar_one()) + n_bytes > self._most:
            raise QuotaExceeded("This server keeps as many files as it may; try again later.", retry_after_s=AGAIN_S)

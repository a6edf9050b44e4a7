"""Which servers live: each writes the time into its row now and then. Times are those of the database's clock."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import sqlalchemy as sa

from qasr.storage.database import Database, executors
from qasr.storage.once import made_once

REAPER_LOCK: Final = 0x71617372
"""Key of PostgreSQL's advisory lock for who looks after the dead; any number of our own."""
NAME_BYTES: Final = 16
"""Length of a name that we make."""


class Executors:
    """Rows of servers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def beat(self, executor_id: str) -> None:
        """*executor_id* lives."""

        def write(connection: sa.Connection) -> None:
            now = self._now()
            change = sa.update(executors).where(executors.c.id == executor_id).values(beat_ms=now)
            if not connection.execute(change).rowcount:
                connection.execute(sa.insert(executors).values(id=executor_id, beat_ms=now))

        await self._database.write(write)

    async def silent(self, *, for_ms: int) -> list[str]:
        """Servers that have not been heard of for so long."""
        query = sa.select(executors.c.id).where(executors.c.beat_ms < self._now() - for_ms)
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    async def remove(self, executor_id: str, *, silent_for_ms: int) -> None:
        """Forget a server, unless it has been heard of again."""
        change = sa.delete(executors).where(
            executors.c.id == executor_id, executors.c.beat_ms < self._now() - silent_for_ms
        )
        await self._database.write(lambda connection: connection.execute(change))

    @asynccontextmanager
    async def reaping(self) -> AsyncIterator[bool]:
        """Whether we are the one to look after the dead, until the block ends."""
        if self._database.is_sqlite:
            yield True
            return
        connection = await anyio.to_thread.run_sync(self._database.engine.connect)
        try:
            lock, unlock = (
                sa.select(function(REAPER_LOCK))
                for function in (sa.func.pg_try_advisory_lock, sa.func.pg_advisory_unlock)
            )
            mine = bool(await anyio.to_thread.run_sync(lambda: connection.execute(lock).scalar_one()))
            try:
                yield mine
            finally:
                if mine:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(connection.execute, unlock)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(connection.close)

    def _now(self) -> sa.ColumnElement[int]:
        """Unix milliseconds; of servers on one database, nobody's own clock counts."""
        if self._database.is_sqlite:
            return sa.literal(int(time.time() * 1000), sa.BigInteger)
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


def stable_id(data_dir: Path) -> str:
    """The name of the server that owns *data_dir*; made once."""
    name = made_once(data_dir / "executor", lambda: secrets.token_hex(8).encode(), least_bytes=NAME_BYTES)
    return name.decode("ascii").strip()

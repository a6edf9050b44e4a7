"""Where token buckets are kept: in memory for one server alone, in the database for several that share it."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import sqlalchemy as sa

from qasr.domain.bucket import Bucket, Rate, Refusal, take
from qasr.storage.database import Database, buckets, reachable
from qasr.storage.tasks import now_ms

MOST: Final = 10_000
"""Buckets in memory before full ones are thrown away."""
OLD_MS: Final = 60_000
"""No period of ours is longer: an older bucket is full."""


class Buckets(Protocol):
    """Buckets by name. ``take`` raises EngineUnavailable where they cannot be reached."""

    async def take(self, rates: Mapping[str, Rate]) -> Refusal | None:
        """One token of each, or of none: then why."""
        ...

    async def sweep(self) -> None:
        """Forget what says nothing any more."""
        ...


class MemoryBuckets:
    """Of this process."""

    def __init__(self, *, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._least_kept = MOST

    async def take(self, rates: Mapping[str, Rate]) -> Refusal | None:
        """One token of each, or of none: then why."""
        after, refusal = take(self._buckets, rates, self._clock())
        self._buckets |= after
        if len(self._buckets) > self._least_kept:
            await self.sweep()
            self._least_kept = max(MOST, 2 * len(self._buckets))
        return refusal

    async def sweep(self) -> None:
        """Forget buckets that are full by now."""
        edge = self._clock() - OLD_MS
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if bucket.at_ms > edge}


class SharedBuckets:
    """Of all servers on one PostgreSQL: rows that are locked while a token is taken. The database's clock counts."""

    def __init__(self, database: Database) -> None:
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415 - a tenth of a second, and most have SQLite

        self._database = database
        self._new = insert(buckets).on_conflict_do_nothing()

    async def take(self, rates: Mapping[str, Rate]) -> Refusal | None:
        """One token of each, or of none: then why."""
        if not rates:
            return None
        mine = sa.select(buckets).where(buckets.c.name.in_(rates)).order_by(buckets.c.name).with_for_update()
        change = sa.update(buckets).where(buckets.c.name == sa.bindparam("which"))
        change = change.values(tokens=sa.bindparam("left"), at_ms=sa.bindparam("at"))

        def change_all(connection: sa.Connection) -> Refusal | None:
            now = connection.execute(sa.select(_NOW)).scalar_one()
            rows = [{"name": name, "tokens": rates[name].capacity, "at_ms": now} for name in sorted(rates)]
            connection.execute(self._new, rows)  # in the order in which they are locked: nobody waits for each other
            found = {row.name: Bucket(row.tokens, row.at_ms) for row in connection.execute(mine)}
            after, refusal = take(found, rates, connection.execute(sa.select(_NOW)).scalar_one())
            values = [{"which": name, "left": bucket.tokens, "at": bucket.at_ms} for name, bucket in after.items()]
            connection.execute(change, values)
            return refusal

        with reachable():
            return await self._database.write(change_all)

    async def sweep(self) -> None:
        """Forget buckets that are full by now."""
        old = sa.delete(buckets).where(buckets.c.at_ms < _NOW - OLD_MS)
        await self._database.write(lambda connection: connection.execute(old))


_NOW: Final = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)

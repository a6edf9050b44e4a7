"""The book of what was used: a row per day, key, model and interface.

Uses are added up in memory and written together, every few seconds and at the end; a server that dies takes the last
few seconds with it. What cannot be written is kept for the next time.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from typing import Any, Final

import anyio
import sqlalchemy as sa
import structlog

from qasr.domain.access import Scope
from qasr.domain.errors import InvalidParameter
from qasr.domain.use import Account, Use
from qasr.storage.database import Database, reachable, usage
from qasr.storage.tasks import now_ms

FLUSH_S: Final = 2.0
MOST_WAITING: Final = 10_000
"""Lines in memory; while the database is away, uses of further ones are lost, and the log says so."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilter:
    """Which lines; None: all. Days are inclusive."""

    from_day: str | None = None
    to_day: str | None = None
    owner: str | None = None


class UsageBook:
    """Lines of usage."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._clock = database, clock
        self._waiting: dict[Account, Use] = {}
        self._lost = 0
        self._moving = anyio.Lock()
        """Held while lines go from memory into the database: who added up both meanwhile would miss them."""

    def today(self) -> str:
        """Of UTC."""
        return day_of(self._clock())

    def note(self, owner: str, model: str, interface: Scope, use: Use) -> None:
        """Add *use* to today's line."""
        account = Account(day=self.today(), owner=owner, model=model, interface=interface)
        if (known := self._waiting.get(account)) is not None:
            self._waiting[account] = known + use
        elif len(self._waiting) < MOST_WAITING:
            self._waiting[account] = use
        else:
            self._lost += 1

    async def flush(self) -> None:
        """Write what has been noted."""
        if self._lost:
            log.error("usage_lost", requests=self._lost)
            self._lost = 0
        if self._waiting:
            async with self._moving:
                await self._write()

    async def _write(self) -> None:
        taken, self._waiting = self._waiting, {}
        try:
            rows = [asdict(account) | asdict(taken[account]) for account in sorted(taken, key=_order)]
            add = self._add()
            await self._database.write(lambda connection: connection.execute(add, rows))
        except BaseException:
            for account, use in taken.items():
                self._waiting[account] = self._waiting[account] + use if account in self._waiting else use
            raise

    async def audio_today(self, owner: str) -> Mapping[str, int]:
        """Milliseconds of audio that *owner* has had heard today, by model.

        Raises:
            EngineUnavailable: the database is away.
        """
        query = (
            sa.select(usage.c.model, sa.func.sum(usage.c.audio_ms))
            .where(usage.c.owner == owner, usage.c.day == self.today())
            .group_by(usage.c.model)
        )
        async with self._moving:
            with reachable():
                rows = await self._database.read(lambda connection: connection.execute(query).all())
            heard = {str(model): int(ms) for model, ms in rows}
            for account, use in self._waiting.items():
                if account.owner == owner and account.day == self.today():
                    heard[account.model] = heard.get(account.model, 0) + use.audio_ms
        return heard

    async def find(self, wanted: UsageFilter, *, limit: int) -> list[tuple[Account, Use]]:
        """Lines, newest first; what was noted and not yet written is missing."""
        query = sa.select(usage).order_by(usage.c.day.desc(), usage.c.owner, usage.c.model, usage.c.interface)
        if wanted.from_day is not None:
            query = query.where(usage.c.day >= wanted.from_day)
        if wanted.to_day is not None:
            query = query.where(usage.c.day <= wanted.to_day)
        if wanted.owner is not None:
            query = query.where(usage.c.owner == wanted.owner)
        rows = await self._database.read(lambda connection: connection.execute(query.limit(limit)).all())
        return [(_account(row), Use(**{name: getattr(row, name) for name in _NUMBERS})) for row in rows]

    async def forget(self, before_day: str) -> None:
        """Delete lines of earlier days."""
        old = sa.delete(usage).where(usage.c.day < before_day)
        await self._database.write(lambda connection: connection.execute(old))

    def _add(self) -> Any:
        insert = self._insert()
        new, line = insert.excluded, usage.c
        sums = {name: line[name] + new[name] for name in _NUMBERS if name != "slowest_ms"}
        slowest = sa.case((new.slowest_ms > line.slowest_ms, new.slowest_ms), else_=line.slowest_ms)
        return insert.on_conflict_do_update(
            index_elements=["day", "owner", "model", "interface"], set_=sums | {"slowest_ms": slowest}
        )

    def _insert(self) -> Any:
        if self._database.is_sqlite:
            from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - a tenth of a second each, and one is needed

            return sqlite.insert(usage)
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert(usage)


_NUMBERS: Final = tuple(one.name for one in fields(Use))


def day_of(at_ms: int) -> str:
    """The day, in UTC, of a moment in Unix milliseconds."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d}"


def parse_day(text: str | None, name: str) -> str | None:
    """A day as the book writes it; *name* is the parameter's, for the error.

    Raises:
        InvalidParameter: it is no day.
    """
    if not text:
        return None
    try:
        return f"{date.fromisoformat(text):%Y-%m-%d}"
    except ValueError as error:
        raise InvalidParameter(f"{name} must be a day such as 2026-11-21.", parameter=name) from error


def _order(account: Account) -> tuple[str, ...]:
    """Servers that write at the same time take rows in the same order."""
    return account.day, account.owner, account.model, account.interface


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    return Account(day=row.day, owner=row.owner, model=row.model, interface=Scope(row.interface))

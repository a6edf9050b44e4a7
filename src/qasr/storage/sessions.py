"""Where live sessions are counted against limits: in memory for one server alone, in the database for several.

A session has a place under each name that a limit goes by. In the database a place is a lease: the server that holds it
prolongs it now and then, and one that has died gives its places back ``LEASE_S`` later.
"""

import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import anyio
import sqlalchemy as sa
import structlog

from qasr.domain.errors import EngineUnavailable
from qasr.storage.database import Database, live_sessions, one_at_a_time, reachable

LEASE_S: Final = 60.0
"""How long a place is held that nobody prolongs."""
RENEW_S: Final = 15.0
"""Between two prolongations: a few of them may fail."""

log = structlog.get_logger(__name__)


class NoPlace(Exception):
    """As many sessions as may be have a place under ``name``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Sessions(Protocol):
    """Places by name."""

    def hold(self, most: Mapping[str, int]) -> AbstractAsyncContextManager[None]:
        """One place under each name until the block ends, or none: of each there are so many.

        Raises:
            NoPlace: all under one of the names are taken.
            EngineUnavailable: they cannot be reached.
        """
        ...

    async def renew(self) -> None:
        """Prolong what this server holds; called every ``RENEW_S``."""
        ...


class MemorySessions:
    """Of this process."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, most: Mapping[str, int]) -> AsyncIterator[None]:
        """See ``Sessions``."""
        for name, n in most.items():
            if self._taken[name] >= n:
                raise NoPlace(name)
        self._taken.update(most.keys())
        try:
            yield
        finally:
            self._taken.subtract(most.keys())
            self._taken = +self._taken  # names without a session are forgotten

    async def renew(self) -> None:
        """Nothing lapses."""


class SharedSessions:
    """Of all servers on one PostgreSQL; the database's clock counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: set[str] = set()

    @asynccontextmanager
    async def hold(self, most: Mapping[str, int]) -> AsyncIterator[None]:
        """See ``Sessions``."""
        if not most:
            yield
            return
        session = uuid.uuid4().hex
        async with AsyncExitStack() as held:
            held.push_async_callback(self._let_go, session)  # before: who is cancelled meanwhile may have it
            try:
                with reachable():
                    full = await self._database.write(lambda connection: _take(connection, session, most))
            except EngineUnavailable:
                held.pop_all()
                raise
            if full is not None:
                held.pop_all()
                raise NoPlace(full)
            self._held.add(session)
            yield

    async def _let_go(self, session: str) -> None:
        self._held.discard(session)
        change = sa.delete(live_sessions).where(live_sessions.c.session == session)
        with anyio.CancelScope(shield=True):
            try:
                await self._database.write(lambda connection: connection.execute(change))
            except sa.exc.SQLAlchemyError:  # the session itself was good
                log.exception("live_session_not_let_go", lapses_in_s=LEASE_S)

    async def renew(self) -> None:
        """See ``Sessions``; what has lapsed for long is forgotten."""
        mine = sa.update(live_sessions).where(live_sessions.c.session.in_(self._held)).values(until_ms=_NOW + _LEASE_MS)
        old = sa.delete(live_sessions).where(live_sessions.c.until_ms < _NOW - _LEASE_MS)

        def change(connection: sa.Connection) -> None:
            connection.execute(mine)
            connection.execute(old)

        await self._database.write(change)


def _take(connection: sa.Connection, session: str, most: Mapping[str, int]) -> str | None:
    """A place under each name of *most*; or none, and the name of which there is no more."""
    for name in sorted(most):  # in one order: nobody waits for another who waits for him
        one_at_a_time(connection, f"live {name}")
    for name, n in most.items():
        if connection.execute(_COUNT, {"name": name}).scalar_one() >= n:
            return name
    connection.execute(_TAKE, [{"new_session": session, "new_name": name} for name in most])
    return None


_NOW: Final = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)
_LEASE_MS: Final = int(LEASE_S * 1000)
_COUNT: Final = (
    sa.select(sa.func.count())
    .select_from(live_sessions)
    .where(live_sessions.c.name == sa.bindparam("name"), live_sessions.c.until_ms > _NOW)
)
_TAKE: Final = sa.insert(live_sessions).values(
    session=sa.bindparam("new_session"), name=sa.bindparam("new_name"), until_ms=_NOW + _LEASE_MS
)

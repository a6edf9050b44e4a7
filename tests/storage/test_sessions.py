"""Places of live sessions: never more than there are, given back whatever happens, wherever they are kept."""

from collections.abc import Iterator
from contextlib import AsyncExitStack

import anyio
import pytest
import sqlalchemy as sa

from qasr.domain.errors import EngineUnavailable
from qasr.storage.database import Database, live_sessions
from qasr.storage.sessions import MemorySessions, NoPlace, Sessions, SharedSessions

pytestmark = pytest.mark.anyio


@pytest.fixture
def shared(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    database.migrate()
    yield database
    database.close()


@pytest.fixture(params=["memory", "shared"])
def pair(request: pytest.FixtureRequest) -> tuple[Sessions, Sessions]:
    """The places as two servers have them; in memory there is but one."""
    if request.param == "memory":
        alone = MemorySessions()
        return alone, alone
    database: Database = request.getfixturevalue("shared")
    return SharedSessions(database), SharedSessions(database)


async def is_free(sessions: Sessions, name: str, most: int = 1) -> bool:
    try:
        async with sessions.hold({name: most}):
            return True
    except NoPlace:
        return False


async def test_places_are_counted_over_both_servers(pair: tuple[Sessions, Sessions]) -> None:
    """Two of one name; each is given back when its session is over, also by an error."""

    async def break_off() -> None:
        async with pair[0].hold({"a": 2}), pair[1].hold({"a": 2}):
            assert not await is_free(pair[0], "a", 2)
            assert await is_free(pair[1], "b", 2)
            raise OSError("the session broke")

    with pytest.raises(OSError, match="the session broke"):
        await break_off()

    assert await is_free(pair[1], "a", 1)


async def test_who_finds_one_name_full_takes_none_of_the_others(pair: tuple[Sessions, Sessions]) -> None:
    """The name is told."""
    async with pair[0].hold({"all": 9, "model": 1}):
        with pytest.raises(NoPlace) as full:
            async with pair[1].hold({"all": 9, "model": 1, "more": 1}):
                pass
        assert await is_free(pair[0], "more")
        assert await is_free(pair[1], "all", 2)

    assert "model" == full.value.name


async def test_without_a_limit_nothing_is_counted(pair: tuple[Sessions, Sessions]) -> None:
    """And many at once get no more places than there are."""
    held: list[bool] = []

    async def one(number: int) -> None:
        try:
            async with pair[number % 2].hold({"b": 3, "a": 3} if number % 3 else {"a": 3, "b": 3}):
                held.append(True)
                await enough.wait()
        except NoPlace:
            held.append(False)
        if len(held) == 24:
            enough.set()

    enough = anyio.Event()
    async with anyio.create_task_group() as group, pair[0].hold({}), pair[1].hold({}):
        for number in range(24):
            group.start_soon(one, number)

    assert 3 == sum(held)


async def test_a_session_that_is_cancelled_gives_its_place_back(pair: tuple[Sessions, Sessions]) -> None:
    """As when its client has gone, or the server ends."""
    with anyio.CancelScope() as scope:
        async with pair[0].hold({"a": 1}):
            scope.cancel()
            await anyio.sleep_forever()

    assert await is_free(pair[1], "a")


async def test_places_of_a_dead_server_lapse_and_those_of_a_living_one_do_not(shared: Database) -> None:
    """A lease that is over counts no more, unless it is prolonged; long afterwards its row is gone."""
    living, dead = SharedSessions(shared), SharedSessions(shared)

    async def let_pass(ms: int) -> None:
        change = sa.update(live_sessions).values(until_ms=live_sessions.c.until_ms - ms)
        await shared.write(lambda connection: connection.execute(change))

    async with AsyncExitStack() as died:
        await died.enter_async_context(dead.hold({"dead": 1}))
        async with living.hold({"living": 1}):
            for _ in range(2):
                await let_pass(50_000)
                await living.renew()
            assert [False, True] == [await is_free(living, name) for name in ("living", "dead")]
            await let_pass(50_000)
            await living.renew()
            rows = await shared.read(lambda connection: connection.execute(sa.select(live_sessions.c.name)).all())
            assert ["living"] == [row.name for row in rows]


async def test_a_database_that_is_away_is_told(shared: Database) -> None:
    """A limit that cannot be looked at lets nobody in; a session that is open lives on, and ends well."""
    sessions = SharedSessions(shared)
    async with sessions.hold({"a": 1}):
        away = sa.text("ALTER TABLE live_sessions RENAME TO elsewhere")
        await shared.write(lambda connection: connection.execute(away))
        with pytest.raises(EngineUnavailable):
            async with sessions.hold({"b": 1}):
                pass

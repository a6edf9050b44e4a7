"""The book of what was used: nothing is counted twice, and nothing is lost that can be written."""

import anyio
import pytest
import sqlalchemy as sa

from qasr.domain.access import Scope
from qasr.domain.errors import EngineUnavailable, InvalidParameter
from qasr.domain.use import Use
from qasr.storage import usage as module
from qasr.storage.database import Database
from qasr.storage.usage import UsageBook, UsageFilter, parse_day

pytestmark = pytest.mark.anyio
DAY_MS = 86_400_000
ALL = UsageFilter()


class Clock:
    now_ms = 20_000 * DAY_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(database: Database, clock: Clock) -> UsageBook:
    return UsageBook(database, clock=clock)


async def test_uses_are_added_up(book: UsageBook, database: Database, clock: Clock) -> None:
    """In memory and in the row, also by two servers; of the slowest, the slower counts."""
    other = UsageBook(database, clock=clock)
    for one, slowest_ms in ((book, 5), (book, 9), (other, 7)):
        one.note("me", "m", Scope.OPENAI, Use(audio_ms=1500, latency_ms=slowest_ms, slowest_ms=slowest_ms))
    await book.flush()
    await other.flush()
    book.note("me", "m", Scope.OPENAI, Use(errors=1))
    await book.flush()
    await book.flush()

    ((account, use),) = await book.find(ALL, limit=10)
    assert ("2024-10-04", "me", "m", Scope.OPENAI) == (account.day, account.owner, account.model, account.interface)
    assert Use(requests=4, errors=1, audio_ms=4500, latency_ms=21, slowest_ms=9) == use


async def test_lines_are_found_by_day_and_key(book: UsageBook, clock: Clock) -> None:
    """Newest first; days at both ends belong to it."""
    for owner in ("a", "b", "a"):
        book.note(owner, "m", Scope.ONEMIN, Use())
        clock.now_ms += DAY_MS
    await book.flush()

    async def days(wanted: UsageFilter) -> list[str]:
        return [account.day[-2:] for account, _ in await book.find(wanted, limit=10)]

    assert ["06", "05", "04"] == await days(ALL)
    assert ["06", "04"] == await days(UsageFilter(owner="a"))
    assert ["05", "04"] == await days(UsageFilter(to_day="2024-10-05"))
    assert ["05"] == await days(UsageFilter(from_day="2024-10-05", to_day="2024-10-05"))
    await book.forget("2024-10-06")
    assert ["06"] == await days(ALL)


async def test_today_counts_what_is_not_written_yet(book: UsageBook, clock: Clock) -> None:
    """Else a key could outrun its quota; yesterday's audio is not today's."""
    book.note("me", "a", Scope.OPENAI, Use(audio_ms=10))
    await book.flush()
    book.note("me", "a", Scope.ONEMIN, Use(audio_ms=1))
    book.note("me", "b", Scope.OPENAI, Use(audio_ms=5))
    book.note("you", "a", Scope.OPENAI, Use(audio_ms=100))

    assert {"a": 11, "b": 5} == await book.audio_today("me")
    clock.now_ms += DAY_MS
    assert {} == await book.audio_today("me")


async def test_today_counts_what_is_being_written(book: UsageBook) -> None:
    """Once: neither is it missed on its way from memory to the database, nor found in both."""
    for number in range(1, 21):
        book.note("me", "a", Scope.OPENAI, Use(audio_ms=1))
        async with anyio.create_task_group() as group:
            group.start_soon(book.flush)
            await anyio.lowlevel.checkpoint()
            assert {"a": number} == await book.audio_today("me")


async def test_what_cannot_be_written_waits(book: UsageBook, database: Database) -> None:
    """The database is away for a while: later it is all there, once."""
    book.note("me", "m", Scope.OPENAI, Use(audio_ms=1))
    await database.write(lambda connection: connection.execute(sa.text("ALTER TABLE usage RENAME TO away")))
    with pytest.raises(sa.exc.SQLAlchemyError):
        await book.flush()
    with pytest.raises(EngineUnavailable):
        await book.audio_today("me")
    book.note("me", "m", Scope.OPENAI, Use(audio_ms=2))
    await database.write(lambda connection: connection.execute(sa.text("ALTER TABLE away RENAME TO usage")))
    await book.flush()

    assert [Use(requests=2, audio_ms=3)] == [use for _, use in await book.find(ALL, limit=10)]


async def test_memory_is_bounded(book: UsageBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it, new lines are lost (which the log tells), and known ones go on."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    for owner in ("a", "b", "c", "a"):
        book.note(owner, "m", Scope.OPENAI, Use())
    await book.flush()

    assert [("a", 2), ("b", 1)] == [(account.owner, use.requests) for account, use in await book.find(ALL, limit=10)]


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01", "2024-10-05T00:00:00", "20241005\n"])
async def test_days_are_days(text: str) -> None:
    """Or nothing at all."""
    with pytest.raises(InvalidParameter):
        parse_day(text, "from")
    assert (None, "2024-10-05") == (parse_day("", "from"), parse_day("20241005", "from"))

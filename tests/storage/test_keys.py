"""Rows of keys: what opens, what does not any more, and that nobody reads a key out of them."""

import re

import pytest
import sqlalchemy as sa

from qasr.domain.access import INTERFACES, Allowance, Limits, Scope
from qasr.domain.errors import EngineUnavailable, InvalidParameter, NotFound
from qasr.storage.database import Database, keys
from qasr.storage.keys import KeyRing, has_any

pytestmark = pytest.mark.anyio
ALLOWANCE = Allowance(total=Limits(live_sessions=2), models={"fun-asr": Limits(requests_per_minute=0.5)})


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ring(database: Database, clock: Clock) -> KeyRing:
    return KeyRing(database, clock=clock)


async def test_a_key_is_found_by_its_text_alone(ring: KeyRing, database: Database) -> None:
    """With all that was said when it was made; the row does not tell its text."""
    key, text = await ring.create("team", frozenset({Scope.OPENAI}), allowance=ALLOWANCE, expires_ms=2_000_000)
    found = await ring.find(text)
    row = await database.read(lambda connection: connection.execute(sa.select(keys)).one())

    assert re.fullmatch(r"sk-[0-9a-f]{16}-[A-Za-z0-9_-]{43}", text)
    assert key == found
    assert (key.id, frozenset({Scope.OPENAI}), ALLOWANCE) == (key.caller.owner, key.caller.scopes, key.caller.allowance)
    assert text.rpartition(key.id)[2] not in str(row)


async def test_what_is_not_the_text_opens_nothing(ring: KeyRing) -> None:
    """Nor do parts of two keys put together."""
    (_, one), (_, other) = [await ring.create("k", INTERFACES, allowance=Allowance()) for _ in range(2)]
    wrong = [
        "",
        "sk-",
        one[:-1],
        one + "a",
        one[:20] + other[20:],
        "sk-" + "0" * 16 + one[19:],
        one.upper(),
        one + "\n",
    ]

    assert [None] * len(wrong) == [await ring.find(text) for text in wrong]


async def test_keys_end(ring: KeyRing, clock: Clock) -> None:
    """By their time, and by being revoked, which is for ever."""
    short, short_text = await ring.create("short", INTERFACES, allowance=Allowance(), expires_ms=clock.now_ms + 10)
    long, long_text = await ring.create("long", INTERFACES, allowance=Allowance())
    await ring.revoke(long.id)
    once = await ring.get(long.id)
    clock.now_ms += 10
    again = await ring.revoke(long.id)

    assert (None, None) == (await ring.find(short_text), await ring.find(long_text))
    assert ("expired", "revoked") == (short.state(clock()), again.state(clock()))
    assert once == again
    with pytest.raises(InvalidParameter):
        await ring.rotate(long.id)


async def test_a_key_is_rotated(ring: KeyRing, clock: Clock) -> None:
    """The owner stays; the old text opens for the time of grace, and older ones do not."""
    key, first = await ring.create("k", INTERFACES, allowance=ALLOWANCE)
    same, second = await ring.rotate(key.id, grace_ms=100)

    assert key == same
    assert [key, key] == [await ring.find(first), await ring.find(second)]
    clock.now_ms += 99
    assert key == await ring.find(first)
    clock.now_ms += 1
    assert None is await ring.find(first)
    _, third = await ring.rotate(key.id)
    assert [None, None, key] == [await ring.find(text) for text in (first, second, third)]


async def test_keys_are_listed(ring: KeyRing, clock: Clock, database: Database) -> None:
    """Newest first, also those that are revoked: there were keys, so the door stays shut."""
    assert (False, False, []) == (await ring.any(), has_any(database.engine), await ring.all())
    first, _ = await ring.create("a", INTERFACES, allowance=Allowance())
    clock.now_ms += 1
    second, _ = await ring.create("b", INTERFACES, allowance=Allowance())
    await ring.revoke(first.id)
    await ring.revoke(second.id)

    assert [second.id, first.id] == [key.id for key in await ring.all()]
    assert (True, True) == (await ring.any(), has_any(database.engine))


async def test_nobodys_key_is_told(ring: KeyRing) -> None:
    """By all that name one."""
    for work in (ring.get, ring.revoke, ring.rotate):
        with pytest.raises(NotFound):
            await work("0" * 16)


@pytest.mark.parametrize(
    ("name", "scopes", "expires_ms"),
    [("", INTERFACES, None), (" ", INTERFACES, None), ("x" * 101, INTERFACES, None), ("a\nb", INTERFACES, None),
     ("a", frozenset(), None), ("a", INTERFACES, 999_999)],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(
    ring: KeyRing, name: str, scopes: frozenset[Scope], expires_ms: int | None
) -> None:
    """No name, no scope, no time left."""
    with pytest.raises(InvalidParameter):
        await ring.create(name, scopes, allowance=Allowance(), expires_ms=expires_ms)


async def test_a_database_that_is_away_is_no_wrong_key(ring: KeyRing, database: Database) -> None:
    """Clients come back for 503, and throw their key away for 401."""
    _, text = await ring.create("k", INTERFACES, allowance=Allowance())
    await database.write(lambda connection: connection.execute(sa.text("DROP TABLE keys")))

    with pytest.raises(EngineUnavailable):
        await ring.find(text)
    with pytest.raises(EngineUnavailable):
        await ring.any()
    assert not has_any(database.engine)


@pytest.mark.parametrize("number", [-1, float("inf"), float("nan")])
async def test_limits_are_numbers(number: float) -> None:
    """Of at least 0."""
    with pytest.raises(InvalidParameter):
        Limits(audio_hours_per_day=number)

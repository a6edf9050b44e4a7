"""Token buckets: the laws of one, and that both places that keep them keep them alike."""

from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.domain.bucket import Bucket, Rate, Refusal, take
from qasr.storage.buckets import Buckets, MemoryBuckets, SharedBuckets
from qasr.storage.database import Database

SLOW = Rate(3, 3600)
"""Three, and then none for as long as a test lasts."""

rates = st.builds(Rate, st.floats(0.1, 1000), st.sampled_from([1.0, 60.0]))


@given(rates, st.lists(st.integers(0, 5_000), max_size=50))
def test_nobody_gets_more_than_the_rate_and_one_burst(rate: Rate, steps: list[int]) -> None:
    """However the requests fall, and also where the clock stands still."""
    bucket, now, taken = {"a": Bucket(rate.capacity, 0)}, 0, 0
    for step in steps:
        now += step
        bucket, refusal = take(bucket, {"a": rate}, now)
        taken += refusal is None

    assert taken <= rate.capacity + rate.most * now / 1000 / rate.period_s + 1e-6


@given(rates, st.integers(0, 100))
def test_who_waits_as_told_is_let_in(rate: Rate, extra_ms: int) -> None:
    """``Retry-After`` is honest."""
    buckets, refusal = take({"a": Bucket(0.0, 0)}, {"a": rate}, 0)

    assert refusal is not None
    again_ms = int(refusal.wait_s * 1000) + 1 + extra_ms
    assert None is take(buckets, {"a": rate}, again_ms)[1]


def test_all_or_nothing() -> None:
    """A request that one limit refuses costs nothing at the others."""
    after, refusal = take({"empty": Bucket(0.0, 0)}, {"empty": Rate(1, 1.0), "full": Rate(5, 60.0)}, 0)

    assert Refusal("empty", 1.0) == refusal
    assert 5 == after["full"].tokens


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Nor does it take."""
    assert Bucket(1.5, 500) == Bucket(1.5, 1000).at(500, Rate(10, 1.0))


@pytest.fixture(params=["memory", "shared"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Buckets, Buckets]]:
    """The buckets as two servers have them; in memory there is but one."""
    if request.param == "memory":
        alone = MemoryBuckets()
        yield alone, alone
        return
    database = Database(_postgres_database(request))
    database.migrate()
    yield SharedBuckets(database), SharedBuckets(database)
    database.close()


def _postgres_database(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue("postgres_server")
    return str(server.url)


@pytest.mark.anyio
async def test_both_servers_take_from_one(pair: tuple[Buckets, Buckets]) -> None:
    """Three of one name, whoever asks; another name has its own. Nothing wanted is nothing refused."""
    results = [await pair[number % 2].take({"one/": SLOW, "one/m": SLOW}) for number in range(4)]

    assert [None, None, None] == results[:3]
    assert results[3] is not None
    assert 0 < results[3].wait_s <= 1200
    assert None is await pair[1].take({"two/": SLOW})
    assert None is await pair[0].take({})


@pytest.mark.anyio
async def test_many_at_once_get_no_more(pair: tuple[Buckets, Buckets]) -> None:
    """In any order of names: nobody waits for another who waits for him."""
    let_in: list[bool] = []

    async def one(number: int) -> None:
        names = ["race/b", "race/a"] if number % 2 else ["race/a", "race/b"]
        let_in.append(await pair[number % 2].take(dict.fromkeys(names, SLOW)) is None)

    async with anyio.create_task_group() as group:
        for number in range(24):
            group.start_soon(one, number)

    assert 3 == sum(let_in)


@pytest.mark.anyio
async def test_sweeping_gives_nothing_away(pair: tuple[Buckets, Buckets]) -> None:
    """What was used a moment ago is still used."""
    for _ in range(3):
        await pair[0].take({"swept": SLOW})
    await pair[0].sweep()

    assert None is not await pair[0].take({"swept": SLOW})

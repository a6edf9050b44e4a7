"""Stored hotwords belong to their owner, are bounded in number, and come back as they were given."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import anyio
import pytest

from qasr.domain.errors import NotFound, TooManyObjects
from qasr.domain.options import Hotword
from qasr.storage.database import Database
from qasr.storage.vocabularies import MOST_LISTS, Kind, Vocabularies, Vocabulary

pytestmark = pytest.mark.anyio

WORDS: Final = (Hotword(text="Bailian", weight=4, language="en"), Hotword(text="通义", weight=5))


@dataclass
class House:
    """A store whose clock stands still until it is moved, and another server's on the same database."""

    store: Vocabularies
    other: Vocabularies
    ms: int = 1_000_000

    async def add(self, owner: str = "me", prefix: str = "demo", kind: Kind = Kind.WORDS) -> Vocabulary:
        self.ms += 1_000
        return await self.store.add(owner, kind, target_model="fun-asr", hotwords=WORDS, prefix=prefix)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    databases = [Database(database_url) for _ in range(2)]
    databases[0].migrate()
    store, other = (Vocabularies(database, clock=lambda: made.ms) for database in databases)
    made = House(store, other)
    yield made
    for database in databases:
        database.close()


async def test_list_comes_back_as_it_was_given(house: House) -> None:
    """Words, weights, languages, the model and the times."""
    made = await house.add()

    assert made.id.startswith("vocab-demo-")
    assert made == await house.store.get("me", made.id)
    assert (WORDS, "fun-asr", house.ms, house.ms) == (
        made.hotwords,
        made.target_model,
        made.created_ms,
        made.modified_ms,
    )


async def test_replaced_list_has_the_new_words_and_its_old_birthday(house: House) -> None:
    """And another time of change."""
    made = await house.add()
    house.ms += 5_000
    await house.store.replace("me", made.id, Kind.WORDS, WORDS[:1])

    found = await house.store.get("me", made.id)
    assert (WORDS[:1], made.created_ms, house.ms) == (found.hotwords, found.created_ms, found.modified_ms)


async def test_pages_are_newest_first_and_know_the_total(house: House) -> None:
    """Of one prefix, if one is named."""
    made = [await house.add(prefix=prefix) for prefix in ("a", "b", "a", "a")]
    newest = [one.id for one in reversed(made)]

    pages = [await house.store.find("me", Kind.WORDS, offset=offset, limit=3) for offset in (0, 3, 6)]
    assert [(4, newest[:3]), (4, newest[3:]), (4, [])] == [(total, [one.id for one in found]) for total, found in pages]
    total, found = await house.store.find("me", Kind.WORDS, prefix="a", offset=0, limit=10)
    assert (3, [made[3].id, made[2].id, made[0].id]) == (total, [one.id for one in found])


async def test_nobody_sees_or_touches_the_lists_of_others(house: House) -> None:
    """Nor is a list of one kind one of the other."""
    made = await house.add()

    for owner, kind in (("you", Kind.WORDS), ("me", Kind.PHRASES)):
        with pytest.raises(NotFound):
            await house.store.get(owner, made.id, kind)
        with pytest.raises(NotFound):
            await house.store.replace(owner, made.id, kind, WORDS[:1])
        with pytest.raises(NotFound):
            await house.store.delete(owner, made.id, kind)
        assert (0, []) == await house.store.find(owner, kind, offset=0, limit=10)
    assert made == await house.store.get("me", made.id)


@pytest.mark.parametrize("identity", ["", "vocab-nobody", "vocab-\0", "'; drop table vocabularies", "x" * 100_000])
async def test_unknown_ids_are_not_found(house: House, identity: str) -> None:
    """Whatever stands in them."""
    with pytest.raises(NotFound):
        await house.store.get("me", identity)


async def test_deleted_list_makes_room(house: House) -> None:
    """There may be ten of each owner and kind."""
    made = [await house.add() for _ in range(MOST_LISTS)]
    with pytest.raises(TooManyObjects):
        await house.add()
    await house.add(owner="you")
    await house.add(kind=Kind.PHRASES, prefix="")
    await house.store.delete("me", made[0].id, Kind.WORDS)
    await house.add()

    with pytest.raises(NotFound):
        await house.store.get("me", made[0].id)


async def test_two_servers_at_once_keep_to_the_quota(house: House) -> None:
    """Whoever comes when there are ten is refused, also if all come at the same moment."""
    refused = []

    async def add(store: Vocabularies) -> None:
        try:
            await store.add("me", Kind.WORDS, target_model="fun-asr", hotwords=WORDS)
        except TooManyObjects as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(MOST_LISTS):
            group.start_soon(add, house.store)
            group.start_soon(add, house.other)

    assert MOST_LISTS == len(refused)
    assert MOST_LISTS == (await house.store.find("me", Kind.WORDS, offset=0, limit=100))[0]


async def test_weights_of_phrase_lists_are_brought_into_range(house: House) -> None:
    """The SDK's own samples have 90; a vocabulary's weights are within range already."""
    weights = (90, 3, 0, -90)
    words = tuple(Hotword(text=str(weight), weight=weight) for weight in weights)
    made = await house.store.add("me", Kind.PHRASES, target_model="paraformer-v1", hotwords=words)

    assert made.id.startswith("asr-phrase-")
    assert words == (await house.store.get("me", made.id)).hotwords
    assert [5, 3, 0, -6] == [hotword.weight for hotword in made.usable]
    assert WORDS == (await house.add()).usable

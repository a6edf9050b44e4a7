"""Room for files: bounded for each owner and for all, given back by those who do not use it, and free again in time."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from tests.storage.conftest import Clock

from qasr.domain.errors import AccessDenied, QuotaExceeded
from qasr.storage.database import Database
from qasr.storage.objects import Objects
from qasr.storage.quota import Quota
from qasr.storage.uploads import Uploads

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


@pytest.fixture
def quota(database: Database, clock: Clock) -> Quota:
    return Quota(database, most_of_one=10, most=15, clock=clock)


async def keep(quota: Quota, owner: str, n_bytes: int) -> bool:
    """Whether there was room."""
    try:
        async with quota.room(owner, n_bytes, keep_ms=HOUR_MS):
            return True
    except QuotaExceeded:
        return False


async def test_one_and_all_are_bounded(quota: Quota) -> None:
    """The last byte may be taken, and no more; others have their own, as far as there is any."""
    assert [True, False, True] == [await keep(quota, "me", n) for n in (6, 5, 4)]
    assert [False, True, False] == [await keep(quota, "you", n) for n in (6, 5, 1)]
    for owner in ("me", "you", "who"):
        with pytest.raises(QuotaExceeded):
            await quota.check(owner)


async def test_who_fails_gives_it_back(quota: Quota) -> None:
    """So does who is cancelled."""
    with pytest.raises(OSError, match="full"):
        async with quota.room("me", 10, keep_ms=HOUR_MS):
            raise OSError("the disk is full")
    with anyio.CancelScope() as scope:
        async with quota.room("me", 10, keep_ms=HOUR_MS):
            scope.cancel()
            await anyio.sleep_forever()

    await quota.check("me")
    assert await keep(quota, "me", 10)


async def test_many_at_once_cannot_take_the_last_room_twice(quota: Quota) -> None:
    """Of twenty that arrive together, as many are kept as fit."""
    kept: list[bool] = []

    async def one(number: int) -> None:
        kept.append(await keep(quota, f"owner {number}", 2))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)

    assert 7 == sum(kept)


async def test_room_is_free_again_when_files_end(quota: Quota, clock: Clock) -> None:
    """With the sweep that removes them."""
    assert await keep(quota, "me", 10)
    await quota.sweep()
    assert not await keep(quota, "me", 1)
    clock.now_ms += HOUR_MS + 1
    await quota.sweep()

    assert await keep(quota, "me", 10)


async def test_uploads_take_room(quota: Quota, tmp_path: Path) -> None:
    """A file that is refused for another reason takes none; where there is none, no permit is given."""
    objects = Objects.open(None, tmp_path / "objects")
    uploads = Uploads(objects, b"secret" * 4, max_bytes=100, keep=timedelta(hours=1), policy_s=60, quota=quota)
    key, file = (await uploads.permit("me")).folder + "/a.wav", tmp_path / "file"

    file.write_bytes(bytes(11))
    with pytest.raises(QuotaExceeded):
        await uploads.store(key, file, 100)
    file.write_bytes(bytes(5))
    await uploads.store(key, file, 100)
    with pytest.raises(AccessDenied):
        await uploads.store(key, file, 100)
    await uploads.store(key.replace("a.wav", "b.wav"), file, 100)
    with pytest.raises(QuotaExceeded):
        await uploads.permit("me")
    assert await uploads.permit("you")

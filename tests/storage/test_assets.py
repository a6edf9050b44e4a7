"""Assets and records: each its owner's, each with an end."""

from pathlib import Path

import pytest
from tests.storage.conftest import Clock

from qasr.domain.errors import NotFound, QuotaExceeded, TooLarge
from qasr.storage.assets import Assets, Records, plain
from qasr.storage.database import Database
from qasr.storage.objects import Objects
from qasr.storage.quota import Quota

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


@pytest.fixture
def quota(database: Database, clock: Clock) -> Quota:
    return Quota(database, most_of_one=10, most=1000, clock=clock)


@pytest.fixture
def assets(database: Database, quota: Quota, clock: Clock, tmp_path: Path) -> Assets:
    objects = Objects.open(None, tmp_path / "objects")
    return Assets(database, objects, quota, keep_ms=HOUR_MS, clock=clock)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"four")
    return path


async def test_same_name_at_the_same_moment_is_another_path(assets: Assets, file: Path, tmp_path: Path) -> None:
    """The path of the first is as the documentation shows it."""
    first, second = [await assets.store("me", "development/audios", "a.wav", file) for _ in range(2)]
    await assets.fetch("me", first.path, tmp_path / "found", max_bytes=4)

    assert "development/audios/2026_01_12_09_39_12_997_a.wav" == first.path
    assert "development/audios/2026_01_12_09_39_12_998_a.wav" == second.path
    assert b"four" == (tmp_path / "found").read_bytes()


async def test_others_do_not_find_it(assets: Assets, file: Path, tmp_path: Path) -> None:
    """Nor does its owner under another name; nothing is written then."""
    asset = await assets.store("me", "f", "a.wav", file)

    for owner, path in (("you", asset.path), ("me", asset.path + "x"), ("me", asset.id), ("me", "")):
        with pytest.raises(NotFound):
            await assets.fetch(owner, path, tmp_path / "found", max_bytes=4)
    assert not (tmp_path / "found").exists()


async def test_limits_hold(assets: Assets, file: Path, tmp_path: Path) -> None:
    """Of what is read, and of all that one owner keeps."""
    asset = await assets.store("me", "f", "a.wav", file)
    await assets.store("me", "f", "a.wav", file)

    with pytest.raises(TooLarge):
        await assets.fetch("me", asset.path, tmp_path / "found", max_bytes=3)
    with pytest.raises(QuotaExceeded):
        await assets.store("me", "f", "a.wav", file)
    assert await assets.store("you", "f", "a.wav", file)


async def test_assets_end(assets: Assets, quota: Quota, clock: Clock, file: Path, tmp_path: Path) -> None:
    """Past its time an asset is not found, swept or not, and after it was swept there is room again."""
    asset = await assets.store("me", "f", "a.wav", file)
    await assets.store("me", "f", "b.wav", file)
    clock.now_ms += HOUR_MS + 1

    with pytest.raises(NotFound):
        await assets.fetch("me", asset.path, tmp_path / "found", max_bytes=4)
    await assets.sweep()
    await quota.sweep()
    assert await assets.store("me", "f", "a.wav", file)


async def test_records_are_their_owners_and_end(database: Database, clock: Clock) -> None:
    """As assets are."""
    records = Records(database, keep_ms=HOUR_MS, clock=clock)
    await records.add("id", "me", clock(), "ü".encode())

    assert "ü".encode() == await records.get("id", "me")
    with pytest.raises(NotFound):
        await records.get("id", "you")
    clock.now_ms += HOUR_MS + 1
    with pytest.raises(NotFound):
        await records.get("id", "me")
    await records.sweep()
    clock.now_ms -= HOUR_MS
    with pytest.raises(NotFound):
        await records.get("id", "me")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.wav", "a.wav"), ("../../etc/passwd", "passwd"), ("C:\\x\\a b.wav", "a_b.wav"), ("..", "file"), ("ü", "_")],
)
def test_names_are_made_plain(name: str, expected: str) -> None:
    """The ending stays; what could lead elsewhere does not."""
    assert expected == plain(name)

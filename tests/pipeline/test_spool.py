"""Files that last as long as a request, and recordings that need none."""

import stat
from contextlib import suppress
from pathlib import Path
from typing import cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from qasr.domain.audio import BytesSource
from qasr.domain.errors import Empty, TooLarge
from qasr.pipeline.fetch import Fetcher
from qasr.pipeline.sources import FEW_BYTES, Sources
from qasr.pipeline.spool import spooled
from qasr.storage.uploads import Uploads

pytestmark = pytest.mark.anyio


async def test_a_file_is_ours_alone_and_goes_with_its_block(tmp_path: Path) -> None:
    """It is empty, nobody else may read it, and an error does not leave it behind."""
    with suppress(KeyError):
        async with spooled(tmp_path) as path:
            assert (b"", 0o600) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
            raise KeyError

    assert [] == in_folder(tmp_path)


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_file_goes_when_its_request_is_canceled(tmp_path: Path, *, is_there: bool) -> None:
    """Also when that happens while it is being made."""
    with anyio.CancelScope() as scope:
        if not is_there:
            scope.cancel()
        async with spooled(tmp_path):
            scope.cancel()
            await checkpoint()

    assert scope.cancelled_caught
    assert [] == in_folder(tmp_path)


async def test_a_file_may_be_gone_already(tmp_path: Path) -> None:
    """Who took it away has done no harm."""
    async with spooled(tmp_path) as path:
        path.unlink()

    assert not path.exists()


@pytest.mark.parametrize(("n_bytes", "is_file"), [(1, False), (FEW_BYTES, False), (FEW_BYTES + 1, True)])
async def test_few_bytes_need_no_file(tmp_path: Path, n_bytes: int, is_file: bool) -> None:
    """They are handed on as they are; more lie in a file, until the block ends."""
    async with sources(tmp_path).local(BytesSource(data=b"x" * n_bytes), "me", max_bytes=2**30) as recording:
        data = recording.read_bytes() if isinstance(recording, Path) else recording
        assert (is_file, n_bytes) == (isinstance(recording, Path), len(data))
        assert is_file == bool(in_folder(tmp_path))

    assert [] == in_folder(tmp_path)


@pytest.mark.parametrize(("data", "error"), [(b"", Empty), (b"12345", TooLarge)])
async def test_bytes_have_limits(tmp_path: Path, data: bytes, error: type[Exception]) -> None:
    """Nothing, and more than may be, are refused before anybody looks into them."""
    with pytest.raises(error):
        async with sources(tmp_path).local(BytesSource(data=data), "me", max_bytes=4):
            raise AssertionError("it was let in")


def sources(folder: Path) -> Sources:
    """For bytes: neither addresses nor uploads are asked for."""
    return Sources(cast("Fetcher", None), cast("Uploads", None), folder)


def in_folder(folder: Path) -> list[Path]:
    """What lies there."""
    return list(folder.iterdir())

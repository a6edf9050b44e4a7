"""Objects become files without holding up anybody else."""

import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from qasr.domain.errors import NotFound
from qasr.storage.objects import STREAM_BYTES, Objects

pytestmark = pytest.mark.anyio


async def test_an_object_becomes_a_file(tmp_path: Path) -> None:
    objects = Objects.open(None, tmp_path / "objects")
    await objects.write("a/b", os.urandom(3 * STREAM_BYTES + 7))
    await objects.get_to("a/b", tmp_path / "copy")

    assert await objects.read("a/b") == (tmp_path / "copy").read_bytes()
    with pytest.raises(NotFound):
        await objects.get_to("a/c", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.timeout(60)
async def test_a_slow_disk_holds_up_its_own_copy_only(tmp_path: Path) -> None:
    """The file is a pipe that this very loop empties: if it waited for the copy, both would wait for ever."""
    objects = Objects.open(None, tmp_path / "objects")
    data = os.urandom(3 * STREAM_BYTES)
    await objects.write("a/b", data)
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    found = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(objects.get_to, "a/b", tmp_path / "pipe")
        while len(found) < len(data):
            await anyio.wait_readable(pipe)
            found += os.read(pipe, 65_536)
            await anyio.lowlevel.checkpoint()  # before the writer has opened it, a pipe reads as ended
    os.close(pipe)

    assert data == found

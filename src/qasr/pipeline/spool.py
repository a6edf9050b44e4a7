"""Files that a request needs for as long as it lasts.

They are made and removed by threads: a file system that is writing its journal, as it does for each commit of a
database beside it, keeps who changes a folder waiting, and the event loop is nobody to wait.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread


@asynccontextmanager
async def spooled(folder: Path) -> AsyncIterator[Path]:
    """A fresh, empty file in *folder*, for us alone; removed at the end of the block."""
    path = folder / secrets.token_hex(16)
    try:
        await anyio.to_thread.run_sync(_create, path)
        yield path
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

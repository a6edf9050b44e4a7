"""What a request names as its recording, as a file on this machine for as long as it is needed."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import assert_never

import anyio
import anyio.to_thread

from qasr.domain import telemetry
from qasr.domain.audio import BytesSource, FileSource, Source, UrlSource
from qasr.domain.errors import Empty, TooLarge
from qasr.pipeline.fetch import Fetcher
from qasr.storage.uploads import SCHEME, Uploads


class Sources:
    """Gets recordings.

    Args:
        fetcher: for addresses.
        uploads: for ``oss://``.
        spool: folder for what is not a file yet.
    """

    def __init__(self, fetcher: Fetcher, uploads: Uploads, spool: Path) -> None:
        self._fetcher, self._uploads, self._spool = fetcher, uploads, spool

    @asynccontextmanager
    async def local(self, source: Source, owner: str, *, max_bytes: int) -> AsyncIterator[Path]:
        """The recording of *owner*'s request as a local file, removed afterwards if it is ours.

        Raises:
            TooLarge: it has more than *max_bytes*.
            Empty: there is nothing in it.
            FetchFailed: its address does not give it; NotFound: there is no such upload of *owner*.
        """
        match source:
            case FileSource(path=path):
                if path.stat().st_size > max_bytes:
                    raise _too_large(max_bytes)
                yield path
            case BytesSource(data=data):
                if not data:
                    raise Empty("The audio is empty.")
                if len(data) > max_bytes:
                    raise _too_large(max_bytes)
                with SpooledFile(self._spool) as path:
                    await anyio.to_thread.run_sync(path.write_bytes, data)
                    yield path
            case UrlSource(url=url) if url.startswith(SCHEME):
                with SpooledFile(self._spool) as path:
                    with telemetry.stage("fetch", source="upload"):
                        await self._uploads.fetch(url, owner, path, max_bytes=max_bytes)
                    yield path
            case UrlSource(url=url):
                async with AsyncExitStack() as held:
                    with telemetry.stage("fetch", source="address"):
                        path = await held.enter_async_context(
                            self._fetcher.fetch(url, self._spool, max_bytes=max_bytes)
                        )
                    yield path
            case unreachable:
                assert_never(unreachable)


class SpooledFile:
    """A fresh file name in *folder*; the file is removed at the end of the block."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(16)

    def __enter__(self) -> Path:
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return self.path

    def __exit__(self, *exc: object) -> None:
        self.path.unlink(missing_ok=True)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The audio exceeds the limit of {max_bytes / 1024**2:g} MB.")

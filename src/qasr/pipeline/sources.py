"""What a request names as its recording, on this machine for as long as it is needed: a file, or a few bytes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, assert_never

import anyio.to_thread

from qasr.domain import telemetry
from qasr.domain.audio import BytesSource, FileSource, Source, UrlSource
from qasr.domain.errors import Empty, TooLarge
from qasr.pipeline.fetch import Fetcher
from qasr.pipeline.spool import spooled
from qasr.storage.uploads import SCHEME, Uploads

FEW_BYTES: Final = 1024**2
"""So much goes to the decoder as it is: half a minute of wav. More would keep the event loop copying."""


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
    async def local(self, source: Source, owner: str, *, max_bytes: int) -> AsyncIterator[Path | bytes]:
        """The recording of *owner*'s request: a local file, removed afterwards if it is ours, or its bytes, which are
        not many.

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
                if len(data) <= FEW_BYTES:
                    yield data
                    return
                async with spooled(self._spool) as path:
                    await anyio.to_thread.run_sync(path.write_bytes, data)
                    yield path
            case UrlSource(url=url) if url.startswith(SCHEME):
                async with spooled(self._spool) as path:
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


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The audio exceeds the limit of {max_bytes / 1024**2:g} MB.")

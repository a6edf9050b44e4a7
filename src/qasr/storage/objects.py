"""The object store: recordings and results under names that the server makes. A local folder or, by URL, S3.

Clients' file names never become paths: keys are checked against ``_KEY`` before they reach the store.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from qasr.domain.errors import AccessDenied, NotFound

if TYPE_CHECKING:  # they are not there when we run
    from obstore.store import RetryConfig

_KEY: Final = re.compile(r"^(?!.*\.\.)(?!.*//)[A-Za-z0-9][A-Za-z0-9._/-]{0,500}(?<!/)\Z")

STREAM_BYTES: Final = 1024 * 1024
"""Of an object that are in memory while it is read or written in pieces."""

RETRIES: Final["RetryConfig"] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
"""Somebody waits for the answer; tasks try again by themselves."""


class Objects:
    """Bytes by key."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str | None, folder: Path) -> "Objects":
        """The store at *url*, or *folder* on this machine."""
        if url is not None:
            return cls(_remote(url))
        folder.mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(folder, automatic_cleanup=True))

    async def look(self) -> None:
        """Ask for the first name, to see whether the store answers; its own errors pass."""
        async for _ in obstore.list(self._store, chunk_size=1):
            return

    async def put(self, key: str, path: Path) -> None:
        """Store the file at *path* as a new object.

        Raises:
            AccessDenied: the key is taken.
        """
        try:
            await obstore.put_async(self._store, _checked(key), path, mode="create")
        except AlreadyExistsError as error:
            raise AccessDenied("The object exists already and may not be overwritten.") from error

    async def get_to(self, key: str, path: Path) -> None:
        """Write the object into the file *path*.

        Raises:
            NotFound: no object has this key.
        """
        try:
            result = await obstore.get_async(self._store, _checked(key))
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound("The file does not exist or has expired.") from error
        async with await anyio.open_file(path, "wb") as file:  # which writes in threads
            async for chunk in result.stream(min_chunk_size=STREAM_BYTES):
                await file.write(chunk)

    async def write(self, key: str, data: bytes) -> None:
        """Store *data* under *key*, in place of what was there."""
        await obstore.put_async(self._store, _checked(key), data, mode="overwrite")

    async def write_stream(self, key: str, chunks: AsyncIterable[bytes]) -> None:
        """Store *chunks* as one object, in place of what was there; if they end in an error, nothing is stored."""
        writer = obstore.open_writer_async(self._store, _checked(key), buffer_size=STREAM_BYTES, max_concurrency=1)
        async for chunk in chunks:
            await writer.write(chunk)
        await writer.close()

    async def read(self, key: str) -> bytes:
        """The object whole; for small ones.

        Raises:
            NotFound: no object has this key.
        """
        return b"".join([chunk async for chunk in self.read_stream(key)])

    async def read_stream(self, key: str) -> AsyncIterator[bytes]:
        """The object in pieces.

        Raises:
            NotFound: no object has this key.
        """
        try:
            result = await obstore.get_async(self._store, _checked(key))
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound("The file does not exist or has expired.") from error
        async for chunk in result.stream(min_chunk_size=STREAM_BYTES):
            yield bytes(chunk)

    async def exists(self, key: str) -> bool:
        """Whether there is an object with this key."""
        try:
            await obstore.head_async(self._store, _checked(key))
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    async def delete_under(self, prefix: str) -> None:
        """Remove all objects whose keys begin with *prefix*, which ends with a slash."""
        async for batch in obstore.list(self._store, prefix=_checked(prefix.removesuffix("/")) + "/"):
            await obstore.delete_async(self._store, [meta["path"] for meta in batch])

    async def size(self, key: str) -> int:
        """Bytes of the object.

        Raises:
            NotFound: no object has this key.
        """
        try:
            return int((await obstore.head_async(self._store, _checked(key)))["size"])
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound("The file does not exist or has expired.") from error

    async def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""
        with suppress(NotFoundError, FileNotFoundError):
            await obstore.delete_async(self._store, _checked(key))

    async def older_than(self, prefix: str, moment: datetime) -> AsyncIterator[str]:
        """Keys under *prefix* that were last written before *moment*."""
        async for batch in obstore.list(self._store, prefix=prefix):
            for meta in batch:
                if meta["last_modified"] < moment:
                    yield meta["path"]


def _remote(url: str) -> ObjectStore:
    if url.startswith("file:"):
        return from_url(url)
    return from_url(url, retry_config=RETRIES)  # options of the client would drop those in the environment


def _checked(key: str) -> str:
    if not _KEY.match(key):
        raise NotFound("The file does not exist or has expired.")
    return key

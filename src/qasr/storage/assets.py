"""Files and records of the 1min.ai interface.

An asset's path is what its owner calls it by: ``development/audios/2026_01_12_16_27_19_160_a.wav``. It names a row, and
the row names the object, ``assets/<owner>/<uuid>``: what a client writes never becomes the name of a file. A record is
the answer to a request as it was sent, to be read again.
"""

import hashlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import anyio.to_thread
import sqlalchemy as sa

from qasr.domain.errors import NotFound, TooLarge
from qasr.storage.database import Database, assets, records
from qasr.storage.objects import Objects
from qasr.storage.quota import Quota
from qasr.storage.tasks import now_ms

ROOT: Final = "assets"
LONGEST_NAME: Final = 100
TRIES: Final = 20
"""A name that is taken in one millisecond is free in another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file that was uploaded."""

    id: str
    path: str
    n_bytes: int
    md5: str
    created_ms: int


class Assets:
    """Files by owner and path.

    Args:
        database: their rows.
        objects: their contents.
        quota: room for them.
        keep_ms: how long they are kept.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        database: Database,
        objects: Objects,
        quota: Quota,
        *,
        keep_ms: int,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._database, self._objects, self._clock = database, objects, clock
        self._quota, self._keep_ms = quota, keep_ms

    async def store(self, owner: str, folder: str, name: str, file: Path) -> Asset:
        """Keep *file* under a new path in *folder* that ends with *name*, as far as that can stand in a path.

        Raises:
            QuotaExceeded: the owner's files would take more than they may.
        """
        n_bytes = (await anyio.Path(file).stat()).st_size
        identity = str(uuid.uuid4())
        md5 = await anyio.to_thread.run_sync(_md5, file)
        created_ms = self._clock()

        def insert(connection: sa.Connection) -> str:
            for later_ms in range(TRIES):
                path = f"{folder}/{_stamp(created_ms + later_ms)}_{plain(name)}"
                taken = sa.select(assets.c.id).where(assets.c.owner == owner, assets.c.path == path)
                if connection.execute(taken).first() is None:
                    break
            row = {"id": identity, "owner": owner, "path": path, "created_ms": created_ms, "n_bytes": n_bytes}
            connection.execute(sa.insert(assets).values(row))
            return path

        async with self._quota.room(owner, n_bytes, keep_ms=self._keep_ms):
            await self._objects.put(_key(owner, identity), file)
            path = await self._database.write(insert)
        return Asset(id=identity, path=path, n_bytes=n_bytes, md5=md5, created_ms=created_ms)

    async def fetch(self, owner: str, path: str, to: Path, *, max_bytes: int) -> None:
        """Write the contents of *owner*'s asset to the file *to*.

        Raises:
            NotFound: there is none, or it is another owner's, or its time is over.
            TooLarge: it has more than *max_bytes*.
        """
        query = sa.select(assets).where(assets.c.owner == owner, assets.c.path == path)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None or row.created_ms < self._clock() - self._keep_ms:
            raise NotFound("The asset does not exist or has expired.")
        if row.n_bytes > max_bytes:
            raise TooLarge(f"The audio exceeds the limit of {max_bytes / 1024**2:g} MB.")
        await self._objects.get_to(_key(owner, row.id), to)

    async def sweep(self) -> None:
        """Delete what is past its time."""
        edge = self._clock() - self._keep_ms
        async for key in self._objects.older_than(ROOT, datetime.fromtimestamp(edge / 1000, UTC)):
            await self._objects.delete(key)
        old = sa.delete(assets).where(assets.c.created_ms < edge)
        await self._database.write(lambda connection: connection.execute(old))


class Records:
    """Answers by owner and id."""

    def __init__(self, database: Database, *, keep_ms: int, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._keep_ms, self._clock = database, keep_ms, clock

    async def add(self, record_id: str, owner: str, created_ms: int, body: bytes) -> None:
        """Keep *body*, which is UTF-8."""
        row = {"id": record_id, "owner": owner, "created_ms": created_ms, "body": body.decode()}
        await self._database.write(lambda connection: connection.execute(sa.insert(records).values(row)))

    async def get(self, record_id: str, owner: str) -> bytes:
        """What was kept.

        Raises:
            NotFound: there is none, or it is another owner's, or its time is over.
        """
        query = sa.select(records.c.body).where(
            records.c.id == record_id,
            records.c.owner == owner,
            records.c.created_ms >= self._clock() - self._keep_ms,
        )
        body = await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())
        if body is None:
            raise NotFound("The record does not exist or has expired.")
        return str(body).encode()

    async def sweep(self) -> None:
        """Delete what is past its time."""
        old = sa.delete(records).where(records.c.created_ms < self._clock() - self._keep_ms)
        await self._database.write(lambda connection: connection.execute(old))


def plain(name: str) -> str:
    """The last part of *name*, with signs that no path minds; its ending stays."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last)[-LONGEST_NAME:].lstrip(".") or "file"


def _stamp(at_ms: int) -> str:
    """``2026_01_12_16_27_19_160``, in UTC."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment:%Y_%m_%d_%H_%M_%S}_{at_ms % 1000:03}"


def _key(owner: str, identity: str) -> str:
    return f"{ROOT}/{owner}/{identity}"


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, partial(hashlib.md5, usedforsecurity=False)).hexdigest()

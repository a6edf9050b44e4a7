"""Hotwords that clients store once and name in requests: vocabularies, and the phrase lists that came before them.

Both are lists of weighted phrases of one owner, made for one model; they differ in their ids and in the interface that
they are made by. A list is replaced as a whole, and what has begun with the old one goes on with it.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
import sqlalchemy as sa

from qasr.domain.errors import NotFound, TooManyObjects
from qasr.domain.options import Hotword
from qasr.storage.database import Database, vocabularies
from qasr.storage.tasks import now_ms

MOST_LISTS: Final = 10
"""Of one owner and kind, over all models. Source: documentation."""

LEAST_WEIGHT: Final = -6
MOST_WEIGHT: Final = 5
UNKNOWN: Final = "The Required resource not exist."
"""In the service's own words."""

_ID: Final = re.compile(r"[a-z0-9-]{1,80}")
_Row: TypeAlias = sa.Row[tuple[object, ...]]
_hotwords = msgspec.json.Decoder(tuple[Hotword, ...])


class Kind(StrEnum):
    """Which interface a list belongs to."""

    WORDS = "words"
    PHRASES = "phrases"
    """Of the first generation of models; the interface knows no prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """One list. Times are Unix milliseconds."""

    id: str
    kind: Kind
    target_model: str
    hotwords: tuple[Hotword, ...]
    created_ms: int
    modified_ms: int

    @property
    def usable(self) -> tuple[Hotword, ...]:
        """Its hotwords with weights that engines know; those of phrase lists have no documented range."""
        if self.kind is Kind.WORDS:
            return self.hotwords
        return tuple(replace(h, weight=max(LEAST_WEIGHT, min(h.weight, MOST_WEIGHT))) for h in self.hotwords)


class Vocabularies:
    """Rows of vocabularies; nobody sees another owner's."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._clock = database, clock

    async def add(
        self, owner: str, kind: Kind, *, target_model: str, hotwords: tuple[Hotword, ...], prefix: str = ""
    ) -> Vocabulary:
        """A new list; durable when this returns.

        Raises:
            TooManyObjects: *owner* has ``MOST_LISTS`` of this kind.
        """
        stem = f"vocab-{prefix}" if kind is Kind.WORDS else "asr-phrase"
        now = self._clock()
        made = Vocabulary(
            id=f"{stem}-{uuid.uuid4().hex}",
            kind=kind,
            target_model=target_model,
            hotwords=hotwords,
            created_ms=now,
            modified_ms=now,
        )
        row = {
            "id": made.id,
            "owner": owner,
            "kind": kind,
            "prefix": prefix,
            "target_model": target_model,
            "hotwords": _encode(hotwords),
            "created_ms": now,
            "modified_ms": now,
        }

        values = sa.select(*(sa.literal(value, vocabularies.c[name].type) for name, value in row.items()))
        change = (
            sa.insert(vocabularies)
            .from_select(list(row), values.where(_count(owner, kind) < MOST_LISTS))
            .returning(vocabularies.c.id)
        )

        def insert(connection: sa.Connection) -> None:
            """Counting and adding is one statement, which SQLite does alone; PostgreSQL does two of them at once."""
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"vocabularies:{owner}"))))
            if connection.execute(change).first() is None:
                raise TooManyObjects("Free allocated quota exceeded.")

        await self._database.write(insert)
        return made

    async def get(self, owner: str, identity: str, kind: Kind | None = None) -> Vocabulary:
        """One list, of *kind* (None: of any).

        Raises:
            NotFound: *owner* has no such list.
        """
        query = sa.select(vocabularies).where(*_mine(owner, identity, kind))
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise NotFound(UNKNOWN)
        return _vocabulary(row)

    async def find(
        self, owner: str, kind: Kind, *, prefix: str | None = None, offset: int, limit: int
    ) -> tuple[int, list[Vocabulary]]:
        """How many there are, and one page of them, newest first; *prefix*: only those that were made with it."""
        where = [vocabularies.c.owner == owner, vocabularies.c.kind == kind]
        if prefix is not None:
            where.append(vocabularies.c.prefix == prefix)
        page = (
            sa.select(vocabularies)
            .where(*where)
            .order_by(vocabularies.c.created_ms.desc(), vocabularies.c.id)
            .offset(offset)
            .limit(limit)
        )

        def select(connection: sa.Connection) -> tuple[int, list[Vocabulary]]:
            total = connection.execute(sa.select(sa.func.count()).select_from(vocabularies).where(*where)).scalar_one()
            return total, [_vocabulary(row) for row in connection.execute(page)]

        return await self._database.read(select)

    async def replace(self, owner: str, identity: str, kind: Kind, hotwords: tuple[Hotword, ...]) -> None:
        """Other words for a list.

        Raises:
            NotFound: *owner* has no such list.
        """
        values = {"hotwords": _encode(hotwords), "modified_ms": self._clock()}
        await self._change(sa.update(vocabularies).where(*_mine(owner, identity, kind)).values(values))

    async def delete(self, owner: str, identity: str, kind: Kind) -> None:
        """Forget a list.

        Raises:
            NotFound: *owner* has no such list.
        """
        await self._change(sa.delete(vocabularies).where(*_mine(owner, identity, kind)))

    async def _change(self, change: sa.Update | sa.Delete) -> None:
        if not await self._database.write(lambda connection: connection.execute(change).rowcount):
            raise NotFound(UNKNOWN)


def _count(owner: str, kind: Kind) -> sa.ScalarSelect[int]:
    mine = (vocabularies.c.owner == owner, vocabularies.c.kind == kind)
    return sa.select(sa.func.count()).select_from(vocabularies).where(*mine).scalar_subquery()


def _mine(owner: str, identity: str, kind: Kind | None) -> list[sa.ColumnElement[bool]]:
    if not _ID.fullmatch(identity):  # PostgreSQL takes no zero bytes
        raise NotFound(UNKNOWN)
    where = [vocabularies.c.id == identity, vocabularies.c.owner == owner]
    return where if kind is None else [*where, vocabularies.c.kind == kind]


def _encode(hotwords: tuple[Hotword, ...]) -> str:
    return msgspec.json.encode(hotwords).decode()


def _vocabulary(row: _Row) -> Vocabulary:
    return Vocabulary(
        id=row.id,
        kind=Kind(row.kind),
        target_model=row.target_model,
        hotwords=_hotwords.decode(row.hotwords),
        created_ms=row.created_ms,
        modified_ms=row.modified_ms,
    )

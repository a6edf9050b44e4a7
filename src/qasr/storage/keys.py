"""API keys: a row each, that holds a hash of the key and never the key.

A key is ``sk-<id>-<secret>``. The id finds the row and is no secret; it also names the owner of what is made with the
key, so that a key whose secret is changed keeps its tasks and files. The secret has 256 random bits: nobody guesses it,
so one round of SHA-256 is hash enough, and it is compared in constant time. Rows stay when a key is revoked.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa

from qasr.domain.access import Allowance, Caller, Scope
from qasr.domain.errors import InvalidParameter, NotFound
from qasr.storage.database import Database, keys, reachable
from qasr.storage.tasks import now_ms

ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
LONGEST_NAME: Final = 100
_ANY: Final = sa.select(keys.c.id).limit(1)
_allowances: Final = msgspec.json.Decoder(Allowance)  # made by one thread, see ``storage/tasks.py``
_KEY: Final = re.compile(r"sk-(?P<id>[0-9a-f]{16})-[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is known of a key. Times are Unix milliseconds."""

    id: str
    name: str
    scopes: frozenset[Scope]
    allowance: Allowance
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None

    @property
    def caller(self) -> Caller:
        """Who has it."""
        return Caller(owner=self.id, scopes=self.scopes, allowance=self.allowance)

    def state(self, at_ms: int) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_ms is not None:
            return "revoked"
        return "valid" if self.expires_ms is None or at_ms < self.expires_ms else "expired"


class KeyRing:
    """Rows of keys."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._database, self._clock = database, clock

    async def create(
        self, name: str, scopes: frozenset[Scope], *, allowance: Allowance, expires_ms: int | None = None
    ) -> tuple[Key, str]:
        """A new key, and its text, which nobody can tell again.

        Raises:
            InvalidParameter: no name or no scope, or it would have expired already.
        """
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidParameter(f"name must have 1 to {LONGEST_NAME} printable characters.", parameter="name")
        if not scopes:
            raise InvalidParameter("scopes must name at least one interface.", parameter="scopes")
        now = self._clock()
        if expires_ms is not None and expires_ms <= now:
            raise InvalidParameter("The key would have expired already.", parameter="expires")
        made = Key(
            id=secrets.token_hex(ID_BYTES),
            name=name,
            scopes=scopes,
            allowance=allowance,
            created_ms=now,
            expires_ms=expires_ms,
        )
        text = _text(made.id)
        row = {
            "id": made.id,
            "name": name,
            "hash": _hash(text),
            "scopes": ",".join(sorted(scopes)),
            "allowance": msgspec.json.encode(allowance).decode(),
            "created_ms": now,
            "expires_ms": expires_ms,
        }
        await self._database.write(lambda connection: connection.execute(sa.insert(keys).values(row)))
        return made, text

    async def all(self) -> list[Key]:
        """Every key that ever was, newest first."""
        query = sa.select(keys).order_by(keys.c.created_ms.desc(), keys.c.id)
        return await self._database.read(lambda connection: [_key(row) for row in connection.execute(query)])

    async def get(self, key_id: str) -> Key:
        """One of them.

        Raises:
            NotFound: there is none.
        """
        query = sa.select(keys).where(keys.c.id == key_id)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise NotFound("There is no such key.")
        return _key(row)

    async def revoke(self, key_id: str) -> Key:
        """It opens nothing any more; nothing happens if it is revoked already.

        Raises:
            NotFound: there is none.
        """
        change = sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_ms.is_(None))
        change = change.values(revoked_ms=self._clock())
        await self._database.write(lambda connection: connection.execute(change))
        return await self.get(key_id)

    async def rotate(self, key_id: str, *, grace_ms: int = 0) -> tuple[Key, str]:
        """A new secret for the key; the one before it goes on for *grace_ms*, older ones do not.

        Raises:
            NotFound: there is no such key.
            InvalidParameter: it is revoked.
        """
        text = _text(key_id)
        change = sa.update(keys).where(keys.c.id == key_id, keys.c.revoked_ms.is_(None))
        change = change.values(hash=_hash(text), old_hash=keys.c.hash, old_until_ms=self._clock() + grace_ms)
        changed = await self._database.write(lambda connection: connection.execute(change).rowcount)
        found = await self.get(key_id)
        if not changed:
            raise InvalidParameter("A key that is revoked cannot be rotated.", parameter="id")
        return found, text

    async def find(self, text: str) -> Key | None:
        """The key that *text* is, if it may be used now.

        Raises:
            EngineUnavailable: the database is away.
        """
        shape = _KEY.fullmatch(text)
        if shape is None:
            return None
        query = sa.select(keys).where(keys.c.id == shape["id"])
        with reachable():
            row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        now, given = self._clock(), _hash(text)
        is_new = hmac.compare_digest(given, row.hash)
        is_old = hmac.compare_digest(given, row.old_hash or "") and now < (row.old_until_ms or 0)
        found = _key(row)
        return found if (is_new or is_old) and found.state(now) == "valid" else None

    async def any(self) -> bool:
        """Whether there is, or ever was, a key.

        Raises:
            EngineUnavailable: the database is away.
        """
        with reachable():
            return await self._database.read(lambda connection: connection.execute(_ANY).first() is not None)


def has_any(engine: sa.Engine) -> bool:
    """Whether there is, or ever was, a key; also where the tables are older than keys, or not made yet.

    Raises:
        EngineUnavailable: the database is away.
    """
    with reachable(), engine.connect() as connection:
        return sa.inspect(connection).has_table(keys.name) and connection.execute(_ANY).first() is not None


def _text(key_id: str) -> str:
    return f"sk-{key_id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes.split(",")),
        allowance=_allowances.decode(row.allowance),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
    )

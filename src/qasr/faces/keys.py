"""Who asks: keys of the settings, and keys of the database.

::

    key ─▶ one of the settings? ─▶ one of the database? ─▶ is there no key at all, and is the door open? ─▶ 401
              │                       │                        │
              all interfaces          its scopes               all interfaces

What the database says of a good key is believed for ``KNOWN_S``: a key that is revoked opens nothing after that. One
request asks again before, when half of that time is over; if all of them did so, each when it finds that the time is
over, they would all wait for the database at the same moment.
"""

import copy
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Self, TypeVar

from starlette.requests import HTTPConnection

from qasr.domain.access import Caller, Scope
from qasr.domain.errors import AccessDenied, EngineUnavailable, Unauthorized
from qasr.storage.keys import KeyRing

KNOWN_S: Final = 2.0
MOST_KNOWN: Final = 10_000
"""Keys that are remembered."""
LONGEST_KEY: Final = 1000
"""Characters; longer ones are nobody's."""
NO_KEY: Final = b""
"""What is remembered under this name: that the database holds no key."""

T = TypeVar("T")


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    until_s: float
    is_asked: bool = False
    """Somebody asks again."""


class _Memory(Generic[T]):
    """What was found, for ``KNOWN_S``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[bytes, _Held[T]] = {}

    async def recall(self, name: bytes, find: Callable[[], Awaitable[T | None]]) -> T | None:
        """What *find* has found under *name*; None, which is not remembered, if it finds nothing.

        Raises:
            EngineUnavailable: *find* does, and nothing is remembered.
        """
        now, held = self._clock(), self._held.get(name)
        if held is None:
            return self._keep(name, await find(), now)
        if now < held.until_s and (held.is_asked or now < held.until_s - KNOWN_S / 2):
            return held.value
        held.is_asked = True
        try:
            return self._keep(name, await find(), now)
        except EngineUnavailable:
            if self._clock() < held.until_s:
                return held.value
            raise
        finally:
            held.is_asked = False

    def _keep(self, name: bytes, value: T | None, found_s: float) -> T | None:
        if value is None:
            self._held.pop(name, None)
            return None
        if len(self._held) >= MOST_KNOWN and name not in self._held:
            self._held.clear()
        self._held[name] = _Held(value, found_s + KNOWN_S)
        return value


class Keys:
    """The keys in force.

    Args:
        keys: those of the settings; they open all interfaces, but not the administration.
        ring: those of the database.
        is_open: any key will do as long as there is none, neither here nor there (allowed on a loopback bind only, see
            ``app.py``).
        clock: monotonic seconds.
    """

    def __init__(
        self,
        keys: tuple[str, ...],
        ring: Callable[[], KeyRing] | None = None,
        *,
        is_open: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._ring = tuple(key.encode() for key in keys), ring
        self._is_open = is_open and not keys
        self._known, self._empty = _Memory[Caller](clock), _Memory[bool](clock)
        self._scope: Scope | None = None

    def within(self, scope: Scope) -> Self:
        """The same keys, at the door of *scope*: others are refused there."""
        door = copy.copy(self)  # what is remembered is shared
        door._scope = scope  # noqa: SLF001 - of our own kind
        return door

    async def caller(self, key: str | None) -> Caller:
        """Who has *key*.

        Raises:
            Unauthorized: no key, or a wrong one, or one that has expired or was revoked.
            AccessDenied: a right one, but not for this interface.
            EngineUnavailable: the database is away.
        """
        if not key:
            raise Unauthorized("No API-key provided.")
        found = await self._find(key) if len(key) <= LONGEST_KEY else None
        if found is None:
            raise Unauthorized("Invalid API-key provided.", given=True)
        if self._scope is not None and self._scope not in found.scopes:
            raise AccessDenied(f"This API-key does not open the interface {self._scope!s}.")
        return found

    async def bearer(self, request: HTTPConnection) -> Caller:
        """Who sends *request*, by ``Authorization: Bearer``. Raises as ``caller`` does."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return await self.caller(key.strip() if scheme.lower() == "bearer" else None)

    async def _find(self, text: str) -> Caller | None:
        given = text.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(given, known) for known in self._keys]  # all of them: no early answer
        if any(matches):
            return _anybody(given)
        if self._ring is not None and (found := await self._recall(self._ring(), text, given)) is not None:
            return found
        if not self._is_open:
            return None
        return _anybody(given) if self._ring is None or await self._is_empty(self._ring()) else None

    async def _recall(self, ring: KeyRing, text: str, given: bytes) -> Caller | None:
        async def find() -> Caller | None:
            key = await ring.find(text)
            return None if key is None else key.caller

        return await self._known.recall(hashlib.sha256(given).digest(), find)

    async def _is_empty(self, ring: KeyRing) -> bool:
        """Whether the database holds no key, nor ever did: who revokes the last one does not open the door."""

        async def look() -> bool | None:
            return None if await ring.any() else True

        if await self._empty.recall(NO_KEY, look):
            return True
        self._is_open = False
        return False


def _anybody(key: bytes) -> Caller:
    """Who has a key that stands in no row: named by a hash of it."""
    return Caller(owner=hashlib.sha256(b"qasr-owner:" + key).hexdigest()[:16])

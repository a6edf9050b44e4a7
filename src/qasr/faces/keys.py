"""Who asks: keys of the settings, and keys of the database.

::

    key ─▶ one of the settings? ─▶ one of the database? ─▶ is there no key at all, and is the door open? ─▶ 401
              │                       │                        │
              all interfaces          its scopes               all interfaces

What the database says of a good key is believed for ``KNOWN_S``: a key that is revoked opens nothing after that.
"""

import copy
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final, Self

from starlette.requests import HTTPConnection

from qasr.domain.access import Caller, Scope
from qasr.domain.errors import AccessDenied, Unauthorized
from qasr.storage.keys import KeyRing

KNOWN_S: Final = 2.0
MOST_KNOWN: Final = 10_000
"""Keys that are remembered."""
LONGEST_KEY: Final = 1000
"""Characters; longer ones are nobody's."""


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
        self._is_open, self._clock = is_open and not keys, clock
        self._known: dict[bytes, tuple[Caller, float]] = {}
        self._looked: list[float] = []
        """When the database was last found to hold no key; nothing once it holds one."""
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
        name, now = hashlib.sha256(given).digest(), self._clock()
        if (known := self._known.get(name)) is not None and now < known[1]:
            return known[0]
        self._known.pop(name, None)
        key = await ring.find(text)
        if key is None:
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[name] = key.caller, now + KNOWN_S
        return key.caller

    async def _is_empty(self, ring: KeyRing) -> bool:
        """Whether the database holds no key, nor ever did: who revokes the last one does not open the door."""
        if self._looked and self._clock() < self._looked[-1] + KNOWN_S:
            return True
        if await ring.any():
            self._is_open = False
            return False
        self._looked[:] = [self._clock()]
        return True


def _anybody(key: bytes) -> Caller:
    """Who has a key that stands in no row: named by a hash of it."""
    return Caller(owner=hashlib.sha256(b"qasr-owner:" + key).hexdigest()[:16])

"""Files that clients send before they name them as ``oss://<key>``.

A key is ``dashscope-instant/<owner>/<day>/<uuid>/<name>``: it tells whose file it is, so no table is needed. A policy
allows one folder, one size and one time; it is signed with a secret of this server, since the form that brings the file
carries no API key. Files are kept for 48 hours (as documented) and then swept.
"""

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec

from qasr.domain.errors import AccessDenied, InvalidParameter, NotFound, TooLarge
from qasr.storage.objects import Objects
from qasr.storage.once import made_once
from qasr.storage.quota import Quota

ROOT: Final = "dashscope-instant"
SCHEME: Final = "oss://"
SECRET_BYTES: Final = 32
LEAST_SECRET_BYTES: Final = 16
"""Of a secret that is found; as of one that is set."""


class _Policy(msgspec.Struct, frozen=True):
    """What a form may bring. The names of the first two fields are those of an OSS policy document."""

    expiration: str
    folder: str
    max_bytes: int


_policies = msgspec.json.Decoder(_Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A signed policy as it is handed to a client."""

    policy: str
    signature: str
    folder: str
    door: str
    """Last part of the form's address: signed too, so that nothing is read from a stranger without a permit."""
    expires_in_s: int
    max_bytes: int


class Uploads:
    """Permits, files and their end.

    Args:
        objects: where files lie.
        secret: signs permits.
        max_bytes: of one file.
        keep: how long.
        policy_s: how long a permit is valid.
        quota: room for files; None: any, where nobody uploads.
        now: the time.
    """

    def __init__(
        self,
        objects: Objects,
        secret: bytes,
        *,
        max_bytes: int,
        keep: timedelta,
        policy_s: int,
        quota: Quota | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._objects, self._secret, self._now = objects, secret, now
        self._max_bytes, self._keep, self._policy_s, self._quota = max_bytes, keep, policy_s, quota

    async def permit(self, owner: str) -> Permit:
        """Allow *owner* one upload into a fresh folder.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        if self._quota is not None:
            await self._quota.check(owner)
        now = self._now()
        folder = f"{ROOT}/{owner}/{now:%Y-%m-%d}/{uuid.uuid4()}"
        expiration = (now + timedelta(seconds=self._policy_s)).isoformat(timespec="seconds")
        document = msgspec.json.encode(_Policy(expiration, folder, self._max_bytes))
        policy = base64.b64encode(document).decode()
        door = f"{secrets.token_hex(8)}-{int(now.timestamp()) + self._policy_s}"
        return Permit(
            door=f"{door}-{self._seal(door)}",
            policy=policy,
            signature=self._sign(policy),
            folder=folder,
            expires_in_s=self._policy_s,
            max_bytes=self._max_bytes,
        )

    def check_door(self, door: str) -> int:
        """The most bytes that any form through *door* may bring.

        Raises:
            AccessDenied: we never opened it, or it has closed.
        """
        name, _, seal = door.rpartition("-")
        if not hmac.compare_digest(self._seal(name).encode(), seal.encode()):
            raise AccessDenied("The request signature does not match.")
        if self._now().timestamp() > int(name.rpartition("-")[2]):
            raise AccessDenied("Invalid according to Policy: Policy expired.")
        return self._max_bytes

    def check(self, policy: str, signature: str, key: str) -> int:
        """The most bytes that a form with these fields may bring.

        Raises:
            AccessDenied: the signature is wrong, the policy has expired, or the key lies outside its folder.
        """
        if not hmac.compare_digest(self._sign(policy).encode(), signature.encode()):
            raise AccessDenied("The request signature does not match.")
        allowed = _policies.decode(base64.b64decode(policy))
        if self._now() > datetime.fromisoformat(allowed.expiration):
            raise AccessDenied("Invalid according to Policy: Policy expired.")
        folder, _, name = key.rpartition("/")
        if folder != allowed.folder or not name:
            raise AccessDenied("Invalid according to Policy: the key lies outside the policy's folder.")
        return allowed.max_bytes

    async def store(self, key: str, path: Path, max_bytes: int) -> None:
        """Keep the file at *path* under *key*, which ``check`` has allowed.

        Raises:
            TooLarge: the file is larger than *max_bytes*.
            QuotaExceeded: there is no room for it.
            AccessDenied: there is one already, and a form may not replace it.
        """
        n_bytes = (await anyio.Path(path).stat()).st_size
        if n_bytes > max_bytes:
            raise TooLarge(f"The file exceeds the limit of {max_bytes // 1024**2} MB.")
        async with AsyncExitStack() as held:
            if self._quota is not None:
                keep_ms = int(self._keep.total_seconds() * 1000)
                await held.enter_async_context(self._quota.room(_owner(key), n_bytes, keep_ms=keep_ms))
            await self._objects.put(stored_key(key), path)

    async def fetch(self, url: str, owner: str, path: Path, *, max_bytes: int) -> None:
        """Write the file behind *url* (``oss://``) to *path*.

        Raises:
            NotFound: no such file, or it belongs to another owner, or it has expired.
            TooLarge: it is larger than *max_bytes*.
        """
        key = url.removeprefix(SCHEME)
        parts = key.split("/")
        if len(parts) != 5 or parts[:2] != [ROOT, owner]:  # root, owner, day, uuid, name
            raise NotFound("The file does not exist or has expired.")
        if await self._objects.size(stored_key(key)) > max_bytes:
            raise TooLarge(f"The file exceeds the limit of {max_bytes} bytes.")
        await self._objects.get_to(stored_key(key), path)

    async def sweep(self) -> int:
        """Delete files past their time; how many."""
        count = 0
        async for key in self._objects.older_than(ROOT, self._now() - self._keep):
            await self._objects.delete(key)
            count += 1
        return count

    def _seal(self, door: str) -> str:
        return hmac.digest(self._secret, b"door:" + door.encode(), hashlib.sha256).hex()[:32]

    def _sign(self, policy: str) -> str:
        return base64.b64encode(hmac.digest(self._secret, policy.encode(), hashlib.sha256)).decode()


def _owner(key: str) -> str:
    return key.split("/")[1]


def stored_key(key: str) -> str:
    """The object's name for a client's *key*: the file name, which the client chose, becomes a hash.

    Raises:
        InvalidParameter: the key has no proper form.
    """
    folder, _, name = key.rpartition("/")
    if not re.fullmatch(r"(?=.{1,300}$)[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", folder) or len(name) > 1024:
        raise InvalidParameter("The key of the uploaded file is malformed.", parameter="key")
    return f"{folder}/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def server_secret(data_dir: Path, configured: str | None = None) -> bytes:
    """The secret that signs policies and links: *configured*, or made once and readable by the server's user only."""
    if configured is not None:
        return configured.encode()
    return made_once(data_dir / "secret", partial(secrets.token_bytes, SECRET_BYTES), least_bytes=LEAST_SECRET_BYTES)

"""Strangers' addresses become files: whatever is behind a URL, under limits of scheme, address, size and time.

The server stands in a network that its clients do not see, so an address is not only where to read but also a question
that the network would answer. Therefore one door, ``_GuardedBackend``, resolves every host itself, looks at all that
came out, and connects to the very address it looked at; a name that resolves differently the next moment gains nothing.
URLs are taken apart once, here, and handed on in parts, so that no second parser can read them in another way.
"""

import ipaddress
import re
import socket
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

import anyio
import anyio.to_thread
import httpcore2
import msgspec

from qasr import __version__
from qasr.domain.errors import (
    EngineUnavailable,
    FetchFailed,
    FetchIncomplete,
    FetchRefused,
    FetchStatus,
    FetchTimeout,
    TooLarge,
)
from qasr.pipeline.spool import spooled

LONGEST_URL: Final = 8 * 1024
"""Characters; signed addresses have some 500."""
WRITE_BYTES: Final = 1024 * 1024
"""So much is gathered before a thread writes it to disk."""
MOST_CONNECTIONS: Final = 64
MOST_ADDRESSES: Final = 4
"""Of one host that are tried."""
HTTP_PARTIAL: Final = 206
HTTP_RANGE_NOT_SATISFIABLE: Final = 416
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"
QUERY_SAFE: Final = PATH_SAFE + "?"
HEADERS: Final = (
    (b"User-Agent", f"qasr/{__version__}".encode()),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
)

RETRY_S: Final = (0.5, 2.0, 5.0, 10.0)
"""Pauses before a broken download goes on; one that breaks once more without a new byte is given up."""
MOST_RESUMED_S: Final = 6 * 3600.0
"""For one download in all its parts."""
TRY_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may change by themselves."""

NOT_PUBLIC: Final = "The address of the file is not one that this server may read."

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and a port to addresses, as text."""

GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is routed in public (IANA IPv6 address space)."""
NAT64: Final = IPv6Network("64:ff9b::/96")
"""IPv4 seen from networks that have IPv6 only (RFC 6052)."""
SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments, and a cloud's metadata (RFC 6890)
    IPv4Network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
"""Not public either, though ``ipaddress`` of Python 3.11 has them for global."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be read, and how long it may take.

    Public addresses may always be read. ``allow_hosts`` are names (``host``, or ``*.domain`` for all below it) that may
    be read wherever they lead; ``allow_networks`` are private ranges that may be read.
    """

    allow_hosts: frozenset[str] = frozenset()
    allow_networks: tuple[Network, ...] = ()
    connect_timeout_s: float = 5.0
    """For name and connection, and once more for TLS."""
    total_timeout_s: float = 60.0
    """For the whole download, redirects included."""
    idle_timeout_s: float = 20.0
    """Between two pieces of the answer."""
    max_redirects: int = 3

    def allows_host(self, host: str) -> bool:
        """Whether *host* may be read wherever it leads."""
        name = host.lower().rstrip(".")
        return name in self.allow_hosts or any(
            pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in self.allow_hosts
        )

    def allows_address(self, text: str) -> bool:
        """Whether the address *text* may be connected to; IPv4 inside IPv6 is looked at as well."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self.allow_networks):
            return True
        return _is_public(address) and all(self.allows_address(str(inner)) for inner in _embedded(address))


def _is_public(address: Address) -> bool:
    if any(address in network for network in SPECIAL):
        return False
    if isinstance(address, IPv6Address):
        return address in NAT64 or (address in GLOBAL_UNICAST and address.is_global and not address.is_multicast)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """IPv4 addresses that packets to *address* may end at."""
    if isinstance(address, IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in NAT64:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the operating system."""
    found = await get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to addresses it has looked at, and to nothing else: no Unix sockets, no proxies."""

    def __init__(self, policy: FetchPolicy, resolve: Resolve) -> None:
        self._policy, self._resolve = policy, resolve
        self._dialer = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            with anyio.fail_after(timeout):
                addresses = await self._checked(host, port)
                return await self._first_of(addresses, port, local_address, socket_options)
        except TimeoutError as late:
            raise httpcore2.ConnectTimeout from late

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError from error
        if not self._policy.allows_host(host) and not all(map(self._policy.allows_address, addresses)):
            raise FetchRefused(NOT_PUBLIC)
        return list(dict.fromkeys(addresses))

    async def _first_of(
        self,
        addresses: Sequence[str],
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError()
        tried = addresses[:MOST_ADDRESSES]
        for address in tried:
            try:
                return await self._dialer.connect_tcp(
                    address,
                    port,
                    timeout=self._policy.connect_timeout_s / len(tried),
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class Fetcher:
    """Reads URLs into files; an async context manager.

    Args:
        policy: what may be read.
        resolve: how names become addresses; for tests.
    """

    def __init__(self, policy: FetchPolicy, *, resolve: Resolve = resolve_by_system) -> None:
        self._policy = policy
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),  # reading the certificates takes 15 ms; once is enough
            max_connections=MOST_CONNECTIONS,
            max_keepalive_connections=0,  # an old connection may be closed just when it is used again
            network_backend=_GuardedBackend(policy, resolve),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def fetch(self, url: str, directory: Path, *, max_bytes: int) -> AsyncIterator[Path]:
        """The contents of *url* as a file in *directory*, readable by us alone; removed when the block is left.

        Raises:
            FetchRefused: it is not an address that this server may read.
            FetchStatus: the origin answered with an error.
            FetchTimeout: it took longer than the policy allows.
            FetchIncomplete: the origin hung up early.
            FetchFailed: no connection, a broken answer, too many redirects.
            TooLarge: more than *max_bytes*.
        """
        async with spooled(directory) as path:
            with path.open("wb", buffering=0) as file, _translated():
                with anyio.fail_after(self._policy.total_timeout_s):
                    await self._download(url, _Spool(file, max_bytes))
            yield path

    async def fetch_on(self, url: str, path: Path, *, max_bytes: int) -> None:
        """The contents of *url* in the file *path*; goes on where it stopped, also when an earlier process began it.

        A second file beside *path* remembers which version of the contents was begun, so that two are never mixed.
        An origin that cannot send parts is read from the beginning again. The caller removes both (``discard``).

        Raises:
            FetchRefused, FetchStatus, FetchTimeout, FetchFailed, TooLarge: as ``fetch``.
        """
        failures = 0
        with anyio.move_on_after(MOST_RESUMED_S):
            while True:
                part = await anyio.to_thread.run_sync(_Part.of, path)
                if part.complete:
                    return
                had = part.n_bytes
                try:
                    with _translated():
                        await self._continue(url, part, max_bytes)
                except FetchRefused:
                    raise
                except FetchFailed as failure:
                    if isinstance(failure, FetchStatus) and failure.status not in TRY_LATER:
                        raise
                    grown = (await anyio.to_thread.run_sync(_Part.of, path)).n_bytes > had
                    failures = 1 if grown else failures + 1
                    if failures > len(RETRY_S):
                        raise
                    await anyio.sleep(RETRY_S[failures - 1])
                else:
                    return
        raise FetchTimeout("The server of the file did not send it in time.")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, within_s: float) -> int:
        """Send *body* to *url*; the status of the answer, whose own body is not read. Redirects are not followed.

        Raises:
            FetchRefused: it is not an address that this server may call.
            FetchTimeout, FetchFailed: there was no answer.
        """
        target, given = _parse(url)
        more = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        length = (b"Content-Length", str(len(body)).encode())
        with _translated(), anyio.fail_after(within_s):
            async with self._pool.stream(
                "POST", target, headers=[*given, *more, length], content=body, extensions=self._timeouts()
            ) as response:
                return response.status

    async def _continue(self, url: str, part: "_Part", max_bytes: int) -> None:
        """Ask for what is missing of *part* and write it."""

        async def receive(response: httpcore2.Response) -> None:
            if response.status == HTTP_RANGE_NOT_SATISFIABLE and part.n_bytes:
                await anyio.to_thread.run_sync(part.restart, None)
                raise FetchFailed("The server of the file broke off, or its answer was malformed.")
            if response.status != HTTP_PARTIAL or not part.n_bytes:
                _check_status(response)
                await anyio.to_thread.run_sync(part.restart, _validator(response))
            elif not _header(response, b"content-range").startswith(f"bytes {part.n_bytes}-".encode()):
                raise FetchFailed("The server of the file sent another part than it was asked for.")
            with part.path.open("ab", buffering=0) as file:
                await _receive(response, _Spool(file, max_bytes, n_total=part.n_bytes))
            await anyio.to_thread.run_sync(part.finish)

        wanted: list[tuple[bytes, bytes]] = []
        if part.n_bytes and part.validator is not None:
            wanted = [(b"Range", f"bytes={part.n_bytes}-".encode()), (b"If-Range", part.validator.encode("latin-1"))]
        await self._follow(url, wanted, receive)

    async def _download(self, url: str, spool: "_Spool") -> None:
        """Follow *url* to the end and write what is there."""

        async def receive(response: httpcore2.Response) -> None:
            _check_status(response)
            await _receive(response, spool)

        await self._follow(url, [], receive)

    async def _follow(
        self,
        url: str,
        more: list[tuple[bytes, bytes]],
        receive: Callable[[httpcore2.Response], Awaitable[None]],
    ) -> None:
        """Follow *url* to the end, asking with *more* headers, and hand the answer to *receive*."""
        for _ in range(self._policy.max_redirects + 1):
            target, headers = _parse(url)
            async with self._pool.stream(
                "GET", target, headers=[*headers, *more], extensions=self._timeouts()
            ) as response:
                location = _location(response)
                if location is None:
                    await receive(response)
                    return
            url = _joined(url, location)
        raise FetchFailed("The address of the file redirects too often.")

    def _timeouts(self) -> dict[str, dict[str, float]]:
        policy = self._policy
        idle_s = policy.idle_timeout_s
        return {
            "timeout": {
                "connect": policy.connect_timeout_s,
                "read": idle_s,
                "write": idle_s,
                "pool": policy.total_timeout_s,
            }
        }


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the network become ours; none of their texts is shown, for they may name addresses."""
    try:
        yield
    except (httpcore2.TimeoutException, TimeoutError) as late:
        raise FetchTimeout("The server of the file did not send it in time.") from late
    except httpcore2.ConnectError as error:
        raise FetchFailed("The server of the file could not be reached.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        raise FetchFailed("The server of the file broke off, or its answer was malformed.") from error


class _Spool:
    """A file that may take so many bytes."""

    def __init__(self, file: Any, max_bytes: int, *, n_total: int = 0) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._gathered = bytearray()
        self._n_total = n_total

    def announce(self, n_bytes: int) -> None:
        """So many more are said to come."""
        if self._n_total + n_bytes > self._max_bytes:
            raise TooLarge(f"The input audio is larger than {self._max_bytes} bytes.")

    async def add(self, data: bytes) -> None:
        self._n_total += len(data)
        self.announce(0)
        self._gathered += data
        if len(self._gathered) >= WRITE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if not self._gathered:
            return
        try:
            await anyio.to_thread.run_sync(self._file.write, self._gathered)
        except OSError as error:
            raise EngineUnavailable("The server has no room for the file.") from error
        self._gathered = bytearray()


class _Memory(msgspec.Struct, frozen=True):
    """What a file of its own remembers of a download that was begun."""

    validator: str | None
    complete: bool = False


_memories = msgspec.json.Decoder(_Memory)


class _Part:
    """A download as far as it came: the bytes at *path*, and beside them what they are the beginning of.

    Without a validator (a strong ETag, or the time of the last change) the beginning may be of other contents than the
    rest, and is worth nothing.
    """

    def __init__(self, path: Path, memory: _Memory) -> None:
        self.path, self.validator, self.complete = path, memory.validator, memory.complete
        self.n_bytes = path.stat().st_size if path.exists() and (memory.validator or memory.complete) else 0

    @classmethod
    def of(cls, path: Path) -> "_Part":
        try:
            return cls(path, _memories.decode(_memory_path(path).read_bytes()))
        except (FileNotFoundError, msgspec.MsgspecError):
            return cls(path, _Memory(None))

    def restart(self, validator: str | None) -> None:
        """Forget what came; now the contents that *validator* names begin."""
        _memory_path(self.path).unlink(missing_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.path.chmod(0o600)
        self._remember(_Memory(validator))
        self.n_bytes, self.validator = 0, validator

    def finish(self) -> None:
        """All of it came."""
        self._remember(_Memory(self.validator, complete=True))
        self.complete = True

    def _remember(self, memory: _Memory) -> None:
        path = _memory_path(self.path)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(memory))
        fresh.replace(path)


def discard(path: Path) -> None:
    """Remove what ``Fetcher.fetch_on`` made at *path*."""
    path.unlink(missing_ok=True)
    _memory_path(path).unlink(missing_ok=True)


def _memory_path(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _validator(response: httpcore2.Response) -> str | None:
    """What names the version of the contents, for ``If-Range``; weak ETags may not be used there (RFC 9110, 13.1.5)."""
    etag = _header(response, b"etag")
    named = etag if etag.startswith(b'"') else _header(response, b"last-modified")
    return named.decode("latin-1") or None


def _header(response: httpcore2.Response, wanted: bytes) -> bytes:
    return next((value.strip() for name, value in response.headers if name.lower() == wanted), b"")


def _check_status(response: httpcore2.Response) -> None:
    if not 200 <= response.status < 300:
        raise FetchStatus(f"The server of the file answered with status {response.status}.", status=response.status)


async def _receive(response: httpcore2.Response, spool: _Spool) -> None:
    if _header(response, b"content-encoding").lower() not in (b"", b"identity"):
        raise FetchFailed("The server of the file sent it compressed, though it was asked not to.")
    is_announced = (length := _header(response, b"content-length")).isdigit()
    if is_announced:
        spool.announce(int(length))
    try:
        async for data in response.aiter_stream():
            await spool.add(data)
    except httpcore2.RemoteProtocolError as error:
        if is_announced:  # it hung up before that
            raise FetchIncomplete("The server of the file sent less than it had announced.") from error
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await spool.flush()  # also of a download that broke off: it may go on there


def _location(response: httpcore2.Response) -> str | None:
    """Where the answer sends us, if it does."""
    if response.status not in REDIRECTS:
        return None
    for name, value in response.headers:
        if name.lower() == b"location":
            return value.decode("utf-8", errors="replace")
    raise FetchFailed("The address of the file redirects to nowhere.")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url.strip(" "), location)
    except ValueError as error:
        raise FetchRefused("The address of the file redirects to a malformed one.") from error


def _parse(url: str) -> tuple[httpcore2.URL, list[tuple[bytes, bytes]]]:
    """*url* in parts fit for the wire, and the headers to send.

    Raises:
        FetchRefused: not http(s), credentials inside, or malformed.
    """
    url = url.strip(" ")
    if len(url) > LONGEST_URL:
        raise FetchRefused(f"The address of the file is longer than {LONGEST_URL} characters.")
    if re.search(r"[\x00-\x1f\x7f]", url):
        raise FetchRefused("The address of the file has control characters.")
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:  # UnicodeError of the host is one
        raise FetchRefused("The address of the file is malformed.") from error
    if parts.scheme not in ("http", "https"):
        raise FetchRefused("Only http and https addresses can be read.")
    if "@" in parts.netloc or "\\" in parts.netloc:
        raise FetchRefused("The address of the file must not carry a user name or password.")
    target = quote(parts.path, safe=PATH_SAFE) or "/"
    if parts.query:
        target += "?" + quote(parts.query, safe=QUERY_SAFE)
    shown = f"[{host}]" if ":" in host else host
    headers = [(b"Host", (shown if port is None else f"{shown}:{port}").encode("ascii")), *HEADERS]
    return httpcore2.URL(scheme=parts.scheme, host=host, port=port, target=target), headers


def _host(name: str) -> str:
    """*name* in ASCII; ValueError if it cannot be one."""
    if ":" in name:
        address = IPv6Address(name)
        if address.scope_id is not None:
            raise ValueError("an address of one link")
        return str(address)
    host = name.encode("idna").decode("ascii")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise ValueError("not a host name")
    return host

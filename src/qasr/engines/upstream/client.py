"""One HTTP exchange with one server: bounded in time and size, and its failures sorted by whose they are.

::

    UpstreamFailure
    ├── Refused   this request is at fault (400, 413, 422 …): no other server will take it either
    ├── Busy      the server has too much to do (429, or 503 with Retry-After): ask another, or this one later
    └── Broken    the server is at fault: no connection, no answer in time, 5xx, not what was asked for, key refused
        └── Absent    it has no such path, or no such model

No text of these shows a key, an address or what the server wrote.
"""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx2

LARGEST_ANSWER: Final = 2 * 1024**2
"""Bytes. Text and word times of a segment are less than a tenth of it."""
LONGEST_REST_S: Final = 60.0
"""A server that asks for a longer pause is asked again after this one."""
DEFAULT_REST_S: Final = 1.0
"""Where 429 comes without ``Retry-After``."""

TRY_LATER: Final = frozenset({408, 425})
"""Of 4xx, those that do not say that the request was wrong."""


class UpstreamFailure(Exception):
    """Root of what may go wrong with one server."""


class Refused(UpstreamFailure):
    """The server finds fault with the request."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Busy(UpstreamFailure):
    """The server has too much to do."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Broken(UpstreamFailure):
    """The server is at fault; *surely*: it will be for the next request, too."""

    def __init__(self, message: str, *, surely: bool = False) -> None:
        super().__init__(message)
        self.surely = surely


class Absent(Broken):
    """The server has no such path, or no such model."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back with a status of 2xx."""

    content_type: str
    body: bytes


class UpstreamClient:
    """Asks servers; the connections of all of them. Closed by who closes *client*."""

    def __init__(self, client: httpx2.AsyncClient, *, timeout_s: float, connect_timeout_s: float) -> None:
        self._client = client
        self.timeout_s = timeout_s
        self.connect_timeout_s = connect_timeout_s

    async def get(self, url: str) -> Answer:
        """Ask for something small, which a healthy server has at hand: within the time for a connection, twice.

        Raises:
            UpstreamFailure: there was no good answer.
        """
        return await self._exchange("GET", url, 2 * self.connect_timeout_s)

    async def post(self, url: str, **content: Any) -> Answer:
        """Send *content* (``content`` and ``headers``, as httpx has them).

        Raises:
            UpstreamFailure: there was no good answer.
        """
        return await self._exchange("POST", url, self.timeout_s, **content)

    async def _exchange(self, method: str, url: str, within_s: float, **content: Any) -> Answer:
        try:
            with anyio.fail_after(within_s):
                async with self._client.stream(method, url, **content) as response:
                    body = await _read(response)
        except (httpx2.TimeoutException, TimeoutError) as late:
            raise Broken(f"no answer within {within_s:g} s", surely=isinstance(late, httpx2.ConnectTimeout)) from late
        except httpx2.ConnectError as error:
            raise Broken("no connection", surely=True) from error
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise Broken("the connection broke off, or the answer was malformed") from error
        _check(response.status_code, response.headers)
        return Answer(response.headers.get("content-type", "").partition(";")[0].strip().lower(), body)


async def _read(response: httpx2.Response) -> bytes:
    """The answer's body as it was sent: no compression was asked for, and what is compressed has no bound."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Broken("the answer is compressed, though it was asked not to be")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise Broken(f"the answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(body)


def _check(status: int, headers: Mapping[str, str]) -> None:
    """Sort out answers without a result."""
    if 200 <= status < 300:
        return
    if status == 429 or (status == 503 and "retry-after" in headers):
        raise Busy(f"status {status}", retry_after_s=_retry_after_s(headers.get("retry-after")))
    if status in (401, 403):
        raise Broken(f"status {status}: upstream.api_key is refused", surely=True)
    if status in (404, 405):
        raise Absent(f"status {status}", surely=True)
    if 400 <= status < 500 and status not in TRY_LATER:
        raise Refused(f"status {status}", status=status)
    raise Broken(f"status {status}")


def _retry_after_s(text: str | None) -> float:
    """Seconds, or a date (RFC 9110, 10.2.3), as seconds from now."""
    if text is None:
        return DEFAULT_REST_S
    try:
        wanted_s = float(text)
    except ValueError:
        try:
            wanted_s = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return DEFAULT_REST_S
    return min(max(wanted_s, 0.0), LONGEST_REST_S) if wanted_s == wanted_s else DEFAULT_REST_S  # noqa: PLR0124 - NaN

"""A server's tasks over HTTP, by the DashScope interface; answers are read with tolerance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from qasr.cli.failure import one_line
from qasr.cli.task_shapes import Answer, Entry, Page, Refusal, Task

ANSWER_S: Final = 30.0
DOWNLOAD_S: Final = 300.0
"""For a result document: between two pieces of it."""
LARGEST_PAGE: Final = 100
LONGEST_MESSAGE: Final = 500

T = TypeVar("T")


class ServerFailed(Exception):
    """The server does not do what it was asked, or does not answer."""

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass
        """Whether asking again may help."""


class TaskClient:
    """Asks one server."""

    def __init__(self, http: httpx2.AsyncClient, api_key: str) -> None:
        self._http, self._authorization = http, {"Authorization": f"Bearer {api_key}"}

    async def task(self, task_id: str) -> Task:
        """The state of a task; ``UNKNOWN`` where there is none.

        Raises:
            ServerFailed: as all here.
        """
        answer = await self._ask("GET", f"/api/v1/tasks/{quote(task_id, safe='')}")
        return _read(answer, Answer).output

    async def tasks(self, *, status: str | None, limit: int) -> AsyncIterator[Entry]:
        """Tasks of the last 24 hours, newest first."""
        size = min(limit, LARGEST_PAGE)
        query = {"page_size": str(size)} | ({"status": status} if status is not None else {})
        number = n_found = 0
        while n_found < limit:
            number += 1
            page = _read(await self._ask("GET", "/api/v1/tasks", {**query, "page_no": str(number)}), Page)
            for entry in page.data[: limit - n_found]:
                yield entry
            n_found += len(page.data)
            if len(page.data) < size:
                return

    async def cancel(self, task_id: str) -> None:
        """Cancel a pending task."""
        await self._ask("POST", f"/api/v1/tasks/{quote(task_id, safe='')}/cancel")

    async def document(self, url: str) -> bytes:
        """A result document; its address is signed, and no key is sent there."""
        try:
            answer = await self._http.get(url, timeout=httpx2.Timeout(DOWNLOAD_S, connect=10.0))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ServerFailed(f"the result cannot be read: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise ServerFailed(f"the result cannot be read (HTTP {answer.status_code})")
        return answer.content

    async def _ask(self, method: str, path: str, query: dict[str, str] | None = None) -> httpx2.Response:
        try:
            answer = await self._http.request(method, path, params=query, headers=self._authorization)
        except httpx2.HTTPError as error:
            what = f"{self._http.base_url} does not answer: {error or type(error).__name__}"
            raise ServerFailed(what, may_pass=isinstance(error, httpx2.TransportError)) from error
        if answer.is_success:
            return answer
        try:
            message = msgspec.json.decode(answer.content, type=Refusal).message
        except msgspec.MsgspecError:
            message = answer.text or answer.reason_phrase
        status = answer.status_code
        raise ServerFailed(
            f"{one_line(message)[:LONGEST_MESSAGE]} (HTTP {status})", may_pass=status >= 500 or status == 429
        )


@asynccontextmanager
async def connected(server: str, api_key: str) -> AsyncIterator[TaskClient]:
    """A client of *server*; addresses as SDKs take them will do."""
    base = server.rstrip("/")
    for ending in ("/api/v1", "/compatible-mode/v1", "/v1"):
        base = base.removesuffix(ending)
    try:
        http = httpx2.AsyncClient(base_url=base, timeout=httpx2.Timeout(ANSWER_S, connect=10.0))
    except httpx2.InvalidURL as error:
        raise ServerFailed(f"--server is no address: {error}") from error
    async with http:
        yield TaskClient(http, api_key)


def _read(answer: httpx2.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.MsgspecError as error:
        raise ServerFailed("the server's answer has an unknown shape") from error

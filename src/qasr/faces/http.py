"""What all faces need at the edge of HTTP: request ids, bounded bodies, event streams, vanished clients."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Final, TypeAlias, TypeVar

import anyio
import msgspec
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qasr.domain.errors import (
    EngineFailed,
    InvalidParameter,
    QasrError,
    QueueFull,
    TooLarge,
)
from qasr.domain.transcript import Transcript
from qasr.service import Listening
from qasr.storage.outages import cause, outage

T = TypeVar("T")

ToWire: TypeAlias = Callable[[QasrError, str], tuple[int, bytes]]
"""A face's table of errors: error and request id to status and JSON body."""

log = structlog.get_logger(__name__)


class Bodies:
    """Reads request bodies: each bounded, and all that are in memory together."""

    def __init__(self, *, largest: int, together: int) -> None:
        self._largest, self._together, self._held = largest, together, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body; it counts as held until the block ends.

        Raises:
            TooLarge: more than one body may be.
            QueueFull: more than all bodies may be together.
        """
        if _content_length(request.headers) > self._largest:
            raise TooLarge(f"The request body exceeds the limit of {self._largest} bytes.")
        body = bytearray()
        held = 0
        try:
            async for chunk in request.stream():
                held += len(chunk)
                self._held += len(chunk)
                if held > self._largest:
                    raise TooLarge(f"The request body exceeds the limit of {self._largest} bytes.")
                if self._held > self._together:
                    raise QueueFull("The server is busy; please try again later.")
                body += chunk
            yield bytes(body)
        finally:
            self._held -= held


def _content_length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def decode(body: bytes, type_: type[T]) -> T:
    """*body* (JSON) as *type_*; unknown fields are tolerated.

    Raises:
        InvalidParameter: no JSON, or a field of the wrong type; the message names it.
    """
    try:
        return msgspec.json.decode(body, type=type_, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"The request body is invalid: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter("The request body is not valid JSON.") from error


def request_id(request: HTTPConnection) -> str:
    """The id of this request, as the answer's ``X-Request-Id`` tells it."""
    found: str = request.scope["state"]["request_id"]
    return found


def route(scope: Scope) -> str:
    """The template that matched, such as ``/api/v1/tasks/{id}``: what strangers wrote in its place is not for logs."""
    return str(getattr(scope.get("route"), "path", "unknown"))


class RequestIds:
    """Middleware: gives each request an id, in its logs and on its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        identity = str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = identity
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=identity)

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)["X-Request-Id"] = identity
            await send(message)

        await self.app(scope, receive, send_with_id)


SAFE_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""For browsers: what we answer is data, neither run nor framed nor kept. An answer's own value stands."""


class SafeHeaders:
    """Middleware: ``SAFE_HEADERS`` on each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_safely(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_safely)


class TrailingSlashes:
    """Middleware: ``…/models/`` is ``…/models``. Answered there and then: a redirected POST loses its body in many
    clients.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in ("http", "websocket") and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self.app(scope, receive, send)


class ReadToTheEnd:
    """Middleware: an error that is answered before the body was read is told at once, and the rest is read, within
    bounds, before the answer ends.

    Many clients write the whole body before they look for an answer; a connection closed on them looks like a failure
    of the network, and the error that would help is never seen. Who does look may stop writing; read to its end, the
    connection is good for the next request.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, most_s: float = 10.0) -> None:
        self.app, self._most_bytes, self._most_s = app, most_bytes, most_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        complete = early = False

        async def receive_and_note() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def read_rest() -> None:
            seen = 0
            with anyio.move_on_after(self._most_s):
                while not complete and seen <= self._most_bytes:
                    seen += len((await receive_and_note()).get("body", b""))

        async def send_and_read(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start":
                early = message["status"] >= 400 and not complete
            elif early and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await read_rest()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, receive_and_note, send_and_read)


def json_answer(value: object, headers: Mapping[str, str] | None = None) -> Response:
    """200 with JSON."""
    return Response(msgspec.json.encode(value), media_type="application/json", headers=headers)


def error_answer(error: QasrError, to_wire: ToWire, identity: str) -> Response:
    """The error in the face's own shape."""
    status, body = to_wire(error, identity)
    again_s = getattr(error, "retry_after_s", None)
    headers = {"Retry-After": str(again_s)} if again_s is not None else None
    media_type = "application/xml" if body.startswith(b"<?xml") else "application/json"
    return Response(body, status_code=status, media_type=media_type, headers=headers)


def told(result: Listening | Transcript) -> dict[str, str]:
    """Headers that tell how an answer was made: the engine, its checkpoint, and hints that it cannot use."""
    found = {
        "X-Qasr-Engine": result.engine,
        "X-Qasr-Checkpoint": result.checkpoint,
        "X-Qasr-Unused": ", ".join(result.unused),
    }
    return {name: value for name, value in found.items() if value}


Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def endpoint(to_wire: ToWire) -> Callable[[Endpoint], Endpoint]:
    """Make a handler an endpoint of a face: its errors get the face's shape, a vanished client cancels it."""

    def decorate(handler: Endpoint) -> Endpoint:
        @wraps(handler)
        async def answer(request: Request) -> Response:
            identity = request_id(request)
            try:
                return await handler(request)
            except ClientDisconnect:
                return Response(status_code=499)
            except QasrError as error:
                log.info("refused", route=route(request.scope), error=type(error).__name__)
                return error_answer(error, to_wire, identity)
            except Exception as error:  # noqa: BLE001 - no failure reaches a client as a nameless 500
                return error_answer(ours("handler_raised", error), to_wire, identity)

        return answer

    return decorate


def ours(event: str, error: Exception) -> QasrError:
    """What a client is told of a failure that is no ``QasrError``; the log gets the rest, under *event*."""
    if (away := outage(error)) is not None:
        log.error("storage_unavailable", error=type(error).__name__, cause=cause(error))
        return away
    log.error(event, exc_info=error)
    return EngineFailed("Internal server error.")


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do *work*, after the body was read, unless the client leaves: then cancel it.

    Raises:
        ClientDisconnect: the client left.
    """
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def run() -> None:
            try:
                results.append(await work())
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group, which would wrap it
                errors.append(error)
            group.cancel_scope.cancel()

        group.start_soon(run)
        await _until_gone(request.receive)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientDisconnect
    return results[0]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Emit: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Send one frame, complete with its blank line."""


class EventStream(Response):
    """Server-sent events. *produce* gets ``emit``; the answer starts with the first frame, so that what fails before it
    is answered with a proper status. A client that leaves cancels *produce* at once.

    Args:
        produce: emits all frames; may raise QasrError.
        to_wire: shape of an error before the first frame.
        frame: shape of an error after it.
        held: what the answer needs until its end (a spooled file, the count of a body); closed then.
    """

    def __init__(
        self,
        produce: Callable[[Emit, MutableHeaders], Awaitable[None]],
        *,
        to_wire: ToWire,
        frame: Callable[[QasrError], bytes],
        held: AsyncExitStack,
        media_type: str = "text/event-stream",
    ) -> None:
        super().__init__(media_type=media_type)
        self._produce, self._to_wire, self._frame, self._held = produce, to_wire, frame, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        headers = MutableHeaders({"Content-Type": str(self.media_type), "Cache-Control": "no-cache"})
        headers["X-Accel-Buffering"] = "no"
        started = False

        async def emit(data: bytes) -> None:
            nonlocal started
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": headers.raw})
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def run() -> None:
            try:
                await self._produce(emit, headers)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except Exception as error:  # noqa: BLE001 - told in full
                if isinstance(error, OSError) and outage(error) is None:  # the connection broke while we wrote
                    log.info("client_gone")
                    return
                if not isinstance(error, QasrError):
                    error = ours("stream_raised", error)
                if started:
                    await emit(self._frame(error))
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                else:
                    identity = scope["state"]["request_id"]
                    await error_answer(error, self._to_wire, identity)(scope, receive, send)
            finally:
                group.cancel_scope.cancel()

        async with self._held, anyio.create_task_group() as group:
            group.start_soon(run)
            await _until_gone(receive)
            group.cancel_scope.cancel()


def external_url(request: Request, configured: str | None) -> str:
    """The base that this client reaches us by, without a slash at its end."""
    return (configured or str(request.base_url)).rstrip("/")


async def sleep_until_cancelled(every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do *work* now and then, for housekeeping; its errors are logged and do not end it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("housekeeping_failed")
        await asyncio.sleep(every_s)


LARGEST_CONTEXT: Final = 40_000
"""Characters of context that we take: the documented 10 000 tokens, at four characters each."""

"""uvicorn's HTTP protocol with bounds: what strangers can cost before anybody knows who they are.

::

    accepted ──head──▶ asked ──body──▶ answered ──next head, within uvicorn's 5 s──▶ …
       │                 │                 │
       ├ too many: 503   │                 └ reads nothing for ``patience_s``: cut off
       ├ no whole head within ``patience_s``: 408
       └ head too long: 431
                         └ silent for ``patience_s``, or slower than ``LEAST_BYTES_PER_S`` beyond it: 408

None of this asks the application: it sees a client that left, as it would if the line had broken.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LARGEST_HEAD: Final = 64 * 1024
"""Bytes of request line and headers, without blanks and line ends; also what may lie in the parser undelivered."""
MOST_HEADERS: Final = 128
LEAST_BYTES_PER_S: Final = 4096
"""Of a body that takes longer than the patience; a recording in the slowest speech codec is sent as fast as spoken."""
LOOK_S: Final = 1.0
"""Between two looks at a body that is under way."""
SPARE_FILES: Final = 256
"""Open files for all that is no connection: pipes to children, recordings, the database."""

REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may cost."""

    most: int
    """At once, those of live sessions among them."""
    patience_s: float


class _HeadTooLarge(Exception):
    """Raised inside of the parser's callbacks."""


class LimitedHttp(HttpToolsProtocol):
    """See the head of this file.

    Args:
        limits: ours.
        arguments: the parent's.
        options: the parent's.
    """

    def __init__(self, limits: ConnectionLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._timers: dict[str, Any] = {}
        self._head_bytes = 0
        self._held_bytes = 0
        self._credit_s = limits.patience_s
        self._running: RequestResponseCycle | None = None

    # ---- connections

    def connection_made(self, transport: Any) -> None:
        """Somebody has called."""
        is_full = len(self.connections) >= self._limits.most
        super().connection_made(transport)
        if is_full:
            self._refuse(503, "The server has as many connections as it takes; please try again later.")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for all requests that were sent one behind the other: the parent tells the last one only."""
        self._stop_timers()
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def handle_websocket_upgrade(self) -> None:
        """From here on ``LiveWebSocket`` sees to it."""
        self._stop_timers()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if self.transport.is_closing():
            return
        self._held_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self not in self.connections:  # the latter: it is a WebSocket now
            return
        if self._held_bytes > LARGEST_HEAD:
            self._refuse(431, "The head of the request is too long.")
        elif self.cycle is None or self.cycle.response_complete:  # what came was no whole head
            self._await_head()

    def send_400_response(self, msg: str) -> None:
        """The parser has given up: for a reason of its own, or of ours."""
        if self._head_bytes > LARGEST_HEAD or len(self.headers or ()) > MOST_HEADERS:
            self._refuse(431, "The head of the request is too long.")
        else:
            self._refuse(400, msg)

    # ---- heads

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_bytes = self._held_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def _count(self, n_bytes: int) -> None:
        self._held_bytes = 0
        self._head_bytes += n_bytes
        if self._head_bytes > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        """The head is complete, the application is asked."""
        self._stop("head")
        self._held_bytes = 0
        super().on_headers_complete()
        self._credit_s = self._limits.patience_s
        self._start("body", LOOK_S, self._look_at_body)

    def _await_head(self) -> None:
        if "head" not in self._timers:
            self._start("head", self._limits.patience_s, self._no_head)

    def _no_head(self) -> None:
        self._refuse(408, "The head of the request did not come in time.")

    # ---- bodies

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._held_bytes = 0
        self._credit_s = min(self._limits.patience_s, self._credit_s + len(body) / LEAST_BYTES_PER_S)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete."""
        self._held_bytes = 0
        self._stop("body")
        super().on_message_complete()

    def _look_at_body(self) -> None:
        """Time without bytes costs credit, unless it is we who do not read."""
        if self.flow.read_paused:
            self._start("body", LOOK_S, self._look_at_body)
            return
        self._credit_s -= LOOK_S
        if self._credit_s > 0:
            self._start("body", LOOK_S, self._look_at_body)
        else:
            self._refuse(408, "The body of the request came too slowly.")

    # ---- answers

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._start("answer", self._limits.patience_s, self._not_read)

    def resume_writing(self) -> None:
        """It has read."""
        self._stop("answer")
        super().resume_writing()

    def _not_read(self) -> None:
        log.info("client_stalled", after_s=self._limits.patience_s)
        self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answer, if nothing has been answered, and hang up."""
        log.info("connection_refused", status=status)
        self._stop_timers()
        cycle = self._running
        is_answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # what it still says goes nowhere
            cycle.message_event.set()
        if is_answering:
            self.transport.abort()
            return
        body = message.encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, REASONS[status], len(body), body)
        )
        self.transport.close()

    # ---- timers

    def _start(self, name: str, after_s: float, work: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(after_s, work)

    def _stop(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _stop_timers(self) -> None:
        for name in tuple(self._timers):
            self._stop(name)


def most_connections(wanted: int) -> int:
    """As many of *wanted* as this process may have files open for; raises its own limit as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + SPARE_FILES:
        soft = wanted + SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + SPARE_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted + SPARE_FILES:
        return wanted
    log.warning("few_open_files", limit=soft, connections=max(1, soft - SPARE_FILES))
    return max(1, soft - SPARE_FILES)

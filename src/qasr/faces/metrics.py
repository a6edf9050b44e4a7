"""``/metrics``: what Prometheus reads; and the middleware that tells of every request.

Who may read: this machine, unless the setting says otherwise, and always who sends ``metrics.token``. A proxy on this
machine would make everybody look local, so whatever was forwarded is not.
"""

import hmac
import ipaddress
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qasr import __version__
from qasr.domain import telemetry
from qasr.domain.task import ENDED, TaskState
from qasr.domain.telemetry import Answered
from qasr.faces.http import route
from qasr.faces.sockets import Sockets
from qasr.metrics import MEDIA_TYPE, Gauge, Metrics
from qasr.service import Service

log = structlog.get_logger(__name__)

Access: TypeAlias = Literal["local", "token", "anyone"]

FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers of requests that came through a proxy."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPENED: Final = 101
NOBODY_WAITED: Final = 499
"""Status of what was not answered, since its client had left."""
QUIET: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that are asked for again and again, by machines; no traces begin there."""
REFUSED: Final = (
    "These numbers are for this machine, or for who sends the token of metrics.token; docs/observability.md\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Who may read."""

    access: Access
    token: str | None

    def admit(self, request: Request) -> bool:
        """Whether *request* may."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if self.token is not None and scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self.token.encode())
        return self.access == "anyone" or (self.access == "local" and _is_local(request))


def _is_local(request: Request) -> bool:
    """Whether *request* comes from this machine, and from nowhere else before."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def routes(
    service: Callable[[], Service], metrics: Metrics, readers: Readers, sockets: Sockets, data_dir: Path
) -> list[BaseRoute]:
    """The path."""

    async def answer(request: Request) -> Response:
        if not readers.admit(request):
            return PlainTextResponse(REFUSED, status_code=403)
        gauges = [*_gauges(service()), Gauge("qasr_live_sockets", (), len(sockets))]
        with suppress(OSError):  # a disk that is gone: what cannot be known is left out
            gauges.append(Gauge("qasr_data_free_bytes", (), shutil.disk_usage(data_dir).free))
        return Response(metrics.render(gauges), media_type=MEDIA_TYPE)

    return [Route("/metrics", answer)]


def _gauges(service: Service) -> Iterator[Gauge]:
    yield Gauge("qasr_build_info", (__version__,), 1)
    yield Gauge("qasr_ready", (), not service.problems)
    yield Gauge("qasr_live_sessions", (), service.n_live)
    for one in service.engines():
        engine = (one.engine, one.checkpoint or "")
        yield Gauge("qasr_engine_state", (*engine, one.state), 1)
        yield Gauge("qasr_engine_leases", engine, one.leases)
        yield Gauge("qasr_engine_calls_running", engine, one.calls)
        yield Gauge("qasr_engine_calls_most", engine, one.most_calls)
        for queue in one.queues:
            lane = (*engine, queue.lane.name.lower())
            yield Gauge("qasr_queue_segments", lane, queue.segments)
            yield Gauge("qasr_queue_audio_seconds", lane, queue.audio_s)
            yield Gauge("qasr_queue_oldest_seconds", lane, queue.oldest_s)
    if (counts := service.task_counts) is not None:
        for state in TaskState:
            if state is TaskState.UNKNOWN:
                continue
            count = counts.get(state)
            yield Gauge("qasr_tasks", (state,), 0 if count is None else count.tasks)
            if state not in ENDED:
                oldest_s = 0.0 if count is None else max(0.0, time.time() - count.oldest_ms / 1000)
                yield Gauge("qasr_tasks_oldest_seconds", (state,), oldest_s)


class Watched:
    """Middleware: tells of each request once it is answered, and keeps its span. Routes below it match in its scope."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began_s = time.monotonic()
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = OPENED
                _tell(scope, status, None)
            elif message["type"] == "websocket.close" and status is None:
                status = 403  # as uvicorn answers an upgrade that is closed before it was accepted
            await send(message)

        keeper = telemetry.NOBODY if scope["path"] in QUIET else telemetry.tracer()
        with keeper.request(Headers(scope=scope)) as span:
            try:
                await self.app(scope, receive, send_and_note)
            except Exception:
                status = status or 500
                raise
            finally:
                status = status or NOBODY_WAITED
                if status != OPENED:
                    _tell(scope, status, time.monotonic() - began_s)
                _note(scope, status, span)


def _tell(scope: Scope, status: int, wall_s: float | None) -> None:
    method, matched = _method(scope), route(scope)
    telemetry.tell(Answered(method=method, route=matched, status=status, wall_s=wall_s))
    log.debug("answered", method=method, route=matched, status=status, wall_s=wall_s and round(wall_s, 3))


def _note(scope: Scope, status: int, span: telemetry.Span) -> None:
    """What is known at the end, by OpenTelemetry's names."""
    method, matched = _method(scope), route(scope)
    span.rename(f"{method} {matched}")
    span.note(
        {
            "http.request.method": method,
            "http.route": matched,
            "http.response.status_code": status,
            "qasr.request_id": scope["state"]["request_id"],
        }
    )
    if status >= 500:
        span.fail()


def _method(scope: Scope) -> str:
    method = scope.get("method", "GET")  # a WebSocket's upgrade has none
    return method if method in METHODS else "other"

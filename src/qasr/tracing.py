"""Spans for OpenTelemetry, sent by OTLP over HTTP: a ``Tracer`` (domain/telemetry.py). Needs the extra ``qasr[otel]``.

::

    POST /v1/audio/transcriptions            in the client's trace, if it sent ``traceparent``
    ├─ fetch   ├─ decode   ├─ segment
    └─ recognize (each segment) ── wait ── call ── tag ── align

    task                                     its trace has the task's id
    ├─ cut ── fetch, decode, segment
    ├─ hear ── recognize …
    └─ merge

Nothing global is touched: libraries that look for a tracer of their own find none. Exceptions are told by their names
only, since their texts may hold addresses. Spans are sent from a thread; what a collector does not take in time is
lost, and nothing else.
"""

import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from qasr import __version__
from qasr.domain.telemetry import Fact, Span, Tracer

LAST_WORDS_S: Final = 5.0
"""For spans that are not sent yet, when the process is to end."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def tracing(url: str, *, service: str, ratio: float) -> AsyncIterator[Tracer]:
    """A tracer that sends to the collector at *url*, for as long as the block lasts.

    Args:
        url: in full, with ``/v1/traces``.
        service: our name in the traces.
        ratio: of the traces that begin here, how many are kept; 0 to 1.
    """
    ids = _Ids()
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": __version__}),
        sampler=ParentBased(_Ratio(ratio)),
        id_generator=ids,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    try:
        yield _Tracer(provider.get_tracer("qasr", __version__), ids)
    finally:
        with anyio.CancelScope(shield=True):
            sending = threading.Thread(target=provider.shutdown, daemon=True)  # it may take longer than we wait
            sending.start()
            await anyio.to_thread.run_sync(sending.join, LAST_WORDS_S)
        if sending.is_alive():
            log.warning("spans_not_sent", waited_s=LAST_WORDS_S)


class _Ids(RandomIdGenerator):
    """Random ones, but for the traces of tasks."""

    def __init__(self) -> None:
        self.next_trace_id: int | None = None

    def generate_trace_id(self) -> int:
        return self.next_trace_id or super().generate_trace_id()


class _Ratio(Sampler):
    """Keeps a part of all traces, by the upper half of their ids. OpenTelemetry's own goes by the lower half, whose
    first bits are the same in all tasks' ids.
    """

    def __init__(self, ratio: float) -> None:
        self._bound = round(ratio * 2**64)

    def should_sample(
        self,
        parent_context: context.Context | None,  # noqa: ARG002 - the signature is OpenTelemetry's
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[trace.Link] | None = None,  # noqa: ARG002
        trace_state: trace.TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        if trace_id >> 64 < self._bound:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return f"_Ratio({self._bound / 2**64})"


class _Span:
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, facts: Mapping[str, Fact]) -> None:
        self._span.set_attributes(facts)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self) -> None:
        self._span.set_status(StatusCode.ERROR)


class _Tracer:
    """A ``Tracer``."""

    def __init__(self, tracer: trace.Tracer, ids: _Ids) -> None:
        self._tracer, self._ids = tracer, ids
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def stage(self, name: str, facts: Mapping[str, Fact], *, is_current: bool) -> Iterator[Span]:
        with _ended(self._tracer.start_span(name, attributes=facts), is_current=is_current) as span:
            yield span

    def lapsed(self, name: str, begin_s: float, end_s: float) -> None:
        origin_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(name, start_time=origin_ns + int(begin_s * 1e9))
        span.end(origin_ns + int(end_s * 1e9))

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Span]:
        theirs = self._propagator.extract(headers, context.Context())
        with _ended(self._tracer.start_span("request", theirs, SpanKind.SERVER)) as span:
            yield span

    @contextmanager
    def task(self, task_id: str) -> Iterator[Span]:
        self._ids.next_trace_id = uuid.UUID(task_id).int
        try:
            span = self._tracer.start_span("task", context.Context(), attributes={"qasr.task_id": task_id})
        finally:
            self._ids.next_trace_id = None
        with _ended(span) as task:
            yield task


@contextmanager
def _ended(span: trace.Span, *, is_current: bool = True) -> Iterator[_Span]:
    """*span* until the end of the block, and what became of it."""
    token = context.attach(trace.set_span_in_context(span)) if is_current else None
    try:
        yield _Span(span)
    except Exception as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        if token is not None:
            context.detach(token)
        span.end()

"""What ``/metrics`` tells, in Prometheus' words. Meanings for people: docs/observability.md, made of ``FAMILIES``.

::

    happenings (domain/telemetry.py) ──take──▶ counters, histograms ─┐
    what is there now (Gauges)       ──────────────────────────────▶ render

Every label has few values, all of our own making: lanes, stages, statuses, templates of routes, and the names of
engines and checkpoints that the operator installed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qasr.domain.telemetry import (
    Answered,
    EngineCalled,
    EventTaken,
    GuardActed,
    Happening,
    PartialSkipped,
    RecordingHeard,
    SegmentHeard,
    StageEnded,
    TaskEnded,
    WorkerDied,
)

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

QUICK_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Live speech and single calls."""
SLOW_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""What may wait in a queue, or takes a whole recording."""
FACTORS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


disable_created_metrics()  # type: ignore[no-untyped-call] # a series more for each, for what nobody asks


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; ``name`` as Prometheus shows it, without the ``_bucket``, ``_sum`` and ``_count`` of histograms."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


FAMILIES: Final = (
    Family("qasr_build_info", "gauge", ("version",), "1; the version that runs."),
    Family("qasr_ready", "gauge", (), "1 if `/readyz` answers 200, else 0."),
    Family("qasr_engine_state", "gauge", ("engine", "checkpoint", "state"),
           "Engines in a state: `waiting` (for memory), `loading`, `loaded`, `unloading`."),
    Family("qasr_engine_leases", "gauge", ("engine", "checkpoint"),
           "Requests, sessions and steps that use the engine now."),
    Family("qasr_engine_calls_running", "gauge", ("engine", "checkpoint"), "Calls of the engine under way."),
    Family("qasr_engine_calls_most", "gauge", ("engine", "checkpoint"), "Calls that the engine takes at once."),
    Family("qasr_queue_segments", "gauge", ("engine", "checkpoint", "lane"),
           "Segments that wait for a call, by lane: `live`, `partial`, `sync`, `file`."),
    Family("qasr_queue_audio_seconds", "gauge", ("engine", "checkpoint", "lane"),
           "Audio of the segments that wait. `sync` and `file` are bounded by `engines.queue_audio_s`."),
    Family("qasr_queue_oldest_seconds", "gauge", ("engine", "checkpoint", "lane"),
           "How long the segment that waits longest has waited; 0: none waits."),
    Family("qasr_engine_calls_total", "counter", ("engine", "outcome"),
           "Calls: `done`, `failed`, or `left`: nobody wanted the answer any more."),
    Family("qasr_engine_call_seconds", "histogram", ("engine",), "How long a call took.", QUICK_S),
    Family("qasr_engine_call_audio_seconds_total", "counter", ("engine",), "Audio in all calls."),
    Family("qasr_batch_segments", "histogram", ("engine",), "Segments in one call.", SIZES),
    Family("qasr_segment_wait_seconds", "histogram", ("engine", "lane"),
           "How long a segment waited for a call.", SLOW_S),
    Family("qasr_segment_seconds", "histogram", ("engine", "lane"),
           "From a segment's being handed in to its text; waiting and trying again included.", SLOW_S),
    Family("qasr_segment_audio_seconds_total", "counter", ("engine", "lane"), "Audio of the segments that were heard."),
    Family("qasr_recording_seconds", "histogram", ("engine",),
           "From a request's start of work to the last sentence, of recordings that were answered at once.", SLOW_S),
    Family("qasr_recording_real_time_factor", "histogram", ("engine",),
           "The same, divided by the length of the recording.", FACTORS),
    Family("qasr_recording_audio_seconds_total", "counter", ("engine",), "Audio of these recordings."),
    Family("qasr_stage_seconds", "histogram", ("stage", "outcome"),
           "How long a stage took: `load` (an engine), `fetch`, `decode`, `segment`, `recognize`, `tag`, `align`, and "
           "of tasks `cut`, `hear`, `merge`. Outcomes: `done`, `failed`, `left` (cancelled). Stages overlap: `decode` "
           "and `segment` of long recordings last as long as their slowest reader.", SLOW_S),
    Family("qasr_guards_total", "counter", ("engine", "guard"),
           "How often a guard stepped in for an engine: `loop`, `noise`, `echo`, `split`; partials not counted."),
    Family("qasr_live_sessions", "gauge", (), "Live sessions; bounded by `live.most_sessions`."),
    Family("qasr_live_sockets", "gauge", (), "Open WebSockets, with a session or without."),
    Family("qasr_live_event_lag_seconds", "histogram", ("event",),
           "How far behind the sound an event was when it was taken to be sent: a `final` from its utterance being "
           "found to have ended, a `partial` from its decoding being begun.", QUICK_S),
    Family("qasr_live_partials_skipped_total", "counter", ("reason",),
           "Partials that were due and not told: `busy` (put off, finals wait for the engine), `complete` (the segment "
           "was complete before it was heard), `unread` (replaced by a newer one before the client took it)."),
    Family("qasr_http_requests_total", "counter", ("method", "route", "status"),
           "Answers, by template of the route; `unknown`: no route. WebSockets count as 101 once they are open."),
    Family("qasr_http_request_seconds", "histogram", ("route",),
           "From the first byte of a request to the last of its answer; not of WebSockets.", SLOW_S),
    Family("qasr_tasks", "gauge", ("state",),
           "Tasks in the database, those that have ended until they expire. The same at all servers that share it."),
    Family("qasr_tasks_oldest_seconds", "gauge", ("state",),
           "Since when the oldest task in a state was submitted; only `PENDING` and `RUNNING`."),
    Family("qasr_tasks_ended_total", "counter", ("state",), "Tasks that this server has worked on to their end."),
    Family("qasr_worker_restarts_total", "counter", ("worker",),
           "Child processes that ended without being told to, by module; each is started again."),
    Family("qasr_event_loop_lag_seconds", "histogram", (),
           "How much later than asked the server's loop woke up; looked at each second.", QUICK_S),
    Family("qasr_data_free_bytes", "gauge", (), "Free space on the disk of the data directory."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gauge:
    """What is so now."""

    name: str
    labels: tuple[str, ...]
    """Values, in the order of the family's labels."""
    value: float


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for family in FAMILIES:
            match family.kind:
                case "counter":
                    self._counters[family.name] = Counter(
                        family.name, family.meaning, family.labels, registry=self._registry
                    )
                case "histogram":
                    self._histograms[family.name] = Histogram(
                        family.name, family.meaning, family.labels, registry=self._registry, buckets=family.buckets
                    )
                case "gauge":
                    pass
                case unreachable:
                    assert_never(unreachable)
        self._now = _Now()
        self._registry.register(self._now)
        ProcessCollector(registry=self._registry)

    def take(self, happening: Happening) -> None:  # noqa: C901, PLR0912 - one case for each that there is
        """A listener, see ``telemetry.listening``."""
        match happening:
            case Answered(method=method, route=route, status=status, wall_s=wall_s):
                self._count("qasr_http_requests_total", method, route, str(status))
                if wall_s is not None:
                    self._observe("qasr_http_request_seconds", wall_s, route)
            case EngineCalled(engine=engine, outcome=outcome):
                self._count("qasr_engine_calls_total", engine, outcome)
                if outcome == "done":
                    self._observe("qasr_engine_call_seconds", happening.call_s, engine)
                    self._observe("qasr_batch_segments", happening.n_segments, engine)
                    self._count("qasr_engine_call_audio_seconds_total", engine, by=happening.audio_s)
            case SegmentHeard(engine=engine, lane=lane):
                self._observe("qasr_segment_wait_seconds", happening.waited_s, engine, lane)
                self._observe("qasr_segment_seconds", happening.wall_s, engine, lane)
                self._count("qasr_segment_audio_seconds_total", engine, lane, by=happening.audio_s)
            case RecordingHeard(engine=engine, audio_s=audio_s, wall_s=wall_s):
                self._observe("qasr_recording_seconds", wall_s, engine)
                self._count("qasr_recording_audio_seconds_total", engine, by=audio_s)
                if audio_s:
                    self._observe("qasr_recording_real_time_factor", wall_s / audio_s, engine)
            case GuardActed(engine=engine, guard=guard):
                self._count("qasr_guards_total", engine, guard)
            case EventTaken(event=event, lag_s=lag_s):
                self._observe("qasr_live_event_lag_seconds", lag_s, event)
            case PartialSkipped(reason=reason):
                self._count("qasr_live_partials_skipped_total", reason)
            case StageEnded(stage=stage, outcome=outcome, wall_s=wall_s):
                self._observe("qasr_stage_seconds", wall_s, stage, outcome)
            case TaskEnded(state=state):
                self._count("qasr_tasks_ended_total", state)
            case WorkerDied(target=target):
                self._count("qasr_worker_restarts_total", target)
            case unreachable:
                assert_never(unreachable)

    def loop_lagged(self, lag_s: float) -> None:
        """The event loop woke up so much too late."""
        self._observe("qasr_event_loop_lag_seconds", max(0.0, lag_s))

    def render(self, now: Iterable[Gauge]) -> bytes:
        """All numbers, as ``MEDIA_TYPE``; gauges of the same name and labels are added up."""
        self._now.gauges = tuple(now)
        return generate_latest(self._registry)

    def _count(self, name: str, *labels: str, by: float = 1.0) -> None:
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc(by)

    def _observe(self, name: str, value: float, *labels: str) -> None:
        histogram = self._histograms[name]
        (histogram.labels(*labels) if labels else histogram).observe(value)


class _Now(Collector):
    """Gauges as they were looked at for one answer; nothing is kept of them."""

    gauges: Sequence[Gauge] = ()

    def collect(self) -> Iterator[Metric]:
        values: dict[str, dict[tuple[str, ...], float]] = {}
        for gauge in self.gauges:
            sums = values.setdefault(gauge.name, {})
            sums[gauge.labels] = sums.get(gauge.labels, 0.0) + gauge.value
        for family in FAMILIES:
            if family.kind == "gauge":
                yield _filled(family, values.get(family.name, {}))


def _filled(family: Family, values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric

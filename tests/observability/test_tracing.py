"""Traces, as a collector gets them over a real socket."""

import uuid
from typing import Final

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.sampling import Decision
from tests.faces.dialects import FUN
from tests.observability.conftest import KEY, OWN_SPAN, OWN_TRACE, SIGNED, Collector, Traffic
from tests.server import JFK, Origin, Server

from qasr import __version__
from qasr.app import check_observers
from qasr.config import load
from qasr.domain import telemetry
from qasr.domain.errors import InvalidParameter
from qasr.tracing import _Ratio

PARENT: Final = f"00-{OWN_TRACE}-{OWN_SPAN}-01"


def facts(span: Span) -> dict[str, object]:
    """Its attributes."""
    kinds = {each.key: each.value for each in span.attributes}
    return {key: getattr(value, str(value.WhichOneof("value"))) for key, value in kinds.items()}


def within(inner: Span, outer: Span) -> bool:
    """In time."""
    return (
        outer.start_time_unix_nano <= inner.start_time_unix_nano <= inner.end_time_unix_nano <= outer.end_time_unix_nano
    )


@pytest.fixture(scope="module")
def asked(observed: Server, origin: Origin) -> httpx2.Response:
    """One request in a client's own trace."""
    origin.files[f"jfk.flac?{SIGNED}"] = JFK
    address = origin.url(f"/files/jfk.flac?{SIGNED}")
    answer = observed.post(FUN.path, FUN.body(address), key=KEY, headers={"traceparent": PARENT})
    assert answer.status_code == httpx2.codes.OK, answer.text
    return answer


def test_a_request_joins_its_clients_trace(collector: Collector, asked: httpx2.Response) -> None:
    """With every stage below it, in order of time, and with the id that its answer has."""
    spans = collector.trace(OWN_TRACE, f"POST {FUN.path}", "fetch", "decode", "segment", "recognize", "wait", "call")
    (request,) = spans[f"POST {FUN.path}"]
    stages = [spans[name][0] for name in ("fetch", "decode", "segment", "recognize")]

    assert OWN_SPAN == request.parent_span_id.hex()
    assert Span.SPAN_KIND_SERVER == request.kind
    assert {
        "http.request.method": "POST",
        "http.route": FUN.path,
        "http.response.status_code": 200,
        "qasr.request_id": asked.headers["x-request-id"],
    } == facts(request)
    assert [request.span_id] * 4 == [stage.parent_span_id for stage in stages]
    assert all(within(stage, request) for stage in stages)
    assert stages[0].end_time_unix_nano <= stages[1].start_time_unix_nano


def test_waiting_and_hearing_are_told_apart(collector: Collector, asked: httpx2.Response) -> None:
    """A segment first waits for the engine and then is heard by it; both are parts of its recognition."""
    spans = collector.trace(OWN_TRACE, "recognize", "wait", "call")
    recognize, wait, call = spans["recognize"][0], spans["wait"][0], spans["call"][0]

    assert [recognize.span_id] * 2 == [wait.parent_span_id, call.parent_span_id]
    assert abs(wait.end_time_unix_nano - call.start_time_unix_nano) < 1_000_000
    assert "scripted" == facts(recognize)["qasr.engine"]
    assert 10.5 < float(str(facts(recognize)["qasr.audio_s"])) < 11


def test_a_task_has_a_trace_of_its_own_id(collector: Collector, traffic: Traffic) -> None:
    """Who knows the task finds the trace; its steps are there, with what they are made of."""
    trace_id = uuid.UUID(traffic.tasks[0]).hex
    spans = collector.trace(trace_id, "task", "cut", "fetch", "decode", "hear", "recognize", "merge")
    task = spans["task"][0]
    by_id = {span.span_id: span.name for each in spans.values() for span in each}

    assert traffic.tasks[0] == facts(task)["qasr.task_id"]
    assert not task.parent_span_id
    assert {"task"} == {by_id[span.parent_span_id] for name in ("cut", "hear", "merge") for span in spans[name]}
    assert {"cut"} == {by_id[span.parent_span_id] for name in ("fetch", "decode") for span in spans[name]}
    assert {"hear"} == {by_id[span.parent_span_id] for span in spans["recognize"]}
    failed = [span for span in spans["fetch"] if span.status.code == Status.STATUS_CODE_ERROR]
    assert ["FetchStatus"] == [span.status.message for span in failed]


def test_a_live_session_is_one_trace(collector: Collector, traffic: Traffic) -> None:
    """From the upgrade to the end, with each segment that was heard in it."""
    granted = collector.first(lambda span: facts(span).get("qasr.request_id") == traffic.upgrades[0])
    spans = collector.trace(granted.trace_id.hex(), "recognize", "call")

    assert ("GET /v1/realtime", 101) == (granted.name, facts(granted)["http.response.status_code"])
    assert {granted.span_id} == {span.parent_span_id for span in spans["recognize"]}


def test_no_secret_and_no_speech_is_traced(collector: Collector, asked: httpx2.Response, traffic: Traffic) -> None:
    """Neither in names nor in facts, nor in what became of a span."""
    collector.trace(OWN_TRACE, "recognize")
    with collector.news:
        text = " ".join(map(str, collector.spans)).lower()

    assert asked.is_success
    assert {secret for secret in traffic.secrets if secret.lower() in text} == set()


def test_the_server_names_itself(collector: Collector, asked: httpx2.Response) -> None:
    """By the conventional attributes."""
    collector.trace(OWN_TRACE, "recognize")

    assert asked.is_success
    assert {("qasr", __version__)} == {(r["service.name"], r["service.version"]) for r in collector.resources}


def test_who_asks_whether_we_live_is_not_traced(observed: Server, collector: Collector, asked: httpx2.Response) -> None:
    """Machines ask again and again."""
    observed.get("/readyz")
    with collector.news:
        names = {span.name for span in collector.spans}

    assert asked.is_success
    assert not [name for name in names if name.endswith(("/readyz", "/livez", "/metrics"))]


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 180, 320), (1.0, 1000, 1000)])
def test_a_part_of_all_tasks_is_traced(ratio: float, least: int, most: int) -> None:
    """Ids of tasks are not random in all their bits; those that decide are."""
    sampler = _Ratio(ratio)
    decisions = [sampler.should_sample(None, uuid.uuid4().int, "task").decision for _ in range(1000)]
    kept = [decision is Decision.RECORD_AND_SAMPLE for decision in decisions]

    assert least <= sum(kept) <= most


def test_traces_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, with the remedy; a server without this setting never looks for the packages."""
    monkeypatch.setattr("qasr.app.distributions", lambda **_: [])

    check_observers(load({}))
    with pytest.raises(InvalidParameter, match=r"pip install 'qasr\[otel\]'"):
        check_observers(load({"tracing": {"url": "http://collector:4318/v1/traces"}}))


def test_stages_without_anybody_who_looks() -> None:
    """Neither listeners nor a tracer: a stage is nothing but its block, and its errors pass."""
    with telemetry.stage("decode") as span:
        span.note({"qasr.x": 1})
        span.rename("y")
        span.fail()

    with pytest.raises(KeyError), telemetry.stage("decode"):
        raise KeyError


def test_stages_tell_how_they_ended() -> None:
    """Done, failed, or left by who did not want the rest."""
    told: list[telemetry.Happening] = []
    with telemetry.listening(told.append):
        with telemetry.stage("fetch"):
            pass
        with pytest.raises(ValueError, match="no"), telemetry.stage("fetch"):
            raise ValueError("no")
        with pytest.raises(GeneratorExit), telemetry.stage("fetch"):
            raise GeneratorExit
    with telemetry.stage("fetch"):
        pass

    assert ["done", "failed", "left"] == [each.outcome for each in told if isinstance(each, telemetry.StageEnded)]

"""``/metrics``: every number that is documented is there, is right after known traffic, and is told to nobody else."""

import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.routing import Route
from tests.observability.conftest import KEY, TOKEN, WAIT_S, Traffic
from tests.server import JFK, Server

from qasr.app import build, check_observers
from qasr.config import load
from qasr.domain.errors import InvalidParameter
from qasr.domain.telemetry import EngineCalled, RecordingHeard
from qasr.faces.metrics import Access, Readers
from qasr.metrics import FAMILIES, Gauge, Metrics

PAGE: Final = Path(__file__).parents[2] / "docs" / "observability.md"
READ: Final = {"Authorization": f"Bearer {TOKEN}"}

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """As Prometheus reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Server) -> Samples:
    answer = httpx2.get(f"{server.base}/metrics", headers=READ, timeout=30)
    assert answer.status_code == httpx2.codes.OK, answer.text
    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    return parsed(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of *name* that have these labels."""
    wanted = set(labels.items())
    return sum(found for (each, has), found in samples.items() if each == name and wanted <= has)


def settled(server: Server) -> Samples:
    """When all sockets are closed, and the task is counted, which happens now and then."""
    end = time.monotonic() + WAIT_S
    while True:
        samples = scrape(server)
        busy = value(samples, "qasr_live_sessions") + value(samples, "qasr_live_sockets")
        counted = value(samples, "qasr_tasks", state="SUCCEEDED") and value(samples, "qasr_tasks_ended_total")
        if counted and not busy:
            return samples
        assert time.monotonic() < end, samples
        time.sleep(0.2)


def names(text: str) -> set[str]:
    """Of our own metrics in an answer."""
    return set(re.findall(r"^# TYPE (qasr_\w+) ", text, re.MULTILINE))


def test_documented_metrics_are_those_of_a_running_server(observed: Server) -> None:
    """The page has a row for each metric with its kind and labels, and the server tells each of them, and no other."""
    text = httpx2.get(f"{observed.base}/metrics", headers=READ, timeout=30).text
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(qasr_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)

    assert {family.name for family in FAMILIES} == names(text)
    assert [(f.name, f.kind, ", ".join(f"`{each}`" for each in f.labels) or "—") for f in FAMILIES] == rows
    assert {f"# TYPE {family.name} {family.kind}" for family in FAMILIES} <= set(text.splitlines())


def test_every_metric_has_values_after_traffic(observed: Server, traffic: Traffic) -> None:
    """What was asked for on all faces is seen in all numbers but those that tell of trouble that there was not."""
    quiet = {"qasr_guards_total", "qasr_live_partials_skipped_total", "qasr_worker_restarts_total"}
    seen = {name for name, _ in settled(observed)}
    endings = {"histogram": "_count", "counter": "", "gauge": ""}

    assert traffic.tasks
    assert {f.name for f in FAMILIES if f.name + endings[f.kind] not in seen} <= quiet


def test_numbers_are_those_of_the_traffic(observed: Server, traffic: Traffic) -> None:
    """Requests by route and status, recordings, segments by lane, stages, sessions, tasks."""
    samples = settled(observed)
    heard = {lane: value(samples, "qasr_segment_seconds_count", lane=lane) for lane in ("live", "sync", "file")}
    oks = sum(str(answer.url).endswith("/v1/audio/transcriptions") for answer in traffic.answers)
    transcribed = value(samples, "qasr_http_requests_total", route="/v1/audio/transcriptions", status="200")

    assert oks == transcribed
    assert 3 == value(samples, "qasr_http_requests_total", status="101")
    assert 2 == value(samples, "qasr_http_requests_total", route="/v1/realtime")
    assert value(samples, "qasr_http_requests_total", route="/v1/realtime", status="401") == 1
    assert value(samples, "qasr_http_requests_total", route="unknown", status="404") >= 2
    assert value(samples, "qasr_http_requests_total", method="other") >= 1
    assert all(heard.values()), heard
    assert sum(heard.values()) + value(samples, "qasr_segment_seconds_count", lane="partial") == value(
        samples, "qasr_segment_wait_seconds_count"
    )
    assert value(samples, "qasr_engine_calls_total", engine="scripted", outcome="done") == value(
        samples, "qasr_batch_segments_count"
    )
    assert value(samples, "qasr_recording_audio_seconds_total") == pytest.approx(
        11.0 * value(samples, "qasr_recording_real_time_factor_count"), rel=0.01
    )
    for stage in ("fetch", "decode", "segment", "recognize", "cut", "hear", "merge", "load"):
        assert value(samples, "qasr_stage_seconds_count", stage=stage, outcome="done"), stage
    assert value(samples, "qasr_stage_seconds_count", stage="fetch", outcome="failed")
    assert value(samples, "qasr_stage_seconds_count", stage="decode", outcome="failed")
    assert 3 <= value(samples, "qasr_live_event_lag_seconds_count", event="final")
    assert 1 == value(samples, "qasr_tasks_ended_total", state="SUCCEEDED")
    assert 1 == value(samples, "qasr_ready")
    assert 1 == value(samples, "qasr_engine_state", engine="scripted", state="loaded")
    assert value(samples, "qasr_data_free_bytes") > 0


def test_nothing_of_strangers_becomes_a_label(observed: Server, traffic: Traffic) -> None:
    """No path, key, model, method or address that a client made up: series cannot be multiplied from outside."""
    text = httpx2.get(f"{observed.base}/metrics", headers=READ, timeout=30).text
    routes = set(re.findall(r'route="([^"]*)"', text))

    assert {secret for secret in traffic.secrets if secret in text} == set()
    assert traffic.tasks[0] not in text
    assert "PURGE" not in text
    assert {"unknown", "/api/v1/tasks/{id}", "/oss/{door}"} <= routes


@pytest.mark.parametrize("headers", [{}, {"Authorization": f"Bearer {KEY}"}, {"Authorization": "Bearer wrong"}])
def test_numbers_are_for_who_has_the_token(observed: Server, headers: dict[str, str]) -> None:
    """An API key is none."""
    answer = httpx2.get(f"{observed.base}/metrics", headers=headers, timeout=30)

    assert 403 == answer.status_code
    assert "qasr_" not in answer.text


def test_a_queue_is_seen_while_it_is_there(slow: Server) -> None:
    """Its length, its seconds and its age, of the lane it is in; and calls under way. This machine may look unasked."""
    waiting: Samples = {}

    def look() -> float:
        nonlocal waiting
        waiting = parsed(httpx2.get(f"{slow.base}/metrics", timeout=30).text)
        return value(waiting, "qasr_queue_oldest_seconds", lane="sync")

    files = {"file": JFK.read_bytes()}
    with httpx2.Client(base_url=slow.base, timeout=60, headers={"Authorization": "Bearer sk-right"}) as client:
        clients = [Asking(client, files) for _ in range(3)]
        end = time.monotonic() + WAIT_S
        while not look():
            assert time.monotonic() < end
        for each in clients:
            each.join(WAIT_S)

    assert 1 <= value(waiting, "qasr_queue_segments", lane="sync") <= 2
    assert value(waiting, "qasr_queue_audio_seconds", lane="sync") > 10
    assert 0 == value(waiting, "qasr_queue_segments", lane="file")
    assert 1 == value(waiting, "qasr_engine_calls_running") == value(waiting, "qasr_engine_calls_most")
    assert value(waiting, "qasr_engine_leases") >= 2


class Asking:
    """One request in a thread of its own; its answer may be that it took too long."""

    def __init__(self, client: httpx2.Client, files: Mapping[str, Any]) -> None:
        self._thread = threading.Thread(target=self._ask, args=(client, files))
        self._thread.start()

    @staticmethod
    def _ask(client: httpx2.Client, files: Mapping[str, Any]) -> None:
        client.post("/v1/audio/transcriptions", files=files, data={"model": "whisper-1"})

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()


def request(host: str | None, **headers: str) -> Request:
    """As it reaches us."""
    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Request({"type": "http", "client": None if host is None else (host, 4711), "headers": raw})


@pytest.mark.parametrize(
    ("access", "host", "headers", "may"),
    [
        ("local", "127.0.0.1", {}, True),
        ("local", "::1", {}, True),
        ("local", "10.0.0.7", {}, False),
        ("local", None, {}, False),
        ("local", "localhost.example.com", {}, False),
        ("local", "127.0.0.1", {"x_forwarded_for": "127.0.0.1"}, False),
        ("local", "127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
        ("local", "127.0.0.1", {"via": "1.1 proxy"}, False),
        ("local", "10.0.0.7", {"authorization": f"Bearer {TOKEN}"}, True),
        ("local", "127.0.0.1", {"authorization": "Bearer wrong"}, False),
        ("token", "127.0.0.1", {}, False),
        ("token", "10.0.0.7", {"authorization": f"bearer {TOKEN}"}, True),
        ("token", "10.0.0.7", {"authorization": f"Basic {TOKEN}"}, False),
        ("anyone", "10.0.0.7", {}, True),
        ("anyone", "10.0.0.7", {"x_forwarded_for": "8.8.8.8"}, True),
    ],
)
def test_who_may_read(access: Access, host: str | None, headers: dict[str, str], *, may: bool) -> None:
    """This machine, but nobody through a proxy on it; and who has the token, from anywhere."""
    assert may == Readers(access=access, token=TOKEN).admit(request(host, **headers))


def test_numbers_that_nobody_could_read_are_refused() -> None:
    """At the start, and not at the first look."""
    with pytest.raises(InvalidParameter, match=r"metrics\.token is not set"):
        check_observers(load({"metrics": {"access": "token"}}))


def test_numbers_can_be_left_out(tmp_path: Path) -> None:
    """Then there is no such path."""
    app = build(load({"data_dir": tmp_path, "metrics": {"access": "off"}, "engines": {"default": "scripted"}}))

    assert "/metrics" not in [each.path for each in app.routes if isinstance(each, Route)]


def test_equal_gauges_are_added_and_old_ones_forgotten() -> None:
    """Two engines of one name in one state are two; what is gone leaves no series behind."""
    metrics = Metrics()
    one = Gauge("qasr_engine_state", ("scripted", "", "loaded"), 1)

    both, none = parsed(metrics.render([one, one]).decode()), parsed(metrics.render([]).decode())

    assert 2 == value(both, "qasr_engine_state")
    assert not [name for name, _ in none if name == "qasr_engine_state"]


def test_failed_calls_and_empty_recordings_spoil_no_average() -> None:
    """A call that failed has no duration worth knowing, and nothing divided by nothing is no factor."""
    metrics = Metrics()
    for outcome in ("failed", "left", "done"):
        metrics.take(EngineCalled(engine="e", n_segments=2, audio_s=4.0, call_s=0.5, outcome=outcome))
    metrics.take(RecordingHeard(engine="e", audio_s=0.0, wall_s=1.0))

    samples = parsed(metrics.render([]).decode())
    assert [1, 1, 1] == [value(samples, "qasr_engine_calls_total", outcome=o) for o in ("done", "failed", "left")]
    assert 0.5 == value(samples, "qasr_engine_call_seconds_sum")
    assert 2 == value(samples, "qasr_batch_segments_sum")
    assert 0 == value(samples, "qasr_recording_real_time_factor_count")
    assert 1 == value(samples, "qasr_recording_seconds_count")

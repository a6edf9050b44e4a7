"""One server that is watched in every way, and some of everything that clients do, with secrets in it."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import httpx2
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.conftest import Speech
from tests.faces.dialects import DIALECTS, FUN, GENERATION, SSE, data_url
from tests.faces.test_uploads import policy, send
from tests.server import JFK, LOOPBACK, SCRIPTED, Origin, Server, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

KEY: Final = "sk-a-key-nobody-may-read"
WRONG_KEY: Final = "sk-a-wrong-key-is-private-too"
TOKEN: Final = "a-token-for-those-who-read-metrics"
SAID: Final = "Quokkas smuggled marzipan across the isthmus."
"""What is heard in every segment."""
CONTEXT: Final = "pangolin-prompt"
"""What clients write to help."""
SIGNED: Final = "Expires=1&Signature=c2lnbmVkLWJ5LXRoZS1vcmlnaW4"
"""What makes addresses of recordings and webhooks secret."""
WAIT_S: Final = 60.0
OWN_TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
OWN_SPAN: Final = "b7ad6b7169203331"


@dataclass
class Collector:
    """Takes spans as OpenTelemetry's collector does."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)
    resources: list[Mapping[str, str]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def trace(self, trace_id: str, *names: str) -> dict[str, list[Span]]:
        """The spans of a trace by name, once there are some of all *names*."""

        def complete() -> bool:
            return {span.name for span in self.of(trace_id)} >= set(names)

        with self.news:
            found = self.news.wait_for(complete, WAIT_S)
            spans = self.of(trace_id)
        assert found, sorted(span.name for span in spans)
        return {name: [span for span in spans if span.name == name] for name in {span.name for span in spans}}

    def first(self, wanted: Callable[[Span], bool]) -> Span:
        """The first span like this, once there is one."""
        with self.news:
            found = self.news.wait_for(lambda: next(filter(wanted, self.spans), None), WAIT_S)
        assert found is not None
        return found

    def of(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == trace_id]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.news:
            for resource in request.resource_spans:
                self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.news.notify_all()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """A stub of one, on a real socket."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    """Everything is told: all logs as JSON, all spans, and metrics to who has the token."""
    settings = {
        "SCRIPTED__TEXT": SAID,
        "AUTH__KEYS": KEY,
        "METRICS__ACCESS": "token",
        "METRICS__TOKEN": TOKEN,
        "TRACING__URL": collector.url,
        "LOG__LEVEL": "debug",
        "LOG__JSON_LINES": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # milliseconds; 5 s are for the patient
        with serving(tmp_path_factory.mktemp("observed"), SCRIPTED | LOOPBACK | settings) as server:
            yield server


@dataclass
class Traffic:
    """What was asked, what came back, and what nobody else may ever see."""

    answers: list[httpx2.Response] = field(default_factory=list)
    upgrades: list[str] = field(default_factory=list)
    """``X-Request-Id`` of each WebSocket."""
    tasks: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """What was heard, as far as it was looked at."""
    secrets: set[str] = field(default_factory=set)


@pytest.fixture(scope="session")
def traffic(observed: Server, origin: Origin, speech: Speech) -> Traffic:
    """Every face, in success and in failure."""
    done = Traffic(secrets={KEY, WRONG_KEY, TOKEN, SIGNED.partition("Signature=")[2], CONTEXT})
    done.secrets |= set(SAID.lower().removesuffix(".").split()) - {"across", "the"}
    origin.files[f"jfk.flac?{SIGNED}"] = JFK
    recording = origin.url(f"/files/jfk.flac?{SIGNED}")
    _recognize(observed, done, recording)
    _upload(observed, done)
    _transcribe(observed, done, origin, recording)
    _speak(observed, done, speech)
    _fail(observed, done, origin)
    return done


def _recognize(server: Server, done: Traffic, recording: str) -> None:
    for dialect in DIALECTS:
        answer = server.post(dialect.path, dialect.body(data_url(JFK)), key=KEY)
        done.answers.append(answer)
        done.texts.append(dialect.text(answer))
        done.answers.append(server.post(dialect.path, dialect.body(recording), key=KEY))
    done.answers.append(server.post(GENERATION, FUN.body(recording), key=KEY, headers=SSE))
    for form in ({"response_format": "json"}, {"response_format": "srt"}, {"stream": "true"}):
        fields = {"model": "gpt-4o-transcribe" if "stream" in form else "whisper-1", "prompt": CONTEXT, **form}
        sent: dict[str, Any] = {"files": {"file": ("secret-name.flac", JFK.read_bytes())}, "data": fields}
        done.answers.append(server.post("/v1/audio/transcriptions", key=KEY, **sent))
    words = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    words_sent: dict[str, Any] = {"files": {"file": JFK.read_bytes()}, "data": words}
    done.answers.append(server.post("/v1/audio/transcriptions", key=KEY, **words_sent))


def _upload(server: Server, done: Traffic) -> None:
    permit = policy(server, KEY)
    done.secrets |= {permit["signature"], permit["policy"]}
    done.answers.append(send(permit))
    for signature in (permit["signature"], "forged"):
        done.answers.append(send({**permit, "signature": signature}, name="b.flac", data=b"no sound"))
    done.answers.append(server.post(FUN.path, FUN.body(f"oss://{permit['upload_dir']}/a.flac"), key=KEY))
    done.answers.append(server.post(FUN.path, FUN.body(f"oss://{permit['upload_dir']}/b.flac"), key=KEY))


def _transcribe(server: Server, done: Traffic, origin: Origin, recording: str) -> None:
    hook = origin.url(f"/hook?{SIGNED}")
    headers = {"X-DashScope-Async": "enable", "X-Qasr-Webhook": hook}
    wanted = {"model": "fun-asr", "input": {"file_urls": [recording, origin.url(f"/nothing?{SIGNED}")]}}
    submitted = server.post("/api/v1/services/audio/asr/transcription", wanted, key=KEY, headers=headers)
    assert submitted.status_code == httpx2.codes.OK, submitted.text
    done.answers.append(submitted)
    done.tasks.append(submitted.json()["output"]["task_id"])
    path = f"/api/v1/tasks/{done.tasks[0]}"
    end = time.monotonic() + WAIT_S
    while (answer := server.get(path, key=KEY)).json()["output"]["task_status"] in ("PENDING", "RUNNING"):
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)
    done.answers.append(answer)
    assert "SUCCEEDED" == answer.json()["output"]["task_status"], answer.text
    link = answer.json()["output"]["results"][0]["transcription_url"]
    done.secrets.add(link.partition("Signature=")[2])
    document = httpx2.get(link, timeout=30)
    done.texts.append(document.json()["transcripts"][0]["text"])
    done.answers += [document, httpx2.get(link + "x", timeout=30)]
    done.answers += [server.get("/api/v1/tasks", key=KEY), server.post(f"{path}/cancel", key=KEY)]


def _speak(server: Server, done: Traffic, speech: Speech) -> None:
    """Both dialects of realtime events and the task protocol, and one who has no right to."""
    base = server.base.replace("http", "ws", 1)
    bearer = {"Authorization": f"Bearer {KEY}"}
    sound = pcm16(np.concatenate([speech("jfk.flac"), np.zeros(16_000, np.float32)]))
    for path in (
        "/v1/realtime?intent=transcription&model=whisper-1",
        "/api-ws/v1/realtime?model=qwen3-asr-flash-realtime",
    ):
        with connect(base + path, additional_headers=bearer) as socket:
            assert socket.response is not None
            done.upgrades.append(socket.response.headers["X-Request-Id"])
            for begin in range(0, len(sound), 32_000):
                piece = base64.b64encode(sound[begin : begin + 32_000]).decode()
                socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": piece}))
            while not (event := json.loads(socket.recv(WAIT_S)))["type"].endswith("transcription.completed"):
                assert event["type"] != "error", event
            done.texts.append(event["transcript"])
    with connect(f"{base}/api-ws/v1/inference", additional_headers=bearer) as socket:
        assert socket.response is not None
        done.upgrades.append(socket.response.headers["X-Request-Id"])
        header = {"task_id": "6f0b3c2e2d664a8a8a3b6a1d2c3e4f50", "streaming": "duplex"}
        run = {"model": "fun-asr-realtime", "task": "asr", "task_group": "audio", "function": "recognition",
               "parameters": {"format": "pcm", "sample_rate": 16000}, "input": {}}  # fmt: skip
        socket.send(json.dumps({"header": {**header, "action": "run-task"}, "payload": run}))
        socket.send(sound)
        socket.send(json.dumps({"header": {**header, "action": "finish-task"}, "payload": {"input": {}}}))
        while (event := json.loads(socket.recv(WAIT_S)))["header"]["event"] != "task-finished":
            assert event["header"]["event"] != "task-failed", event
            if (sentence := event["payload"].get("output", {}).get("sentence", {})).get("sentence_end"):
                done.texts.append(sentence["text"])
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{base}/v1/realtime", additional_headers={"Authorization": f"Bearer {WRONG_KEY}"})
    done.upgrades.append(refused.value.response.headers["X-Request-Id"])


def _fail(server: Server, done: Traffic, origin: Origin) -> None:
    for dialect in DIALECTS:
        for key in (WRONG_KEY, None):
            done.answers.append(server.post(dialect.path, dialect.body(data_url(JFK)), key=key))
        for address in (
            f"http://10.0.0.1/a.flac?{SIGNED}",
            origin.url(f"/nothing?{SIGNED}"),
            origin.url(f"/broken?{SIGNED}"),
            f"https://127.0.0.1:{origin.port}/a.flac?{SIGNED}",
            f"oss://nobody/{KEY}.flac",
            data_url(b"no sound"),
        ):
            done.answers.append(server.post(dialect.path, dialect.body(address), key=KEY))
        done.answers.append(server.post(dialect.path, key=KEY, content=f'{{"model": "{KEY}'.encode()))
        done.answers.append(server.post(dialect.path, dialect.body(data_url(JFK), model=KEY), key=KEY))
    for path in (f"/v1/{KEY}", f"/api/v1/{KEY}", f"/api/v1/models/{KEY}", f"/api/v1/tasks/{KEY}", f"/oss/{KEY}"):
        done.answers += [server.get(path, key=KEY), server.post(path, {}, key=KEY)]
    done.answers.append(httpx2.request("PURGE", f"{server.base}/v1/models?key={KEY}", timeout=30))
    done.answers += [server.get(path, key=None) for path in ("/livez", "/readyz", "/docs", "/openapi.json", "/metrics")]


def pcm16(samples: Any) -> bytes:
    """As live clients send it."""
    return bytes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())

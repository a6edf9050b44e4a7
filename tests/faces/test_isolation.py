"""What is one key's is invisible to another: every route, over HTTP and over sockets."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from starlette.routing import Route, WebSocketRoute
from tests.access import Admin
from tests.faces.dialects import CHAT, CHAT_DIALECT, FUN, GENERATION, QWEN, Dialect
from tests.faces.test_limits import LONG_S, SUBMISSION, connect, first
from tests.server import JFK, Origin, Server

from qasr.app import build
from qasr.config import Settings

CUSTOMIZATION: Final = "/api/v1/services/audio/asr/customization"
WORDS: Final = [{"text": "Gutenberg", "weight": 4}]


class Belongings:
    """What one key has: a task, a file behind ``oss://``, an asset, a record, a vocabulary and a phrase list."""

    def __init__(self, server: Server, origin: Origin, key: str) -> None:
        self.server, self.origin, self.key = server, origin, key
        body = {"model": "fun-asr", "input": {"file_urls": [origin.url("/files/jfk.flac")]}}
        submitted = server.post(SUBMISSION, body, key=key, headers={"X-DashScope-Async": "enable"})
        self.task = submitted.json()["output"]["task_id"]
        permit = server.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", key=key).json()["data"]
        oss_key = f"{permit['upload_dir']}/a.flac"
        form = {"key": oss_key, "policy": permit["policy"], "Signature": permit["signature"]}
        httpx2.post(permit["upload_host"], data=form, files={"file": JFK.read_bytes()}, timeout=60).raise_for_status()
        self.oss = f"oss://{oss_key}"
        headers = {"API-KEY": key}
        asset = server.post("/api/assets", key=None, headers=headers, files={"asset": JFK.read_bytes()}).json()
        self.asset = asset["fileContent"]["path"]
        self.record = self.feature(key, self.asset).json()["aiRecord"]["uuid"]
        self.link = httpx2.URL(self._ended(self.task)["results"][0]["transcription_url"])
        self.folder = permit["upload_dir"]
        self.vocabulary = self.customize(
            key, action="create_vocabulary", prefix="mine", target_model="fun-asr", vocabulary=WORDS
        ).json()["output"]["vocabulary_id"]
        self.phrases = self.compiled(key).json()["output"]["finetuned_output"]

    def customize(self, key: str, **given: object) -> httpx2.Response:
        return self.server.post(CUSTOMIZATION, {"model": "speech-biasing", "input": given}, key=key)

    def compiled(self, key: str, name: str | None = None) -> httpx2.Response:
        body = {
            "model": "paraformer-v1",
            "training_type": "compile_asr_phrase",
            "hyper_parameters": {"phrase_list": {"Gutenberg": 2}},
        }
        return self.server.post("/api/v1/fine-tunes", body | ({"finetuned_output": name} if name else {}), key=key)

    def feature(self, key: str, url: str) -> httpx2.Response:
        body = {"type": "SPEECH_TO_TEXT", "model": "qwen3-asr-flash", "promptObject": {"audioUrl": url}}
        return self.server.post("/api/features", body, key=None, headers={"API-KEY": key})

    def read(self, key: str, method: str, path: str) -> httpx2.Response:
        headers = {"API-KEY": key, "Authorization": f"Bearer {key}"}
        return httpx2.request(method, self.server.base + path, headers=headers, timeout=60)

    def generate(self, key: str, dialect: Dialect) -> httpx2.Response:
        return self.server.post(dialect.path, dialect.body(self.oss), key=key)

    def oss_task(self, key: str) -> str:
        """What becomes of a task about the file."""
        body = {"model": "fun-asr", "input": {"file_urls": [self.oss]}}
        headers = {"X-DashScope-Async": "enable", "X-DashScope-OssResourceResolve": "enable"}
        answer = self.server.post(SUBMISSION, body, key=key, headers=headers)
        return str(self._ended(answer.json()["output"]["task_id"], key)["task_status"])

    def _ended(self, task: str, key: str | None = None) -> dict[str, Any]:
        end = time.monotonic() + LONG_S
        while True:
            output: dict[str, Any] = self.read(key or self.key, "GET", f"/api/v1/tasks/{task}").json()["output"]
            if output["task_status"] not in ("PENDING", "RUNNING"):
                return output
            assert time.monotonic() < end
            time.sleep(0.05)

    def sneak(self, key: str) -> int:
        """Put a file where only we may, with a permit of *key*."""
        permit = self.server.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", key=key).json()["data"]
        folder = self.folder if key != self.key else permit["upload_dir"]
        form = {"key": f"{folder}/b.flac", "policy": permit["policy"], "Signature": permit["signature"]}
        return httpx2.post(permit["upload_host"], data=form, files={"file": b"x"}, timeout=60).status_code

    def document(self, key: str) -> int:
        """Our result document, by way of the signature of a link that *key* was given."""
        theirs = self.link if key == self.key else Belongings(self.server, self.origin, key).link
        return httpx2.get(self.link.copy_with(query=theirs.query), timeout=60).status_code


@pytest.fixture(scope="module")
def mine(scripted: Server, admin: Admin, origin: Origin) -> Belongings:
    return Belongings(scripted, origin, admin.make("mine")[1])


@pytest.fixture(scope="module")
def other(admin: Admin) -> str:
    return admin.make("other")[1]


def _status(answer: httpx2.Response) -> str:
    return str(answer.json()["output"]["task_status"])


Look = Callable[[Belongings, str], object]
LOOKS: Final[Mapping[str, tuple[Look, object]]] = {
    "GET /api/v1/tasks/{id}": (lambda it, key: _status(it.read(key, "GET", f"/api/v1/tasks/{it.task}")), "UNKNOWN"),
    "POST /api/v1/tasks/{id}": (lambda it, key: _status(it.read(key, "POST", f"/api/v1/tasks/{it.task}")), "UNKNOWN"),
    "POST /api/v1/tasks/{id}/cancel": (
        lambda it, key: it.read(key, "POST", f"/api/v1/tasks/{it.task}/cancel").status_code, 400,
    ),
    "GET /api/v1/tasks": (lambda it, key: it.task in it.read(key, "GET", "/api/v1/tasks?page_size=100").text, False),
    "GET /api/v1/tasks?task_id": (
        lambda it, key: it.read(key, "GET", f"/api/v1/tasks?task_id={it.task}").json()["total"], 0,
    ),
    "oss:// in chat": (lambda it, key: it.generate(key, CHAT_DIALECT).status_code, 404),
    "oss:// in qwen": (lambda it, key: it.generate(key, QWEN).status_code, 400),
    "oss:// in fun": (lambda it, key: it.generate(key, FUN).status_code, 400),
    "oss:// in a task": (lambda it, key: it.oss_task(key), "FAILED"),
    "POST /oss/{door}": (lambda it, key: it.sneak(key), 403),
    "GET /results/{id}/{number:int}.json": (lambda it, key: it.document(key), 403),
    "POST /api/features": (lambda it, key: it.feature(key, it.asset).status_code, 404),
    "vocabulary_id in customization": (
        lambda it, key: it.customize(key, action="query_vocabulary", vocabulary_id=it.vocabulary).status_code, 400,
    ),
    "list in customization": (
        lambda it, key: it.vocabulary in it.customize(key, action="list_vocabulary").text, False,
    ),
    "finetuned_output": (lambda it, key: it.compiled(key, it.phrases).status_code, 400),
    "GET /api/v1/fine-tunes/outputs": (
        lambda it, key: it.phrases in it.read(key, "GET", "/api/v1/fine-tunes/outputs").text, False,
    ),
    "GET /api/v1/fine-tunes/outputs/{id}": (
        lambda it, key: it.read(key, "GET", f"/api/v1/fine-tunes/outputs/{it.phrases}").status_code, 400,
    ),
    "GET /api/features/{uuid}": (lambda it, key: it.read(key, "GET", f"/api/features/{it.record}").status_code, 404),
    "DELETE /api/v1/fine-tunes/outputs/{id}": (
        lambda it, key: it.read(key, "DELETE", f"/api/v1/fine-tunes/outputs/{it.phrases}").status_code, 400,
    ),
}  # fmt: skip
"""Every way to name an object, and what another key is told of one that there is not."""


@pytest.mark.parametrize("look", LOOKS)
def test_objects_of_one_key_are_invisible_to_another(mine: Belongings, other: str, look: str) -> None:
    """Who has no right to it is told what they are told of nothing at all; its owner is told otherwise."""
    ask, nothing = LOOKS[look]

    assert nothing == ask(mine, other)
    if "cancel" not in look:
        assert nothing != ask(mine, mine.key)


# ---- sockets

INFERENCE: Final = "/api-ws/v1/inference"
TASK: Final = {
    "task_group": "audio", "task": "asr", "function": "recognition", "model": "fun-asr-realtime",
    "parameters": {"format": "pcm", "sample_rate": 16000}, "input": {},
}  # fmt: skip


def action(name: str, identity: str, payload: object) -> str:
    header = {"action": name, "task_id": identity, "streaming": "duplex"}
    return json.dumps({"header": header, "payload": payload})


def test_a_live_task_is_finished_by_its_own_socket_alone(scripted: Server, admin: Admin) -> None:
    """Its id means nothing elsewhere, and may be used there for another task."""
    (_, key), (_, stranger) = admin.make(), admin.make()
    with connect(scripted, key, INFERENCE) as mine, connect(scripted, stranger, INFERENCE) as theirs:
        for one in (mine, theirs):
            one.send(action("run-task", "same", TASK))
            assert "task-started" == first(one)["header"]["event"]
            one.send(bytes(64_000))
        for one in (theirs, mine):
            one.send(action("finish-task", "same", {"input": {}}))
            while (event := first(one)["header"]["event"]) != "task-finished":
                assert "task-failed" != event


SESSIONS: Final = {
    "/api-ws/v1/realtime": "qwen3-asr-flash-realtime",
    "/v1/realtime": "gpt-4o-transcribe",
    "/compatible-mode/v1/realtime": "gpt-4o-transcribe",
}


@pytest.mark.parametrize("path", SESSIONS)
def test_a_session_is_its_own_sockets(scripted: Server, admin: Admin, path: str) -> None:
    """Two keys at once: each is told of its own session, and the end of one is not the other's."""
    (_, key), (_, stranger) = admin.make(), admin.make()
    url = f"{path}?model={SESSIONS[path]}"
    with connect(scripted, key, url) as mine:
        with connect(scripted, stranger, url) as theirs:
            sessions = [first(one)["session"]["id"] for one in (mine, theirs)]
        mine.send("no JSON")

        assert "error" == first(mine)["type"]
    assert 2 == len(set(sessions))


# ---- all of them

OPEN: Final = {"GET /livez", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /metrics"}
"""To everybody, or to this machine; they tell nothing of any key."""
NOBODYS: Final = {
    "GET /api/v1/uploads",  # makes a permit for the key that asks
    *(f"GET {root}/models" for root in ("/api/v1", "/v1", "/compatible-mode/v1")),
    *(f"GET {root}/models/{{name:path}}" for root in ("/api/v1", "/v1", "/compatible-mode/v1")),
    *(f"POST {root}/audio/transcriptions" for root in ("/v1", "/compatible-mode/v1")),
    *(f"POST {root}/audio/translations" for root in ("/v1", "/compatible-mode/v1")),
    "POST /api/assets",
}  # fmt: skip
"""They name no object: the catalogue is the same for all, and recordings come with the request."""
NAMING: Final[Mapping[str, tuple[str, ...]]] = {
    f"POST {GENERATION}": ("oss:// in qwen", "oss:// in fun"),
    f"POST {CHAT}": ("oss:// in chat",),
    "POST /v1/chat/completions": ("oss:// in chat",),
    f"POST {SUBMISSION}": ("oss:// in a task",),
    f"POST {CUSTOMIZATION}": ("vocabulary_id in customization", "list in customization"),
    "POST /api/v1/fine-tunes": ("finetuned_output",),
    "GET /api/v1/tasks": ("GET /api/v1/tasks", "GET /api/v1/tasks?task_id"),
    "GET /api/v1/tasks/": ("GET /api/v1/tasks",),
}
"""Where objects are named by other means than the path; and the same under a second path."""


def test_every_route_is_looked_at(tmp_path: Path) -> None:
    """Who adds one says here whose objects it may name. Those of the administration are for its own scope."""
    app = build(Settings(data_dir=tmp_path))
    http = {f"{m} {r.path}" for r in app.routes if isinstance(r, Route) for m in r.methods or () if m != "HEAD"}
    sockets = {r.path for r in app.routes if isinstance(r, WebSocketRoute)}
    looked_at = {route for route in LOOKS if " /" in route and "?" not in route}
    known = OPEN | NOBODYS | set(NAMING) | looked_at

    assert known == {route for route in http if "/admin/" not in route}
    assert {look for looks in NAMING.values() for look in looks} <= set(LOOKS)
    assert {INFERENCE, *SESSIONS} == sockets

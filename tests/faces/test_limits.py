"""Limits of a key: what is refused, in which words, and when to come back."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
import websockets.sync.client as websocket
from tests.access import Admin
from tests.faces.dialects import CHAT_DIALECT, FUN, QWEN, SSE, TRANSCRIPTIONS, data_url
from tests.server import JFK, KEY, KEYS, OTHER_KEY, SCRIPTED, Server, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.connection import Connection

from qasr.app import check_limits
from qasr.config import load
from qasr.domain.errors import InvalidParameter
from qasr.domain.options import RecognitionOptions
from qasr.domain.task import TaskId, TaskOrder
from qasr.storage.database import FILE, Database
from qasr.storage.tasks import Lengths, PartEnd, Tasks

LONG_S: Final = 60
ONCE: Final = {"requests_per_minute": 0.001}
"""One, and then none for as long as a test lasts."""
ONCE_A_SECOND: Final = {"requests_per_second": 0.001}
HARDLY_ANY: Final = {"audio_hours_per_day": 0.000001}
SUBMISSION: Final = "/api/v1/services/audio/asr/transcription"

Ask = Callable[[Server, str], httpx2.Response]


def chat(server: Server, key: str, model: str | None = None) -> httpx2.Response:
    return server.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK), model=model), key=key)


def chat_stream(server: Server, key: str) -> httpx2.Response:
    return server.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK)) | {"stream": True}, key=key)


def qwen(server: Server, key: str) -> httpx2.Response:
    return server.post(QWEN.path, QWEN.body(data_url(JFK)), key=key)


def qwen_stream(server: Server, key: str) -> httpx2.Response:
    return server.post(QWEN.path, QWEN.body(data_url(JFK)), key=key, headers=SSE)


def fun(server: Server, key: str) -> httpx2.Response:
    return server.post(FUN.path, FUN.body(data_url(JFK)), key=key)


def form(server: Server, key: str) -> httpx2.Response:
    return server.post(TRANSCRIPTIONS, files={"file": JFK.read_bytes()}, data={"model": "whisper-1"}, key=key)


def task(server: Server, key: str) -> httpx2.Response:
    body = {"model": "fun-asr", "input": {"file_urls": ["http://127.0.0.1:9/a.wav"]}}
    return server.post(SUBMISSION, body, key=key, headers={"X-DashScope-Async": "enable"})


def onemin(server: Server, key: str) -> httpx2.Response:
    headers = {"API-KEY": key}
    path = server.post("/api/assets", key=None, headers=headers, files={"asset": JFK.read_bytes()}).json()
    prompt = {"audioUrl": path["fileContent"]["path"]}
    body = {"type": "SPEECH_TO_TEXT", "model": "qwen3-asr-flash", "promptObject": prompt}
    return server.post("/api/features", body, key=None, headers=headers)


RATE, BURST, QUOTA = 0, 1, 2
COMPATIBLE: Final = ("limit_requests", "limit_burst_rate", "insufficient_quota")
NATIVE: Final = ("Throttling.RateQuota", "Throttling.BurstRate", "Throttling.AllocationQuota")
FACES: Final[Mapping[str, tuple[Ask, tuple[str, ...]]]] = {
    "chat": (chat, COMPATIBLE),
    "chat stream": (chat_stream, COMPATIBLE),
    "form": (form, COMPATIBLE),
    "qwen": (qwen, NATIVE),
    "qwen stream": (qwen_stream, NATIVE),
    "fun": (fun, NATIVE),
    "task": (task, NATIVE),
    "onemin": (onemin, ("Too Many Requests",) * 3),
}


def code(answer: httpx2.Response) -> str:
    """What the dialect calls it, of an answer that says when to come back."""
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["retry-after"]) > 0
    body = answer.json()
    if "statusCode" in body:
        return str(body["error"])
    return str(body.get("error", body)["code"])


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("limits", "kind"), [(ONCE, RATE), (ONCE_A_SECOND, BURST)], ids=["minute", "second"])
def test_who_asks_too_often_is_told(
    scripted: Server, admin: Admin, face: str, limits: dict[str, float], kind: int
) -> None:
    """In the words of each dialect, before anything is heard; other keys do not notice."""
    ask, codes = FACES[face]
    _, key = admin.make(limits=limits)
    _, other = admin.make()

    assert 200 == ask(scripted, key).status_code
    assert codes[kind] == code(ask(scripted, key))
    assert 200 == ask(scripted, other).status_code


@pytest.mark.parametrize("face", [face for face in FACES if face != "task"])
def test_who_has_used_up_the_day_is_told(scripted: Server, admin: Admin, face: str) -> None:
    """What crosses the limit is still heard; then nothing is, until tomorrow."""
    ask, codes = FACES[face]
    _, key = admin.make(limits=HARDLY_ANY)

    assert 200 == ask(scripted, key).status_code
    refused = ask(scripted, key)
    assert codes[QUOTA] == code(refused)
    assert int(refused.headers["retry-after"]) <= 86_400


def test_a_model_has_limits_of_its_own(scripted: Server, admin: Admin) -> None:
    """All its names and snapshots together, and no other model."""
    _, key = admin.make(model_limits={"qwen3-asr-flash": ONCE})

    answers = [chat(scripted, key, name) for name in ("qwen3-asr-flash", "qwen3-asr-flash-2026-02-10", "whisper-1")]

    assert [200, 429, 200] == [answer.status_code for answer in answers]


def test_limits_over_all_models_hold_besides(scripted: Server, admin: Admin) -> None:
    """The tighter one decides."""
    _, key = admin.make(limits=ONCE, model_limits={"qwen3-asr-flash": {"requests_per_minute": 1000}})

    answers = [chat(scripted, key, name) for name in ("qwen3-asr-flash", "whisper-1")]

    assert [200, 429] == [answer.status_code for answer in answers]


def test_speech_that_waits_is_bounded(scripted: Server, admin: Admin) -> None:
    """A task whose speech is still to be heard keeps further ones out; other interfaces go on."""
    key_id, key = admin.make(limits={"queued_audio_minutes": 1})
    _, other = admin.make(model_limits={"fun-asr": {"queued_audio_minutes": 1}})

    assert 200 == task(scripted, key).status_code
    with _queued(scripted, key_id, speech_ms=60_000):
        assert "Throttling.AllocationQuota" == code(task(scripted, key))
        assert [200, 200] == [task(scripted, other).status_code, qwen(scripted, key).status_code]
    assert 200 == task(scripted, key).status_code


@contextmanager
def _queued(server: Server, owner: str, *, speech_ms: int) -> Iterator[None]:
    """A task of *owner* under way, on another server say, of which nothing is heard yet."""
    database = Database(f"sqlite:///{server.data_dir / FILE}")
    tasks, task_id = Tasks(database), TaskId("queued-" + owner)

    async def begin() -> None:
        urls = ("https://a/1.wav", "https://a/2.wav")
        order = TaskOrder(owner=owner, model="fun-asr", dialect="fun", urls=urls, options=RecognitionOptions())
        await tasks.add(task_id, order)
        await tasks.begin(task_id)
        for number in range(2):
            await tasks.measure_subtask(task_id, number, Lengths(duration_ms=speech_ms, speech_ms=speech_ms))
        await tasks.end_subtask(task_id, PartEnd(number=0, failure=None))
        assert {"fun-asr": speech_ms} == await tasks.unheard_ms(owner)

    try:
        anyio.run(begin)
        yield
        anyio.run(tasks.finish, task_id)
    finally:
        database.close()


# ---- live


def connect(server: Server, key: str, path: str) -> Connection:
    url = server.base.replace("http", "ws") + path
    return websocket.connect(url, additional_headers={"Authorization": f"Bearer {key}"})


def first(connection: Connection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(connection.recv(timeout=LONG_S))
    return told


def close_code(connection: Connection) -> int | None:
    try:
        while True:
            connection.recv(timeout=LONG_S)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


REALTIME: Final = ("/v1/realtime?model=gpt-4o-transcribe", "/api-ws/v1/realtime?model=qwen3-asr-flash-realtime")


@pytest.mark.parametrize("path", REALTIME)
@pytest.mark.parametrize("limits", [{"live_sessions": 1}, ONCE], ids=["at once", "minute"])
def test_live_sessions_are_bounded(scripted: Server, admin: Admin, path: str, limits: dict[str, float]) -> None:
    """The second one is told why, and closed with 1013: try again later."""
    _, key = admin.make(limits=limits)
    with connect(scripted, key, path) as one:
        events = [first(one)]
        with connect(scripted, key, path) as two:
            while events[-1]["type"] != "error":
                events.append(first(two))
            code_told = close_code(two)

    assert "session.created" == events[0]["type"]
    assert events[-1]["error"]["message"]
    assert 1013 == code_told


def run_task(connection: Connection, identity: str) -> dict[str, Any]:
    payload = {
        "task_group": "audio",
        "task": "asr",
        "function": "recognition",
        "model": "fun-asr-realtime",
        "parameters": {"format": "pcm", "sample_rate": 16000},
        "input": {},
    }
    header = {"action": "run-task", "task_id": identity, "streaming": "duplex"}
    connection.send(json.dumps({"header": header, "payload": payload}))
    told: dict[str, Any] = first(connection)["header"]
    while told["event"] == "task-started" and identity == "two":
        told = first(connection)["header"]
    return told


def is_let_in(connection: Connection) -> bool:
    if first(connection)["type"] == "error":
        return False
    connection.send(json.dumps({"type": "input_audio_buffer.clear"}))
    return bool(first(connection)["type"] != "error")


def test_live_tasks_are_bounded_and_a_place_is_given_back(scripted: Server, admin: Admin) -> None:
    """``task-failed`` with the documented code; when the first has ended, there is room."""
    _, key = admin.make(limits={"live_sessions": 1})
    path = "/api-ws/v1/inference"
    with connect(scripted, key, path) as one:
        assert "task-started" == run_task(one, "one")["event"]
        with connect(scripted, key, path) as two:
            refused = run_task(two, "two")

    def has_room() -> bool:
        with connect(scripted, key, REALTIME[0]) as three:
            return is_let_in(three)

    assert ("task-failed", "Throttling.RateQuota") == (refused["event"], refused["error_code"])
    until(has_room)


def test_live_sessions_are_counted_over_all_servers(tmp_path: Path, postgres_url: str) -> None:
    """Of two on one database: what the one holds the other does not give, until it is given back."""
    folders = [tmp_path / name for name in ("store", "one", "two")]
    for folder in folders:
        folder.mkdir()
    shared = {
        "DATABASE__URL": postgres_url,
        "STORE__URL": folders[0].as_uri(),
        "SERVER__SECRET": "s" * 32,
        "LIMITS__LIVE_SESSIONS": "1",
    }

    def has_room(server: Server, key: str) -> bool:
        with connect(server, key, REALTIME[0]) as session:
            return is_let_in(session)

    settings = SCRIPTED | KEYS | shared
    with serving(folders[1], settings) as one, serving(folders[2], settings) as two:
        with connect(one, KEY, REALTIME[0]) as held:
            assert is_let_in(held)
            assert [False, False, True] == [has_room(one, KEY), has_room(two, KEY), has_room(two, OTHER_KEY)]
        until(lambda: has_room(two, KEY))


# ---- settings


def test_limits_of_the_settings_hold_for_all(tmp_path: Path) -> None:
    """For keys without limits of their own; each key has them for itself."""
    models = {"whisper-1": {"requests_per_minute": 1}}
    settings = {"LIMITS__REQUESTS_PER_MINUTE": "2", "LIMITS__MODELS": json.dumps(models)}
    with serving(tmp_path, SCRIPTED | KEYS | settings) as server:
        first_key = [
            chat(server, "sk-right", name).status_code for name in ("whisper-1", "whisper-1", "qwen3-asr-flash")
        ]
        other_key = [chat(server, "sk-other").status_code for _ in range(3)]

    assert [200, 429, 200] == first_key
    assert [200, 200, 429] == other_key


def test_files_that_are_kept_are_bounded(tmp_path: Path) -> None:
    """Of a key, whichever interface they came by, and of all; a refused one leaves nothing behind."""
    size = JFK.stat().st_size
    settings = {"UPLOADS__MAX_KEY_BYTES": str(2 * size), "UPLOADS__MAX_ALL_BYTES": str(3 * size)}

    def asset(key: str) -> httpx2.Response:
        return server.post("/api/assets", key=None, headers={"API-KEY": key}, files={"asset": JFK.read_bytes()})

    def permit(key: str) -> httpx2.Response:
        return server.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", key=key)

    def send(permit: Mapping[str, str]) -> httpx2.Response:
        form = {"key": permit["upload_dir"] + "/a.flac", "policy": permit["policy"], "Signature": permit["signature"]}
        return httpx2.post(permit["upload_host"], data=form, files={"file": JFK.read_bytes()}, timeout=60)

    with serving(tmp_path, SCRIPTED | KEYS | settings) as server:
        late = permit("sk-right").json()["data"]
        assert [200, 200] == [send(permit("sk-right").json()["data"]).status_code, asset("sk-right").status_code]
        full = (asset("sk-right"), permit("sk-right"), send(late))
        kept = [path for path in (server.data_dir / "objects").rglob("*") if path.is_file()]
        others = [asset("sk-other").status_code for _ in range(2)]

    assert ([429, 429, 503], 2) == ([answer.status_code for answer in full], len(kept))
    assert "3600" == full[0].headers["retry-after"]
    assert "Throttling.AllocationQuota" == full[1].json()["code"]
    assert "quota" in full[2].text
    assert [200, 429] == others


def test_a_limit_of_no_model_is_refused_at_the_start() -> None:
    """A misspelled name does not pass for a limit."""
    with pytest.raises(InvalidParameter, match="qwen3-asr-flush"):
        check_limits(load({"limits": {"models": {"qwen3-asr-flush": {"live_sessions": 1}}}}))
    check_limits(load({"limits": {"models": {"qwen3-asr-flash": {"live_sessions": 1}}}}))

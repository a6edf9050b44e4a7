"""What becomes of a server whose surroundings fail: it says so, keeps what it took on, and goes on afterwards."""

import json
import os
import re
import resource
import select
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import sqlalchemy as sa
from tests.conftest import Speech
from tests.faces.dialects import CHAT, data_url
from tests.jobs.program import Life, begins, origin, query, start, submit, talk, wait_all, write_wav
from tests.safety.s3 import Store, object_store
from tests.server import JFK

from qasr.storage.outages import outage

KEY: Final = {"Authorization": "Bearer any"}
SOON_S: Final = 120.0
SCRIPTED: Final = {"QASR_ENGINES__DEFAULT": "scripted", "QASR_ENGINES__ALIGNERS": "0"}

pytestmark = pytest.mark.timeout(400)


@contextmanager
def living(folder: Path, variables: Mapping[str, str]) -> Iterator[tuple[Life, str]]:
    """A server and its address; in the end it stops as if nothing had happened."""
    life = start(folder / "data", folder / "log", SCRIPTED | dict(variables))
    try:
        yield life, life.wait_ready(SOON_S)
        assert 0 == life.stop()[0], (folder / "log").read_text()[-3000:]
    finally:
        if life.process.poll() is None:
            life.kill()


def ask(base: str, audio: str | None = None) -> httpx2.Response:
    """A recognition of a clip, by value."""
    part = {"type": "input_audio", "input_audio": {"data": audio or data_url(JFK)}}
    body = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": [part]}]}
    return httpx2.post(base + CHAT, json=body, headers=KEY, timeout=SOON_S)


def upload(base: str) -> tuple[httpx2.Response, str]:
    """The answer to an upload, and what the file is called then."""
    query = "action=getPolicy&model=qwen3-asr-flash"
    policy = httpx2.get(f"{base}/api/v1/uploads?{query}", headers=KEY, timeout=SOON_S).json()["data"]
    key = f"{policy['upload_dir']}/clip.flac"
    fields = {"policy": policy["policy"], "Signature": policy["signature"], "key": key}
    files = {"file": ("clip.flac", JFK.read_bytes())}
    return httpx2.post(policy["upload_host"], data=fields, files=files, timeout=SOON_S), f"oss://{key}"


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, far longer than it may take."""
    end = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def below(pid: int) -> dict[int, str]:
    """Processes that *pid* has started, and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


# ---- disk


def test_full_disk_is_told_and_over_when_there_is_room_again(tmp_path: Path, speech: Speech) -> None:
    """No file can grow, neither recordings nor the database nor the log: 503 for what needs it, and nothing is left."""
    write_wav(tmp_path / "clip.wav", speech("jfk.flac"))
    with origin(tmp_path) as files, living(tmp_path, {}) as (life, base):
        assert 200 == ask(base).status_code
        taken_on = submit(base, [f"{files}/clip.wav"])
        unlimited = resource.prlimit(life.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(life.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))  # a write is EFBIG

        failed = {
            "by value": ask(base).status_code,
            "by address": ask(base, f"{files}/clip.wav").status_code,
            "upload": upload(base)[0].status_code,
            "submission": httpx2.post(
                f"{base}/api/v1/services/audio/asr/transcription",
                json={"model": "paraformer-v2", "input": {"file_urls": [f"{files}/clip.wav"]}},
                headers=KEY | {"X-DashScope-Async": "enable"},
                timeout=SOON_S,
            ).status_code,
        }
        alive = httpx2.get(f"{base}/livez", timeout=SOON_S).status_code
        resource.prlimit(life.process.pid, resource.RLIMIT_FSIZE, unlimited)

        assert dict.fromkeys(failed, 503) == failed
        assert 200 == alive
        assert 200 == ask(base).status_code
        assert 200 == upload(base)[0].status_code
        ended = wait_all(base, [taken_on, submit(base, [f"{files}/clip.wav"])], timeout_s=SOON_S)
        assert ["SUCCEEDED", "SUCCEEDED"] == [output["task_status"] for output in ended]
        assert [] == list((tmp_path / "data" / "spool").iterdir())


# ---- database


def test_locked_database_holds_up_submissions_and_nothing_else(tmp_path: Path, speech: Speech) -> None:
    """Somebody (a backup, say) holds the tables: a submission waits and is taken on; all else goes on meanwhile."""
    write_wav(tmp_path / "clip.wav", speech("jfk.flac"))
    with origin(tmp_path) as files, living(tmp_path, {}) as (_, base), ThreadPoolExecutor(1) as pool:
        first = submit(base, [f"{files}/clip.wav"])
        wait_all(base, [first], timeout_s=SOON_S)
        with closing(sqlite3.connect(tmp_path / "data" / "qasr.db", timeout=SOON_S)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            waiting = pool.submit(submit, base, [f"{files}/clip.wav"])

            assert 200 == ask(base).status_code
            assert "SUCCEEDED" == query(base, first)["task_status"]
            assert not waiting.done()
            holder.rollback()
        (ended,) = wait_all(base, [waiting.result(SOON_S)], timeout_s=SOON_S)

    assert "SUCCEEDED" == ended["task_status"]


def test_database_that_stays_locked_is_an_outage(tmp_path: Path) -> None:
    """After its patience SQLite gives up, which is an outage; other errors are none."""
    url = f"sqlite:///{tmp_path / 'locked.db'}"
    engine = sa.create_engine(url, connect_args={"timeout": 0.05})
    with closing(sqlite3.connect(tmp_path / "locked.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sa.exc.OperationalError, match="locked") as caught, engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE one (two INT)"))
    with pytest.raises(sa.exc.StatementError) as mistake, engine.begin() as connection:
        connection.execute(sa.text("SELECT :one"), {"two": 1})
    engine.dispose()

    assert "database" in str(outage(caught.value))
    assert outage(mistake.value) is None


# ---- object store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with object_store() as running:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield running


def test_object_store_that_goes_away_is_told_and_tasks_wait_for_it(
    store: Store, tmp_path: Path, speech: Speech
) -> None:
    """What needs it is 503, the rest goes on; a task whose step fails tries again and ends right."""
    write_wav(tmp_path / "clip.wav", speech("jfk.flac"))
    with origin(tmp_path) as files, living(tmp_path, store.environment) as (_, base):
        assert 200 == upload(base)[0].status_code
        _, name = upload(base)
        assert 200 == ask(base, name).status_code
        store.away.set()

        assert 503 == upload(base)[0].status_code
        assert 503 == ask(base, name).status_code
        assert 200 == ask(base).status_code
        store.refused.clear()
        task_id = submit(base, [f"{files}/clip.wav"])
        assert store.refused.wait(SOON_S)  # a step of the task has found it away
        store.away.clear()
        (ended,) = wait_all(base, [task_id], timeout_s=SOON_S)
        assert "SUCCEEDED" == ended["task_status"]
        assert [1] == [len(sentences) for sentences in begins(ended)]
        assert 200 == ask(base, name).status_code


# ---- clock

JUMPING: Final = """
import os, time
from pathlib import Path
_real, _offset = time.time, Path(os.environ["CLOCK_OFFSET"])
time.time = lambda: _real() + float(_offset.read_text())
"""


def test_clock_that_jumps_does_no_task_twice_and_loses_none(tmp_path: Path, speech: Speech) -> None:
    """Two hours forward in the middle of a task, then four back: each segment is heard once, links work."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    offset = tmp_path / "offset"
    offset.write_text("0")
    write_wav(tmp_path / "clip.wav", talk(speech("jfk.flac")[:32_000], times=12, lead_ms=0))
    calls = tmp_path / "calls"
    variables = {
        "CLOCK_OFFSET": str(offset),
        "PYTHONPATH": str(tmp_path),
        "QASR_SCRIPTED__LATENCY_MS": "300",
        "QASR_SCRIPTED__SLOTS": "1",
        "QASR_SCRIPTED__CALL_LOG": str(calls),
    }
    with origin(tmp_path) as files, living(tmp_path, variables) as (_, base):
        ended = []
        for jump_s in (7200, -7200):
            task_id = submit(base, [f"{files}/clip.wav"])
            until(calls.exists)
            offset.with_suffix(".new").write_text(str(jump_s))
            offset.with_suffix(".new").rename(offset)
            ended += wait_all(base, [task_id], timeout_s=SOON_S)
            assert 200 == ask(base).status_code
        heard = [begins(output) for output in ended]

    assert ["SUCCEEDED", "SUCCEEDED"] == [output["task_status"] for output in ended]
    assert [[12], [12]] == [[len(sentences) for sentences in result] for result in heard]
    assert 2 * 12 + 2 == len(calls.read_text().splitlines())


# ---- engine and memory


def test_engine_that_hangs_is_told_in_time_and_replaced(tmp_path: Path) -> None:
    """Its process stands still: the request ends at its deadline, and a new process hears the next ones."""
    variables = {"QASR_ENGINES__DEFAULT": "moonshine", "QASR_SERVER__ANSWER_S": "6", "QASR_MOONSHINE__THREADS": "1"}
    with living(tmp_path, variables) as (life, base):
        assert 200 == ask(base).status_code
        (engine,) = [pid for pid, line in below(life.process.pid).items() if "moonshine" in line]
        os.kill(engine, signal.SIGSTOP)

        answer = ask(base)

        assert (500, "request_timeout") == (answer.status_code, answer.json()["error"]["code"])
        until(lambda: 200 == ask(base).status_code)
        until(lambda: engine not in below(life.process.pid))


def test_children_that_the_kernel_kills_are_replaced(tmp_path: Path) -> None:
    """No memory: the kernel kills engine, decoder and aligner; requests fail in shape until they are back."""
    variables = {"QASR_ENGINES__DEFAULT": "moonshine", "QASR_ENGINES__ALIGNERS": "1", "QASR_MOONSHINE__THREADS": "1"}
    with living(tmp_path, variables) as (life, base), ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, base) for _ in range(4)]
        killed = below(life.process.pid)
        for pid in killed:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        assert len(killed) >= 2
        assert {answer.result().status_code for answer in asked} <= {200, 400, 500, 503}
        assert all(answer.result().json() for answer in asked)
        until(lambda: 200 == ask(base).status_code)


def test_bodies_in_memory_are_bounded_together(tmp_path: Path) -> None:
    """Many large bodies at once, none of them complete: beyond the bound they are refused, and memory stays small."""
    most, each = 8 * 2**20, 2**20
    with living(tmp_path, {"QASR_SERVER__MAX_BODIES_BYTES": str(most)}) as (life, base), ExitStack() as held:
        host, port = base.removeprefix("http://").split(":")
        assert 200 == ask(base).status_code
        before = rss_bytes(life.process.pid)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nContent-Length: {each}\r\n\r\n"
        connections = [
            held.enter_context(closing(socket.create_connection((host, int(port)), timeout=SOON_S))) for _ in range(64)
        ]
        for connection in connections:
            connection.sendall(head.encode() + b" " * (each - 1))
        until(lambda: len(select.select(connections, [], [], 0)[0]) >= 64 - most // each)  # they are refused already
        assert 200 == httpx2.get(f"{base}/livez", timeout=SOON_S).status_code
        grown = rss_bytes(life.process.pid) - before
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(b" ")
        statuses = [status_of(connection) for connection in connections]

        assert {429, 400} == set(statuses)
        assert statuses.count(429) >= 64 - most // each
        assert grown < 6 * most
        assert 200 == ask(base).status_code


def rss_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(65_536).split()[1])


# ---- overload


def test_more_requests_than_may_wait_are_told_at_once(tmp_path: Path) -> None:
    """Beyond what is worked on and what may wait, a request is 429 with a time to come back; the others are heard."""
    variables = {"QASR_SERVER__MOST_WAITING": "4", "QASR_SCRIPTED__LATENCY_MS": "300", "QASR_SCRIPTED__SLOTS": "4"}
    with living(tmp_path, variables) as (_, base), ThreadPoolExecutor(96) as pool:
        answers = list(pool.map(lambda _: ask(base), range(96)))

        refused = [answer for answer in answers if answer.status_code == 429]
        assert {200, 429} == {answer.status_code for answer in answers}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert len(answers) - len(refused) >= 56 + 4
        assert 200 == ask(base).status_code


# ---- the end


def test_told_to_stop_under_load_it_answers_all_that_it_has_taken_on(tmp_path: Path, speech: Speech) -> None:
    """Requests under way are answered with their text; tasks that were taken on are done by the next life."""
    write_wav(tmp_path / "clip.wav", speech("jfk.flac"))
    variables = {"QASR_SCRIPTED__LATENCY_MS": "700", "QASR_SCRIPTED__SLOTS": "2"}
    with origin(tmp_path) as files, ThreadPoolExecutor(24) as pool:
        with living(tmp_path, variables) as (life, base):
            arrived = threading.Barrier(25)
            asked = [pool.submit(ask_slowly, base, arrived) for _ in range(24)]
            tasks = [submit(base, [f"{files}/clip.wav"]) for _ in range(4)]
            arrived.wait(SOON_S)  # all heads are with the server, and all bodies but their last byte
            life.process.send_signal(signal.SIGTERM)
            answers = [one.result() for one in asked]
        with living(tmp_path, {}) as (_, base):
            ended = wait_all(base, tasks, timeout_s=SOON_S)

    assert [200] * 24 == [status for status, _ in answers]
    assert all("lasting" in text for _, text in answers)
    assert ["SUCCEEDED"] * 4 == [output["task_status"] for output in ended]


def ask_slowly(base: str, arrived: threading.Barrier) -> tuple[int, str]:
    """A request that is complete only after all have *arrived*."""
    host, port = base.removeprefix("http://").split(":")
    part = {"type": "input_audio", "input_audio": {"data": data_url(JFK)}}
    content = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": [part]}]}
    body = json.dumps(content).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer any\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with closing(socket.create_connection((host, int(port)), timeout=SOON_S)) as connection:
        connection.sendall(head.encode() + body[:-1])
        arrived.wait(SOON_S)
        connection.sendall(body[-1:])
        said = b""
        while data := connection.recv(65_536):
            said += data
    answer: Any = json.loads(said.partition(b"\r\n\r\n")[2])
    return int(said.split()[1]), answer["choices"][0]["message"]["content"]

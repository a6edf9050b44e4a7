"""``qasr tasks`` against a real server: what it prints, and by which code it ends."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
import pytest
from tests.cli.program import DATA, Qasr, Ran
from tests.server import KEY, KEYS, LOOPBACK, SCRIPTED, Origin, Server, serving

FUN: Final = "fun-asr"
QWEN: Final = "qwen3-asr-flash-filetrans"
NOBODY: Final = "00000000-0000-0000-0000-000000000000"

Tasks: TypeAlias = Callable[..., Ran]
"""``tasks("show", task_id)``: the program, pointed at the server with its key."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One task at a time, and an engine that takes its time."""
    pace = {"SCRIPTED__LATENCY_MS": "8000", "SCRIPTED__SLOTS": "1", "JOBS__CONCURRENCY": "1"}
    with serving(tmp_path_factory.mktemp("busy"), SCRIPTED | KEYS | LOOPBACK | pace) as running:
        yield running


@pytest.fixture
def tasks(qasr: Qasr, scripted: Server) -> Tasks:
    return lambda verb, *rest: qasr("tasks", verb, *rest, "--server", scripted.base, QASR_API_KEY=KEY)


def submit(server: Server, *urls: str, model: str = FUN, **parameters: object) -> str:
    """The id of a new task."""
    given: dict[str, Any] = {"file_url": urls[0]} if model == QWEN else {"file_urls": list(urls)}
    answer = server.post(
        "/api/v1/services/audio/asr/transcription",
        {"model": model, "input": given, "parameters": {"language_hints": ["en"], **parameters}},
        headers={"X-DashScope-Async": "enable"},
    )
    assert httpx2.codes.OK == answer.status_code, answer.text
    return str(answer.json()["output"]["task_id"])


def unfinished(server: Server) -> list[dict[str, Any]]:
    """Entries of tasks that wait or run."""
    found: list[dict[str, Any]] = []
    for status in ("PENDING", "RUNNING"):
        found += server.get(f"/api/v1/tasks?page_size=100&status={status}").json()["data"]
    return found


def wait_for(server: Server, task_id: str) -> str:
    """Until the task has ended, without the program; its id."""
    _until(lambda: not {task_id} & {entry["task_id"] for entry in unfinished(server)})
    return task_id


@pytest.fixture
def two(scripted: Server, origin: Origin) -> str:
    """A task of two good files and a missing one, that has ended."""
    urls = ("/files/jfk.flac?secret=1", "/missing.wav?secret=2", "/files/jfk.flac")
    origin.files["jfk.flac?secret=1"] = DATA / "jfk.flac"
    return wait_for(scripted, submit(scripted, *map(origin.url, urls)))


def test_a_task_is_awaited(scripted: Server, origin: Origin, tasks: Tasks) -> None:
    """Its state is all that goes to standard output; 0 where one file at least succeeded, 1 where none did."""
    good = tasks("wait", submit(scripted, origin.url("/files/jfk.flac"), origin.url("/missing.wav")))
    bad = tasks("wait", submit(scripted, origin.url("/missing.wav")))
    qwen = tasks("wait", submit(scripted, origin.url("/missing.wav"), model=QWEN))

    assert (0, "SUCCEEDED\n") == (good.code, good.out)
    assert "/missing.wav: FILE_404_NOT_FOUND" in good.err
    assert (1, "FAILED\n") == (bad.code, bad.out)
    assert (1, "FAILED\n") == (qwen.code, qwen.out)
    assert "FILE_404_NOT_FOUND" in qwen.err


@pytest.mark.parametrize("verb", ["show", "wait", "result", "cancel"])
def test_nobodys_task(tasks: Tasks, verb: str) -> None:
    """And an id that would be another path."""
    for task_id in (NOBODY, "../models"):
        ran = tasks(verb, task_id)

        assert (1, "") == (ran.code, ran.out)
        assert 1 == ran.err.count("\n")


def test_tasks_are_listed(scripted: Server, origin: Origin, tasks: Tasks, two: str) -> None:
    """Newest first, each with its number of files; a table that no terminal narrows, or JSON."""
    single = wait_for(scripted, submit(scripted, origin.url("/files/jfk.flac"), model=QWEN))

    rows = tasks("list", "--limit", "2").out.splitlines()
    done = json.loads(tasks("list", "--json", "--status", "succeeded").out)
    one = json.loads(tasks("list", "--json", "--limit", "1").out)

    assert ["id", "model", "state", "submitted", "files"] == rows[0].split()
    assert [(single, QWEN, "SUCCEEDED", "1"), (two, FUN, "SUCCEEDED", "3")] == [
        (row.split()[0], row.split()[1], row.split()[2], row.split()[-1]) for row in rows[1:]
    ]
    assert [single, two] == [entry["task_id"] for entry in done][:2]
    assert {"SUCCEEDED"} == {entry["status"] for entry in done}
    assert [single] == [entry["task_id"] for entry in one]
    assert (0, "", "no tasks\n") == (
        (ran := tasks("list", "--status", "CANCELED")).code,
        ran.out,
        ran.err,
    )


def test_lists_go_over_pages(scripted: Server, origin: Origin, tasks: Tasks) -> None:
    """A server tells a hundred at once."""
    ids = [submit(scripted, origin.url("/missing.wav")) for _ in range(103)]

    found = [entry["task_id"] for entry in json.loads(tasks("list", "--json", "--limit", "102").out)]

    assert 102 == len(found)
    assert set(found) <= set(ids)
    _until(lambda: not set(ids) & {entry["task_id"] for entry in unfinished(scripted)})


def test_a_task_is_shown(tasks: Tasks, two: str) -> None:
    """Each file with its state and reason; nothing that may be secret in an address."""
    shown = tasks("show", two)
    whole = json.loads(tasks("show", two, "--json").out)

    assert 0 == shown.code
    assert two in shown.out
    assert "3 (2 done, 1 failed)" in shown.out
    assert ["SUCCEEDED", "FAILED", "SUCCEEDED"] == [
        line.split()[0] for line in shown.out.splitlines() if "/files/jfk" in line or "/missing" in line
    ]
    assert "FILE_404_NOT_FOUND" in shown.out
    assert "secret" not in shown.out
    assert (two, "SUCCEEDED") == (whole["task_id"], whole["task_status"])


def test_results_are_collected(tasks: Tasks, two: str, tmp_path: Path) -> None:
    """To standard output with a head for each, or into files; what failed is told, and the exit code is 1."""
    printed, stored = tasks("result", two), tasks("result", two, "--format", "srt", "--output-dir", tmp_path / "out")

    texts = [text.partition(" <==\n") for text in printed.out.split("==> ")[1:]]
    assert (1, 1) == (printed.code, stored.code)
    assert 2 == len(texts)
    assert all(text.strip() and name.endswith("/files/jfk.flac") for name, _, text in texts)
    assert "/missing.wav: FILE_404_NOT_FOUND" in printed.err
    assert "secret" not in printed.out + printed.err
    assert "" == stored.out
    assert ["jfk-2.srt", "jfk.srt"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "jfk.srt").read_text().startswith("1\n00:00:0")


def test_forms_of_results(scripted: Server, origin: Origin, tasks: Tasks) -> None:
    """Both families, in each form; JSON is the server's own document, in one line."""
    for model in (FUN, QWEN):
        task_id = wait_for(scripted, submit(scripted, origin.url("/files/jfk.flac"), model=model))

        ran = {form: tasks("result", task_id, "--format", form) for form in ("txt", "json", "srt", "vtt")}
        document = json.loads(ran["json"].out)

        assert {0} == {one.code for one in ran.values()}
        assert 1 == ran["json"].out.count("\n")
        assert origin.url("/files/jfk.flac") == document["file_url"]
        assert document["transcripts"][0]["text"] + "\n" == ran["txt"].out
        assert ran["vtt"].out.startswith("WEBVTT\n\n00:00:0")
        assert document["transcripts"][0]["sentences"][0]["text"] in " ".join(ran["srt"].out.split())


def test_waiting_tasks_are_canceled_and_running_ones_not(busy: Server, origin: Origin, qasr: Qasr) -> None:
    """Meanwhile, progress is shown; --timeout ends with 124; results need the end."""

    def tasks(verb: str, *rest: str) -> Ran:
        return qasr("tasks", verb, *rest, "--server", busy.native, "--api-key", KEY)

    running = submit(busy, *[origin.url("/files/jfk.flac")] * 4)  # an owner's only task has a place of its own
    submit(busy, *[origin.url("/files/jfk.flac")] * 4)  # takes the one place that there is
    waiting = submit(busy, origin.url("/files/jfk.flac"))
    _until(lambda: "progress" in busy.get(f"/api/v1/tasks/{running}").json()["output"])

    early = tasks("result", running)
    late = tasks("wait", running, "--timeout", "0.5")
    shown = tasks("show", running).out
    canceled, again, too_late = tasks("cancel", waiting), tasks("cancel", waiting), tasks("cancel", running)
    gone = tasks("wait", waiting)
    end = tasks("wait", running)

    assert (124, "") == (late.code, late.out)
    assert "of speech (" in shown
    assert "4 (" in shown
    assert (1, "") == (early.code, early.out)
    assert f"qasr tasks wait {running}" in early.err
    assert (0, "CANCELED\n") == (canceled.code, canceled.out)
    assert (1, 1) == (again.code, too_late.code)
    assert "PENDING" in too_late.err
    assert (1, "CANCELED\n") == (gone.code, gone.out)
    assert (0, "SUCCEEDED\n") == (end.code, end.out)


def test_an_operator_stops_any_task(busy: Server, origin: Origin, qasr: Qasr, tmp_path: Path) -> None:
    """By the data directory, without a key: one that runs ends before its next step, one that waits at once."""

    def cancel(task_id: str, data_dir: Path = busy.data_dir) -> Ran:
        return qasr("tasks", "cancel", task_id, "--data-dir", data_dir)

    running, beside = (submit(busy, *[origin.url("/files/jfk.flac")] * 12) for _ in range(2))
    waiting = submit(busy, origin.url("/files/jfk.flac"))
    _until(lambda: "progress" in busy.get(f"/api/v1/tasks/{running}").json()["output"])
    asked, canceled, nobodys = cancel(running), cancel(waiting), cancel(NOBODY)
    elsewhere = cancel(running, tmp_path)
    cancel(beside)
    _until(lambda: not unfinished(busy))
    ends = [busy.get(f"/api/v1/tasks/{task_id}").json()["output"]["task_status"] for task_id in (running, waiting)]
    late = cancel(running)

    assert [(0, "RUNNING\n"), (0, "CANCELED\n"), (1, "")] == [(ran.code, ran.out) for ran in (asked, canceled, nobodys)]
    assert (2, "") == (elsewhere.code, elsewhere.out)
    assert not list(tmp_path.glob("*.db*"))
    assert ["CANCELED", "CANCELED"] == ends
    assert (1, "") == (late.code, late.out)
    assert {1} == {ran.err.count("\n") for ran in (asked, nobodys, elsewhere, late)}


def test_what_no_server_is_told(qasr: Qasr, scripted: Server) -> None:
    """No server, no address, a wrong key, a wrong word: one line, and the exit code."""
    cases = [
        (1, "does not answer", ("list", "--server", "http://127.0.0.1:1")),
        (1, "does not answer", ("wait", NOBODY, "--server", "http://127.0.0.1:1")),
        (2, "needs an address", ("list", "--server", "127.0.0.1")),
        (1, "(HTTP 401)", ("list", "--server", scripted.base, "--api-key", "sk-wrong")),
        (1, "(HTTP 404)", ("list", "--server", f"{scripted.base}/elsewhere", "--api-key", KEY)),
        (2, "no header takes", ("list", "--server", scripted.base, "--api-key", "ключ")),
    ]
    for code, reason, arguments in cases:
        ran = qasr("tasks", *arguments)

        assert (code, "") == (ran.code, ran.out), ran.err
        assert reason in ran.err
        assert 1 == ran.err.count("\n")
    assert 2 == qasr("tasks", "list", "--status", "SLEEPING").code


def test_a_server_that_is_started_anew_is_waited_for(qasr: Qasr) -> None:
    """It fails, and answers in a way nobody knows, but not for ever; the first answer decides whether it is one."""
    answers = [(200, "RUNNING"), (503, ""), (500, ""), (200, "RUNNING"), (200, "SUCCEEDED")]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, state = answers.pop(0)
            body = json.dumps({"request_id": "r", "output": {"task_id": "t", "task_status": state}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ran = qasr("tasks", "wait", "t", "--server", f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    thread.join(10)

    assert (0, "SUCCEEDED\n") == (ran.code, ran.out)
    assert not answers


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

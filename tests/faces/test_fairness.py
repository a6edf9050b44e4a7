"""A key that has handed in hours keeps none waiting that comes with seconds."""

import time
from pathlib import Path
from typing import Any, Final

from tests.faces.dialects import CHAT_DIALECT, data_url
from tests.faces.test_limits import SUBMISSION
from tests.server import JFK, KEY, KEYS, LOOPBACK, OTHER_KEY, SCRIPTED, Origin, Server, serving

TASKS: Final = 4
RECORDINGS: Final = 100
"""Of each: 300 segments. The engine hears one batch in half a second, so that the first of these tasks ends after a
minute.
"""
BUSY: Final = {"SCRIPTED__SLOTS": "1", "SCRIPTED__LATENCY_MS": "500", "JOBS__CONCURRENCY": "2"}


PATIENCE_S: Final = 180.0


def until(server: Server, key: str, *wanted: str) -> None:
    """Wait until the running and ended tasks of *key* are *wanted*."""
    end = time.monotonic() + PATIENCE_S
    while [state for state in states(server, key) if state != "PENDING"] != list(wanted):
        assert time.monotonic() < end
        time.sleep(0.1)


def submit(server: Server, key: str, *urls: str) -> str:
    """The id of a task about *urls*."""
    body = {"model": "fun-asr", "input": {"file_urls": urls}}
    answer = server.post(SUBMISSION, body, key=key, headers={"X-DashScope-Async": "enable"})
    return str(answer.json()["output"]["task_id"])


def states(server: Server, key: str) -> list[str]:
    """Of all tasks of *key*."""
    found: list[dict[str, Any]] = server.get("/api/v1/tasks?page_size=100", key=key).json()["data"]
    return [task["status"] for task in found]


def test_hours_of_one_key_do_not_delay_seconds_of_another(
    origin: Origin, three_utterances: Path, tmp_path: Path
) -> None:
    """All places for tasks are taken, engine and decoder are busy; then somebody comes with eleven seconds, by a
    task and by a request, and is answered before any of the others' tasks has ended.
    """
    long, short = origin.serve(three_utterances), origin.url("/files/jfk.flac")
    with serving(tmp_path, SCRIPTED | KEYS | LOOPBACK | BUSY) as server:
        for _ in range(TASKS):
            submit(server, KEY, *[long] * RECORDINGS)
        until(server, KEY, "RUNNING", "RUNNING", "RUNNING")  # the first, and two others

        submit(server, OTHER_KEY, short)
        answer = server.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK)), key=OTHER_KEY)
        until(server, OTHER_KEY, "SUCCEEDED")

        assert "lasting" in CHAT_DIALECT.text(answer)
        assert {"RUNNING", "PENDING"} == set(states(server, KEY))

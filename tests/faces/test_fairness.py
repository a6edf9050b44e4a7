"""A key that has handed in hours keeps none waiting that comes with seconds."""

import time
from pathlib import Path
from typing import Any, Final

from tests.faces.dialects import CHAT_DIALECT, data_url
from tests.faces.test_limits import LONG_S, SUBMISSION
from tests.server import JFK, KEY, KEYS, LOOPBACK, OTHER_KEY, SCRIPTED, Origin, Server, serving

TASKS: Final = 4
RECORDINGS: Final = 60
"""Of each: 180 segments. The engine hears one batch in half a second, so that the first of these tasks ends after the
better part of a minute.
"""
BUSY: Final = {"SCRIPTED__SLOTS": "1", "SCRIPTED__LATENCY_MS": "500", "JOBS__CONCURRENCY": "2"}


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
        end = time.monotonic() + LONG_S
        while states(server, KEY).count("RUNNING") < 3:  # the first, and two others
            assert time.monotonic() < end
            time.sleep(0.1)

        submit(server, OTHER_KEY, short)
        answer = server.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK)), key=OTHER_KEY)
        while states(server, OTHER_KEY) != ["SUCCEEDED"]:
            assert time.monotonic() < end
            time.sleep(0.1)

        assert "lasting" in CHAT_DIALECT.text(answer)
        assert {"RUNNING", "PENDING"} == set(states(server, KEY))

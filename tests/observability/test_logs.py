"""What is logged says enough to find a request, and nothing of what was said in it."""

import json
import time
from pathlib import Path
from typing import Final

from tests.observability.conftest import SAID, WAIT_S, Traffic
from tests.server import JFK, LOOPBACK, SCRIPTED, Server, serving

NOWHERE: Final = "http://127.0.0.1:9/v1/traces"


def lines(path: Path) -> list[dict[str, object]]:
    """The log as it is read by machines; the greeting is for people."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_traffic_was_what_it_should_be(traffic: Traffic) -> None:
    """Or the other tests of this file show nothing: speech was heard on all faces, and many a request was refused."""
    assert len(traffic.texts) >= 7
    assert all(SAID.lower() in text.lower() for text in traffic.texts), traffic.texts
    assert {200, 400, 401, 403, 404, 405} <= {answer.status_code for answer in traffic.answers}
    assert not [answer for answer in traffic.answers if answer.status_code in (429, 502, 503)]


def test_no_secret_and_no_speech_is_logged(observed: Server, traffic: Traffic) -> None:
    """Not at the finest level, nor where something fails: no key, no signature, no name of a file, no word of what was
    said or of the prompt.
    """
    text = observed.log.read_text(encoding="utf-8").lower()

    assert '"event": "answered"' in text
    assert '"event": "recognized"' in text
    assert {secret for secret in traffic.secrets if secret.lower() in text} == set()
    assert "secret-name" not in text


def test_real_speech_is_not_logged_either(server: Server) -> None:
    """The embedded engine, its process and its aligner say nothing of it."""
    words = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    answer = server.post("/v1/audio/transcriptions", files={"file": JFK.read_bytes()}, data=words)

    assert "country" in answer.json()["text"]
    assert "country" not in server.log.read_text(encoding="utf-8").lower()


def test_every_answer_has_an_id_of_its_own(traffic: Traffic) -> None:
    """Results, errors, streams, documents, pages, refused and granted upgrades."""
    ids = [*traffic.upgrades, *(answer.headers["x-request-id"] for answer in traffic.answers)]

    assert len(ids) > 50
    assert len(ids) == len(set(ids))


def test_requests_and_tasks_are_found_in_the_log(observed: Server, traffic: Traffic) -> None:
    """By the ids that clients know: each request has its line, and each task its way from beginning to end."""
    entries = lines(observed.log)
    answered = {entry["request_id"] for entry in entries if entry["event"] == "answered"}
    ids = {*traffic.upgrades, *(answer.headers["x-request-id"] for answer in traffic.answers)}
    of_task = [entry for entry in entries if entry.get("task_id") == traffic.tasks[0]]

    assert ids <= answered
    assert {"task_submitted", "task_begun", "recording_failed", "task_ended"} <= {entry["event"] for entry in of_task}
    assert [True] == ["request_id" in entry for entry in of_task if entry["event"] == "task_submitted"]
    assert not any("request_id" in entry for entry in of_task if entry["event"] == "task_ended")


def test_lines_are_events_with_a_level_and_a_time(observed: Server, traffic: Traffic) -> None:
    """An event is a constant: what varies stands beside it."""
    entries = lines(observed.log)

    assert traffic.answers
    assert all(str(entry["event"]).isidentifier() for entry in entries), {entry["event"] for entry in entries}
    assert all({"level", "timestamp"} <= entry.keys() for entry in entries)


def test_lines_for_people_keep_secrets_too(tmp_path: Path) -> None:
    """An engine that fails is named in the log, but neither the recording nor what would have been heard of it.

    Nobody takes this server's spans: it answers nevertheless, and ends in time (``serving`` looks at that).
    """
    settings = {"SCRIPTED__TEXT": SAID, "SCRIPTED__FAIL_AT_MS": "1", "LOG__LEVEL": "debug", "TRACING__URL": NOWHERE}
    with serving(tmp_path, SCRIPTED | LOOPBACK | settings) as server:
        answer = server.post("/v1/audio/transcriptions", files={"file": JFK.read_bytes()}, data={"model": "whisper-1"})
        end = time.monotonic() + WAIT_S
        while "refused" not in (text := server.log.read_text(encoding="utf-8")):
            assert time.monotonic() < end, text
            time.sleep(0.05)

    assert 500 == answer.status_code
    assert "isthmus" not in text

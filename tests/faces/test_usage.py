"""The book agrees with what each interface tells of usage."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any, Final

import pytest
from tests.access import Admin
from tests.faces.dialects import CHAT_DIALECT, FUN, GENERATION, QWEN, SSE, TRANSCRIPTIONS, Dialect, data_url
from tests.faces.test_limits import LONG_S, SUBMISSION, connect, first
from tests.server import JFK, Origin, Server

JFK_S: Final = 11.0
PCM_S: Final = 3


def lines(admin: Admin, key_id: str, *, requests: int = 1) -> list[dict[str, Any]]:
    """The book's lines of a key, once they hold so many requests: what has just ended is noted after its answer."""
    end = time.monotonic() + LONG_S
    found = admin.usage(key_id)
    while sum(one["requests"] for one in found) < requests:
        assert time.monotonic() < end, found
        time.sleep(0.05)
        found = admin.usage(key_id)
    return found


@pytest.mark.parametrize(("dialect", "interface"), [(CHAT_DIALECT, "openai"), (QWEN, "dashscope")], ids=str)
def test_synchronous_answers_agree(scripted: Server, admin: Admin, dialect: Dialect, interface: str) -> None:
    """Audio, model, interface; times are those of the requests; a refused one is an error and no audio."""
    key_id, key = admin.make()
    body = dialect.body(data_url(JFK), model="qwen3-asr-flash-2026-02-10")
    answers = [scripted.post(dialect.path, body, key=key) for _ in range(2)]
    refused = scripted.post(dialect.path, dialect.body(data_url(b"no sound" * 50)), key=key)

    (line,) = lines(admin, key_id, requests=3)
    assert 400 == refused.status_code
    assert (3, 1, 2 * JFK_S) == (line["requests"], line["errors"], line["audio_s"])
    assert ("qwen3-asr-flash", interface, key_id) == (line["model"], line["interface"], line["key"])
    assert [math.floor(line["audio_s"] / 2)] * 2 == [answer.json()["usage"]["seconds"] for answer in answers]
    assert 0 < line["mean_latency_s"] <= line["longest_latency_s"]


@pytest.mark.parametrize("streamed", ["chat", "qwen", "form"])
def test_streams_agree(scripted: Server, admin: Admin, streamed: str) -> None:
    """Their last frame tells the same."""
    key_id, key = admin.make()
    chat = CHAT_DIALECT.body(data_url(JFK)) | {"stream": True, "stream_options": {"include_usage": True}}
    answer = {
        "chat": lambda: scripted.post(CHAT_DIALECT.path, chat, key=key),
        "qwen": lambda: scripted.post(GENERATION, QWEN.body(data_url(JFK)), key=key, headers=SSE),
        "form": lambda: scripted.post(
            TRANSCRIPTIONS,
            files={"file": JFK.read_bytes()},
            data={"model": "gpt-4o-transcribe", "stream": "true"},
            key=key,
        ),
    }[streamed]()
    frames = [line.removeprefix("data:") for line in answer.text.splitlines() if line.startswith("data:{")] or [
        line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")
    ]
    usage = json.loads(frames[-1])["usage"]

    (line,) = lines(admin, key_id)
    assert (1, 0, JFK_S) == (line["requests"], line["errors"], line["audio_s"])
    assert usage.get("seconds") in (math.floor(line["audio_s"]), None)
    assert usage.get("input_tokens", 275) in (275, math.ceil(line["audio_s"] * 25))


def test_fun_answers_agree(scripted: Server, admin: Admin) -> None:
    """A begun second counts there."""
    key_id, key = admin.make()
    answer = scripted.post(FUN.path, FUN.body(data_url(JFK)), key=key)

    (line,) = lines(admin, key_id)
    assert answer.json()["usage"]["duration"] == math.ceil(line["audio_s"])


@pytest.mark.parametrize("model", ["fun-asr", "qwen3-asr-flash-filetrans"])
def test_tasks_agree(scripted: Server, admin: Admin, origin: Origin, model: str) -> None:
    """They stand in the book when they have ended: audio in one family, speech in the other; recordings that failed
    count in neither.
    """
    key_id, key = admin.make()
    good, bad = origin.url("/files/jfk.flac"), origin.url("/missing")
    urls: Mapping[str, Any] = {"file_urls": [good, bad]} if model == "fun-asr" else {"file_url": good}
    submitted = scripted.post(
        SUBMISSION, {"model": model, "input": urls}, key=key, headers={"X-DashScope-Async": "enable"}
    )

    (line,) = lines(admin, key_id)
    answer = scripted.get(f"/api/v1/tasks/{submitted.json()['output']['task_id']}", key=key).json()
    assert "SUCCEEDED" == answer["output"]["task_status"]
    assert (1, 0, JFK_S, model) == (line["requests"], line["errors"], line["audio_s"], line["model"])
    if model == "fun-asr":
        assert {"duration": math.ceil(line["speech_s"])} == answer["usage"]
    else:
        assert {"seconds": math.floor(line["audio_s"])} == answer["usage"]
    assert 0 < line["speech_s"] <= line["audio_s"]
    assert 0 < line["mean_latency_s"]


def test_a_task_that_failed_is_an_error(scripted: Server, admin: Admin, origin: Origin) -> None:
    """And no audio."""
    key_id, key = admin.make()
    body = {"model": "fun-asr", "input": {"file_urls": [origin.url("/missing")]}}
    scripted.post(SUBMISSION, body, key=key, headers={"X-DashScope-Async": "enable"})

    (line,) = lines(admin, key_id)
    assert (1, 1, 0) == (line["requests"], line["errors"], line["audio_s"])


def test_live_sound_is_counted_as_it_was_fed(scripted: Server, admin: Admin) -> None:
    """At the session's end, whoever ends it."""
    key_id, key = admin.make()
    with connect(scripted, key, "/api-ws/v1/inference") as task:
        payload = {
            "task_group": "audio", "task": "asr", "function": "recognition", "model": "fun-asr-realtime",
            "parameters": {"format": "pcm", "sample_rate": 16000}, "input": {},
        }  # fmt: skip
        header = {"action": "run-task", "task_id": "t", "streaming": "duplex"}
        task.send(json.dumps({"header": header, "payload": payload}))
        assert "task-started" == first(task)["header"]["event"]
        for _ in range(10 * PCM_S):
            task.send(bytes(3200))
        task.send(json.dumps({"header": header | {"action": "finish-task"}, "payload": {"input": {}}}))
        while first(task)["header"]["event"] != "task-finished":
            pass

    (line,) = lines(admin, key_id)
    assert (1, 0, PCM_S) == (line["requests"], line["errors"], line["audio_s"])
    assert ("fun-asr-realtime", "dashscope") == (line["model"], line["interface"])


def test_every_interface_and_model_has_its_line(scripted: Server, admin: Admin) -> None:
    """And keys do not share lines."""
    (one, key), (two, other) = admin.make(), admin.make()
    for model in ("qwen3-asr-flash", "whisper-1"):
        scripted.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK), model=model), key=key)
    scripted.post(QWEN.path, QWEN.body(data_url(JFK)), key=key)
    scripted.post(QWEN.path, QWEN.body(data_url(JFK)), key=other)

    found = {(line["model"], line["interface"]) for line in lines(admin, one, requests=3)}
    assert {("qwen3-asr-flash", "openai"), ("whisper-1", "openai"), ("qwen3-asr-flash", "dashscope")} == found
    assert 1 == len(lines(admin, two))

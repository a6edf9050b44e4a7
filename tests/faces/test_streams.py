"""Streams: text comes as it is heard, errors have a frame, and who leaves frees the engine at once."""

import concurrent.futures
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.faces.dialects import (
    CHAT_DIALECT,
    DIALECTS,
    FUN,
    QWEN,
    SSE,
    TRANSCRIPTIONS,
    Dialect,
    data_url,
    events,
    refusal,
)
from tests.server import DEADLINE_S, JFK, KEY, KEYS, OTHER_KEY, SCRIPTED, SLOW_S, Server, serving

PACE_S = 1.0
RECOGNIZING_S = 0.7
"""By then a short recording has been decoded and lies with the engine."""


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine with one slot, which each call takes for a second."""
    limits = {"SCRIPTED__SLOTS": "1", "SCRIPTED__LATENCY_MS": str(int(PACE_S * 1000))}
    with serving(tmp_path_factory.mktemp("paced"), SCRIPTED | KEYS | limits) as running:
        yield running


def asked(dialect: Dialect, path: Path, **more: Any) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Body and headers of a streamed request."""
    body = dialect.body(data_url(path))
    if dialect.name == "chat":
        return {**body, "stream": True, **more}, {}
    return {**body, "parameters": {**body["parameters"], **more}}, SSE


def text_of(dialect: Dialect, event: Any) -> str:
    """The text in one event, empty where it has none."""
    if dialect.name == "chat":
        choices = event["choices"] if isinstance(event, dict) else []
        return str(choices[0]["delta"].get("content", "")) if choices else ""
    if dialect.name == "fun":
        return str(event["output"]["sentence"]["text"])
    return str(event["output"]["choices"][0]["message"]["content"][0]["text"])


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_segments_arrive_one_by_one_while_others_are_still_heard(
    paced: Server, dialect: Dialect, three_utterances: Path
) -> None:
    """The first text is there before the last segment can be: the engine takes a second for each of its calls."""
    body, headers = asked(dialect, three_utterances)
    seen: list[tuple[float, str]] = []

    with httpx2.stream(
        "POST",
        paced.base + dialect.path,
        json=body,
        headers={"Authorization": f"Bearer {KEY}", **headers},
        timeout=30,
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:") and "[DONE]" not in line:
                text = text_of(dialect, json.loads(line.removeprefix("data:")))
                seen += [(time.monotonic(), text)] if text else []

    assert "text/event-stream" in answer.headers["content-type"]
    assert len(seen) >= 3
    assert seen[-1][0] - seen[0][0] > PACE_S / 2


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_stream_says_what_the_whole_answer_says(scripted: Server, dialect: Dialect, three_utterances: Path) -> None:
    """Pieces put together are the unstreamed text."""
    whole = dialect.text(dialect.ask(scripted, data_url(three_utterances)))
    body, headers = asked(
        dialect, three_utterances, **({} if dialect is CHAT_DIALECT else {"incremental_output": True})
    )

    streamed = events(scripted.post(dialect.path, body, headers=headers).text)

    pieces = [text_of(dialect, event) for event in streamed]
    glue = " " if dialect is FUN else ""  # its frames hold one sentence each
    assert whole == glue.join(pieces)
    assert 3 == len([piece for piece in pieces if piece])


def test_cumulative_frames_grow(scripted: Server, three_utterances: Path) -> None:
    """Without ``incremental_output`` each native frame repeats what came before; the last one is marked."""
    body, headers = asked(QWEN, three_utterances)

    frames = events(scripted.post(QWEN.path, body, headers=headers).text)

    texts = [text_of(QWEN, frame) for frame in frames]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    reasons = [frame["output"]["choices"][0]["finish_reason"] for frame in frames]
    assert ["null"] * (len(frames) - 1) + ["stop"] == reasons


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream; charset=utf-8", "*/*"])
def test_accept_header_alone_asks_for_a_stream(scripted: Server, accept: str) -> None:
    """Clients without the vendor's header are understood; ``*/*`` is no wish."""
    answer = scripted.post(QWEN.path, QWEN.body(data_url(JFK)), headers={"Accept": accept})

    streamed = answer.headers["content-type"].startswith("text/event-stream")
    assert (accept != "*/*") == streamed


def test_native_frames_are_exact(scripted: Server) -> None:
    """No blanks after colons, one line of data, numbered from 1, and never ``[DONE]``: the SDK's parser is literal."""
    body, headers = asked(QWEN, JFK)

    text = scripted.post(QWEN.path, body, headers=headers).text

    frames = text.split("\n\n")
    assert "" == frames.pop()
    for number, frame in enumerate(frames, start=1):
        first, second, third, data = frame.split("\n")
        assert [f"id:{number}", "event:result", ":HTTP_STATUS/200"] == [first, second, third]
        assert data.startswith('data:{"')
    assert "[DONE]" not in text


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_error_before_the_first_frame_has_its_status(scripted: Server, dialect: Dialect) -> None:
    """What fails before anything was heard is a plain error, not a stream that says 200."""
    body, headers = asked(dialect, JFK)
    broken = json.loads(json.dumps(body).replace(data_url(JFK), data_url(b"no audio")))

    refused = refusal(scripted.post(dialect.path, broken, headers=headers))

    assert 400 == refused.status


def test_silence_has_its_error_in_a_stream_of_the_fun_dialect(scripted: Server, silence: Path) -> None:
    """The Fun dialect has an error for silence, streamed or not; the status says it too."""
    body, headers = asked(FUN, silence)

    refused = refusal(scripted.post(FUN.path, body, headers=headers))

    assert (400, "ASR_RESPONSE_HAVE_NO_WORDS") == (refused.status, refused.code)


def test_late_error_has_a_frame_in_each_dialect(slow: Server, three_utterances: Path) -> None:
    """The first segment is answered, the deadline passes during the second: the stream ends with an error frame."""

    def stream(dialect: Dialect) -> str:
        body, headers = asked(dialect, three_utterances)
        answer = slow.post(dialect.path, body, headers=headers)
        assert answer.status_code == httpx2.codes.OK, answer.text
        return answer.text

    chat = events(stream(CHAT_DIALECT))
    native = stream(QWEN)

    assert any(text_of(CHAT_DIALECT, event) for event in chat[:-1])
    assert {"message", "type", "param", "code"} == set(chat[-1]["error"])
    assert "request_timeout" == chat[-1]["error"]["code"]
    *_, frame, end = native.split("\n\n")
    assert "" == end
    number, event, status, comment, data = frame.split("\n")
    assert ["id:2", "event:error", "status:500", ":HTTP_STATUS/500"] == [number, event, status, comment]
    assert "RequestTimeOut" == json.loads(data.removeprefix("data:"))["code"]


def http(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """A request as bytes, for a client that hangs up."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: qasr\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def form(path: Path, **fields: str) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    request = httpx2.Request("POST", "http://x/", data=fields, files={"file": path.read_bytes()})
    return request.read(), request.headers["content-type"]


def requests(three: Path) -> Mapping[str, tuple[str, bytes, str]]:
    """Ways to occupy the engine for a long time: path, body, content type."""
    native, _ = asked(QWEN, three)
    chat, _ = asked(CHAT_DIALECT, three)
    fields = {"model": "whisper-1"}
    return {
        "chat": (CHAT_DIALECT.path, json.dumps(CHAT_DIALECT.body(data_url(three))).encode(), "application/json"),
        "chat stream": (CHAT_DIALECT.path, json.dumps(chat).encode(), "application/json"),
        "native": (QWEN.path, json.dumps(native).encode(), "application/json"),
        "native stream": (QWEN.path, json.dumps(native).encode(), "application/json\r\nX-DashScope-SSE: enable"),
        "form": (TRANSCRIPTIONS, *form(three, **fields)),
        "form stream": (TRANSCRIPTIONS, *form(three, **fields, stream="true")),
    }


@pytest.mark.parametrize("kind", ["chat", "chat stream", "native", "native stream", "form", "form stream"])
def test_engine_of_a_client_that_left_serves_the_next_at_once(slow: Server, three_utterances: Path, kind: str) -> None:
    """The only slot is busy with a recording of three segments when its client hangs up; the next request is answered,
    though its deadline leaves room for one call and not for the rest of the first one's.
    """
    path, body, content_type = requests(three_utterances)[kind]
    with closing(socket.create_connection(slow.address, timeout=10)) as connection:
        connection.sendall(http(path, body, content_type))
        time.sleep(RECOGNIZING_S)

    began = time.monotonic()
    answer = slow.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(JFK)), key=OTHER_KEY)

    assert "lasting 10.6" in CHAT_DIALECT.text(answer)
    assert time.monotonic() - began < DEADLINE_S
    assert [] == slow.spooled


def test_stream_left_after_its_first_text_frees_the_engine(paced: Server, three_utterances: Path) -> None:
    """A client that has read enough of a stream costs nothing any more: its recording is never heard to the end."""
    body, _ = asked(CHAT_DIALECT, three_utterances)
    with httpx2.stream(
        "POST", paced.base + CHAT_DIALECT.path, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    ) as stream:
        assert any("Segment at" in line for line in stream.iter_lines())  # stops reading at the first

    answer = paced.post(CHAT_DIALECT.path, CHAT_DIALECT.body(data_url(three_utterances)), key=OTHER_KEY)

    heard = [line for line in paced.log.read_text().splitlines() if "recognized" in line]
    assert 1 == len([line for line in heard if answer.headers["x-request-id"] in line])
    assert 0 == len([line for line in heard if stream.headers["x-request-id"] in line])


def test_deadline_has_a_status_when_nothing_was_sent(slow: Server) -> None:
    """Two requests at an engine that manages one before the deadline: one is answered, the other told so, in time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        long = [
            pool.submit(slow.post, dialect.path, dialect.body(data_url(JFK)), key=key)
            for dialect, key in ((CHAT_DIALECT, KEY), (CHAT_DIALECT, OTHER_KEY))
        ]
        answers = [future.result() for future in long]

    assert [200, 500] == sorted(answer.status_code for answer in answers)
    refused = refusal(max(answers, key=lambda answer: answer.status_code))
    assert "request_timeout" == refused.code
    assert SLOW_S < DEADLINE_S < 2 * SLOW_S

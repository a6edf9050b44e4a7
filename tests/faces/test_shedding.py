"""More work than there is room for is refused by the head of the request: the body is neither waited for nor looked at,
and the connection is good for the next request.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPResponse
from typing import Any, Final

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from tests.faces.dialects import CHAT, CHAT_DIALECT, GENERATION, QWEN, SSE, TRANSCRIPTIONS, data_url
from tests.faces.test_limits import SUBMISSION
from tests.server import JFK, KEY, KEYS, LOOPBACK, OTHER_KEY, SCRIPTED, Server, serving

from qasr.faces.http import ReadToTheEnd

SOON_S: Final = 60.0
"""Far more than anything here may take."""
PLACES: Final = 16
OF_ONE: Final = 14
"""Of these, of one owner."""
LENGTH: Final = 300_000
"""Bytes of a body: more than what is read before somebody asks for it."""
FEATURES: Final = "/api/features"
ASYNC: Final = {"X-DashScope-Async": "enable"}

Head = tuple[str, Mapping[str, str]]
HEADS: Final[Mapping[str, tuple[Head, str]]] = {  # path and headers, code
    "chat": ((CHAT, {}), "limit_requests"),
    "form": ((TRANSCRIPTIONS, {"Content-Type": "multipart/form-data; boundary=b"}), "limit_requests"),
    "generation": ((GENERATION, {}), "Throttling"),
    "generation stream": ((GENERATION, SSE), "Throttling"),
    "onemin": ((FEATURES, {"API-KEY": KEY}), "Too Many Requests"),
}


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """The address of a recording that never comes: nobody takes the calls."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.wav"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, silent: str) -> Iterator[Server]:
    """Nobody may wait, one task may be unfinished, and ``KEY`` has all the seats that one owner may have."""
    settings = {"SERVER__MOST_AT_ONCE": str(PLACES), "SERVER__MOST_WAITING": "0", "JOBS__MOST_UNFINISHED": "1"}
    with serving(tmp_path_factory.mktemp("full"), SCRIPTED | KEYS | LOOPBACK | settings) as server, ExitStack() as held:
        body = json.dumps(CHAT_DIALECT.body(silent)).encode()
        for _ in range(OF_ONE):
            connection = held.enter_context(closing(connect(server)))
            connection.sendall(head((CHAT, {}), len(body)) + body)
        end = time.monotonic() + SOON_S
        while server.post(CHAT, {}).status_code != 429:  # as long as there is room it is read, and 400
            assert time.monotonic() < end
            time.sleep(0.05)
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=SOON_S)


def head(of: Head, length: int, key: str = KEY) -> bytes:
    """All of a request but its body of *length* bytes."""
    path, headers = of
    sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Content-Length": length, **headers}
    lines = [f"POST {path} HTTP/1.1", "Host: q", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket) -> tuple[int, Mapping[str, str], dict[str, Any]]:
    """The next answer on *connection*: status, headers in small letters, and body."""
    response = HTTPResponse(connection)
    response.begin()
    body = response.read()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(body or b"{}")


@pytest.mark.parametrize("face", HEADS)
def test_what_there_is_no_room_for_is_refused_before_its_body_is_sent(full: Server, face: str) -> None:
    """In the dialect's words, with a time to come back; who sends the body all the same can go on asking."""
    of, code = HEADS[face]
    with closing(connect(full)) as connection:
        connection.sendall(head(of, LENGTH))
        status, headers, told = answer(connection)
        connection.sendall(bytes(LENGTH))
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: q\r\n\r\n")
        next_status, _, _ = answer(connection)

    assert 429 == status
    assert int(headers["retry-after"]) > 0
    assert "close" != headers.get("connection")
    assert code == str(told["error"] if "statusCode" in told else told.get("error", told)["code"])
    assert 200 == next_status


def test_who_wants_the_connection_closed_is_told_first(full: Server) -> None:
    """The answer comes at once, and the end only after the body: else it would be lost with the connection."""
    with closing(connect(full)) as connection:
        connection.sendall(head((CHAT, {"Connection": "close"}), LENGTH))
        status, headers, _ = answer(connection)
        connection.sendall(bytes(LENGTH))

        assert (429, "close") == (status, headers["connection"])
        assert b"" == connection.recv(1)


@pytest.mark.parametrize("face", ["chat", "form", "generation"])
def test_strangers_learn_nothing_of_it(full: Server, face: str) -> None:
    """Who has no key is told that, whether there is room or not; and at once, too."""
    of, _ = HEADS[face]
    with closing(connect(full)) as connection:
        connection.sendall(head(of, LENGTH, "sk-wrong"))

        assert 401 == answer(connection)[0]


def test_others_find_a_seat_beside_who_has_many(full: Server) -> None:
    """One key's line is full, another one's is not."""
    assert "lasting" in QWEN.text(QWEN.ask_as(full, OTHER_KEY, data_url(JFK)))


def test_tasks_beyond_the_limit_are_refused_before_their_body_is_sent(full: Server, silent: str) -> None:
    """Once one was refused, others are too for a while, without a look at the database; other keys are not."""
    body = {"model": "fun-asr", "input": {"file_urls": [silent]}}
    taken = full.post(SUBMISSION, body, headers=ASYNC)
    refusals: list[tuple[int, dict[str, Any]]] = []
    end = time.monotonic() + SOON_S
    while not refusals:
        assert time.monotonic() < end
        by_count = full.post(SUBMISSION, body, headers=ASYNC)
        with closing(connect(full)) as connection:
            connection.settimeout(0.5)  # on a slow machine the while may be over: once more
            connection.sendall(head((SUBMISSION, ASYNC), LENGTH))
            try:
                status, headers, told = answer(connection)
            except TimeoutError:
                continue
            assert int(headers["retry-after"]) > 0
            refusals.append((status, told))
    others = full.post(SUBMISSION, body, key=OTHER_KEY, headers=ASYNC)
    full.post(f"/api/v1/tasks/{taken.json()['output']['task_id']}/cancel")

    assert [200, 429, 200] == [taken.status_code, by_count.status_code, others.status_code]
    assert [(429, "Throttling.RateQuota")] == [(status, told["code"]) for status, told in refusals]


@pytest.mark.anyio
async def test_an_error_is_told_before_the_rest_of_the_body_is_read() -> None:
    """And the answer ends after it: then the connection is free."""
    happened: list[str] = []
    rest = [{"type": "http.request", "body": b"a", "more_body": more} for more in (True, True, False)]

    async def receive() -> Message:
        happened.append("read")
        return rest.pop(0)

    async def send(message: Message) -> None:
        happened.append(f"{message.get('status', '')}{message.get('body', b'').decode()}")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            happened.append("end")

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await Response("no", status_code=429)(scope, receive, send)

    await ReadToTheEnd(refuse, most_bytes=100)({"type": "http"}, receive, send)

    assert ["read", "429", "no", "read", "read", "", "end"] == happened

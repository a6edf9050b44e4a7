"""What a browser's pages can do with the server of the person who sits before it: nothing."""

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.faces.dialects import CHAT, TRANSCRIPTIONS, data_url
from tests.server import JFK, SCRIPTED, Server, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from qasr.faces.http import SAFE_HEADERS, RequestIds, SafeHeaders
from qasr.faces.unknown import handlers

FOREIGN: Final = "https://strangers.example"
LIVE: Final = "/v1/realtime?intent=transcription"


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """No keys: any key will do, from this machine."""
    settings = SCRIPTED | {"SERVER__EXTERNAL_URL": "https://speech.example.com/asr"}
    with serving(tmp_path_factory.mktemp("open"), settings) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("GET", "/v1/models"),
        ("PUT", "/v1/models"),
        ("GET", "/api/v1/models"),
        ("GET", "/api/v1/tasks"),
        ("POST", CHAT),
        ("POST", TRANSCRIPTIONS),
        ("POST", "/oss/nowhere"),
        ("GET", "/results/none/0.json"),
        ("GET", "/v1/realtime"),
    ],
)
@pytest.mark.parametrize("key", ["sk-right", "sk-wrong"])
def test_every_answer_has_the_safe_headers(scripted: Server, method: str, path: str, key: str) -> None:
    """Answers and refusals alike: not sniffed, not framed, not kept, and nothing in them is run."""
    answer = httpx2.request(method, scripted.base + path, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    assert dict(SAFE_HEADERS) == {name: answer.headers.get(name) for name in SAFE_HEADERS}


def test_answers_with_a_text_have_them_too(scripted: Server) -> None:
    """Whole answers and streamed ones; a stream keeps its own word about caches."""
    part = {"type": "input_audio", "input_audio": {"data": data_url(JFK)}}
    body: dict[str, Any] = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": [part]}]}
    whole, streamed = (scripted.post(CHAT, body | {"stream": stream}) for stream in (False, True))

    assert (200, 200) == (whole.status_code, streamed.status_code)
    assert dict(SAFE_HEADERS) == {name: whole.headers.get(name) for name in SAFE_HEADERS}
    assert dict(SAFE_HEADERS) | {"Cache-Control": "no-cache"} == {n: streamed.headers.get(n) for n in SAFE_HEADERS}


def test_refused_upgrade_has_them_too(scripted: Server) -> None:
    """The answer to a WebSocket that is not opened is an answer like any other."""
    with pytest.raises(InvalidStatus) as caught:
        connect(scripted.base.replace("http", "ws") + LIVE, additional_headers={"Authorization": "Bearer sk-wrong"})

    assert dict(SAFE_HEADERS) == {name: caught.value.response.headers.get(name) for name in SAFE_HEADERS}


def test_documentation_runs_its_own_script_and_reaches_us_only(scripted: Server) -> None:
    """The one page of ours: nothing is loaded from elsewhere, nothing is sent elsewhere."""
    policy = scripted.get("/docs", key=None).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "code"), [("/v1/broken", "internal_error"), ("/api/v1/broken", "InternalError")])
async def test_failure_that_nobody_foresaw_is_answered_in_shape(path: str, code: str) -> None:
    """An error behind the faces has a shape, a request id and the safe headers, and says nothing of its reason."""

    async def broken(_request: Request) -> Response:
        raise RuntimeError("secret")

    app = Starlette(routes=[Route(path, broken)], exception_handlers=handlers())
    app.add_middleware(RequestIds)
    app.add_middleware(SafeHeaders)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(path)

    assert 500 == answer.status_code
    assert code in answer.text
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert dict(SAFE_HEADERS) == {name: answer.headers.get(name) for name in SAFE_HEADERS}


@pytest.mark.parametrize("host", ["strangers.example", "strangers.example:8000", "10.0.0.1", "[fe80::1]", "", "a b"])
def test_without_keys_another_name_is_refused(open_house: Server, host: str) -> None:
    """DNS rebinding: a name of a stranger's that leads to 127.0.0.1 is answered by nothing of ours."""
    for path in ("/v1/models", "/api/v1/models"):
        answer = httpx2.get(open_house.base + path, headers={"Host": host, "Authorization": "Bearer any"})

        assert answer.status_code in (400, 403), answer.text
        assert "qwen" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "qasr:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:8000", "a.localhost"])
def test_without_keys_own_names_are_answered(open_house: Server, host: str) -> None:
    """This machine's names, and the one that ``server.external_url`` gives it."""
    for name in (host, "speech.example.com"):
        answer = httpx2.get(f"{open_house.base}/v1/models", headers={"Host": name, "Authorization": "Bearer any"})

        assert 200 == answer.status_code, answer.text


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "file://", "http://intranet", "http://127.0.0.1.strangers.example"]
)
def test_without_keys_foreign_pages_open_no_socket(open_house: Server, origin: str) -> None:
    """A page may choose subprotocols, and one of them would be a key."""
    protocols: Any = ["realtime", "openai-insecure-api-key.any"]
    with pytest.raises(InvalidStatus) as caught:
        connect(
            open_house.base.replace("http", "ws") + LIVE, additional_headers={"Origin": origin}, subprotocols=protocols
        )

    assert 403 == caught.value.response.status_code
    assert b"QASR_AUTH__KEYS" in (caught.value.response.body or b"")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8080", "https://speech.example.com"])
def test_without_keys_pages_of_this_machine_may(open_house: Server, origin: str) -> None:
    """Who develops a page on the machine that the server runs on is not kept from it."""
    protocols: Any = ["realtime", "openai-insecure-api-key.any"]
    url = open_house.base.replace("http", "ws") + LIVE
    with connect(url, additional_headers={"Origin": origin}, subprotocols=protocols) as socket:
        opened = json.loads(socket.recv(60))

    assert opened["type"].endswith("session.created")


def test_no_page_is_told_that_it_may_ask(scripted: Server) -> None:
    """There are no CORS headers: a request with a key needs a preflight, and that is refused."""
    asked = {
        "Origin": FOREIGN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = httpx2.request("OPTIONS", scripted.base + CHAT, headers=asked)

    assert 405 == answer.status_code
    assert not [name for name in answer.headers if name.startswith("access-control")]

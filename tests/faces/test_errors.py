"""Errors: every one has a shape in every dialect, and the statuses are those that clients act on."""

from collections.abc import Iterator

import httpx2
import msgspec
import pytest
from tests.faces.dialects import (
    CHAT,
    DIALECTS,
    GENERATION,
    QWEN,
    TRANSCRIPTIONS,
    Dialect,
    data_url,
    refusal,
)
from tests.server import JFK, SCRIPTED, Server, serving

from qasr.domain import errors as tree
from qasr.domain.errors import AccessDenied, EngineUnavailable, QasrError, QueueFull, TooLong
from qasr.faces.dashscope import uploads
from qasr.faces.dashscope.errors import to_fun_wire, to_wire
from qasr.faces.http import ToWire, error_answer
from qasr.faces.openai.errors import to_audio_wire
from qasr.faces.openai.errors import to_wire as to_chat_wire

FACES: dict[str, ToWire] = {
    "chat": to_chat_wire,
    "audio": to_audio_wire,
    "qwen": to_wire,
    "fun": to_fun_wire,
}


def leaves(kind: type[QasrError]) -> Iterator[type[QasrError]]:
    """*kind* and all kinds below it: any of them may be raised."""
    yield kind
    for below in kind.__subclasses__():
        yield from leaves(below)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", sorted(set(leaves(QasrError)) - {QasrError}, key=str))
def test_every_domain_error_has_a_shape_in_every_face(face: str, kind: type[QasrError]) -> None:
    """No failure reaches a client as a nameless 500."""
    status, body = FACES[face](kind("why"), "req-1")

    told = msgspec.json.decode(body)
    detail = told.get("error", told)
    assert 400 <= status < 600
    assert "req-1" == told["request_id"]
    assert detail["code"]
    assert detail["message"]
    expected = 500 if issubclass(kind, tree.EngineError) else 429 if issubclass(kind, tree.CapacityError) else 400
    assert expected // 100 == status // 100


@pytest.mark.parametrize("kind", sorted(set(leaves(QasrError)) - {QasrError}, key=str))
def test_every_domain_error_has_a_shape_at_the_upload_door(kind: type[QasrError]) -> None:
    """The form answers as OSS does: XML that names the reason, whatever stands in it."""
    status, body = uploads.to_wire(kind("a < b & c"), "req-1")

    assert b"<Message>a &lt; b &amp; c</Message><RequestId>req-1</RequestId>" in body
    assert 400 <= status < 600
    assert (kind is AccessDenied) == (status == 403)
    assert issubclass(kind, tree.EngineError | tree.CapacityError) == (status >= 500)


def test_codes_of_the_fun_dialect_are_its_own() -> None:
    """Clients of the Fun dialect look for these two."""
    codes = [msgspec.json.decode(to_fun_wire(kind("why"), "r")[1])["code"] for kind in (TooLong, tree.NoSpeech)]

    assert ["AUDIO_DURATION_TOO_LONG", "ASR_RESPONSE_HAVE_NO_WORDS"] == codes


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/compatible-mode/v1/nothing", "/v1/nothing", "/nothing"])
def test_unknown_path_is_told_in_the_dialect_of_its_root(scripted: Server, path: str) -> None:
    """A wrong base URL shows as an error that the SDK can read."""
    refused = refusal(scripted.post(path, {}))

    assert (404, "NotFound" if path.startswith("/api/") else "not_found") == (refused.status, refused.code)


@pytest.mark.parametrize("path", [GENERATION, CHAT, TRANSCRIPTIONS])
def test_wrong_method_is_told_in_the_dialect(scripted: Server, path: str) -> None:
    """GET where POST belongs is 405, with the method that would do."""
    answer = scripted.get(path)

    refused = refusal(answer)
    assert (405, "POST") == (refused.status, answer.headers["allow"])
    assert refused.code in ("MethodNotAllowed", "method_not_allowed")


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize("key", [None, "Bearer", "Bearer sk-wrong", "Basic sk-right", "sk-right", "Bearer ключ"])
def test_wrong_key_is_401(scripted: Server, dialect: Dialect, key: str | None) -> None:
    """Without one of the keys nothing is answered, and the answer says that it is the key."""
    headers = [] if key is None else [(b"Authorization", key.encode())]

    answer = httpx2.post(scripted.base + dialect.path, json=dialect.body(data_url(JFK)), headers=headers, timeout=30)

    refused = refusal(answer)
    assert (401, "invalid_api_key" if dialect.name == "chat" else "InvalidApiKey") == (refused.status, refused.code)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_both_keys_open_the_door(scripted: Server, dialect: Dialect) -> None:
    """Every key of the setting is as good as the other."""
    for key in ("sk-right", "sk-other"):
        answer = scripted.post(dialect.path, dialect.body(data_url(JFK)), key=key)

        assert 200 == answer.status_code, answer.text


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_busy_server_says_when_to_come_back(strict: Server, dialect: Dialect) -> None:
    """More bodies than may be in memory together: 429 with ``Retry-After``, which the SDKs obey."""
    refused = refusal(strict.post(dialect.path, dialect.body(data_url(JFK))))

    assert (429, QueueFull.retry_after_s) == (refused.status, int(refused.headers["retry-after"]))


def test_missing_engine_is_503_in_every_dialect(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server whose engine could not be loaded stays up, says why on ``/readyz``, and asks to come back.

    Here the package of the model is there and carries no model, as its later releases do not.
    """
    directory = tmp_path_factory.mktemp("engineless")
    (directory / "packages" / "moonshine_voice").mkdir(parents=True)
    (directory / "packages" / "moonshine_voice" / "__init__.py").touch()
    settings = SCRIPTED | {"ENGINES__DEFAULT": "moonshine"}
    with serving(directory, settings, ready=False, packages=directory / "packages") as server:
        refused = [refusal(dialect.ask(server, data_url(JFK))) for dialect in DIALECTS]
        form = refusal(server.post(TRANSCRIPTIONS, files={"file": JFK.read_bytes()}, data={"model": "whisper-1"}))
        readiness = server.get("/readyz")

    assert 503 == readiness.status_code
    assert "moonshine-voice==0.0.73" in readiness.json()["reasons"][0]
    assert [503] * 4 == [error.status for error in [*refused, form]]
    assert ["internal_error", "ModelUnavailable", "ModelUnavailable"] == [error.code for error in refused]


def test_error_that_carries_a_time_carries_it_everywhere() -> None:
    """An unavailable engine may be back soon: the answer has the header that makes SDKs try again."""
    answer = error_answer(EngineUnavailable("why"), to_wire, "req-1")

    assert int(answer.headers["retry-after"]) > 0


def test_asynchronous_call_is_refused_on_this_interface(scripted: Server) -> None:
    """The header of the task interface does not belong here: 403, as the service has it."""
    answer = scripted.post(GENERATION, QWEN.body(data_url(JFK)), headers={"X-DashScope-Async": "enable"})

    assert (403, "AccessDenied") == ((refused := refusal(answer)).status, refused.code)


def test_trailing_slash_is_no_redirect(scripted: Server) -> None:
    """A redirected POST loses its body in many clients; the path answers for itself."""
    for dialect in DIALECTS:
        answer = scripted.post(dialect.path + "/", dialect.body(data_url(JFK)))

        assert 200 == answer.status_code, answer.text

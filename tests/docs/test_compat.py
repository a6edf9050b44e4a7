"""Claims of docs/compat.md that no other test shows."""

from typing import Any, Final

import pytest
from tests.faces.dialects import CHAT, CHAT_DIALECT, FUN, GENERATION, QWEN, TRANSCRIPTIONS, Dialect, data_url, refusal
from tests.server import JFK, Server

NOT_THERE_YET: Final = (("/v1/realtime/client_secrets", "not_found"),)


def transcribe(server: Server, **fields: str) -> Any:
    """Ask for the text of a short recording."""
    names = {name.replace("__", "[]"): value for name, value in fields.items()}
    with JFK.open("rb") as file:
        return server.post(TRANSCRIPTIONS, data={"model": "whisper-1", **names}, files={"file": file})


def test_prompt_that_cannot_be_used_is_told(scripted: Server) -> None:
    """The text is as good as without it, and the answer says that it is without it."""
    answer = transcribe(scripted, prompt="Kennedy")

    assert 200 == answer.status_code
    assert "context" == answer.headers["X-Qasr-Unused"]


@pytest.mark.parametrize("dialect", [CHAT_DIALECT, QWEN], ids=str)
def test_context_that_cannot_be_used_is_told(scripted: Server, dialect: Dialect) -> None:
    """The same for a system message."""
    body = dialect.body(data_url(JFK))
    messages = body["messages"] if dialect.path == CHAT else body["input"]["messages"]
    messages.insert(0, {"role": "system", "content": [{"text": "Kennedy"}]})
    answer = scripted.post(dialect.path, body)

    assert 200 == answer.status_code
    assert "context" == answer.headers["X-Qasr-Unused"]


def test_keywords_are_refused_by_name(scripted: Server) -> None:
    """An engine without hotwords would change nothing, and nobody would know."""
    refused = refusal(transcribe(scripted, keywords__="Kennedy"))

    assert 400 == refused.status
    assert "hotwords" in refused.message


@pytest.mark.parametrize(("temperature", "status"), [("0", 200), ("2", 200), ("2.1", 400), ("warm", 400)])
def test_temperature_is_checked(scripted: Server, temperature: str, status: int) -> None:
    """It has no effect, but a wrong one is wrong."""
    assert status == transcribe(scripted, temperature=temperature).status_code


def test_chunking_strategy_is_understood(scripted: Server) -> None:
    """As text and as an object; numbers have bounds."""
    server_vad = {"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "500"}

    assert 200 == transcribe(scripted, chunking_strategy="auto").status_code
    assert 200 == transcribe(scripted, **server_vad).status_code
    assert 400 == transcribe(scripted, **server_vad | {"chunking_strategy[silence_duration_ms]": "1"}).status_code


@pytest.mark.parametrize(
    ("parameter", "value", "named"),
    [("vocabulary", {"Kennedy": 4}, "hotwords"), ("speaker_diarization_enabled", True, "diarization_enabled")],
)
def test_fun_options_without_an_engine_are_refused_by_name(
    scripted: Server, parameter: str, value: Any, named: str
) -> None:
    """The remedy is in the message."""
    refused = refusal(scripted.post(GENERATION, FUN.body(data_url(JFK), **{parameter: value})))

    assert 400 == refused.status
    assert named in refused.message


def test_emotion_is_null(scripted: Server) -> None:
    """What nobody measured is not reported; the field is there."""
    answer = scripted.post(CHAT, CHAT_DIALECT.body(data_url(JFK))).json()

    assert [None] == [note["emotion"] for note in answer["choices"][0]["message"]["annotations"]]


@pytest.mark.parametrize(("path", "code"), NOT_THERE_YET)
def test_what_is_not_there_yet_is_told(scripted: Server, path: str, code: str) -> None:
    """404 in the dialect's own shape, so that an SDK shows it."""
    refused = refusal(scripted.post(path, {}))

    assert (404, code) == (refused.status, refused.code)

"""The JSON interfaces under one handle: how each is asked, and how its answers and errors are read."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from tests.server import Server

GENERATION: Final = "/api/v1/services/aigc/multimodal-generation/generation"
CHAT: Final = "/compatible-mode/v1/chat/completions"
TRANSCRIPTIONS: Final = "/compatible-mode/v1/audio/transcriptions"
SSE: Final = {"X-DashScope-SSE": "enable"}


@dataclass(frozen=True)
class Refusal:
    """An error as a client reads it."""

    status: int
    code: str
    message: str
    headers: httpx2.Headers


@dataclass(frozen=True)
class Dialect:
    """One way to ask for the text of a recording."""

    name: str
    path: str
    model: str

    def __str__(self) -> str:
        return self.name

    def body(self, *audios: str, model: str | None = None, **options: Any) -> dict[str, Any]:
        """A request about *audios*; *options* are recognition options."""
        if self.name == "chat":
            parts: list[dict[str, Any]] = [{"type": "input_audio", "input_audio": {"data": audio}} for audio in audios]
            return {
                "model": model or self.model,
                "messages": [{"role": "user", "content": parts}],
                **({"asr_options": options} if options else {}),
            }
        if self.name == "fun":
            parts = [{"type": "input_audio", "input_audio": {"data": audio}} for audio in audios]
            parameters: dict[str, Any] = {"format": "wav", **options}
        else:
            parts = [{"audio": audio} for audio in audios]
            parameters = {"asr_options": options}
        return {
            "model": model or self.model,
            "input": {"messages": [{"role": "user", "content": parts}]},
            "parameters": parameters,
        }

    def ask(self, server: Server, audio: str, **options: Any) -> httpx2.Response:
        """Send a request about *audio*."""
        return server.post(self.path, self.body(audio, **options))

    def ask_as(self, server: Server, key: str, audio: str, **options: Any) -> httpx2.Response:
        """The same with another key."""
        return server.post(self.path, self.body(audio, **options), key=key)

    def text(self, answer: httpx2.Response) -> str:
        """What was heard."""
        assert answer.status_code == httpx2.codes.OK, answer.text
        body = answer.json()
        if self.name == "chat":
            return str(body["choices"][0]["message"]["content"])
        if self.name == "fun":
            return str(body["output"]["text"])
        return str(body["output"]["choices"][0]["message"]["content"][0]["text"])


CHAT_DIALECT: Final = Dialect("chat", CHAT, "qwen3-asr-flash")
QWEN: Final = Dialect("qwen", GENERATION, "qwen3-asr-flash")
FUN: Final = Dialect("fun", GENERATION, "fun-asr-flash-2026-06-15")
DIALECTS: Final = (CHAT_DIALECT, QWEN, FUN)


def refusal(answer: httpx2.Response) -> Refusal:
    """Read an error, and check what holds for every one: JSON, labelled so, with an id that the header repeats, and a
    time to come back where that helps.
    """
    assert answer.status_code >= 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: Mapping[str, Any] = answer.json()
    assert body["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    detail = body.get("error", body)
    assert set(body) == ({"error", "request_id"} if "error" in body else {"code", "message", "request_id"})
    assert detail["message"].strip()
    return Refusal(answer.status_code, detail["code"], detail["message"], answer.headers)


def data_url(data: bytes | Path, mime: str = "audio/flac") -> str:
    """*data* inside a request."""
    content = data.read_bytes() if isinstance(data, Path) else data
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def events(body: str) -> list[Any]:
    """The ``data`` of each server-sent event; text where it is no JSON."""
    lines = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]

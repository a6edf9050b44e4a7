"""A server with the shapes of vLLM that serves Qwen3-ASR, and with all the bad days that a server may have.

Where the shapes come from, in the public sources of vLLM (0.22 to 0.33):

- list of models, errors: ``entrypoints/openai/engine/protocol.py``: ``ModelCard`` with ``owned_by: "vllm"``,
  ``ErrorResponse`` with ``error.code`` as a number
- chat completions: ``entrypoints/openai/chat_completion/protocol.py``; the content ``language English<asr_text>…`` as
  in the recipe for Qwen3-ASR (docs.vllm.ai/projects/recipes) and in the issue vllm#33768
- transcriptions: ``entrypoints/speech_to_text/transcription/protocol.py`` (``TranscriptionResponse`` with ``usage``,
  ``TranscriptionStreamResponse``, ``max_completion_tokens``, ``to_language``); ``base/serving.py``: refusal of
  ``verbose_json``; ``model_executor/models/qwen3_asr.py``: the language is forced by ``to_language``, ``language`` was
  overlooked (vllm#44925), the mark is taken off; ``interfaces.py``: codes that Whisper does not have are refused
"""

import base64
import email.policy
import io
import json
import socket
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, TypeAlias

import numpy as np

MODEL: Final = "Qwen/Qwen3-ASR-1.7B"
LANGUAGES: Final = frozenset({"en", "de", "zh", "yue", "tl"})
"""Some of the codes that it takes."""

Mood: TypeAlias = Literal[
    "well",
    "hangs",
    "busy",
    "broken",
    "html",
    "huge",
    "compressed",
    "half",
    "nonsense",
    "refusing",
    "closed",
    "redirects",
]
"""What becomes of requests to recognize; the list of models is answered in all moods but ``closed``."""

LONG_S: Final = 60.0


def _error(status: int, message: str, kind: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}}).encode()


CANNED: Final[Mapping[str, tuple[int, bytes, Mapping[str, str]]]] = {
    "broken": (500, _error(500, "EngineCore encountered an issue.", "InternalServerError"), {}),
    "refusing": (400, _error(400, "Invalid or unsupported audio file.", "BadRequestError"), {}),
    "html": (200, b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", {"Content-Type": "text/html"}),
    "huge": (200, b'{"text":"' + b"a" * 8 * 1024**2 + b'"}', {}),
    "compressed": (200, b"\x1f\x8b", {"Content-Encoding": "gzip"}),
    "nonsense": (200, b'{"choices":[],"text":7}', {}),
    "redirects": (307, b"", {"Location": "/elsewhere"}),
}
"""Answers that have nothing to do with the question."""


@dataclass(frozen=True)
class Call:
    """One request to recognize."""

    path: str
    fields: Mapping[str, Any]
    """JSON, or the fields of a form."""
    n_samples: int
    text: str
    """What is heard: made from the samples, so that answers can be told apart."""
    authorization: str | None


@dataclass
class Vllm:
    """The server. Its attributes may be changed at any time."""

    mood: Mood = "well"
    key: str | None = None
    model: str = MODEL
    spoken: str = "English"
    """What the model writes as the language."""
    finish_reason: str = "stop"
    delay_s: float = 0.0
    retry_after: str | None = "1"
    chat: bool = True
    """Whether there are chat completions."""
    calls: list[Call] = field(default_factory=list)
    n_abandoned: int = 0
    """Requests whose client hung up before the answer."""
    in_flight: int = 0
    most_in_flight: int = 0
    on_call: Callable[[Call], None] | None = None
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None
    _sockets: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        handler = type("Handler", (_Handler,), {"vllm": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self) -> None:
        """Stop at once, in the midst of whatever is going on, as a process that is killed."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self.lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._server is not None:
            self.kill()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients may hang up."""


@contextmanager
def vllm(**given: Any) -> Iterator[Vllm]:
    """A running one."""
    running = Vllm(**given)
    running.start()
    try:
        yield running
    finally:
        running.close()


class _Handler(BaseHTTPRequestHandler):
    vllm: Vllm
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        with self.vllm.lock:
            self.vllm._sockets.add(self.connection)

    def finish(self) -> None:
        with self.vllm.lock:
            self.vllm._sockets.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        if self._may_pass() and self.path == "/v1/models":
            card = {"id": self.vllm.model, "object": "model", "created": 1763337600, "owned_by": "vllm"}
            more: dict[str, Any] = {"root": self.vllm.model, "parent": None, "max_model_len": 65536, "permission": []}
            self._json({"object": "list", "data": [card | more]})
        elif self._may_pass():
            self._fail(404, "Not Found")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._may_pass():
            return
        if self.path not in ("/v1/chat/completions", "/v1/audio/transcriptions"):
            self._fail(404, "Not Found")
            return
        if self.path == "/v1/chat/completions" and not self.vllm.chat:
            self._fail(404, "The model does not support Chat Completions API")
            return
        call = self._call(body)
        with self.vllm.lock:
            self.vllm.calls.append(call)
            self.vllm.in_flight += 1
            self.vllm.most_in_flight = max(self.vllm.most_in_flight, self.vllm.in_flight)
        if self.vllm.on_call is not None:
            self.vllm.on_call(call)
        waited = self._waited_for()
        with self.vllm.lock:  # before the answer: whoever has it may ask the next at once
            self.vllm.in_flight -= 1
            self.vllm.n_abandoned += not waited
        if waited:
            self._answer(call)
        else:
            self.close_connection = True

    def _may_pass(self) -> bool:
        if self.vllm.key is None or self.headers["Authorization"] == f"Bearer {self.vllm.key}":
            return True
        self._send(401, b'{"error":"Unauthorized"}')
        return False

    def _call(self, body: bytes) -> Call:
        if self.path == "/v1/chat/completions":
            fields = json.loads(body)
            (part,) = fields["messages"][-1]["content"]
            assert part["input_audio"]["format"] == "wav"
            sound: object = base64.b64decode(part["input_audio"]["data"], validate=True)
        else:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            form = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
            parts = {str(part.get_param("name", header="content-disposition")): part for part in form.iter_parts()}
            contents = {name: part.get_payload(decode=True) for name, part in parts.items()}
            sound = contents.pop("file")
            fields = {name: content.decode() for name, content in contents.items() if isinstance(content, bytes)}
        assert isinstance(sound, bytes)
        with wave.open(io.BytesIO(sound)) as wav:
            assert (1, 2, 16_000) == (wav.getnchannels(), wav.getsampwidth(), wav.getframerate())
            samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
        loud = samples[np.abs(samples.astype(np.int32)) > 200]
        text = f"There were {len(loud)} loud samples in {len(samples)}." if len(loud) else ""
        return Call(self.path, fields, len(samples), text, self.headers["Authorization"])

    def _waited_for(self) -> bool:
        """Take the time that it takes; False if the client hung up meanwhile."""
        began = time.monotonic()
        while time.monotonic() - began < (LONG_S if self.vllm.mood == "hangs" else self.vllm.delay_s):
            if self._abandoned():
                return False
            time.sleep(0.005)
        return True

    def _answer(self, call: Call) -> None:
        if self.vllm.mood in CANNED:
            self._send(*CANNED[self.vllm.mood])
        elif self.vllm.mood == "busy":
            more: dict[str, str] = {} if self.vllm.retry_after is None else {"Retry-After": self.vllm.retry_after}
            self._send(429, b'{"error":{"message":"Too many requests"}}', more)
        elif self.vllm.mood in ("half", "closed"):
            if self.vllm.mood == "half":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"text":')
            self.close_connection = True
        else:
            self._recognize(call)

    def _recognize(self, call: Call) -> None:
        if call.path == "/v1/chat/completions":
            spoken = self.vllm.spoken if call.text else "None"
            message: dict[str, Any] = {
                "role": "assistant",
                "content": f"language {spoken}<asr_text>{call.text}",
                "refusal": None,
            }
            message |= {"annotations": None, "audio": None, "function_call": None, "tool_calls": [], "reasoning": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.vllm.finish_reason}
            usage = {"prompt_tokens": 40, "total_tokens": 60, "completion_tokens": 20, "prompt_tokens_details": None}
            head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1763337600, "model": self.vllm.model}
            self._json(head | {"choices": [choice | {"stop_reason": None}], "usage": usage, "prompt_logprobs": None})
        elif call.fields["response_format"] == "verbose_json":
            self._fail(400, f"Currently do not support verbose_json for {self.vllm.model}")
        elif (code := call.fields.get("language")) is not None and code not in LANGUAGES:
            self._fail(400, f"Unsupported language: {code!r}.")
        elif call.fields.get("stream") == "true":
            self._stream(call.text)
        else:
            seconds = -(-call.n_samples // 16_000)
            self._json({"text": call.text, "usage": {"type": "duration", "seconds": seconds}})

    def _stream(self, text: str) -> None:
        pieces = [text[i : i + 7] for i in range(0, len(text), 7)] + [""]
        lines = b""
        for number, piece in enumerate(pieces, 1):
            reason = self.vllm.finish_reason if number == len(pieces) else None
            choice = {"delta": {"content": piece, "reasoning": None}, "finish_reason": reason, "stop_reason": None}
            chunk = {"id": "trsc-1", "object": "transcription.chunk", "created": 1763337600, "model": self.vllm.model}
            lines += f"data: {json.dumps(chunk | {'choices': [choice], 'usage': None})}\n\n".encode()
        self._send(200, lines + b"data: [DONE]\n\n", {"Content-Type": "text/event-stream; charset=utf-8"})

    def _abandoned(self) -> bool:
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            with suppress(OSError):
                self.connection.setblocking(True)

    def _fail(self, status: int, message: str) -> None:
        kind = "BadRequestError" if status == 400 else "NotFoundError" if status == 404 else "InternalServerError"
        self._send(status, _error(status, message, kind))

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode())

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        given = {"Content-Type": "application/json", "Content-Length": str(len(body))} | dict(headers)
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""

"""The real program in processes that may be killed, an origin for its recordings, and what tests ask it."""

import functools
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2
import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm

MODEL: Final = "paraformer-v2"
HEADERS: Final = {"X-DashScope-Async": "enable", "Authorization": "Bearer any"}
READY_S: Final = 40.0


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        pass


@contextmanager
def origin(folder: Path) -> Iterator[str]:
    """A web server for the files in *folder*; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_wav(path: Path, pcm: Pcm) -> None:
    """*pcm* as 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(pcm * 32767).astype("<i2").tobytes())


def talk(clip: Pcm, *, times: int, lead_ms: int) -> Pcm:
    """*clip* said *times* times, with pauses that end a segment, after a silence of *lead_ms*."""
    pause = np.zeros(SAMPLE_RATE * 5 // 2, np.float32)
    lead = np.zeros(lead_ms * SAMPLE_RATE // 1000, np.float32)
    return np.concatenate([lead, *[part for _ in range(times) for part in (clip, pause)]])


@dataclass
class Life:
    """One process of the server, from its start to its end."""

    process: subprocess.Popen[str]
    base: str | None = None

    def wait_ready(self, timeout_s: float = READY_S) -> str:
        """Its address."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.base is not None:
                return self.base
            assert self.process.poll() is None, self.process.returncode
            time.sleep(0.02)
        raise AssertionError("the server is not ready")

    def read(self) -> None:
        """Look for the address in what it prints."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if (match := re.search(r"OpenAI base URL\s+(\S+)/v1", line)) is not None:
                self.base = match[1]

    def kill(self) -> None:
        """End it as a crash would: at once, with all that it started."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._close()

    def stop(self) -> tuple[int, float]:
        """End it as an operator would; its exit code, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(35)
        self._close()
        return code, time.monotonic() - began

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(data_dir: Path, log: Path, variables: Mapping[str, str]) -> Life:
    """A life of the server that owns *data_dir*; it may not be ready yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QASR_")}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "qasr.cli", "serve", "--port", "0", "--data-dir", str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=data_dir.parent,
            env=kept | {"QASR_FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "QASR_ENGINES__DECODERS": "1"} | dict(variables),
        )
    life = Life(process)
    threading.Thread(target=_read, args=(life,), daemon=True).start()
    return life


def _read(life: Life) -> None:
    with suppress(ValueError):  # the pipe was closed by ``kill``
        life.read()


def submit(base: str, urls: list[str], **parameters: Any) -> str:
    """The id of a new task."""
    body = {"model": MODEL, "input": {"file_urls": urls}, "parameters": {"language_hints": ["en"], **parameters}}
    answer = httpx2.post(f"{base}/api/v1/services/audio/asr/transcription", json=body, headers=HEADERS, timeout=20)
    assert answer.status_code == httpx2.codes.OK, answer.text
    return str(answer.json()["output"]["task_id"])


def query(base: str, task_id: str) -> dict[str, Any]:
    """What the server tells of a task."""
    answer = httpx2.get(f"{base}/api/v1/tasks/{task_id}", headers=HEADERS, timeout=20)
    assert answer.status_code == httpx2.codes.OK, answer.text
    output: dict[str, Any] = answer.json()["output"]
    return output


def wait_all(base: str, task_ids: list[str], *, timeout_s: float) -> list[dict[str, Any]]:
    """The tasks once all have ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        outputs = [query(base, task_id) for task_id in task_ids]
        states = [output["task_status"] for output in outputs]
        if not {"PENDING", "RUNNING"} & set(states):
            return outputs
        assert time.monotonic() < deadline, states
        time.sleep(0.1)


Said: TypeAlias = list[tuple[int, int, str, list[tuple[int, int, str]]]]
"""Sentences: begin, end and text of each, and of each of its words."""


def said(output: dict[str, Any]) -> list[Said]:
    """For each recording of a task: what its result document says."""
    found: list[Said] = []
    for result in output["results"]:
        document = httpx2.get(result["transcription_url"], timeout=20).json()
        found.append([])
        for track in document["transcripts"]:
            sentences = track["sentences"]
            assert track["text"].split() == " ".join(s["text"] for s in sentences).split()
            found[-1] += [
                (
                    s["begin_time"],
                    s["end_time"],
                    s["text"],
                    [(word["begin_time"], word["end_time"], word["text"]) for word in s["words"]],
                )
                for s in sentences
            ]
    return found


def texts(output: dict[str, Any]) -> list[list[str]]:
    """For each recording of a task: its sentences."""
    return [[text for _, _, text, _ in sentences] for sentences in said(output)]


def begins(output: dict[str, Any]) -> list[list[int]]:
    """For each recording of a task: where its sentences begin."""
    return [[begin for begin, _, _, _ in sentences] for sentences in said(output)]

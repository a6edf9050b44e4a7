"""A server over checkpoints: each name is heard by the best that is installed, also by what is installed meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.server import DATA, LOOPBACK, Origin, Server, serving

from qasr.catalogue import checkpoints
from qasr.catalogue.store import Store

ENGINE = """
from contextlib import asynccontextmanager
from pathlib import Path
from qasr.engines import scripted

@asynccontextmanager
async def factory(settings):
    text = (Path(settings["folder"]) / "model.bin").read_text()
    async with scripted.factory({"text": text}) as recognizer:
        yield recognizer
"""
"""Stands for that of Whisper: it says what its weights say."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    (folder / "readers.py").write_text(ENGINE)
    about = folder / "readers-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: readers\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[qasr.engines]\nwhisper = readers:factory\n")
    return folder


def install(server_dir: Path, name: str, text: str) -> None:
    """A checkpoint that says *text*."""
    folder = server_dir / f"own-{name}"
    folder.mkdir()
    for file in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / file).write_text("{}")
    (folder / "model.bin").write_text(text)
    Store(server_dir / "data" / "models").add(checkpoints.built_in().find(name), folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("served")
    install(directory, "whisper-tiny", "Tiny.")
    settings = LOOPBACK | {"ENGINES__DECODERS": "1", "ENGINES__IDLE_S": "0"}
    with serving(directory, settings, packages=packages) as running:
        yield running


def ask(server: Server, model: str) -> httpx2.Response:
    return server.post(
        "/v1/audio/transcriptions", files={"file": (DATA / "jfk.flac").read_bytes()}, data={"model": model}
    )


def test_installed_checkpoint_serves_and_gives_way_to_a_better_one(server: Server, origin: Origin) -> None:
    """Answers, readiness and lists tell which; what is installed meanwhile serves the next request, and tasks."""
    first = ask(server, "whisper-1")
    ready = server.get("/readyz").json()
    install(server.data_dir.parent, "whisper-small", "Small.")
    second = ask(server, "qwen3-asr-flash-2026-02-10")
    listed = server.get("/api/v1/models?model=whisper-1").json()["output"]["models"]
    task = server.post(
        "/api/v1/services/audio/asr/transcription",
        {"model": "paraformer-v2", "input": {"file_urls": [origin.url("/files/jfk.flac")]}},
        headers={"X-DashScope-Async": "enable"},
    )

    assert ("Tiny.", "Small.") == (first.json()["text"], second.json()["text"])
    assert ("scripted", "whisper-tiny") == (first.headers["X-Qasr-Engine"], first.headers["X-Qasr-Checkpoint"])
    assert "whisper-small" == second.headers["X-Qasr-Checkpoint"]
    assert [{"engine": "whisper", "checkpoint": "whisper-tiny", "state": "loaded"}] == ready["engines"]
    assert ["speech to text by whisper-small (whisper), loaded"] == [entry["description"] for entry in listed]
    assert "Small." == heard(server, task.json()["output"]["task_id"])


def heard(server: Server, task_id: str) -> str:
    """The text of a task's first file."""
    end = time.monotonic() + 60
    while (task := server.get(f"/api/v1/tasks/{task_id}").json()["output"])["task_status"] in ("PENDING", "RUNNING"):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "SUCCEEDED" == task["task_status"], task
    path = task["results"][0]["transcription_url"].removeprefix(server.base)
    text: str = server.get(path).json()["transcripts"][0]["text"]
    return text

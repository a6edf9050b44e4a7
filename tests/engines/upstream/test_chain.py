"""Two servers of this program, one behind the other, and a server in front of one that dies: over real sockets."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
from tests.conftest import Speech
from tests.engines.upstream.vllm import vllm
from tests.server import JFK, KEY, Server, serving

from qasr.domain.audio import Segment
from qasr.domain.options import Hints
from qasr.engines import upstream
from qasr.engines.base import Request

FRONT: Final = {"ENGINES__DEFAULT": "upstream", "ENGINES__DECODERS": "1", "UPSTREAM__HEALTH_S": "0.2"}
PATIENCE_S: Final = 60.0


@pytest.fixture(scope="module")
def front(scripted: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It has another one hear for it."""
    settings = {"UPSTREAM__URLS": scripted.compatible, "UPSTREAM__API_KEY": KEY, "UPSTREAM__WORD_TIMES": "true"}
    with serving(tmp_path_factory.mktemp("front"), FRONT | settings) as running:
        yield running


def transcribe(server: Server, **fields: str) -> httpx2.Response:
    return server.post(
        "/v1/audio/transcriptions", data={"model": "whisper-1"} | fields, files={"file": ("a.flac", JFK.read_bytes())}
    )


@pytest.mark.anyio
@pytest.mark.parametrize("language", [None, "de"])
async def test_another_qasr_is_an_engine(scripted: Server, speech: Speech, language: str | None) -> None:
    """Its chat completions tell the language, and take one."""
    request = Request(
        segment=Segment(pcm=speech("LJ001-0002.flac"), begin_ms=0), hints=Hints(language=language, context="Kennedy")
    )
    async with upstream.factory({"urls": scripted.compatible, "api_key": KEY, "mode": "chat"}) as recognizer:
        (heard,) = await recognizer.recognize([request])

    assert "Segment at 0." == heard.text[:13]
    assert (language or "en") == heard.language


def test_a_recording_passes_through_both(front: Server) -> None:
    """Text, language and word times come from the one behind."""
    answer = transcribe(front, response_format="verbose_json", **{"timestamp_granularities[]": "word"})
    body = answer.json()

    assert 200 == answer.status_code, answer.text
    assert "upstream" == answer.headers["X-Qasr-Engine"]
    assert re.fullmatch(r"Segment at 0\.\d seconds lasting (9|10|11)\.\d seconds\.", body["text"])
    assert "english" == body["language"]
    assert body["text"].rstrip(".").split() == [word["word"] for word in body["words"]]
    times = [time for word in body["words"] for time in (word["start"], word["end"])]
    assert sorted(times) == times
    assert times[-1] > 5


def test_readiness_tells_when_no_server_is_left(tmp_path: Path) -> None:
    """And when there is one again; requests in between are refused with 503, and nothing is restarted."""
    settings = {"UPSTREAM__MODE": "transcriptions"}
    with vllm() as gpu, serving(tmp_path, FRONT | settings | {"UPSTREAM__URLS": gpu.url}) as front:
        before = transcribe(front, response_format="verbose_json")
        gpu.kill()
        wait_for(front, 503)
        readiness, during = front.get("/readyz").json(), transcribe(front)
        gpu.start()
        wait_for(front, 200)
        after = transcribe(front)

    assert (200, 503, 200) == (before.status_code, during.status_code, after.status_code)
    assert ["none of 1 upstream speech servers can be used (no connection)"] == readiness["reasons"]
    assert before.json()["text"]
    assert before.json()["text"] == after.json()["text"]
    assert "english" == before.json()["language"]  # told by the text: these answers of vLLM have no language


def wait_for(server: Server, status: int) -> None:
    """Until readiness is *status*."""
    end = time.monotonic() + PATIENCE_S
    while server.get("/readyz").status_code != status:
        assert time.monotonic() < end
        time.sleep(0.05)

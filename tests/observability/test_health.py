"""``/readyz`` gives all reasons, and tells troubles that are none."""

import time
from pathlib import Path

import anyio
import pytest
from tests.observability.conftest import WAIT_S
from tests.server import Server

from qasr.app import running
from qasr.config import load

pytestmark = pytest.mark.anyio


async def test_every_reason_is_told(tmp_path: Path) -> None:
    """What is loading at the start, each by itself; nothing once all is there; and that the end is near."""
    settings = load({"data_dir": tmp_path, "engines": {"default": "scripted", "decoders": 1}})
    async with running(settings) as service:
        at_once = service.problems
        with anyio.fail_after(WAIT_S):
            while service.problems:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.02)
        await service.wind_down()

        assert ["the speech engine is loading", "the media decoders are starting"] == at_once
        assert ["the server is stopping"] == service.problems
        assert [] == service.troubles


def test_troubles_pass(observed: Server) -> None:
    """What does tasks starts behind the engine; requests do not wait for it."""
    end = time.monotonic() + WAIT_S
    while "troubles" in (told := observed.get("/readyz", key=None).json()):
        assert ["tasks wait: what does them is starting"] == told["troubles"]
        assert time.monotonic() < end
        time.sleep(0.05)

    assert {"status", "emotion", "engines"} == told.keys()
    assert "ok" == told["status"]

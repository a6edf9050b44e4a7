"""The door to live sessions: who gets one, what is refused, and what is given back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.pipeline.sessions import FOUND, MANUAL, act, finals, loud

from qasr.app import running
from qasr.config import Engines, Live, Settings
from qasr.domain.errors import EngineUnavailable, QueueFull, UnsupportedLanguage, UnsupportedOption
from qasr.domain.live import LiveOptions
from qasr.domain.options import Hints, Hotword
from qasr.service import Service

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One for all, with the embedded engine, which hears English alone."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        engines=Engines(default="moonshine", decoders=1),
        live=Live(most_sessions=2),
    )
    async with running(settings) as service:
        await service.capabilities()
        yield service


async def test_a_session_is_opened_and_heard(service: Service) -> None:
    """From the door to the final."""
    async with service.live(MANUAL, owner="a") as session:
        assert "moonshine" == session.engine

        await act(session, [loud(1)])
        await session.finish()
        told = [event async for event in session.events()]

    assert 1 == len(finals(told))


async def test_more_sessions_than_configured_are_refused(service: Service) -> None:
    """Told to come later; a session that ends makes room, however it ends."""
    async with service.live(FOUND, owner="a"):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
            async with service.live(FOUND, owner="a"):
                with pytest.raises(QueueFull, match="later"):
                    await service.live(FOUND, owner="b").__aenter__()
                raise ZeroDivisionError
        async with service.live(FOUND, owner="b"):
            pass


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (replace(FOUND, hints=Hints(language="zh")), UnsupportedLanguage),
        (replace(FOUND, itn=True), UnsupportedOption),
        (replace(FOUND, emotion=True), UnsupportedOption),
        (replace(FOUND, hints=Hints(hotwords=(Hotword(text="qasr", weight=5),))), UnsupportedOption),
    ],
)
async def test_what_the_engine_cannot_do_is_refused_by_name(
    service: Service, options: LiveOptions, error: type[Exception]
) -> None:
    """At the start, and when a session is configured anew, which goes on as it was."""
    with pytest.raises(error, match="moonshine"):
        await service.live(options, owner="a").__aenter__()
    async with service.live(MANUAL, owner="a") as session:
        with pytest.raises(error, match="moonshine"):
            await session.configure(options)
        await session.finish()
        assert [] == [event async for event in session.events()]


async def test_refusal_names_the_command_that_helps(service: Service) -> None:
    """What would have to be installed so that the asked model hears it; where nothing known would, the page."""
    chinese = replace(FOUND, hints=Hints(language="zh"))
    with pytest.raises(UnsupportedLanguage, match="qasr models pull paraformer-zh"):
        await service.live(chinese, owner="a", model="paraformer-realtime-v2").__aenter__()
    with pytest.raises(UnsupportedOption, match="qasr models pull sense-voice-small"):
        await service.live(replace(FOUND, emotion=True), owner="a").__aenter__()
    with pytest.raises(UnsupportedLanguage, match=r"docs/engines\.md"):
        await service.live(replace(FOUND, hints=Hints(language="ga")), owner="a").__aenter__()


async def test_groups_of_errors_from_the_block_pass_as_they_are(service: Service) -> None:
    """A face with a task group of its own sorts out its own errors."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with service.live(FOUND, owner="a"), anyio.create_task_group() as group:
            group.start_soon(fail)
    assert caught.group_contains(ZeroDivisionError)


async def test_without_an_engine_there_are_no_sessions(tmp_path: Path) -> None:
    """While it loads, and where none can be loaded: told at once, nobody is kept waiting."""
    async with running(Settings(data_dir=tmp_path, engines=Engines(default="moonshine", decoders=1))) as service:
        with pytest.raises(EngineUnavailable, match="loading"):
            await service.live(FOUND, owner="a").__aenter__()

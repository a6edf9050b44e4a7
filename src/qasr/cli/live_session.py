"""``qasr live`` at work: one task feeds, one shows; Ctrl-C ends the feeding first."""

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import typer

from qasr import log
from qasr.app import running
from qasr.cli import configuration, interruption, live_remote, live_sound
from qasr.cli.failure import FAILED, fail, one_line
from qasr.cli.live_remote import ServerLost
from qasr.cli.live_screen import Screen
from qasr.cli.live_sound import NoSound
from qasr.cli.options import LiveForm
from qasr.cli.recordings import STDIN
from qasr.domain.audio import Pcm
from qasr.domain.errors import InvalidParameter, QasrError
from qasr.domain.live import Endpointing, LiveEvent, LiveOptions
from qasr.domain.options import Hints
from qasr.faces.languages import parse_language


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be heard, and how it is shown."""

    source: str | None
    rate_hz: int
    recorder: str | None
    language: str | None
    context: str
    silence_ms: int
    form: LiveForm
    partials: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it is heard."""

    server: str | None
    api_key: str | None
    model: str
    config_file: Path | None
    log_level: str | None


class Hearing(Protocol):
    """What we need of a session, be it here or on a server."""

    async def feed(self, pcm: Pcm) -> None:
        """Hear more."""
        ...

    async def finish(self) -> None:
        """No more will come."""
        ...

    def events(self) -> AsyncIterator[LiveEvent]:
        """All that is told."""
        ...


def run(wanted: Wanted, place: Place) -> None:
    """Hear to the end. Ends the program with 1 if something could not be heard, with 2 if the order makes no sense."""
    if place.server is not None and not place.server.startswith(("http://", "https://")):
        fail(f"--server needs an address such as http://127.0.0.1:8000, not {one_line(place.server)}")
    if wanted.source is not None and wanted.source != STDIN and not Path(wanted.source).is_file():
        fail(f"{one_line(wanted.source)}: there is no such file", FAILED)
    log.set_up(place.log_level or "critical", json_lines=False)
    try:
        options = _options(wanted)
        with tempfile.TemporaryDirectory(prefix="qasr-") as temporary:
            enough = anyio.Event()
            work = partial(_hear, wanted, place, options, Path(temporary), enough)
            n_failed = interruption.run(work, gently=enough.set)
    except (OSError, QasrError, ServerLost, NoSound) as error:
        if isinstance(error, BrokenPipeError):  # whoever read our text has enough of it; typer ends quietly
            raise
        fail(error, FAILED)
    if n_failed:
        raise typer.Exit(FAILED)


def _options(wanted: Wanted) -> LiveOptions:
    try:
        language = parse_language(wanted.language)
    except InvalidParameter as error:
        fail(error)
    return LiveOptions(
        hints=Hints(language=language, context=wanted.context),
        endpointing=Endpointing(threshold=0.5, silence_ms=wanted.silence_ms, prefix_ms=300, longest_ms=30_000),
    )


async def _hear(wanted: Wanted, place: Place, options: LiveOptions, temporary: Path, enough: anyio.Event) -> int:
    """How many utterances failed."""
    with Screen(wanted.form, partials=wanted.partials) as screen:
        async with _session(place, options, temporary) as session, anyio.create_task_group() as group:
            group.start_soon(_feed, session, wanted, enough)
            async for event in session.events():
                screen.show(event)
            group.cancel_scope.cancel()
        return screen.n_failed


async def _feed(session: Hearing, wanted: Wanted, enough: anyio.Event) -> None:
    """Feed all there is, or until it is *enough*."""
    async with anyio.create_task_group() as group:

        async def stop() -> None:
            await enough.wait()
            group.cancel_scope.cancel()

        group.start_soon(stop)
        async with aclosing(_sound(wanted)) as pieces:
            async for piece in pieces:
                await session.feed(piece)
        group.cancel_scope.cancel()
    await session.finish()


def _sound(wanted: Wanted) -> AsyncGenerator[Pcm]:
    if wanted.source is None:
        return live_sound.of_microphone(wanted.recorder)
    if wanted.source == STDIN:
        return live_sound.of_stdin(wanted.rate_hz)
    return live_sound.of_file(Path(wanted.source))


def _session(place: Place, options: LiveOptions, temporary: Path) -> AbstractAsyncContextManager[Hearing]:
    if place.server is not None:
        return live_remote.session(place.server, place.api_key, place.model, options)
    return _local(place, options, temporary)


@asynccontextmanager
async def _local(place: Place, options: LiveOptions, temporary: Path) -> AsyncIterator[Hearing]:
    async with (
        running(configuration.alone(None, place.config_file, temporary)) as service,
        service.live(options, owner="cli", model=place.model) as session,
    ):
        yield session

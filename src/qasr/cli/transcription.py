"""``qasr transcribe`` at work: several recordings at once, results in the order they were named."""

import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import typer

from qasr import catalogue, log
from qasr.app import running
from qasr.catalogue import Model
from qasr.cli import configuration, interruption, remote
from qasr.cli.failure import FAILED, fail, one_line, tell
from qasr.cli.local import Local
from qasr.cli.options import Form
from qasr.cli.progress import Progress
from qasr.cli.recordings import STDIN, Recording, output_names
from qasr.cli.transcriber import Outcome, Transcriber, TranscriptionFailed
from qasr.domain.audio import MediaLimits
from qasr.domain.errors import EngineUnavailable, InvalidParameter, UnknownModel
from qasr.domain.options import Hotword
from qasr.engines.room import DEFAULT
from qasr.faces.languages import parse_language
from qasr.faces.openai.transcriptions import DEFAULT_HOTWORD_WEIGHT
from qasr.pipeline.flow import ordered_map
from qasr.workers import available_cpus

LIMITS: Final = MediaLimits(max_bytes=2 * 1024**3, max_ms=12 * 3600 * 1000)
"""Those of the longest interface that we serve; they keep one odd file from filling the disk."""
REMOTE_AT_ONCE: Final = 4
HOTWORD_WEIGHTS: Final = tuple(str(weight) for weight in (*range(1, 6), 50, *range(-1, -7, -1)))
MOST_SPEAKERS: Final = 100
MOST_CHANNELS: Final = 32
HIGHEST_CHANNEL: Final = 255
HEARING: Final = {
    "engines", "models", "moonshine", "qwen3_asr", "qwen3_aligner", "whisper", "sherpa", "tagger", "diarizer",
    "scripted", "upstream",
}  # fmt: skip
"""Sections of the settings that decide what is heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be transcribed, and into what."""

    names: tuple[str, ...]
    form: Form
    language: str | None
    hotwords: tuple[str, ...]
    model: str | None
    output_dir: Path | None
    speakers: int | None = None
    """How many are told apart; 0: that is to be found out; None: they are not."""
    channels: tuple[int, ...] | None = None
    """Tracks that are heard apart from each other, from 0; None: all as one."""
    itn: bool = False
    """Write numbers as figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the work is done."""

    server: str | None
    api_key: str | None
    data_dir: Path | None
    config_file: Path | None
    log_level: str | None


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str


def n_speakers(text: str | None) -> int | None:
    """``Wanted.speakers`` of what was written: a number, or ``auto``."""
    if text is None or text == "auto":
        return None if text is None else 0
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_SPEAKERS:
        fail(f"--speakers takes a number from 1 to {MOST_SPEAKERS}, not {one_line(text)!r}")
    return int(text)


def tracks(text: str | None) -> tuple[int, ...] | None:
    """``Wanted.channels`` of what was written."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part[:9]) <= HIGHEST_CHANNEL for part in parts) or len(parts) > MOST_CHANNELS:
        fail(f"--channels takes up to {MOST_CHANNELS} tracks counted from 0, such as 0,1, not {one_line(text)!r}")
    return tuple(sorted(set(map(int, parts))))


def run(wanted: Wanted, place: Place) -> None:
    """Transcribe. Ends the program with 1 if a recording failed, with 2 if the order makes no sense."""
    recordings = [Recording(name) for name in wanted.names]
    _check(recordings, wanted, place)
    log.set_up(place.log_level or "critical", json_lines=False)
    try:
        if wanted.output_dir is not None:
            wanted.output_dir.mkdir(parents=True, exist_ok=True)
        if place.data_dir is not None:
            place.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="qasr-", dir=place.data_dir) as temporary:
            n_failed = interruption.run(partial(_transcribe, recordings, wanted, place, Path(temporary)))
    except BrokenPipeError:  # whoever read our text has enough of it; typer ends quietly
        raise
    except (OSError, EngineUnavailable) as error:
        fail(error, FAILED)
    if n_failed:
        raise typer.Exit(FAILED)


def _check_hotwords_of_a_server(hotwords: Sequence[Hotword], recordings: Sequence[Recording]) -> None:
    if any(hotword.weight != DEFAULT_HOTWORD_WEIGHT for hotword in hotwords):
        fail("--hotword takes no weights with --server")
    if hotwords and any(recording.is_url for recording in recordings):
        fail("--hotword needs the files themselves with --server, not addresses")


def _check(recordings: Sequence[Recording], wanted: Wanted, place: Place) -> None:
    """End the program if the order makes no sense."""
    if [recording.argument for recording in recordings].count(STDIN) > 1:
        fail("standard input (-) can be read once only")
    hotwords = _hotwords(wanted.hotwords)
    if place.server is None:
        return
    _check_hotwords_of_a_server(hotwords, recordings)
    if not place.server.startswith(("http://", "https://")):
        fail(f"--server needs an address such as http://127.0.0.1:8000, not {one_line(place.server)}")
    if wanted.channels is not None:
        fail("--channels needs no --server: the server's interface for files takes all channels as one")
    if wanted.speakers:
        fail("--speakers N needs no --server: the server's interface for files takes no number; --speakers alone does")
    if wanted.itn:
        fail("--itn needs no --server: the server's interface for files has no such option")
    for recording in recordings:
        if recording.is_url and wanted.speakers is not None:
            fail(
                f"{recording.name}: a server tells no speakers for addresses, so --speakers "
                "needs the file itself, or no --server"
            )
        if recording.is_url and wanted.form in (Form.SRT, Form.VTT):
            fail(
                f"{recording.name}: a server tells no times for addresses, so --format {wanted.form} "
                "needs the file itself, or no --server"
            )


async def _transcribe(recordings: Sequence[Recording], wanted: Wanted, place: Place, temporary: Path) -> int:
    """How many failed."""
    n_failed = 0
    names = output_names(recordings, wanted.form.value)
    with Progress() as progress:
        transcribers = _remote if place.server is not None else _local
        async with (
            transcribers(wanted, place, temporary, progress) as (transcriber, at_once),
            ordered_map(
                partial(_attempt, transcriber, progress), _each(recordings), ahead=max(1, at_once - 1)
            ) as results,
        ):
            for recording, name in zip(recordings, names, strict=True):
                result = await anext(results)
                with progress.paused():
                    n_failed += not _deliver(recording, name, result, wanted)
    progress.conclude(len(recordings) - n_failed, n_failed)
    return n_failed


async def _each(recordings: Sequence[Recording]) -> AsyncIterator[Recording]:
    for recording in recordings:
        yield recording


async def _attempt(transcriber: Transcriber, progress: Progress, recording: Recording) -> Outcome | _Failure:
    with progress.line(recording.name) as heard:
        try:
            return await transcriber.transcribe(recording, heard)
        except TranscriptionFailed as error:
            return _Failure(str(error))


def _deliver(recording: Recording, name: str, result: Outcome | _Failure, wanted: Wanted) -> bool:
    """Write the transcript to its place, or the reason to standard error; whether there is a transcript."""
    if isinstance(result, _Failure):
        tell(f"{recording.name}: {one_line(result.reason)}")
        return False
    for note in result.notes:
        tell(f"{recording.name}: {note}")
    if wanted.output_dir is not None:
        path = wanted.output_dir / name
        try:
            path.write_text(result.output, encoding="utf-8")
        except OSError as error:
            tell(f"{recording.name}: {path} cannot be written: {error.strerror}")
            return False
        return True
    if wanted.form is Form.TXT and len(wanted.names) > 1:
        sys.stdout.write(f"==> {recording.name} <==\n")
    sys.stdout.write(result.output)
    sys.stdout.flush()
    return True


@asynccontextmanager
async def _local(
    wanted: Wanted, place: Place, temporary: Path, progress: Progress
) -> AsyncIterator[tuple[Transcriber, int]]:
    model = None if wanted.model is None else _model(wanted.model)
    name = DEFAULT if model is None else model.name
    language = _language(wanted.language)
    settings = configuration.alone(place.data_dir, place.config_file, temporary)
    async with running(settings) as service:
        with progress.line("loading the speech engine"):
            await service.capabilities(name)
        local = Local(
            service=service,
            model=name,
            form=wanted.form,
            language=language,
            hotwords=_hotwords(wanted.hotwords),
            limits=LIMITS if model is None else model.limits,
            languages=None if model is None else model.languages,
            speakers=wanted.speakers,
            channels=wanted.channels,
            itn=wanted.itn,
            spool=temporary,
            way=settings.model_dump_json(include=HEARING),
        )
        yield local, settings.engines.decoders or available_cpus()


def _model(name: str) -> Model:
    names = catalogue.built_in()
    try:
        return names.resolve(name)
    except UnknownModel:
        fail(f"there is no model {one_line(name)!r}; known are {', '.join(model.name for model in names.models)}")


def _hotwords(given: Sequence[str]) -> tuple[Hotword, ...]:
    found = []
    for text in given:
        phrase, _, weight = text.rpartition("=") if "=" in text else (text, "", str(DEFAULT_HOTWORD_WEIGHT))
        if weight not in HOTWORD_WEIGHTS or not phrase.strip():
            fail(f"--hotword takes PHRASE or PHRASE=WEIGHT, with a weight of {', '.join(HOTWORD_WEIGHTS)}: {text!r}")
        found.append(Hotword(text=phrase.strip(), weight=int(weight)))
    return tuple(found)


def _language(text: str | None) -> str | None:
    try:
        return parse_language(text)
    except InvalidParameter as error:
        fail(error)


@asynccontextmanager
async def _remote(
    wanted: Wanted, place: Place, temporary: Path, _progress: Progress
) -> AsyncIterator[tuple[Transcriber, int]]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(remote.client(place.server or "", place.api_key))
        yield (
            remote.Remote(
                client=client,
                form=wanted.form,
                language=wanted.language,
                hotwords=tuple(hotword.text for hotword in _hotwords(wanted.hotwords)),
                model=wanted.model,
                spool=temporary,
                speakers=wanted.speakers is not None,
            ),
            REMOTE_AT_ONCE,
        )

"""``qasr models`` at work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from qasr import catalogue
from qasr.catalogue import checkpoints, hubs
from qasr.catalogue.checkpoints import Checkpoint
from qasr.catalogue.download import download
from qasr.catalogue.hubs import HubFailed, Remote
from qasr.catalogue.store import Installed, Store
from qasr.cli import configuration
from qasr.cli.failure import FAILED, fail, one_line, tell
from qasr.cli.model_views import CheckpointView, Listing, ModelView, print_checkpoint, print_listing, print_model
from qasr.cli.models import Hub
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter, NotFound, UnknownModel
from qasr.selection import Selection

KNOWN: Final = checkpoints.built_in()


def list_models(data_dir: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Print all model names and all checkpoints."""
    settings = _settings(data_dir, config_file)
    chosen, store = Selection.of(settings), Store(settings.models_dir)
    listing = Listing(
        models=[
            _model_view(chosen, name) for model in catalogue.built_in().models for name in (model.name, *model.aliases)
        ],
        checkpoints=[_checkpoint_view(chosen, store, one) for one in KNOWN.all],
    )
    _print_json(listing) if as_json else print_listing(listing)


def show(name: str, data_dir: Path | None, config_file: Path | None, *, as_json: bool) -> None:
    """Print one model name, or one checkpoint."""
    settings = _settings(data_dir, config_file)
    chosen, store = Selection.of(settings), Store(settings.models_dir)
    try:
        view = _checkpoint_view(chosen, store, KNOWN.find(name))
    except UnknownModel:
        model = _public(name)
        may = [_checkpoint_view(chosen, store, one) for one in KNOWN.serving(model)]
        named = _model_view(chosen, name)
        _print_json({"model": named, "may_be_served_by": may}) if as_json else print_model(named, may)
    else:
        _print_json(view) if as_json else print_checkpoint(view)


def pull(name: str, hub: Hub, revision: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Install a checkpoint from a hub. Ends the program with 1 if it cannot be had."""
    settings = _settings(data_dir, config_file)
    checkpoint, store = _meant(name)[0], Store(settings.models_dir)
    if settings.models.offline:
        fail("models.offline forbids to ask a hub; qasr models add NAME DIR takes files that are here already")
    if checkpoint.hugging_face is None and checkpoint.modelscope is None:
        fail(
            f"no hub is known to have {checkpoint.name}; fetch and unpack it yourself ({checkpoint.page}), then\n"
            f"  qasr models add {checkpoint.name} DIR"
        )
    try:
        remote = _remote(checkpoint, hub, revision, settings)
        tell(
            f"{checkpoint.name}: {_readable(remote.source)} at {remote.revision[:12]}, {len(remote.files)} files, "
            f"{remote.n_bytes / 1e6:.0f} MB, licence {one_line(remote.license or checkpoint.license)}"
        )
        with _progress(checkpoint.name, remote.n_bytes) as progress:
            record = download(store, checkpoint, remote, got=progress)
    except HubFailed as error:
        fail(error, FAILED)
    except OSError as error:
        fail(f"{store.root} cannot be written: {error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        tell("stopped; the same command goes on from here")
        raise typer.Exit(130) from None
    _tell_installed(record, checkpoint, Selection.of(settings))


def add(name: str, folder: Path, data_dir: Path | None, config_file: Path | None) -> None:
    """Install a folder. Ends the program with 2 if it holds something else."""
    settings = _settings(data_dir, config_file)
    store, reasons = Store(settings.models_dir), []
    for checkpoint in _meant(name):
        try:
            record = store.add(checkpoint, folder)
        except InvalidParameter as error:
            reasons.append(error)
        except OSError as error:
            fail(f"{error.filename}: {error.strerror or error}", FAILED)
        else:
            _tell_installed(record, checkpoint, Selection.of(settings))
            return
    fail(reasons[0])


def remove(name: str, data_dir: Path | None, config_file: Path | None) -> None:
    """Remove a checkpoint. Ends the program with 1 if it is not there."""
    settings = _settings(data_dir, config_file)
    checkpoint = _checkpoint(name)
    try:
        Store(settings.models_dir).remove(checkpoint.name)
    except NotFound as error:
        fail(error, FAILED)
    sys.stdout.write(f"{checkpoint.name} removed\n")


def check(name: str | None, data_dir: Path | None, config_file: Path | None) -> None:
    """Compare files with their records. Ends the program with 1 if one differs."""
    settings = _settings(data_dir, config_file)
    store = Store(settings.models_dir)
    wanted = KNOWN.all if name is None else [_checkpoint(name)]
    found = [record for one in wanted if (record := store.find(one.name)) is not None]
    if name is not None and not found:
        fail(f"{wanted[0].name} is not installed", FAILED)
    n_problems = 0
    for record in found:
        with _progress(record.name, record.n_bytes) as progress:
            problems = list(store.check(record, heard=progress))
        for problem in problems:
            sys.stdout.write(f"{record.name}: {problem.path} {problem.text}\n")
        if not problems:
            sys.stdout.write(f"{record.name}: {len(record.files)} files are as they were recorded\n")
        n_problems += len(problems)
    if n_problems:
        raise typer.Exit(FAILED)


def _settings(data_dir: Path | None, config_file: Path | None) -> Settings:
    return configuration.load(configuration.nested({"data_dir": data_dir}), config_file)


def _meant(name: str) -> tuple[Checkpoint, ...]:
    """The checkpoint of that name, or those that may serve the model of that name, best first."""
    try:
        return (KNOWN.find(name),)
    except UnknownModel:
        return KNOWN.serving(_public(name))


def _checkpoint(name: str) -> Checkpoint:
    try:
        return KNOWN.find(name)
    except UnknownModel as error:
        fail(error)


def _public(name: str) -> str:
    """The catalogue's own name for a public one."""
    try:
        return catalogue.built_in().resolve(name).name
    except UnknownModel:
        _unknown(name)


def _unknown(name: str) -> NoReturn:
    fail(f"there is no model or checkpoint {one_line(name)!r}; qasr models list has all names")


def _model_view(chosen: Selection, name: str) -> ModelView:
    choices = chosen(name)
    if not choices:
        return ModelView(name=name, engine=None, checkpoint=None)
    return ModelView(name=name, engine=choices[0].engine, checkpoint=choices[0].checkpoint)


def _checkpoint_view(chosen: Selection, store: Store, checkpoint: Checkpoint) -> CheckpointView:
    record = store.find(checkpoint.name)
    return CheckpointView(
        name=checkpoint.name,
        engine=checkpoint.engine,
        state=chosen.state(checkpoint),
        remedy=chosen.remedy(checkpoint),
        license=checkpoint.license,
        languages=None if checkpoint.languages is None else sorted(checkpoint.languages),
        gives=sorted(checkpoint.gives),
        size_mb=checkpoint.size_mb if record is None else round(record.n_bytes / 1e6),
        hugging_face=checkpoint.hugging_face,
        modelscope=checkpoint.modelscope,
        page=checkpoint.page,
        folder=None if record is None else str(store.folder(record)),
        source=None if record is None else record.source,
        revision=None if record is None else record.revision,
    )


def _remote(checkpoint: Checkpoint, hub: Hub, revision: str | None, settings: Settings) -> Remote:
    """What a hub has of it.

    Raises:
        HubFailed: none that may be asked has it, or can be read.
    """
    failure = HubFailed(f"{hub.value} is not known to have {checkpoint.name}")
    if hub in (Hub.AUTO, Hub.HUGGING_FACE) and checkpoint.hugging_face is not None:
        try:
            return hubs.hugging_face(checkpoint, checkpoint.hugging_face, revision)
        except HubFailed as error:
            failure = error
    if hub in (Hub.AUTO, Hub.MODELSCOPE) and checkpoint.modelscope is not None:
        try:
            return hubs.modelscope(checkpoint, checkpoint.modelscope, revision, settings.models.modelscope_url)
        except HubFailed as error:
            failure = HubFailed(f"{failure}; ModelScope: {error}" if hub is Hub.AUTO else str(error))
    raise failure


def _readable(source: str) -> str:
    hub, _, repository = source.partition(":")
    return f"{repository} ({hub.replace('_', ' ')})"


def _tell_installed(record: Installed, checkpoint: Checkpoint, chosen: Selection) -> None:
    sys.stdout.write(f"{record.name} installed: {len(record.files)} files, {record.n_bytes / 1e6:.0f} MB\n")
    if remedy := chosen.remedy(checkpoint):
        tell(f"its engine {checkpoint.engine} is missing: {remedy}")


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


@contextmanager
def _progress(name: str, n_bytes: int) -> Iterator["_Advance"]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        yield _Advance(progress, progress.add_task(name, total=n_bytes))


class _Advance:
    def __init__(self, progress: Progress, task: object) -> None:
        self._progress, self._task = progress, task

    def __call__(self, n_bytes: int) -> None:
        self._progress.advance(self._task, n_bytes)  # type: ignore[arg-type]

"""Models and checkpoints as they are printed."""

import sys

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 80
"""Columns where nobody tells us how many there are."""


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """A public name and what serves it now."""

    name: str
    engine: str | None
    checkpoint: str | None


class CheckpointView(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint."""

    name: str
    engine: str
    state: str
    remedy: str
    """What to type to make it usable; empty: it is."""
    license: str
    languages: list[str] | None
    """None: its own files tell."""
    gives: list[str]
    size_mb: int | None
    hugging_face: str | None
    modelscope: str | None
    page: str | None
    folder: str | None
    source: str | None
    revision: str | None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All of both."""

    models: list[ModelView]
    checkpoints: list[CheckpointView]


def print_listing(listing: Listing) -> None:
    """Two tables."""
    models = _table("model", "served by", "engine")
    for model in listing.models:
        models.add_row(model.name, model.checkpoint or "-", model.engine or "nothing that is installed")
    _console().print(models, "", _checkpoints(listing.checkpoints), sep="\n")


def print_model(model: ModelView, may: list[CheckpointView]) -> None:
    """What serves a name, and what could, best first."""
    served = f"{model.name} is served by {model.checkpoint or model.engine or 'nothing that is installed'}"
    console = _console()
    console.print(Text(served), "", _checkpoints(may), sep="\n")
    if remedy := next((one.remedy for one in may if one.remedy), None):
        console.print("", Text(f"To install the best: {remedy}", overflow="fold"), sep="\n")


def print_checkpoint(one: CheckpointView) -> None:
    """All that is known of it."""
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("checkpoint", one.name),
        ("engine", one.engine),
        ("state", one.state),
        ("to do", one.remedy),
        ("licence", one.license),
        ("languages", "as its own files say" if one.languages is None else ", ".join(one.languages)),
        ("gives", ", ".join(one.gives)),
        ("size", _size(one.size_mb)),
        ("hugging face", one.hugging_face),
        ("modelscope", one.modelscope),
        ("page", one.page),
        ("folder", one.folder),
        ("source", one.source),
        ("revision", one.revision),
    ):
        if value:
            table.add_row(Text(name, "dim"), Text(value, overflow="fold"))
    _console().print(table)


def _checkpoints(views: list[CheckpointView]) -> Table:
    table = _table("checkpoint", "engine", "size", "licence", "state")
    for one in views:
        table.add_row(one.name, one.engine, _size(one.size_mb), one.license, one.state)
    return table


def _size(size_mb: int | None) -> str:
    return "?" if size_mb is None else f"{size_mb} MB"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"model", "checkpoint", "size"})
    return table


def _console() -> Console:
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=NARROW)

"""``qasr models``: what its help shows."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from qasr.cli.options import ConfigFile, DataDir

Name: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A checkpoint; or a public model name, which means the best checkpoint for it.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document, not tables.")]


class Hub(StrEnum):
    """Where checkpoints are fetched from."""

    AUTO = "auto"
    HUGGING_FACE = "huggingface"
    MODELSCOPE = "modelscope"


app = typer.Typer(
    name="models",
    help="See which checkpoint serves which model name, and install checkpoints.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_models(*, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List the public model names with what serves each, and all checkpoints that can be installed."""
    from qasr.cli import model_commands  # noqa: PLC0415 - help must not load a speech engine

    model_commands.list_models(data_dir, config, as_json=as_json)


@app.command()
def show(name: Name, *, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show one public model name with all that may serve it, or one checkpoint."""
    from qasr.cli import model_commands  # noqa: PLC0415

    model_commands.show(name, data_dir, config, as_json=as_json)


@app.command()
def pull(
    name: Name,
    *,
    source: Annotated[
        Hub, typer.Option(help="The hub; auto: Hugging Face, or ModelScope where that cannot be read.")
    ] = Hub.AUTO,
    revision: Annotated[
        str | None, typer.Option(help="A commit, tag or branch of the repository.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Download a checkpoint; what was begun before goes on, and what arrives is checked.

    A server that runs over the same data directory serves its next request with it.
    """
    from qasr.cli import model_commands  # noqa: PLC0415

    model_commands.pull(name, source, revision, data_dir, config)


@app.command()
def add(
    name: Name,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that holds its files.", show_default=False)],
    *,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Use a checkpoint from a folder of your own; the files stay where they are."""
    from qasr.cli import model_commands  # noqa: PLC0415

    model_commands.add(name, folder, data_dir, config)


@app.command()
def rm(name: Name, *, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove a checkpoint, or what has arrived of it; folders that were added stay.

    The exit code is 1 if it is not installed.
    """
    from qasr.cli import model_commands  # noqa: PLC0415

    model_commands.remove(name, data_dir, config)


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One checkpoint; else all that are installed.")
    ] = None,
    *,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Read all files of checkpoints and compare sizes and hashes with what was recorded.

    The exit code is 1 if a file is missing or different.
    """
    from qasr.cli import model_commands  # noqa: PLC0415

    model_commands.check(name, data_dir, config)

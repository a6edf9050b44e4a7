"""The program ``qasr``: ``serve``, ``transcribe``, ``live``, ``tasks``, ``models``, ``keys``, ``usage``, ``doctor``.

One file per command holds what ``--help`` shows and nothing heavy; the command imports its work when it runs, so that
asking for help does not load a speech engine. Exit codes: 0 done, 1 it went wrong, 2 wrong usage, 130 interrupted.
"""

from typing import Annotated

import typer

from qasr import __version__
from qasr.cli.doctor import doctor
from qasr.cli.keys import app as keys
from qasr.cli.live import live
from qasr.cli.models import app as models
from qasr.cli.options import OptionalNumber
from qasr.cli.serve import serve
from qasr.cli.tasks import app as tasks
from qasr.cli.transcribe import transcribe
from qasr.cli.usage import usage

app = typer.Typer(
    name="qasr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(serve)
app.command(cls=OptionalNumber)(transcribe)
app.command()(live)
app.add_typer(tasks)
app.add_typer(models)
app.add_typer(keys)
app.command()(usage)
app.command()(doctor)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the signature is typer's
    if wanted:
        typer.echo(f"qasr {__version__}")
        raise typer.Exit


@app.callback()
def _qasr(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Speech to text on your own machine: a server that speaks the interfaces of DashScope and OpenAI, and a program
    for the command line.
    """


def main() -> None:
    """Run the program."""
    app()


__all__ = ["app", "main"]

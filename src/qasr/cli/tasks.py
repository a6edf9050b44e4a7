"""``qasr tasks``: what its help shows. Clients of a running server, by its DashScope interface; but see ``cancel``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from qasr.cli.options import ConfigFile, Form

ANY_KEY = "any"

Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The task's id.", show_default=False)]
Server: TypeAlias = Annotated[str, typer.Option(metavar="URL", help="The server that has the tasks.")]
ApiKey: TypeAlias = Annotated[
    str, typer.Option(metavar="KEY", envvar="QASR_API_KEY", help="Key for the server.", show_envvar=True)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document, not a table.")]

LOCAL = "http://127.0.0.1:8000"


class Status(StrEnum):
    """What tasks can be listed by."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


app = typer.Typer(
    name="tasks",
    help="See, await, cancel and collect the long recordings that a running server works on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_tasks(
    *,
    status: Annotated[
        Status | None, typer.Option(case_sensitive=False, help="Only tasks in this state.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, newest first.")] = 20,
    as_json: AsJson = False,
    server: Server = LOCAL,
    api_key: ApiKey = ANY_KEY,
) -> None:
    """List your tasks of the last 24 hours, newest first."""
    from qasr.cli import task_commands  # noqa: PLC0415 - help must not load a client

    task_commands.list_tasks(server, api_key, status=status, limit=limit, as_json=as_json)


@app.command()
def show(task_id: Id, *, as_json: AsJson = False, server: Server = LOCAL, api_key: ApiKey = ANY_KEY) -> None:
    """Show one task: how far it is, and what became of each file.

    The exit code is 1 if the server knows no such task.
    """
    from qasr.cli import task_commands  # noqa: PLC0415

    task_commands.show(server, api_key, task_id, as_json=as_json)


@app.command()
def wait(
    task_id: Id,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Give up waiting after so long.", show_default=False)
    ] = None,
    server: Server = LOCAL,
    api_key: ApiKey = ANY_KEY,
) -> None:
    """Wait until a task has ended, and print its state.

    The exit code is 0 if it succeeded (for one of its files at least), 1 if it did not or is unknown, and 124 if
    --timeout was over first.
    """
    from qasr.cli import task_commands  # noqa: PLC0415

    task_commands.wait(server, api_key, task_id, timeout_s=timeout)


@app.command()
def cancel(
    task_id: Id,
    *,
    server: Server = LOCAL,
    api_key: ApiKey = ANY_KEY,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="For operators: stop the task also if it has begun, whoever's it is, by way of the data directory "
            "of the server, or of the database that its settings name.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Cancel a task that has not begun; with --data-dir or --config, also one that has.

    The exit code is 1 if there is none, or if it is too late.
    """
    if data_dir is not None or config is not None:
        from qasr.cli import task_operator  # noqa: PLC0415

        task_operator.cancel(task_id, data_dir, config)
    else:
        from qasr.cli import task_commands  # noqa: PLC0415

        task_commands.cancel(server, api_key, task_id)


@app.command()
def result(
    task_id: Id,
    *,
    form: Annotated[
        Form,
        typer.Option("--format", help="Plain text, the server's JSON (one document per line), or subtitles."),
    ] = Form.TXT,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Write one file per recording into this directory, not to standard output."),
    ] = None,
    server: Server = LOCAL,
    api_key: ApiKey = ANY_KEY,
) -> None:
    """Collect the transcripts of a task that has ended, in the order of its files.

    Files that failed are told on standard error, and the exit code is then 1.
    """
    from qasr.cli import task_commands  # noqa: PLC0415

    task_commands.result(server, api_key, task_id, form=form, output_dir=output_dir)

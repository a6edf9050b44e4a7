"""``qasr keys``: what its help shows. For operators: by way of the data directory, or of the database that the settings
name; a server that runs on it sees what is written within seconds.
"""

from typing import Annotated, TypeAlias

import typer

from qasr.cli.options import ConfigFile, DataDir

Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The key's id.", show_default=False)]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document, not a table.")]

app = typer.Typer(
    name="keys",
    help="Make, list, revoke and renew the API keys of a server.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is; for people.", show_default=False)],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it opens: dashscope, openai, onemin, admin. May be given several times. "
            "Default: the three interfaces.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Until when: 30d, 12h, or a day such as 2027-01-31 (UTC).", show_default=False
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL:]NAME=NUMBER",
            help="A limit of its own, such as requests_per_minute=60 or qwen3-asr-flash:audio_hours_per_day=2; "
            "0: without limit. May be given several times.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a key, and print it: it is shown this once, and nobody can tell it again.

    Limits: requests_per_minute, requests_per_second, live_sessions, queued_audio_minutes, audio_hours_per_day.
    """
    from qasr.cli import key_operator  # noqa: PLC0415 - help must not load a database

    key_operator.create(name, scope or [], expires, limit or [], as_json=as_json, data_dir=data_dir, config_file=config)


@app.command("list")
def list_keys(*, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all keys, newest first, also those that open nothing any more."""
    from qasr.cli import key_operator  # noqa: PLC0415

    key_operator.list_keys(as_json=as_json, data_dir=data_dir, config_file=config)


@app.command()
def show(key_id: Id, *, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show one key, as JSON, with its limits; but not the key itself."""
    from qasr.cli import key_operator  # noqa: PLC0415

    key_operator.show(key_id, data_dir=data_dir, config_file=config)


@app.command()
def revoke(key_id: Id, *, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Let a key open nothing any more. It cannot be taken back."""
    from qasr.cli import key_operator  # noqa: PLC0415

    key_operator.revoke(key_id, data_dir=data_dir, config_file=config)


@app.command()
def rotate(
    key_id: Id,
    *,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="How long the old one still opens: 1h, 7d. Default: not at all.", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Give a key a new text, and print it. Its id, limits, tasks, files and records stay."""
    from qasr.cli import key_operator  # noqa: PLC0415

    key_operator.rotate(key_id, grace, data_dir=data_dir, config_file=config)

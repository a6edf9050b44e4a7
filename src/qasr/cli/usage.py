"""``qasr usage``: what its help shows."""

from typing import Annotated

import typer

from qasr.cli.options import ConfigFile, DataDir


def usage(
    *,
    since: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day, such as 2026-11-01.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day.", show_default=False)] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only of this key.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, not a table.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what was used: a line per day (UTC), key, model and interface, newest first.

    Read from the data directory, or from the database that the settings name; a running server writes there every few
    seconds.
    """
    from qasr.cli import key_operator  # noqa: PLC0415 - help must not load a database

    key_operator.usage(since, until, key, as_json=as_json, data_dir=data_dir, config_file=config)

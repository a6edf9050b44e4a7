"""``qasr serve``: what its help shows."""

from typing import Annotated

import typer

from qasr.cli.failure import fail
from qasr.cli.options import ConfigFile, DataDir, Level


def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Others than this machine's own need an API key. Default: 127.0.0.1.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 takes a free one. Default: 8000.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    role: Annotated[
        str, typer.Option(help="Which part of the server this process is. This version has one: all.")
    ] = "all",
    log_level: Annotated[
        Level | None, typer.Option(help="How much to tell on standard error. Default: info.", show_default=False)
    ] = None,
) -> None:
    """Start the server and print, once it can answer, how to reach it.

    It stops on Ctrl-C or SIGTERM, after the requests under way have been answered.
    """
    if role != "all":
        fail(f"there is no role {role!r} in this version; one process does everything: --role all")
    from qasr.cli.server import run  # noqa: PLC0415 - help must not load the server

    run(
        {
            "server.host": host,
            "server.port": port,
            "data_dir": data_dir,
            "log.level": log_level,
        },
        config,
    )

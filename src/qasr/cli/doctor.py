"""``qasr doctor``: what its help shows."""

from typing import Annotated

import typer

from qasr.cli.options import ConfigFile, DataDir


def doctor(
    *,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, not tables.")] = False,
) -> None:
    """Check everything that serving needs, and say what is broken.

    The speech engine is loaded and hears a second of silence through the decoders; the data directory, the versions and
    every setting with its origin are shown. The exit code is 1 if something that serving needs is broken.
    """
    from qasr.cli.report import run  # noqa: PLC0415 - help must not load a speech engine

    run({"data_dir": data_dir}, config, as_json=as_json)

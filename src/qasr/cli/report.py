"""``qasr doctor`` as it is printed."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qasr import log
from qasr.cli import configuration, interruption
from qasr.cli.examination import Report, examine
from qasr.cli.failure import FAILED

NARROW = 80
"""Columns where nobody tells us how many there are."""


def run(flags: Mapping[str, object], config_file: Path | None, *, as_json: bool) -> None:
    """Examine and print. Ends the program with 1 if something is broken."""
    given: dict[str, Any] = configuration.nested(flags)
    settings = configuration.load(given, config_file)
    log.set_up("critical", json_lines=False)
    report = interruption.run(partial(examine, settings, given, config_file))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def _print(report: Report) -> None:
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=NARROW)
    checks = Table.grid(padding=(0, 2))
    for finding in report.findings:
        mark = Text("ok", "green") if finding.ok else Text("BROKEN", "bold red")
        checks.add_row(mark, Text(finding.name), Text(finding.text))
    for name, meant in report.unknown_variables.items():
        hint = f"; did you mean {meant}?" if meant else ""
        checks.add_row(Text("unknown", "yellow"), Text("variable"), Text(f"{name} is no setting{hint}"))
    console.print(checks, "", Text(f"Engines installed: {', '.join(report.engines)}"), "", sep="\n")

    versions = Table.grid(padding=(0, 2))
    pairs = [Text.assemble((name, "dim"), " ", version) for name, version in report.versions.items()]
    for begin in range(0, len(pairs), 3):
        versions.add_row(*pairs[begin : begin + 3])
    console.print(versions, "", sep="\n")

    settings = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    settings.add_column("setting", no_wrap=True)
    settings.add_column("value", overflow="fold")
    settings.add_column("from", no_wrap=True)
    for value in report.settings:
        style = "" if value.origin == "default" else "bold"
        settings.add_row(Text(value.name, style), Text(value.value or "-", style), Text(value.origin, style))
    console.print(settings)

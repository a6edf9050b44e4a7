"""Options that several commands share, as ``--help`` shows them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer
import typer.core

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Directory that holds everything the server keeps. Default: ./data.", show_default=False),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings in TOML. Variables named QASR_SECTION__KEY and flags win over it. Default: ./qasr.toml.",
        show_default=False,
    ),
]
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]


class Form(StrEnum):
    """How a transcript is written; the value is the ending of the file's name, too."""

    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"


class OptionalNumber(typer.core.TyperCommand):
    """A command whose option ``--speakers`` may stand alone or before a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--speakers`` a value where none follows."""
        given = list[str]()
        for place, arg in enumerate(args):
            if arg == "--":
                return super().parse_args(ctx, given + args[place:])
            stands_alone = arg == "--speakers" and not "".join(args[place + 1 : place + 2]).isdecimal()
            given.append("--speakers=auto" if stands_alone else arg)
        return super().parse_args(ctx, given)


class LiveForm(StrEnum):
    """How utterances are written while they are heard."""

    TXT = "txt"
    JSON = "json"

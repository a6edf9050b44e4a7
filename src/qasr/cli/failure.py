"""How the program gives up: one line on standard error and an exit code."""

import sys
from typing import Final, NoReturn

import typer

FAILED: Final = 1
USAGE: Final = 2


def fail(message: object, code: int = USAGE) -> NoReturn:
    """End the program."""
    tell(f"qasr: {message}")
    raise typer.Exit(code)


def tell(message: str) -> None:
    """Write *message* to standard error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def one_line(text: str) -> str:
    """*text* without line breaks and without characters that would move the cursor."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())

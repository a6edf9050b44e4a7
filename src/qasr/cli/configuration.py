"""Settings for a command: its flags, the environment and the file put together, or the program ends with the reason."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from qasr import config
from qasr.cli.failure import fail
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter

OF_THE_CLIENT: Final = frozenset({"QASR_API_KEY"})
"""Variables that ``qasr transcribe`` reads; they are no settings of a server."""


def nested(flags: Mapping[str, object]) -> dict[str, Any]:
    """``{"server.port": 9000}`` as ``{"server": {"port": 9000}}``; flags that were not given (None) are left out."""
    found: dict[str, Any] = {}
    for path, value in flags.items():
        *sections, key = path.split(".")
        if value is not None:
            node = found
            for section in sections:
                node = node.setdefault(section, {})
            node[key] = value
    return found


def load(flags: Mapping[str, Any], config_file: Path | None) -> Settings:
    """The settings in force; *flags* are nested. Ends the program if they cannot be read."""
    try:
        return config.load(flags, config_file=config_file)
    except InvalidParameter as error:
        fail(error)
    except (OSError, ValueError) as error:  # the file is no TOML, or a variable holds a broken list
        fail(f"settings: {error}")


def alone(data_dir: Path | None, config_file: Path | None, temporary: Path) -> Settings:
    """The settings and models of the server over *data_dir*; all else that is kept goes to *temporary*."""
    theirs = load(nested({"data_dir": data_dir}), config_file)
    return load(
        {
            "data_dir": temporary,
            "store": {"url": None},
            "models": {"folder": theirs.models_dir.absolute()},
            "engines": {"load": "lazy"},
        },
        config_file,
    )


def unknown_variables() -> dict[str, str | None]:
    """Variables that look like settings and are none, each with the setting that was probably meant."""
    known = ["QASR_" + path.replace(".", "__").upper() for path, _ in config.walk(Settings.model_construct())]
    return {
        name: next(iter(difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)), None)
        for name in config.unknown_environment()
        if name not in OF_THE_CLIENT
    }

"""Checkpoints: what can be installed, and which of it may serve a public model name. The facts stand in
``checkpoints.toml``, the rules here; what is installed is known to ``store.py``.
"""

import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Final

from qasr.domain.errors import UnknownModel

DEFAULT: Final = ""
"""The name of no model in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNeeds:
    """What an engine that is loaded from checkpoints needs besides one."""

    extra: str | None
    """Of our package; None: the core has it."""
    modules: tuple[str, ...]

    @property
    def are_met(self) -> bool:
        """Whether its packages are installed."""
        return all(importlib.util.find_spec(module) is not None for module in self.modules)

    @property
    def remedy(self) -> str:
        """The command that installs what is missing."""
        return f"pip install 'qasr[{self.extra}]'" if self.extra else f"pip install {' '.join(self.modules)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One set of weights, and where it is to be had."""

    name: str
    engine: str
    license: str
    gives: frozenset[str]
    """What an engine loaded from it can do: names of fields of ``Capabilities``."""
    languages: frozenset[str] | None
    """None: it says so itself."""
    files: tuple[str, ...]
    """Patterns of paths in it; each must be met."""
    optional: tuple[str, ...]
    """Patterns of files that are taken, too."""
    hugging_face: str | None
    modelscope: str | None
    page: str | None
    """Where people find it where no hub has it."""
    size_mb: int | None
    """As published; None: that was not found."""

    @property
    def install(self) -> str:
        """The command that installs it."""
        has_hub = self.hugging_face is not None or self.modelscope is not None
        return f"qasr models pull {self.name}" if has_hub else f"qasr models add {self.name} DIR"

    def wants(self, path: str) -> bool:
        """Whether the file at *path* is one of it."""
        return any(fnmatchcase(path, pattern) for pattern in (*self.files, *self.optional))

    def missing(self, paths: set[str]) -> list[str]:
        """Patterns that none of *paths* meets."""
        return [pattern for pattern in self.files if not any(fnmatchcase(path, pattern) for path in paths)]


class Checkpoints:
    """All that is known. Immutable."""

    def __init__(
        self,
        checkpoints: tuple[Checkpoint, ...],
        routes: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...],
        needs: Mapping[str, EngineNeeds],
    ) -> None:
        self.all = checkpoints
        self.needs = needs
        """By engine."""
        self._by_name = {one.name: one for one in checkpoints}
        self._routes = routes

    def find(self, name: str) -> Checkpoint:
        """The checkpoint called *name*; the name of its repository on a hub will do, too.

        Raises:
            UnknownModel: there is none.
        """
        wanted = name.lower()
        for one in self.all:
            repositories = {repository.lower() for repository in (one.hugging_face, one.modelscope) if repository}
            if wanted in {one.name, *repositories, *(path.rpartition("/")[2] for path in repositories)}:
                return one
        raise UnknownModel(f"there is no checkpoint {name[:100]!r}; known are {', '.join(self._by_name)}")

    def serving(self, model: str) -> tuple[Checkpoint, ...]:
        """What may serve the public name *model* (or ``DEFAULT``), best first."""
        for patterns, names in self._routes:
            if any(fnmatchcase(model, pattern) for pattern in patterns):
                return tuple(self._by_name[name] for name in names)
        raise AssertionError("the last route is for all names")

    def remedy(self, model: str, engine: str, *, gives: str | None = None, language: str | None = None) -> str | None:
        """The commands that install what is asked for, so that it serves *model* and not *engine* does.

        None where nothing that is known would do.
        """
        for one in self.serving(model):
            if one.engine == engine:
                break
            hears = language is None or (one.languages is not None and language in one.languages)
            if hears and (gives is None or gives in one.gives):
                needs = self.needs[one.engine]
                commands = [] if needs.are_met else [needs.remedy]
                return " && ".join([*commands, one.install])
        return None


@cache
def built_in() -> Checkpoints:
    """Those that ship with the program."""
    data = tomllib.loads((files(__package__) / "checkpoints.toml").read_text(encoding="utf-8"))
    languages = {name: frozenset(codes) for name, codes in data["languages"].items()}
    return Checkpoints(
        tuple(
            Checkpoint(
                name=row["name"],
                engine=row["engine"],
                license=row["license"],
                gives=frozenset(row["gives"]),
                languages=languages[row["languages"]] if "languages" in row else None,
                files=tuple(row["files"]),
                optional=tuple(row.get("optional", ())),
                hugging_face=row.get("hugging_face"),
                modelscope=row.get("modelscope"),
                page=row.get("page"),
                size_mb=row.get("size_mb"),
            )
            for row in data["checkpoint"]
        ),
        tuple((tuple(row["models"]), tuple(row["by"])) for row in data["route"]),
        {
            name: EngineNeeds(extra=row.get("extra"), modules=tuple(row["modules"]))
            for name, row in data["engine"].items()
        },
    )

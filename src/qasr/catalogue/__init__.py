"""Public model names: limits, languages, interfaces. The facts stand in ``models.toml``, the rules here.

A name resolves by itself, as an alias, or as a dated snapshot of a family: ``qwen3-asr-flash-2026-02-10``,
``qwen3-asr-flash-2025-09-08-us``. A snapshot that we have never heard of resolves too (the vendor dates them faster
than we could list them); the name that was asked for is what the answer echoes.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal, TypeAlias

from qasr.domain.audio import MediaLimits
from qasr.domain.errors import UnknownModel

Kind: TypeAlias = Literal[
    "qwen-sync",
    "fun-sync",
    "openai-audio",
    "qwen-file",
    "fun-file",
    "realtime",
    "openai-live",
    "fun-live",
    "gummy-live",
]
"""Which interface serves a model. Of the two families of file models, each has answers of its own; so have the two
families of live models that speak the task protocol, where ``realtime`` and ``openai-live`` ones speak in events.
"""

LIVE: Final[frozenset[Kind]] = frozenset({"realtime", "openai-live", "fun-live", "gummy-live"})
"""Kinds that hear speech while it is spoken, and no recordings."""

Feature: TypeAlias = Literal[
    "context",
    "first-hint",
    "stored-hotwords",
    "instant-hotwords",
    "phrases",
    "speakers",
    "disfluency",
    "alignment",
    "events",
    "word-filter",
    "translation",
]
"""What not all models take; ``first-hint``: of several language hints only the first one counts."""

_SNAPSHOT: Final = re.compile(r"^(?P<family>.+?)(?:-\d{4}-\d{2}-\d{2})?(?:-us)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTraits:
    """How a live model of the task protocol differs from others."""

    silence_ms: int
    """Silence that ends a sentence, unless the client says otherwise."""
    rate_hz: int | None = None
    """The only sample rate that it takes; None: any."""
    most_hints: int | None = None
    """Language hints that it takes; None: as many as it has languages."""
    partials: bool = True
    """It tells what it hears before a sentence ends, unless the client says otherwise."""
    words: bool = True
    """Its sentences have words with times."""
    emotion: bool = False
    """Its sentences have emotions, where the loaded engine tells any."""
    one_sentence: bool = False
    """It hears one sentence, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of the catalogue."""

    name: str
    kind: Kind
    created: int
    """Unix seconds, for model lists."""
    limits: MediaLimits
    inline_bytes: int
    """Most bytes of a recording inside the request; for ``qwen-sync`` the encoded text counts, as documented."""
    languages: frozenset[str]
    aliases: tuple[str, ...]
    takes: frozenset[Feature] = frozenset()
    """Of file models, live ones and ``fun-sync``; other interfaces take the same for all their models."""
    live: LiveTraits | None = None
    """Of the kinds ``fun-live`` and ``gummy-live``."""


class Catalogue:
    """Resolves names. Immutable."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        self.models = models
        self._by_name = {name: model for model in models for name in (model.name, *model.aliases)}

    def resolve(self, name: str) -> Model:
        """The model that *name* means.

        Raises:
            UnknownModel: no such name.
        """
        if (model := self._by_name.get(name)) is not None:
            return model
        match = _SNAPSHOT.match(name)
        if match is not None and (model := self._by_name.get(match["family"])) is not None:
            return model
        raise UnknownModel(f"The model `{name[:100]}` does not exist or you do not have access to it.")

    def family(self, name: str) -> str:
        """The name under which a model stands here; of one that does not (tasks may be older than we are), its own."""
        try:
            return self.resolve(name).name
        except UnknownModel:
            return name[:100]


@cache
def built_in() -> Catalogue:
    """The catalogue that ships with the program."""
    data = tomllib.loads((files(__package__) / "models.toml").read_text(encoding="utf-8"))
    languages = {name: frozenset(codes) for name, codes in data["languages"].items()}
    return Catalogue(
        tuple(
            Model(
                name=row["name"],
                kind=row["kind"],
                created=row["created"],
                limits=MediaLimits(max_bytes=row["bytes"], max_ms=row["seconds"] * 1000),
                inline_bytes=row.get("inline_bytes", row["bytes"]),
                languages=languages[row["languages"]],
                aliases=tuple(row.get("aliases", ())),
                takes=frozenset(row.get("takes", ())),
                live=LiveTraits(**row["live"]) if "live" in row else None,
            )
            for row in data["model"]
        )
    )

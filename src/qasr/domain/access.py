"""Who may ask for what, and how much of it.

::

    key ──▶ Caller   owner      whose tasks, uploads, assets and records; stays when the key's secret is changed
                     scopes     which interfaces
                     allowance  limits over all models, and of single ones
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from qasr.domain.errors import InvalidParameter


class Scope(enum.StrEnum):
    """What a key opens."""

    DASHSCOPE = "dashscope"
    OPENAI = "openai"
    ONEMIN = "onemin"
    ADMIN = "admin"
    """Keys and usage of everybody; no recognition."""


INTERFACES: Final = frozenset({Scope.DASHSCOPE, Scope.OPENAI, Scope.ONEMIN})
"""What a key opens unless something else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one key may ask for. None: not said, so that the server's own limit holds; 0: without limit."""

    requests_per_minute: float | None = None
    requests_per_second: float | None = None
    live_sessions: float | None = None
    """At once."""
    queued_audio_minutes: float | None = None
    """Speech of unfinished tasks that is still to be heard."""
    audio_hours_per_day: float | None = None
    """Days are those of UTC."""

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InvalidParameter(f"{name} must be a number of at least 0 (0: without limit).")

    def over(self, others: "Limits") -> "Limits":
        """These, and *others* where these say nothing."""
        mine = {name: getattr(self, name) for name in LIMITS}
        return Limits(**{name: getattr(others, name) if value is None else value for name, value in mine.items()})


LIMITS: Final = tuple(one.name for one in fields(Limits))
"""Names of all limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Limits over all models together, and of single models besides."""

    total: Limits = field(default_factory=Limits)
    models: Mapping[str, Limits] = field(default_factory=dict)
    """By name in the catalogue: all names and snapshots of a model share its limits."""

    def over(self, others: "Allowance") -> "Allowance":
        """This, and *others* where this says nothing."""
        if self is NOTHING_SAID:
            return others
        names = {*self.models, *others.models}
        nothing = Limits()
        return Allowance(
            total=self.total.over(others.total),
            models={name: self.models.get(name, nothing).over(others.models.get(name, nothing)) for name in names},
        )


NOTHING_SAID: Final = Allowance()
"""One for all callers who have no limits of their own: it is asked for at each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    owner: str
    """Names the key without telling it."""
    scopes: frozenset[Scope] = INTERFACES
    allowance: Allowance = NOTHING_SAID

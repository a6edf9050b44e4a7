"""Engines by name: entry points of the group ``qasr.engines``, and what is at hand once one of them is loaded.

When an engine is loaded, shared and unloaded is decided in ``room.py``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from qasr.engines.base import Aligner, Capabilities, LiveVad, Tagger
from qasr.engines.silero_vad import SileroVad
from qasr.engines.slots import EngineSlots

GROUP: Final = "qasr.engines"
AUTO: Final = "auto"
"""Each model is served by the best of its engines that is installed."""
EMBEDDED: Final = "moonshine"
"""The engine that needs no download: what is left where nothing else is installed."""


@dataclass(frozen=True, slots=True)
class LoadedEngines:
    """All that hears, ready to use."""

    slots: EngineSlots
    vad: SileroVad
    live_vad: LiveVad
    aligner: Aligner | None
    live_aligner: Aligner | None = None
    """The same, for those who do not wait for it."""
    tagger: Tagger | None = None
    interventions: Counter[str] = field(default_factory=Counter)
    """How often each guard of the pipeline had to step in for the recognizer, by the guard's name."""
    checkpoint: str | None = None
    """What the recognizer was loaded from, by its name in the catalogue; None: it carries its model, or has none."""

    @property
    def name(self) -> str:
        """Of the recognizer, for logs and the ``X-Qasr-Engine`` header."""
        return self.slots.capabilities.name

    @property
    def capabilities(self) -> Capabilities:
        """Of all that is loaded together: the recognizer's, and what others tell beside it."""
        own = self.slots.capabilities
        return own if self.tagger is None else replace(own, emotion=True)


def installed() -> Mapping[str, EntryPoint]:
    """Engines that could be loaded, by name. Of two with one name that stands which Python finds first."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return found


@cache
def installed_names() -> frozenset[str]:
    """Names of ``installed``, as they were when they were asked for first: finding them takes milliseconds."""
    return frozenset(installed())

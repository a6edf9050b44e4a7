"""Engines by name: entry points of the group ``qasr.engines``, and what is at hand once one of them is loaded.

When an engine is loaded, shared and unloaded is decided in ``room.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from qasr.engines.base import Aligner, LiveVad
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
    checkpoint: str | None = None
    """What the recognizer was loaded from, by its name in the catalogue; None: it carries its model, or has none."""

    @property
    def name(self) -> str:
        """Of the recognizer, for logs and the ``X-Qasr-Engine`` header."""
        return self.slots.capabilities.name


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

"""What this face needs of the house."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qasr.catalogue import Catalogue
from qasr.faces.gate import Gate
from qasr.faces.http import Bodies
from qasr.faces.keys import Keys
from qasr.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that its routes share."""

    service: Callable[[], Service]
    catalogue: Catalogue
    keys: Keys
    gate: Gate
    bodies: Bodies
    external_url: str | None
    answer_s: float
    spool: Path
    max_asset_bytes: int

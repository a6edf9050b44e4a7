"""What the start brings is spared from the search for garbage: else everybody waits while it is looked through."""

import time
from pathlib import Path
from typing import Final

from tests.server import SCRIPTED, serving

SOON_S: Final = 60.0
LEAST: Final = 50_000
"""Objects that the modules alone are."""
HOOK: Final = """
import gc
from pathlib import Path

freeze = gc.freeze

def freeze_and_tell():
    freeze()
    told = Path({told!r})
    told.with_suffix(".new").write_text(f"{{gc.get_freeze_count()}} {{len(gc.get_objects())}}")
    told.with_suffix(".new").replace(told)

gc.freeze = freeze_and_tell
"""


def test_what_the_start_brings_is_not_looked_through_again(tmp_path: Path) -> None:
    """Once the server is complete, hardly anything is left for the garbage collector to look at."""
    told, packages = tmp_path / "told", tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(HOOK.format(told=str(told)))
    with serving(tmp_path, SCRIPTED, packages=packages):
        end = time.monotonic() + SOON_S
        while not told.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        n_spared, n_left = map(int, told.read_text().split())

    assert LEAST < n_spared
    assert n_left < n_spared / 10

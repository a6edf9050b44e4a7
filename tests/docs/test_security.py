"""``docs/security.md`` claims nothing that is not tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    """A test that was renamed or dropped is a claim that nothing shows any more."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    found = set(re.findall(r"def (test_\w+)\(", sources))

    assert len(named) > 50
    assert named <= found, named - found

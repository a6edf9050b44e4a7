"""``python -m benchmarks --quick``: that every measurement runs, not what it finds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import MEASUREMENTS
from benchmarks.accuracy import edits, words

ROOT = Path(__file__).parents[2]
LONGEST_S = 800
"""About one minute on a machine with nothing else to do."""

pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_each_measurement_gives_rows_and_lines(tmp_path: Path) -> None:
    """Whoever reads the JSON finds the same fields for every figure; ``table.md`` can be pasted into a page."""
    command = (sys.executable, "-m", "benchmarks", "--quick", "--output", str(tmp_path))
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert ran.returncode == 0, ran.stderr

    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()

    assert set(found) == {"finished", "machine", "quick", "clips", "rows"}
    assert found["quick"] is True
    assert found["clips"]["count"] == 2
    assert list(MEASUREMENTS) == list(dict.fromkeys(row["measurement"] for row in found["rows"]))
    for row in found["rows"]:
        assert set(row) == {"measurement", "name", "value", "unit", "target", "met"}
        assert row["value"] >= 0
        assert (row["target"] is None) == (row["met"] is None)
    assert any(row["target"] for row in found["rows"])
    assert len(found["rows"]) == len([line for line in lines if line.startswith("| ")]) - 1


def test_words_are_compared_as_the_manifest_says() -> None:
    """NFKC, lower case, no punctuation but apostrophes inside words; hyphens and slashes part words."""
    assert words("“Well-known”, it's Ｏne and/or 'two'.") == ["well", "known", "it's", "one", "and", "or", "two"]


def test_edits_count_insertions_deletions_and_replacements() -> None:
    """The Levenshtein distance of words."""
    assert edits(["a", "b", "c"], ["a", "c", "d"]) == 2
    assert edits([], ["a"]) == 1
    assert edits(["a"], []) == 1
    assert edits(["a"], ["a"]) == 0


@pytest.mark.slow
def test_live_measurements_run(tmp_path: Path) -> None:
    """The one of many speakers and the one of real speech; what they find has a value each."""
    command = (sys.executable, "-m", "benchmarks", "live", "--quick", "--output", str(tmp_path), "sessions", "speech")
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False)

    assert ran.returncode == 0, ran.stderr
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]
    names = {row["name"] for row in rows}
    assert "5 live sessions: p95 from the sound to its event" in names
    assert "word error rate, live" in names
    assert all(row["value"] is not None for row in rows)

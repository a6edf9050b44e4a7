"""Odd and broken recordings of strangers, collected beside the repository; without the collection, nothing to test."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from tests.faces.dialects import TRANSCRIPTIONS, refusal
from tests.server import Server

COLLECTION: Final = Path(__file__).parents[3] / "shared" / "audio"


def recordings() -> list[dict[str, Any]]:
    """Group F of the manifest."""
    manifest = COLLECTION / "manifest.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    return [entry for line in lines if (entry := json.loads(line))["group"] == "F"]


@pytest.mark.skipif(not recordings(), reason="the collection of recordings is not there")
@pytest.mark.parametrize("entry", recordings(), ids=lambda entry: Path(entry["file"]).name)
def test_odd_recording_is_answered_as_it_decodes(server: Server, entry: dict[str, Any]) -> None:
    """What decodes is heard, what does not is refused, what does with errors may be either; nothing is a 500."""
    path = COLLECTION / entry["file"]

    answer = server.post(TRANSCRIPTIONS, files={"file": path.read_bytes()}, data={"model": "whisper-1"})

    allowed = {"yes": {200}, "no": {400}, "with-errors": {200, 400}}[entry["decodes"]]
    if entry["sample_rate"] and not 4_000 <= entry["sample_rate"] <= 192_000:
        allowed = {400}  # no such sound card exists; the answer says which rates are taken
    assert answer.status_code in allowed, answer.text
    if answer.status_code == 400:
        refusal(answer)

"""What rows hold is read by several threads, from the first moment on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qasr

RACE = """
import sys, threading
sys.setswitchinterval(1e-6)
import msgspec
from qasr.domain.options import RecognitionOptions
from qasr.storage import tasks
data = msgspec.json.encode(RecognitionOptions())
gate = threading.Barrier(6)
def read():
    gate.wait()
    for _ in range(20):
        assert tasks._options.decode(data) == RecognitionOptions()
threads = [threading.Thread(target=read) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("room", ["storage", "jobs", "pipeline"])
def test_no_thread_meets_a_type_first(room: str) -> None:
    """msgspec ends the process when two threads decode a type for the first time; so decoders are made at import."""
    files = (Path(qasr.__file__).parent / room).rglob("*.py")

    assert [] == [path.name for path in files if re.search(r"\.decode\([^\n]*type=", path.read_text(encoding="utf-8"))]


def test_rows_are_read_by_several_threads_at_once() -> None:
    """In a process that reads its first row."""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, timeout=60, check=False)

        assert (0, b"") == (done.returncode, done.stderr)

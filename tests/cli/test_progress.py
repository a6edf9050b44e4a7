"""What a person sees while a long recording is being heard."""

import os
import pty
import re
import subprocess
from pathlib import Path

from tests.cli.program import PROGRAM, clean_environment
from tests.conftest import Speech
from tests.jobs.program import talk, write_wav

from qasr.cli.progress import Progress

COLUMNS = 3
"""How far, how fast, how long still: the last ones of a line."""


def shown(progress: Progress) -> list[str]:
    """The columns of the one line, five seconds after it began."""
    (task,) = progress._bars.tasks
    began = task.start_time
    assert began is not None
    task.get_time = lambda: began + 5  # type: ignore[method-assign]
    return [str(column(task)) for column in progress._bars.columns[-COLUMNS:]]  # type: ignore[operator]


def test_a_line_tells_how_far_how_fast_and_how_long_still() -> None:
    """The last is known where the file says how long it is; what proves wrong is not shown."""
    with Progress() as progress, progress.line("a") as heard:
        at_first = shown(progress)
        heard(10_000)
        without_length = shown(progress)
        heard(10_000, of_ms=3_610_000)
        with_length = shown(progress)
        heard(4_000_000, of_ms=3_610_000)
        beyond = shown(progress)

    assert ["", "", ""] == at_first
    assert ["0:10 heard", "2.0×", ""] == without_length
    assert ["0:10 of 1:00:10 (0 %) heard", "2.0×", "30:00 left"] == with_length
    assert ["1:06:40 heard", "800.0×", ""] == beyond


def test_what_an_earlier_run_heard_took_no_time_now() -> None:
    """Else the rest would seem to be done in a moment."""
    with Progress() as progress, progress.line("a") as heard:
        heard(3_000_000, of_ms=3_630_000, known_ms=3_600_000)
        replayed = shown(progress)
        heard(3_610_000, of_ms=3_630_000, known_ms=3_600_000)
        on = shown(progress)

    assert ["50:00 of 1:00:30 (83 %) heard", "", ""] == replayed
    assert ["1:00:10 of 1:00:30 (99 %) heard", "2.0×", "0:10 left"] == on


def test_a_terminal_sees_speed_and_time_left(tmp_path: Path, speech: Speech) -> None:
    """The real program, with a file that says how long it is."""
    write_wav(tmp_path / "a.wav", talk(speech("jfk.flac")[:32_000], times=24, lead_ms=0))
    ours, theirs = pty.openpty()
    variables = {"QASR_ENGINES__DEFAULT": "scripted", "QASR_SCRIPTED__LATENCY_MS": "700", "QASR_SCRIPTED__SLOTS": "1"}
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "a.wav"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        cwd=tmp_path,
        env=clean_environment(variables | {"TERM": "xterm", "XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "100"}),
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # how a terminal ends
        pass
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())

    assert 0 == process.wait(30)
    assert re.search(r"a\.wav +\d:\d\d of 1:4\d \(\d+ %\) heard +\d+\.\d× +0:\d\d left", text), text

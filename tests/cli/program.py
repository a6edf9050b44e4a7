"""The real program in a process of its own, in a clean environment."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

DATA: Final = Path(__file__).parents[1] / "data"
PROGRAM: Final = (sys.executable, "-m", "qasr.cli")
WARNINGS: Final = "error,ignore::ResourceWarning"
"""An interrupted program leaves the pipe of a child that it killed to the loop's end."""
READY_S: Final = 60.0
STOP_S: Final = 40.0


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without settings, plus *variables*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QASR_")}
    return kept | {"PYTHONWARNINGS": WARNINGS, "COLUMNS": "80"} | dict(variables)


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Qasr: TypeAlias = Callable[..., Ran]
"""``qasr("transcribe", "a.flac", stdin=b"", QASR_X="1")``."""


@dataclass
class Serving:
    """A server that runs."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    """What it has printed on standard output."""
    log: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def base(self) -> str:
        """Such as ``http://127.0.0.1:34567``."""
        line = next(line for line in self.lines if "OpenAI base URL" in line)
        return line.split()[-1].removesuffix("/v1")

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if "Ctrl-C" in line:
                self.ready.set()
        self.ready.set()  # it has ended: nobody needs to wait

    def read_log(self) -> None:
        assert self.process.stderr is not None
        self.log += [line.rstrip("\n") for line in self.process.stderr]

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(by)
        return self.process.wait(STOP_S)


Serve: TypeAlias = Callable[..., Serving]


def start_server(directory: Path, arguments: Sequence[str | Path], variables: Mapping[str, str]) -> Serving:
    """A server that has said that it is ready."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=clean_environment(variables),
    )
    serving = Serving(process)
    for read in (serving.read, serving.read_log):
        threading.Thread(target=read, daemon=True).start()
    ready = serving.ready.wait(READY_S) and process.poll() is None
    if not ready:
        end(serving)
    assert ready, serving.log
    return serving


def end(serving: Serving) -> None:
    """Stop it if it still runs, and close its pipes."""
    if serving.process.poll() is None:
        serving.process.kill()
    serving.process.wait(STOP_S)
    for pipe in (serving.process.stdout, serving.process.stderr):
        if pipe is not None:
            pipe.close()


def word_error_rate(reference: str, heard: str) -> float:
    """Edits per word of *reference*, without regard to case and punctuation."""
    wanted, found = ([w.strip(".,!?;:").lower() for w in text.split()] for text in (reference, heard))
    row = list(range(len(found) + 1))
    for i, word in enumerate(wanted, start=1):
        row, last = [i], row
        for j, other in enumerate(found, start=1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (word != other)))
    return row[-1] / len(wanted)

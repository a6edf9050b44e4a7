"""What the kernel knows about a process: memory and processor time, from ``/proc``."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")
ROLES: Final = {
    "qasr.pipeline.media": "decoder",
    "qasr.engines.moonshine.host": "engine",
    "qasr.engines.pocketsphinx_aligner": "aligner",
}
"""The children of the server, by their modules."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    role: str
    rss_mb: float
    peak_mb: float
    cpu_s: float


def tree(pid: int) -> list[Process]:
    """The process *pid* and the children that it started, itself first."""
    return [_look(pid, "server"), *(_look(child, _role(child)) for child in children(pid))]


def children(pid: int) -> list[int]:
    """Processes whose parent is *pid*, oldest first."""
    folders = (folder for folder in PROC.iterdir() if folder.name.isdecimal())
    return sorted(int(folder.name) for folder in folders if _parent(folder) == pid)


def _parent(folder: Path) -> int | None:
    try:
        return int(_fields(folder)[1])
    except OSError:  # it ended while we looked
        return None


def _fields(folder: Path) -> list[str]:
    """Of ``stat``, from the third on: a process may have put blanks into the second, its name."""
    return (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _look(pid: int, role: str) -> Process:
    folder = PROC / str(pid)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    fields = _fields(folder)
    return Process(
        pid=pid,
        role=role,
        rss_mb=int(status["VmRSS"].split()[0]) / 1024,
        peak_mb=int(status["VmHWM"].split()[0]) / 1024,
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
    )


def _role(pid: int) -> str:
    """What a child does, by the module that it was started with."""
    arguments = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return next((ROLES[module] for text in arguments if (module := text.partition(":")[0]) in ROLES), "other")

"""Memory of a server with all its children, and the disk that it uses, over time."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.process import PROC, Process, tree

EVERY_S: Final = 0.5
ENGINES: Final = ("engine", "aligner")
"""Roles of processes that hold models."""


@dataclass
class Watch:
    """What was seen, look by look."""

    rss_mb: list[float] = field(default_factory=list)
    """Of the whole tree without ``ENGINES``."""
    by_role_mb: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The most of each role, its processes together."""
    disk_mb: float = 0.0
    """The most."""

    @property
    def peak_mb(self) -> float:
        return max(self.rss_mb)

    @property
    def flatness(self) -> float:
        """The most of the second half over its median."""
        half = self.rss_mb[len(self.rss_mb) // 2 :]
        return max(half) / median(half)

    def look(self, pid: int, folder: Path) -> None:
        found = whole_tree(pid)
        self.rss_mb.append(sum(process.rss_mb for process in found if process.role not in ENGINES))
        for role in {process.role for process in found}:
            together = sum(process.rss_mb for process in found if process.role == role)
            self.by_role_mb[role] = max(self.by_role_mb[role], together)
        self.disk_mb = max(self.disk_mb, used_mb(folder))


@contextmanager
def watching(pid: int) -> Iterator[Watch]:
    """Look at the server *pid* twice a second until the block ends."""
    watch, ended = Watch(), threading.Event()

    def run() -> None:
        while not ended.is_set():
            with suppress(OSError):  # a process ended while we looked
                watch.look(pid, data_dir(pid))
            ended.wait(EVERY_S)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def whole_tree(pid: int) -> list[Process]:
    """The server, its children and theirs."""
    first, *found = tree(pid)
    return [first, *(process for child in found for process in _below(child))]


def _below(process: Process) -> list[Process]:
    _, *found = tree(process.pid)
    return [process, *(below for child in found for below in _below(child))]


def data_dir(pid: int) -> Path:
    """Of a server that ``serving`` has started."""
    return (PROC / str(pid) / "cwd").resolve() / "data"


def used_mb(folder: Path) -> float:
    """What the files under *folder* take on the disk."""
    blocks = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            blocks += path.lstat().st_blocks
    return blocks * 512 / 2**20

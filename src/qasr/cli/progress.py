"""What is under way, on standard error, for people only: nothing is written where it is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

NAME_COLUMNS: Final = 40


class _Heard(ProgressColumn):
    """Audio that has become text."""

    def render(self, task: Task) -> Text:
        return Text(f"{clock(task.completed)} heard" if task.completed else "", style="green")


class _Speed(ProgressColumn):
    """Seconds of audio per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:.1f}×" if task.elapsed and task.completed else "", style="dim")


class Progress:
    """A line for each recording under way; a context manager."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._console = Console(file=sys.stderr, highlight=False)
        self._began = time.monotonic()
        self._audio_s = 0.0
        name = Column(overflow="ellipsis", no_wrap=True, max_width=NAME_COLUMNS)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=name),
            _Heard(),
            _Speed(),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # it would send our text to standard error
            redirect_stderr=False,
            disable=not self.is_shown,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lines are off the screen, which something else may be written to."""
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()

    @contextmanager
    def line(self, name: str) -> Iterator[Callable[[int], None]]:
        """A line for *name*; the function takes how far the recording has been heard, in ms."""
        task = self._bars.add_task(name, total=None)
        last_s = 0.0

        def heard(ms: int) -> None:
            nonlocal last_s
            last_s = ms / 1000
            self._bars.update(task, completed=last_s)

        try:
            yield heard
        finally:
            self._audio_s += last_s
            self._bars.remove_task(task)

    def conclude(self, n_done: int, n_failed: int) -> None:
        """How it went, in one line."""
        if not self.is_shown:
            return
        wall_s = time.monotonic() - self._began
        files = f"{n_done} {'recording' if n_done == 1 else 'recordings'} done"
        failed = f", {n_failed} failed" if n_failed else ""
        speed = f"; {clock(self._audio_s)} heard in {wall_s:.1f} s ({self._audio_s / wall_s:.1f}×)"
        self._console.print(f"{files}{failed}{speed if self._audio_s else ''}", style="dim")


def clock(seconds: float) -> str:
    """``0:07``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

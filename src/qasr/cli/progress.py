"""What is under way, on standard error, for people only: nothing is written where it is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from qasr.cli.transcriber import Heard

NAME_COLUMNS: Final = 40


class _Heard(ProgressColumn):
    """Audio that has become text, of all that there is where that is known."""

    def render(self, task: Task) -> Text:
        if not task.completed:
            return Text("")
        of_s = _length_s(task)
        share = "" if of_s is None else f" of {clock(of_s)} ({100 * task.completed / of_s:.0f} %)"
        return Text(f"{clock(task.completed)}{share} heard", style="green")


class _Speed(ProgressColumn):
    """Seconds of audio per second."""

    def render(self, task: Task) -> Text:
        speed = _speed(task)
        return Text(f"{speed:.1f}×" if speed else "", style="dim")


class _Left(ProgressColumn):
    """How long it will take at the speed so far."""

    def render(self, task: Task) -> Text:
        speed, of_s = _speed(task), _length_s(task)
        if not speed or of_s is None or task.completed == of_s:
            return Text("")
        return Text(f"{clock((of_s - task.completed) / speed)} left", style="dim")


def _length_s(task: Task) -> float | None:
    """Of the whole recording; None where it is not known, or was said to be less than has been heard."""
    of_s: float | None = task.fields["of_s"]
    return of_s if of_s is not None and of_s >= task.completed else None


def _speed(task: Task) -> float:
    """Of what was heard now and not by an earlier run; 0: not known yet."""
    known_s: float = task.fields["known_s"]
    return max(0.0, task.completed - known_s) / task.elapsed if task.elapsed else 0.0


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
            _Left(),
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
    def line(self, name: str) -> Iterator[Heard]:
        """A line for *name*; the function takes how far the recording has been heard."""
        task = self._bars.add_task(name, total=None, of_s=None, known_s=0.0)
        now_s = 0.0

        def heard(ms: int, *, of_ms: int | None = None, known_ms: int = 0) -> None:
            nonlocal now_s
            now_s = max(0, ms - known_ms) / 1000
            of_s = None if of_ms is None else of_ms / 1000
            self._bars.update(task, completed=ms / 1000, of_s=of_s, known_s=known_ms / 1000)

        try:
            yield heard
        finally:
            self._audio_s += now_s
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

"""Tasks as they are printed: a table, one task, a bar that grows."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.table import Table
from rich.text import Text

from qasr.cli.failure import one_line
from qasr.cli.progress import clock
from qasr.cli.recordings import Recording
from qasr.cli.task_shapes import Entry, Result, Task

WIDE: Final = 120
"""Columns where nobody tells us how many there are."""
CHINA: Final = timezone(timedelta(hours=8))
"""In whose time answers are."""
STYLES: Final = {"SUCCEEDED": "green", "FAILED": "red", "RUNNING": "yellow", "CANCELED": "dim", "UNKNOWN": "red"}


def table(rows: Iterable[tuple[Entry, int | None]]) -> Table:
    """Tasks, each with the number of its files."""
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    found.add_column("id", no_wrap=True, min_width=36)
    found.add_column("model", overflow="fold")
    found.add_column("state", no_wrap=True, min_width=9)
    found.add_column("submitted", no_wrap=True, min_width=19)
    found.add_column("files", justify="right")
    for entry, n_files in rows:
        found.add_row(
            Text(one_line(entry.task_id)),
            Text(one_line(entry.model_name)),
            state(entry.status),
            Text(_local(datetime.fromtimestamp(entry.gmt_create / 1000, UTC))),
            Text("-" if n_files is None else str(n_files)),
        )
    return found


def facts(output: Task) -> Table:
    """One task."""
    found = Table.grid(padding=(0, 2))
    found.add_row(Text("task", "dim"), Text(one_line(output.task_id)))
    found.add_row(Text("state", "dim"), state(output.task_status))
    times = (("submitted", output.submit_time), ("begun", output.scheduled_time), ("ended", output.end_time))
    for name, moment in times:
        if moment is not None:
            found.add_row(Text(name, "dim"), Text(_from_china(moment)))
    if output.task_metrics is not None:
        counts = output.task_metrics
        text = f"{counts.TOTAL} ({counts.SUCCEEDED} done, {counts.FAILED} failed)"
        found.add_row(Text("files", "dim"), Text(text))
    if output.progress is not None:
        done_ms, total_ms = output.progress.done_ms, output.progress.total_ms
        text = f"{clock(done_ms / 1000)} of {clock(total_ms / 1000)} of speech ({100 * done_ms // max(1, total_ms)} %)"
        found.add_row(Text("heard", "dim"), Text(text))
    if (reason := failure(output)) is not None:
        found.add_row(Text("reason", "dim"), Text(reason, "red"))
    return found


def recordings(output: Task) -> Table | None:
    """What became of each file, where the server tells it."""
    if output.results is None:
        return None
    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    found.add_column("state", no_wrap=True)
    found.add_column("file", overflow="fold")
    found.add_column("reason", overflow="fold")
    for result in output.results:
        found.add_row(state(result.subtask_status), Text(name(result.file_url)), Text(reason_of(result) or ""))
    return found


def state(text: str) -> Text:
    """A state in its color."""
    return Text(one_line(text), STYLES.get(text, ""))


def name(url: str) -> str:
    """An address as it may be shown: without what may be secret in it."""
    return Recording(url).name


def failure(output: Task) -> str | None:
    """Why the task failed."""
    return _reason(output.code, output.message)


def reason_of(result: Result) -> str | None:
    """Why the file failed."""
    return _reason(result.code, result.message)


def _reason(code: str | None, message: str | None) -> str | None:
    parts = [one_line(part) for part in (code, message) if part is not None]
    return ": ".join(dict.fromkeys(parts)) or None


def console() -> Console:
    """Standard output."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDE)


class Watcher(Protocol):
    """Is shown a task again and again."""

    def __call__(self, output: Task) -> None:
        """This is how it is now."""
        ...


@contextmanager
def watching() -> Iterator[Watcher]:
    """A bar on standard error, for people only."""
    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Heard(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr, highlight=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    )
    bar = bars.add_task("PENDING", total=None)

    def watch(output: Task) -> None:
        progress = output.progress
        if progress is None:
            bars.update(bar, description=output.task_status)
        else:
            bars.update(
                bar,
                description=output.task_status,
                completed=progress.done_ms / 1000,
                total=progress.total_ms / 1000,
            )

    with bars:
        yield watch


class _Heard(ProgressColumn):
    """Speech that is recognized, of all that was found."""

    def render(self, task: Bar) -> Text:
        return Text("" if task.total is None else f"{clock(task.completed)} of {clock(task.total)}", style="green")


def _from_china(text: str) -> str:
    try:
        return _local(datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=CHINA))
    except ValueError:
        return one_line(text)


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"

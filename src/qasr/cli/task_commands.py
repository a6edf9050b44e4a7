"""``qasr tasks`` at work."""

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import anyio
import msgspec
import typer

from qasr.cli import interruption, task_documents, task_views
from qasr.cli.failure import FAILED, fail, one_line, tell
from qasr.cli.options import Form
from qasr.cli.recordings import Recording, output_names
from qasr.cli.task_client import ServerFailed, TaskClient, connected
from qasr.cli.task_shapes import Entry, Task

UNFINISHED: Final = frozenset({"PENDING", "RUNNING"})
AT_ONCE: Final = 8
TIMED_OUT: Final = 124
"""As ``timeout(1)`` ends."""
FIRST_POLL_S: Final = 0.25
SLOWEST_POLL_S: Final = 5.0
PATIENCE_S: Final = 120.0
"""How long a server may be away, that is started anew, while a task is waited for."""

T = TypeVar("T")


def list_tasks(server: str, api_key: str, *, status: str | None, limit: int, as_json: bool) -> None:
    """Print tasks, newest first."""

    async def ask(client: TaskClient) -> list[tuple[Entry, int | None]]:
        entries = [entry async for entry in client.tasks(status=status, limit=limit)]
        counts: dict[str, int] = {}
        if not as_json:  # lists do not tell how many files a task has
            await _count(client, [entry.task_id for entry in entries], counts)
        return [(entry, counts.get(entry.task_id)) for entry in entries]

    rows = _run(server, api_key, ask)
    if as_json:
        _print_json([entry for entry, _ in rows])
    elif rows:
        task_views.console().print(task_views.table(rows))
    else:
        tell("no tasks")


async def _count(client: TaskClient, task_ids: list[str], counts: dict[str, int]) -> None:
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def one(task_id: str) -> None:
        async with limiter:
            output = await client.task(task_id)
        if output.task_status != "UNKNOWN":  # it has expired in between
            counts[task_id] = output.n_files

    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            group.start_soon(one, task_id)


def show(server: str, api_key: str, task_id: str, *, as_json: bool) -> None:
    """Print one task."""
    output = _run(server, api_key, lambda client: client.task(task_id))
    if as_json:
        _print_json(output)
    _check_known(output)
    if not as_json:
        console = task_views.console()
        console.print(task_views.facts(output))
        if (recordings := task_views.recordings(output)) is not None:
            console.print("", recordings, sep="\n")


def wait(server: str, api_key: str, task_id: str, *, timeout_s: float | None) -> None:
    """Wait for the end of a task."""

    async def ask(client: TaskClient) -> Task | None:
        with task_views.watching() as watch, anyio.move_on_after(timeout_s):
            return await _ended(client, task_id, watch)
        return None

    output = _run(server, api_key, ask)
    if output is None:
        fail(f"the task has not ended within {timeout_s:g} s", TIMED_OUT)
    _check_known(output)
    _tell_failures(output)
    sys.stdout.write(f"{one_line(output.task_status)}\n")
    if output.task_status != "SUCCEEDED":
        raise typer.Exit(FAILED)


async def _ended(client: TaskClient, task_id: str, watch: task_views.Watcher) -> Task:
    pause_s = FIRST_POLL_S
    answered: float | None = None
    while True:
        try:
            output = await client.task(task_id)
        except ServerFailed as error:
            if answered is None or not error.may_pass or time.monotonic() - answered > PATIENCE_S:
                raise
        else:
            answered = time.monotonic()
            watch(output)
            if output.task_status not in UNFINISHED:
                return output
        await anyio.sleep(pause_s)
        pause_s = min(pause_s * 1.25, SLOWEST_POLL_S)


def cancel(server: str, api_key: str, task_id: str) -> None:
    """Cancel a task that has not begun."""
    _run(server, api_key, lambda client: client.cancel(task_id))
    sys.stdout.write("CANCELED\n")


def result(server: str, api_key: str, task_id: str, *, form: Form, output_dir: Path | None) -> None:
    """Print or store the transcripts of a task."""
    output = _run(server, api_key, lambda client: client.task(task_id))
    _check_known(output)
    if output.task_status in UNFINISHED:
        fail(f"the task is {output.task_status}; wait for it with: qasr tasks wait {one_line(task_id)}", FAILED)
    n_failed = _tell_failures(output)
    links = _links(output)
    if not links:
        fail(f"the task is {one_line(output.task_status)}: there is no transcript", FAILED)
    try:
        if output_dir is not None:
            output_dir.mkdir(parents=True, exist_ok=True)
        _run(server, api_key, lambda client: _deliver(client, links, form, output_dir))
    except BrokenPipeError:  # whoever read our text has enough of it; typer ends quietly
        raise
    except OSError as error:
        fail(error, FAILED)
    if n_failed:
        raise typer.Exit(FAILED)


async def _deliver(
    client: TaskClient, links: list[tuple[str | None, str]], form: Form, output_dir: Path | None
) -> None:
    """One document after the other: they may be large."""
    urls: list[str] = []
    for known, link in links:
        document = await client.document(link)
        try:
            text = task_documents.render(form, document)
            urls.append(known or task_documents.file_url(document))
        except ValueError as error:
            raise ServerFailed("the result has an unknown shape") from error
        if output_dir is not None:
            names = output_names([Recording(url) for url in urls], form.value)
            await anyio.Path(output_dir / names[-1]).write_text(text, encoding="utf-8")
            continue
        if form is Form.TXT and len(links) > 1:
            sys.stdout.write(f"==> {task_views.name(urls[-1])} <==\n")
        sys.stdout.write(text)
        sys.stdout.flush()


def _links(output: Task) -> list[tuple[str | None, str]]:
    """The address of each file, where it is told, and of its document."""
    if output.result is not None:
        return [(None, output.result.transcription_url)]
    results = output.results or ()
    return [(r.file_url, r.transcription_url) for r in results if r.transcription_url is not None]


def _tell_failures(output: Task) -> int:
    """Why files failed, on standard error, and how many; the task's own reason where it has no list of them."""
    n_failed = 0
    if output.results is not None:
        for item in output.results:
            if (reason := task_views.reason_of(item)) is not None:
                tell(f"{task_views.name(item.file_url)}: {reason}")
                n_failed += 1
    elif (reason := task_views.failure(output)) is not None:
        tell(f"qasr: {reason}")
        n_failed = 1
    return n_failed


def _check_known(output: Task) -> None:
    if output.task_status == "UNKNOWN":
        fail("the server knows no such task of this key; ended ones are forgotten after a day", FAILED)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _run(server: str, api_key: str, ask: Callable[[TaskClient], Awaitable[T]]) -> T:
    """What *ask* returns; ends the program if the server fails."""
    if not server.startswith(("http://", "https://")):
        fail(f"--server needs an address such as http://127.0.0.1:8000, not {one_line(server)}")
    if not (api_key.isascii() and api_key.isprintable()):
        fail("the key has characters that no header takes")

    async def work() -> T:
        async with connected(server, api_key) as client:
            return await ask(client)

    try:
        return interruption.run(work)
    except ServerFailed as error:
        fail(error, FAILED)

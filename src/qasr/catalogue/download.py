"""Fetching a checkpoint's files: what is there already is kept, what was begun goes on, what arrives is checked."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx2

from qasr.catalogue.checkpoints import Checkpoint
from qasr.catalogue.hubs import TIMEOUT, HubFailed, Remote
from qasr.catalogue.store import File, Installed, Store, difference

ATTEMPTS: Final = 5
"""Connections in a row that brought nothing, before a download is given up."""
BEGUN: Final = ".part"


def download(store: Store, checkpoint: Checkpoint, remote: Remote, *, got: Callable[[int], None]) -> Installed:
    """Fetch all files of *remote*, and record them as installed.

    Args:
        store: where they go.
        checkpoint: what they are.
        remote: where they are.
        got: told how many bytes more are there, kept ones included.

    Raises:
        HubFailed: a file could not be had, or is not what the hub says; what has arrived is kept for another try.
        OSError: the disk is full, say.
    """
    home = store.home(checkpoint, f"{remote.source} {remote.revision}")
    home.mkdir(parents=True, exist_ok=True)
    missing = sum(file.n_bytes - _n_there(home / file.path) for file in remote.files)
    free = shutil.disk_usage(home).free
    if missing > free:
        raise HubFailed(f"it takes {missing / 1e6:.0f} MB more, and there are {free / 1e6:.0f} MB free in {store.root}")
    with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for file in remote.files:
            _fetch(client, remote, file, home / file.path, got)
    record = Installed(
        name=checkpoint.name,
        folder=home.name,
        source=remote.source,
        revision=remote.revision,
        license=remote.license or checkpoint.license,
        files=list(remote.files),
    )
    store.write(record)
    return record


def _n_there(path: Path) -> int:
    """Bytes of the file at *path* that have arrived."""
    for place in (path, _part(path)):
        if place.is_file():
            return place.stat().st_size
    return 0


def _part(path: Path) -> Path:
    return path.with_name(path.name + BEGUN)


def _fetch(client: httpx2.Client, remote: Remote, file: File, path: Path, got: Callable[[int], None]) -> None:
    if path.is_file() and difference(path, file) is None:
        got(file.n_bytes)
        return
    part = _part(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    if part.stat().st_size > file.n_bytes:
        part.write_bytes(b"")
    got(part.stat().st_size)
    failures = 0
    while (begun := part.stat().st_size) < file.n_bytes:
        try:
            _fetch_on(client, remote, file, part, got)
        except httpx2.HTTPStatusError as error:
            raise HubFailed(f"{file.path}: the hub answered {error.response.status_code}") from error
        except httpx2.TransportError as error:
            failures = 0 if part.stat().st_size > begun else failures + 1
            if failures == ATTEMPTS:
                raise HubFailed(f"{file.path} broke off: {str(error) or type(error).__name__}; try again") from error
        else:
            failures = 0 if part.stat().st_size > begun else failures + 1
            if failures == ATTEMPTS:
                raise HubFailed(f"{file.path} broke off again and again; try again later")
    if (problem := difference(part, file)) is not None:
        part.unlink()
        raise HubFailed(f"{file.path} {problem}, against what the hub says; it was removed, try again")
    part.replace(path)


def _fetch_on(client: httpx2.Client, remote: Remote, file: File, part: Path, got: Callable[[int], None]) -> None:
    """From where *part* ends."""
    begun = part.stat().st_size
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    with client.stream("GET", remote.addresses[file.path], headers=headers) as answer:
        answer.raise_for_status()
        is_rest = answer.status_code == httpx2.codes.PARTIAL_CONTENT
        if begun and not is_rest:  # it cannot send the rest: all of it comes again
            got(-begun)
        with part.open("ab" if is_rest else "wb") as out:
            n_there = begun if is_rest else 0
            for block in answer.iter_bytes():
                n_there += len(block)
                if n_there > file.n_bytes:
                    raise HubFailed(f"{file.path}: the hub sends more than the {file.n_bytes} bytes that it announced")
                out.write(block)
                got(len(block))

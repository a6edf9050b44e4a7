"""Small files of a data directory that are made at its first start and then stay: what signs, and the server's name.

A file is there whole or not at all: it is written under another name, flushed, and renamed. First starts at the same
moment take turns and agree. Older files were not made like this, and a crash or a full disk may have left an empty one:
that says nothing, and is made anew.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


def made_once(path: Path, make: Callable[[], bytes], *, least_bytes: int) -> bytes:
    """The contents of the file *path*, which is readable by us alone.

    Args:
        path: its directory is made, too.
        make: gives the contents at the first start.
        least_bytes: a file that holds less was not finished.
    """
    if len(found := _read(path)) >= least_bytes:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if len(found := _read(path)) >= least_bytes:  # somebody else was first
            return found
        if path.exists():
            log.warning("file_made_anew", file=path.name, bytes_found=len(found))
        made = make()
        _write(path.with_name(f".{path.name}.new"), made).replace(path)
        os.fsync(folder)
        return made
    finally:
        os.close(folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _write(path: Path, contents: bytes) -> Path:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    return path

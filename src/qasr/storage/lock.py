"""One data directory belongs to one server: an exclusive lock on the file ``lock`` in it, for as long as it runs.

The system frees the lock when its holder ends, however it ends; the file stays and means nothing by itself.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qasr.domain.errors import InvalidParameter

FILE: Final = "lock"


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold *data_dir*, which is made if it does not exist, until the block ends.

    Raises:
        InvalidParameter: another process holds it, or it cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidParameter(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
    try:
        if not _locked(descriptor, fcntl.LOCK_EX):
            raise InvalidParameter(
                f"the data directory {data_dir} is in use by process {_pid(descriptor)}; "
                "stop that one, or give this one its own with --data-dir"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(data_dir: Path) -> str | None:
    """The id of the process that holds *data_dir*; None if nobody does."""
    try:
        descriptor = os.open(data_dir / FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _locked(descriptor, fcntl.LOCK_SH) else _pid(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"

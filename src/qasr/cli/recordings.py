"""What the command line names: files, addresses, standard input; and what their transcripts are called."""

import errno
import os
import secrets
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import anyio

from qasr.cli.failure import one_line
from qasr.domain.errors import TooLarge

STDIN: Final = "-"
CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recording:
    """One argument of the command line."""

    argument: str

    @property
    def is_url(self) -> bool:
        """Whether it is an address and no file."""
        return "://" in self.argument and urlsplit(self.argument).scheme.isalnum()

    @property
    def name(self) -> str:
        """For people: fit for any terminal and for JSON. Of an address, without what may be secret in it."""
        if self.argument == STDIN:
            return "standard input"
        text = self.argument
        if self.is_url:
            parts = urlsplit(text)
            text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        return one_line(os.fsencode(text).decode(errors="replace"))

    @property
    def stem(self) -> str:
        """Name of its transcript, without an ending."""
        if self.argument == STDIN:
            return "stdin"
        path = unquote(urlsplit(self.argument).path) if self.is_url else self.argument
        return Path(path.replace("\0", "")).stem or "recording"

    @asynccontextmanager
    async def file(self, spool: Path, *, max_bytes: int) -> AsyncIterator[Path]:
        """The recording as a regular file: itself, or a copy of what flows in (removed afterwards).

        Raises:
            OSError: it cannot be read.
            TooLarge: more flows in than *max_bytes*.
        """
        if self.argument != STDIN:
            path = Path(self.argument)
            if await anyio.to_thread.run_sync(_is_regular, path):
                yield path
                return
        descriptor = (
            0 if self.argument == STDIN else await anyio.to_thread.run_sync(os.open, self.argument, os.O_RDONLY)
        )
        copy = spool / secrets.token_hex(16)
        try:
            await _pour(descriptor, copy, max_bytes)
            yield copy
        finally:
            copy.unlink(missing_ok=True)
            if descriptor:
                os.close(descriptor)


def _is_regular(path: Path) -> bool:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        return False
    path.open("rb").close()  # what is wrong is told in the system's words, not by a decoder as a broken file
    return True


async def _pour(descriptor: int, target: Path, max_bytes: int) -> None:
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    n_bytes = 0
    with target.open("xb") as file:
        while True:
            if not is_file:
                await anyio.wait_readable(descriptor)  # not in a thread: Ctrl-C must not wait for the next byte
            data = os.read(descriptor, CHUNK_BYTES)
            if not data:
                return
            n_bytes += len(data)
            if n_bytes > max_bytes:
                raise TooLarge(f"The audio exceeds the limit of {max_bytes / 1024**2:g} MB.")
            file.write(data)


def output_names(recordings: Sequence[Recording], ending: str) -> list[str]:
    """A name for each transcript, no two alike (on file systems that ignore case, too), in the order given."""
    taken: set[str] = set()
    names = []
    for recording in recordings:
        name, number = f"{recording.stem}.{ending}", 1
        while name.casefold() in taken:
            number += 1
            name = f"{recording.stem}-{number}.{ending}"
        taken.add(name.casefold())
        names.append(name)
    return names

"""What was heard of a long recording before the program was interrupted, so that the next run goes on from there.

One file per recording and way of hearing it, in the user's cache, readable by the user alone: a line of JSON per
segment. Segments are found anew each time, which is quick and comes out the same; only recognition is left out. The
file appears once a recording proves to be long, goes away when its transcript is done, and after ``KEPT_S`` anyway.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec

from qasr import __version__
from qasr.domain.audio import Segment
from qasr.domain.transcript import Sentence

LONG_MS: Final = 600_000
"""Shorter recordings are heard again as fast as anybody could miss them."""
KEPT_S: Final = 7 * 24 * 3600


class _Line(msgspec.Struct, frozen=True):
    channel: int
    begin_ms: int
    end_ms: int
    sentences: tuple[Sentence, ...]


class Journal:
    """A ``Memory`` in a file.

    Args:
        path: of the file; None: nothing is remembered.
        long_ms: from where on a recording is long.
    """

    def __init__(self, path: Path | None, *, long_ms: int = LONG_MS) -> None:
        self._path, self._long_ms = path, long_ms
        self._file: IO[bytes] | None = None
        self._known: dict[tuple[int, int, int], tuple[Sentence, ...]] = {}
        self._unwritten: list[bytes] = []

    @property
    def reached_ms(self) -> int:
        """How far an earlier run came; 0: there was none."""
        return max((end_ms for _, _, end_ms in self._known), default=0)

    def recall(self, segment: Segment) -> tuple[Sentence, ...] | None:
        """What an earlier run heard in *segment*."""
        return self._known.get((segment.channel, segment.begin_ms, segment.end_ms))

    def keep(self, segment: Segment, sentences: tuple[Sentence, ...]) -> None:
        """This was heard in *segment*."""
        if self._path is None:
            return
        line = _Line(segment.channel, segment.begin_ms, segment.end_ms, sentences)
        self._unwritten.append(msgspec.json.encode(line) + b"\n")
        if segment.end_ms < self._long_ms and self._file is None:
            return
        try:
            self._write()
        except OSError:  # no room, no home: the recording is heard all the same
            self._path = None
            self._unwritten.clear()

    def open(self) -> None:
        """Read what is there."""
        try:
            if self._path is None or not self._path.exists():
                return
            self._claim(self._path)
        except OSError:
            self._path = None

    def close(self, *, done: bool) -> None:
        """Nothing is added any more; if the transcript is done, the file goes away."""
        if self._file is not None and self._path is not None and done:
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        assert self._path is not None
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._claim(self._path)
        assert self._file is not None
        self._file.write(b"".join(self._unwritten))
        self._unwritten.clear()

    def _claim(self, path: Path) -> None:
        """Open the file for us alone; what was written last may be cut off in the middle of a line."""
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            for line in data[:whole].splitlines():
                found = msgspec.json.decode(line, type=_Line)
                self._known[found.channel, found.begin_ms, found.end_ms] = found.sentences
            file.truncate(whole)
            file.seek(whole)
        except msgspec.MsgspecError:  # of another version, or damaged: begin anew
            self._known.clear()
            file.truncate(0)
            file.seek(0)
        except OSError:
            file.close()
            raise
        self._file = file


@contextmanager
def journal(recording: Path | None, way: str, *, long_ms: int = LONG_MS) -> Iterator[Journal]:
    """The journal of the file *recording* (None: of none), heard in this *way*: engine, options, settings."""
    path = None if recording is None else _place(recording, way)
    kept = Journal(path, long_ms=long_ms)
    kept.open()
    done = False
    try:
        yield kept
        done = True
    finally:
        kept.close(done=done)


def _place(recording: Path, way: str) -> Path | None:
    """Where the journal lies; None where there is no place for it."""
    try:
        found = recording.stat()
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qasr" / "transcribe"
        _forget_old(folder)
        name = (
            str(recording.resolve()),
            found.st_dev,
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
            way,
            __version__,
        )
    except (OSError, RuntimeError):
        return None
    return folder / f"{hashlib.sha256(msgspec.json.encode(name)).hexdigest()}.jsonl"


def _forget_old(folder: Path) -> None:
    for path in folder.glob("*.jsonl"):
        if path.stat().st_mtime < time.time() - KEPT_S:
            path.unlink(missing_ok=True)

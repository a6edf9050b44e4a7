"""Which checkpoints are installed: ``models/`` under the data directory::

    models/qwen3-asr-0.6b/checkpoint.json      what is installed; written last, so what has no record is not there
                          5eb144179a02/        its files; those of another revision get a folder of their own,
                                               so that an engine that has the old ones open may keep them

``add`` records a folder of the user's own, which stays where it is. Records are read each time: what is installed while
a server runs serves its next request.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from qasr.catalogue.checkpoints import Checkpoint
from qasr.domain.errors import InvalidParameter, NotFound

RECORD: Final = "checkpoint.json"
BLOCK: Final = 4 * 1024**2

log = structlog.get_logger(__name__)


class File(msgspec.Struct, frozen=True):
    """One file of a checkpoint."""

    path: str
    n_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None
    """What git calls it; hubs tell it of small files."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A record."""

    name: str
    folder: str
    """Absolute, or relative to that of the record."""
    source: str
    """Such as ``hugging_face:Qwen/Qwen3-ASR-0.6B``, or ``local``."""
    revision: str
    license: str
    files: list[File]

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return sum(file.n_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not as it was recorded."""

    path: str
    text: str


class Store:
    """The folder of all checkpoints; it need not be there yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str) -> Installed | None:
        """The record of the checkpoint *name*; None: it is not installed, or its record is damaged."""
        try:
            return msgspec.json.decode((self.root / name / RECORD).read_bytes(), type=Installed)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("checkpoint_record_unreadable", checkpoint=name, reason=str(error))
            return None

    def folder(self, record: Installed) -> Path:
        """Where its files lie."""
        return (self.root / record.name / record.folder).absolute()

    def home(self, checkpoint: Checkpoint, revision: str) -> Path:
        """Where the files of *revision* go."""
        return self.root / checkpoint.name / hashlib.sha256(revision.encode()).hexdigest()[:12]

    def write(self, record: Installed) -> None:
        """From now on this is what is installed; files of other revisions are removed."""
        place = self.root / record.name
        place.mkdir(parents=True, exist_ok=True)
        fresh = place / f"{RECORD}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
        fresh.replace(place / RECORD)
        for path in place.iterdir():
            if path.is_dir() and path.absolute() != self.folder(record):
                shutil.rmtree(path, ignore_errors=True)

    def add(self, checkpoint: Checkpoint, folder: Path) -> Installed:
        """Record *folder*, which stays where it is.

        Raises:
            InvalidParameter: it does not hold such a checkpoint.
        """
        folder = folder.absolute()
        if not folder.is_dir():
            raise InvalidParameter(f"{folder} is no folder")
        paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        if missing := checkpoint.missing(set(paths)):
            raise InvalidParameter(f"{folder} holds no {checkpoint.name}: there is no {', '.join(missing)}")
        record = Installed(
            name=checkpoint.name,
            folder=str(folder),
            source="local",
            revision="",
            license="",
            files=[
                File(name, path.stat().st_size, sha256=_hash("sha256", path))
                for name, path in sorted(paths.items())
                if checkpoint.wants(name)
            ],
        )
        self.write(record)
        return record

    def remove(self, name: str) -> Installed | None:
        """Forget the checkpoint and remove its files, also those of an unfinished download; folders of the user's own
        stay.

        Raises:
            NotFound: there is nothing of it.
        """
        record, place = self.find(name), self.root / name
        if not place.is_dir():
            raise NotFound(f"{name} is not installed")
        (place / RECORD).unlink(missing_ok=True)  # first: nobody is to find half of it
        shutil.rmtree(place)
        return record

    def check(self, record: Installed, *, heard: Callable[[int], None] = lambda _: None) -> Iterator[Problem]:
        """Files that are missing or not as they were recorded; *heard* is told how many bytes were looked at."""
        folder = self.folder(record)
        for file in record.files:
            try:
                problem = difference(folder / file.path, file)
            except OSError as error:
                problem = error.strerror or str(error)
            if problem is not None:
                yield Problem(file.path, problem)
            heard(file.n_bytes)


def difference(path: Path, file: File) -> str | None:
    """How the file at *path* differs from *file*; None: not at all.

    Raises:
        OSError: it cannot be read.
    """
    n_bytes = path.stat().st_size
    if n_bytes != file.n_bytes:
        return f"has {n_bytes} bytes, not {file.n_bytes}"
    if file.sha256 is not None and _hash("sha256", path) != file.sha256:
        return "has another SHA-256"
    if file.git_sha1 is not None and _hash("sha1", path, b"blob %d\0" % n_bytes) != file.git_sha1:
        return "has another hash"
    return None


def _hash(algorithm: str, path: Path, head: bytes = b"") -> str:
    digest = hashlib.new(algorithm, head, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

"""What ``qasr doctor`` finds around the program: database, object store, disk, memory, clock, FFmpeg, observers.

All of it is looked at, and nothing is changed.
"""

import ctypes
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import av
import av.codec
import sqlalchemy as sa

from qasr.app import check_observers
from qasr.cli.finding import Finding
from qasr.config import Settings
from qasr.domain.errors import QasrError
from qasr.pipeline.media import BETTER, DECODERS, DEMUXERS
from qasr.storage.checkup import Checkup, look_at_file, look_at_server
from qasr.storage.database import HEAD
from qasr.storage.lock import holder
from qasr.storage.objects import Objects

SCARCE_BYTES: Final = 1024**3
"""Less free space than one upload may take."""
SCARCE_MEMORY_BYTES: Final = 1024**3
"""Less than the embedded engine and four decoders take, with some room."""
STORE_S: Final = 10.0
"""For an object store to answer."""
COLLECTOR_S: Final = 2.0
CLOCKS_APART_S: Final = 5.0
"""Between our clock and the database's; links and upload permits are good for minutes."""
FILES_PER_SESSION: Final = 2
OTHER_FILES: Final = 200
REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"})
"""File systems over a network, on which SQLite's locks cannot be trusted."""
UNSYNCHRONIZED: Final = 5
"""``TIME_ERROR`` of adjtimex(2)."""


async def surroundings(settings: Settings) -> list[Finding]:
    """Everything but the engine and who may come in."""
    return [
        data_dir(settings.data_dir),
        await anyio.to_thread.run_sync(database, settings),
        *[finding for finding in [await store(settings)] if finding is not None],
        memory(),
        open_files(settings.live.most_sessions),
        clock(),
        ffmpeg(),
        *await anyio.to_thread.run_sync(lambda: list(observers(settings))),
    ]


def data_dir(folder: Path) -> Finding:
    """Whether it can be written, and how much room there is."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("data directory", ok=False, text=f"{folder}: {existing} cannot be written")
    usage = shutil.disk_usage(existing)
    scarce = " (less than one upload may take)" if usage.free < SCARCE_BYTES else ""
    pid = holder(folder)
    used = f", in use by process {pid}" if pid else ""
    new = "" if existing == folder.absolute() else ", will be made"
    text = f"{folder}: writable{new}{used}, {usage.free / 1024**3:.1f} GiB free{scarce}"
    return Finding("data directory", ok=True, text=text)


def database(settings: Settings) -> Finding:
    """Whether tasks can be kept."""
    if settings.database.url is not None:
        try:
            found = look_at_server(settings.database.url)
        except (sa.exc.SQLAlchemyError, ValueError) as error:
            return Finding("database", ok=False, text=f"database.url cannot be used: {_reason(error)}")
        return _told(found, shares=settings.server.secret is None)
    if (kind := file_system(settings.data_dir)) in REMOTE:
        text = f"{settings.data_dir} is on {kind}, and SQLite does not work over a network; set database.url"
        return Finding("database", ok=False, text=text)
    looked = [_file(settings.data_dir / name) for name in ("qasr.db", "workflows.db")]
    return next((finding for finding in looked if not finding.ok), looked[0])


def _file(path: Path) -> Finding:
    if not path.exists():
        return Finding("database", ok=True, text=f"SQLite: {path.name} will be made")
    try:
        found = look_at_file(path)
    except sa.exc.SQLAlchemyError as error:
        return Finding("database", ok=False, text=f"{path} cannot be read: {_reason(error)}")
    if found.damage is not None:
        return Finding("database", ok=False, text=f"{path} is damaged: {found.damage}")
    return _told(found)


def _told(found: Checkup, *, shares: bool = False) -> Finding:
    """*shares*: with others, and its secret is its own."""
    parts = [found.product, "no tables yet" if found.version is None else f"tables of version {found.version}"]
    is_late = found.clock_s is not None and abs(found.clock_s) > CLOCKS_APART_S
    if found.is_too_new:
        parts.append(f"made by a later qasr (this one knows {HEAD})")
    if is_late:
        parts.append(f"its clock is {found.clock_s:+.0f} s from ours: set both by NTP")
    if shares:
        parts.append("server.secret is not set: other servers on this database will refuse the links of this one")
    return Finding("database", ok=not (found.is_too_new or is_late), text=", ".join(parts))


def _reason(error: Exception) -> str:
    """The first line, without what SQLAlchemy says about itself."""
    origin = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return f"{type(origin).__name__}: {str(origin).partition(chr(10))[0]}"


async def store(settings: Settings) -> Finding | None:
    """Whether an object store answers; None: it is a folder under the data directory."""
    if settings.store.url is None:
        return None
    shown = urlsplit(settings.store.url)
    place = f"{shown.scheme}://{shown.netloc.rpartition('@')[2]}{shown.path}"
    try:
        with anyio.fail_after(STORE_S):
            await Objects.open(settings.store.url, settings.data_dir).look()
    except TimeoutError:
        return Finding("object store", ok=False, text=f"{place} does not answer within {STORE_S:g} s")
    except Exception as error:  # noqa: BLE001 - each store has errors of its own; their texts may hold keys
        return Finding("object store", ok=False, text=f"{place} cannot be used: {type(error).__name__}")
    return Finding("object store", ok=True, text=f"{place} answers")


def memory() -> Finding:
    """How much is free, as the kernel estimates it."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
        scarce = " (less than the embedded engine and its decoders may take)" if free < SCARCE_MEMORY_BYTES else ""
        return Finding("memory", ok=True, text=f"{free / 1024**3:.1f} GiB available{scarce}")
    return Finding("memory", ok=True, text="not known on this system")


def open_files(most_sessions: int) -> Finding:
    """Whether as many clients may come as the settings say."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_sessions * FILES_PER_SESSION + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return Finding("open files", ok=True, text="as many as may be" if soft == resource.RLIM_INFINITY else str(soft))
    text = f"{soft}, and live.most_sessions may take {wanted}: raise the limit (ulimit -n)"
    return Finding("open files", ok=True, text=text)


def clock() -> Finding:
    """Whether something keeps it right."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: only asks
    except (OSError, AttributeError):
        state = -1
    if state == UNSYNCHRONIZED:
        text = "not synchronized: links and upload permits end by it; set it by NTP"
    else:
        text = "synchronized" if state >= 0 else "not known whether it is synchronized"
    return Finding("clock", ok=True, text=text)


def ffmpeg() -> Finding:
    """Whether this build has all formats that are promised."""
    known = {name for format_name in av.formats_available for name in format_name.split(",")}
    wanted = {*DEMUXERS} - {"m4a", "3gp", "3g2", "mj2", "mp4", "webm"}  # other names of ``mov`` and ``matroska``
    codecs = {name for name in DECODERS if name not in BETTER and not name.startswith("libopencore")}
    missing = sorted((wanted - known) | (codecs - set(av.codec.codecs_available)))
    if missing:
        return Finding("ffmpeg", ok=False, text=f"{av.ffmpeg_version_info} lacks {', '.join(missing)}")
    return Finding("ffmpeg", ok=True, text=f"{av.ffmpeg_version_info}, {len(wanted)} containers, {len(codecs)} codecs")


def observers(settings: Settings) -> Iterator[Finding]:
    """Who may read metrics, and whether spans arrive."""
    try:
        check_observers(settings)
    except QasrError as error:
        yield Finding("observability", ok=False, text=str(error))
        return
    readers = {
        "local": "this machine" + (", and who has the token" if settings.metrics.token else ""),
        "token": "who has the token",
        "anyone": "anyone",
        "off": "nobody: they are off",
    }
    yield Finding("metrics", ok=True, text=f"at /metrics, for {readers[settings.metrics.access]}")
    if settings.tracing.url is not None:
        parts = urlsplit(settings.tracing.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((host, port), COLLECTOR_S).close()
        except OSError as error:
            yield Finding(
                "traces", ok=True, text=f"the collector at {host} port {port} does not answer: {error.strerror}"
            )
        else:
            yield Finding("traces", ok=True, text=f"sent to {host} port {port}, which answers")


def file_system(folder: Path) -> str | None:
    """The kind of the file system that *folder* is on, or will be on; None: not known on this system."""
    with suppress(OSError):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
        places = {Path(mount[1].replace("\\040", " ")): mount[2] for mount in mounts}
        resolved = folder.resolve()
        return next((places[place] for place in (resolved, *resolved.parents) if place in places), None)
    return None

"""A PostgreSQL of the tests' own, from Debian's binaries; it refuses to run as root, so it runs as somebody else."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BINARIES: Final = (
    sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) if Path("/usr/lib/postgresql").exists() else []
)


def missing() -> str | None:
    """Why there can be no server here."""
    if not BINARIES:
        return "no PostgreSQL binaries under /usr/lib/postgresql"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "running as root, and no setpriv to become another user for PostgreSQL"
    return None


@contextmanager
def postgres() -> Iterator[str]:
    """A fresh server, without durability of its own; the URL of its database."""
    folder = BINARIES[-1].parent
    with tempfile.TemporaryDirectory(prefix="qasr-pg-") as name:
        place = Path(name)
        become: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            os.chown(place, user.pw_uid, user.pw_gid)
        data = place / "data"
        subprocess.run(
            [*become, f"{folder}/initdb", "-D", str(data), "-U", "qasr", "-A", "trust", "--no-sync", "--encoding=UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [*become, f"{folder}/postgres", "-D", str(data), "-p", str(port), "-k", name, "-h", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        try:
            ready = [f"{folder}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "20"]
            while subprocess.run(ready, check=False).returncode:
                assert server.poll() is None, "PostgreSQL ended"
            yield f"postgresql://qasr@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(20)

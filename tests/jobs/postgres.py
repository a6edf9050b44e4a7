"""A PostgreSQL of the tests' own, from Debian's binaries; it refuses to run as root, so it runs as somebody else."""

import os
import pwd
import shutil
import signal
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


class Postgres:
    """A server that may be stopped and started again."""

    def __init__(self, place: Path, become: list[str]) -> None:
        self._place, self._become, self._folder = place, become, BINARIES[-1].parent
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._run("initdb", "-U", "qasr", "-A", "trust", "--no-sync", "--encoding=UTF8").wait(60)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://qasr@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Returns when it answers."""
        self._server = self._run("postgres", "-p", str(self._port), "-k", str(self._place), "-h", "127.0.0.1")
        ready = [f"{self._folder}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port), "-t", "20"]
        while subprocess.run(ready, check=False).returncode:
            assert self._server.poll() is None, "PostgreSQL ended"

    def stop(self) -> None:
        """At once, and all its clients lose their connections."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(20)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._become, f"{self._folder}/{program}", "-D", f"{self._place}/data", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._place,
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A fresh server."""
    with tempfile.TemporaryDirectory(prefix="qasr-pg-") as name:
        become: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            os.chown(name, user.pw_uid, user.pw_gid)
        server = Postgres(Path(name), become)
        server.start()
        try:
            yield server
        finally:
            server.stop()

"""The real program, started as a user starts it, in a process and a data directory of its own."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks import process
from benchmarks.clips import scratch

PROGRAM: Final = Path(sys.executable).with_name("qasr")
READY_S: Final = 60.0
STOP_S: Final = 30.0
LOOK_S: Final = 0.005


class Server:
    """A server that is ready."""

    def __init__(self, pid: int, port: int, start_s: float) -> None:
        self.pid, self.port = pid, port
        self.start_s = start_s
        """From the start of the process until ``/readyz`` answered 200."""

    def processes(self) -> list[process.Process]:
        """The server and its children, as they are now."""
        return process.tree(self.pid)


@asynccontextmanager
async def serving(**settings: str) -> AsyncIterator[Server]:
    """``qasr serve`` until the block ends; *settings* as in the environment: ``ENGINES__DEFAULT="scripted"``."""
    port = _free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QASR_")}
    with scratch() as folder, (Path(folder) / "log").open("wb+") as log:
        started = time.perf_counter()
        program = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), "serve", "--port", str(port), "--data-dir", str(Path(folder) / "data")),
            cwd=folder,
            env=kept | {f"QASR_{name}": value for name, value in settings.items()},
            stdout=log,
            stderr=log,
        )
        try:
            while not await _is_ready(port):
                if program.returncode is not None or time.perf_counter() - started > READY_S:
                    log.seek(0)
                    raise RuntimeError("the server did not start:\n" + log.read().decode(errors="replace"))
                await asyncio.sleep(LOOK_S)
            yield Server(program.pid, port, time.perf_counter() - started)
        finally:
            await _stop(program)


async def _stop(program: asyncio.subprocess.Process) -> None:
    if program.returncode is None:
        program.terminate()
        try:
            await asyncio.wait_for(program.wait(), STOP_S)
        except TimeoutError:
            program.kill()
            await program.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()

"""The real program in a process of its own, in a clean environment."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.program import PROGRAM, Qasr, Ran, Serve, Serving, clean_environment, end, start_server


@pytest.fixture
def qasr(tmp_path: Path) -> Qasr:
    """Runs the program to its end, in an empty directory."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    def run(*arguments: str | Path, stdin: bytes = b"", **variables: str) -> Ran:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=clean_environment(variables),
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers on free ports, with a data directory of the test's own; they end with the test."""
    running: list[Serving] = []

    def start(*arguments: str | Path, **variables: str) -> Serving:
        data_dir = () if "--data-dir" in arguments else ("--data-dir", tmp_path / "data")
        running.append(start_server(tmp_path, [*data_dir, *arguments], variables))
        return running[-1]

    yield start
    for serving in running:
        end(serving)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server with the embedded engine and a key, shared by the tests of a file."""
    directory = tmp_path_factory.mktemp("server")
    serving = start_server(directory, ["--data-dir", directory / "data"], {"QASR_AUTH__KEYS": "sk-right"})
    yield serving
    end(serving)

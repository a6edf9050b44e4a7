"""``qasr serve``: how it starts, what it says, how it refuses, how it stops."""

import shlex
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from tests.cli.program import DATA, Qasr, Serve
from tests.server import SCRIPTED, serving

from qasr.cli.server import LISTENERS, base_url


def test_server_says_how_to_reach_it_once_it_is_ready(serve: Serve) -> None:
    """After its lines are printed, requests are answered; they name both interfaces and the documentation."""
    serving = serve(QASR_ENGINES__DEFAULT="scripted")

    ready = httpx2.get(f"{serving.base}/readyz")

    assert 200 == ready.status_code
    text = "\n".join(serving.lines)
    for path in ("/v1", "/compatible-mode/v1", "/api/v1", "/docs"):
        assert f"{serving.base}{path}" in text
    assert 200 == httpx2.get(f"{serving.base}/docs").status_code
    assert "QASR_AUTH__KEYS" in text


def test_printed_line_works_as_it_is(serve: Serve, tmp_path: Path) -> None:
    """The curl line that the server prints transcribes a file when it is pasted."""
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "tests" / "data" / "jfk.flac").write_bytes((DATA / "jfk.flac").read_bytes())
    serving = serve(QASR_ENGINES__DEFAULT="scripted", QASR_SCRIPTED__TEXT="Heard it.")
    line = next(line.strip() for line in serving.lines if line.strip().startswith("curl"))

    answer = subprocess.run(shlex.split(line), capture_output=True, text=True, cwd=tmp_path, check=True)

    assert '"text":"Heard it.' in answer.stdout


def test_several_listeners_share_the_socket(tmp_path: Path) -> None:
    """Each takes one connection per turn of the event loop, which under load is too few for all who come."""
    with serving(tmp_path, SCRIPTED) as server:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        _, port = server.address
        inode = next(row[9] for row in rows if (row[1][-4:], row[3]) == (f"{port:04X}", "0A"))
        found = 0
        for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed while we looked
                found += file.readlink().name == f"socket:[{inode}]"

    assert found >= LISTENERS > 1


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_being_told_to_stop_is_no_failure(serve: Serve, by: signal.Signals) -> None:
    """Both ways of stopping end with exit code 0 and without a traceback."""
    serving = serve(QASR_ENGINES__DEFAULT="scripted")

    code = serving.stop(by)

    assert 0 == code, serving.log
    assert not any("Traceback" in line for line in serving.log)


def test_exposed_server_without_a_key_is_refused(qasr: Qasr, tmp_path: Path) -> None:
    """Nobody opens the server to the world by accident; the message says what to do."""
    ran = qasr("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", tmp_path / "data")

    assert (2, "") == (ran.code, ran.out)
    assert "QASR_AUTH__KEYS" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "data").exists()


def test_taken_port_is_told_in_one_line(qasr: Qasr, tmp_path: Path) -> None:
    """A port that another program has is an answer, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ran = qasr("serve", "--port", str(port), "--data-dir", tmp_path / "data")

    assert (2, "") == (ran.code, ran.out)
    assert (
        f"qasr: cannot listen on 127.0.0.1 port {port}: Address already in use. "
        "Choose another with --host and --port.\n" == ran.err
    )


def test_data_directory_has_one_server(serve: Serve, qasr: Qasr, tmp_path: Path) -> None:
    """A second server on the same directory is refused and told which process has it; after its end, it is free."""
    first = serve(QASR_ENGINES__DEFAULT="scripted")

    refused = qasr("serve", "--port", "0", "--data-dir", tmp_path / "data")

    assert 2 == refused.code
    assert f"in use by process {first.process.pid}" in refused.err
    assert 1 == refused.err.count("\n")
    first.stop()
    assert 200 == httpx2.get(f"{serve(QASR_ENGINES__DEFAULT='scripted').base}/livez").status_code


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (("--role", "worker"), {}, "'worker'"),
        ((), {"QASR_SERVER__PORT": "many"}, "server.port"),
        ((), {"QASR_SERVER__PROT": "80"}, "server.prot"),
        ((), {"QASR_ENGINES": "{"}, "engines"),
        (("--config", "none.toml"), {}, "none.toml"),
        (("--config", "broken.toml"), {}, "settings"),
        (("--host", "no.such.host.invalid"), {"QASR_AUTH__KEYS": "sk"}, "no.such.host.invalid"),
        (("--data-dir", "/proc/nothing"), {}, "/proc/nothing"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    qasr: Qasr, tmp_path: Path, arguments: tuple[str, ...], variables: dict[str, str], told: str
) -> None:
    """Wrong settings end with exit code 2 and a line that names them."""
    (tmp_path / "cwd" / "broken.toml").write_text("[server\n")

    ran = qasr("serve", *arguments, **variables)

    assert (2, "", 1) == (ran.code, ran.out, ran.err.count("\n")), ran.err
    assert told in ran.err


def test_misspelled_variable_is_warned_about(serve: Serve) -> None:
    """A limit that was not set because of a typing error does not pass for a set one."""
    serving = serve(QASR_ENGINES__DEFAULT="scripted", QASR_SERVRE__PORT="80", QASR_API_KEY="sk-client")

    serving.stop()

    warnings = [line for line in serving.log if "unknown_setting" in line]
    assert 1 == len(warnings)
    assert "QASR_SERVRE__PORT" in warnings[0]
    assert "QASR_SERVER__PORT" in warnings[0]


def test_flags_win_over_the_environment(serve: Serve) -> None:
    """Defaults < file < environment < flags."""
    serving = serve("--host", "127.0.0.1", QASR_ENGINES__DEFAULT="scripted", QASR_SERVER__HOST="127.0.0.9")

    assert serving.base.startswith("http://127.0.0.1:")


def test_printed_addresses_are_reachable_ones() -> None:
    """A server on all addresses is shown under this machine's own, IPv6 in brackets."""
    shown = [base_url(host, 80) for host in ("0.0.0.0", "::", "::1", "localhost")]

    assert ["http://127.0.0.1:80", "http://[::1]:80", "http://[::1]:80", "http://localhost:80"] == shown

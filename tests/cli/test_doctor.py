"""``qasr doctor`` and the program as a whole."""

import json
import time
from pathlib import Path

from tests.cli.program import Qasr, Serve

from qasr import __version__


def test_version_is_told(qasr: Qasr) -> None:
    """The version stands alone on its line."""
    assert f"qasr {__version__}\n" == qasr("--version").out


def test_help_comes_at_once(qasr: Qasr) -> None:
    """Help loads no engine, and fits a terminal."""
    began = time.monotonic()

    ran = qasr("--help")

    assert time.monotonic() - began < 3  # half a second on an idle machine
    assert all(command in ran.out for command in ("serve", "transcribe", "doctor"))
    assert max(map(len, ran.out.splitlines())) <= 80


def test_healthy_installation_is_found_healthy(qasr: Qasr, tmp_path: Path) -> None:
    """The engine is loaded for real and hears a second of silence; what is printed fits 80 columns."""
    ran = qasr("doctor", "--data-dir", tmp_path / "data")

    assert (0, "") == (ran.code, ran.err), ran.out
    assert "loaded: moonshine, languages en" in ran.out
    assert "heard 1000 ms of silence" in ran.out
    assert "\x1b" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert not (tmp_path / "data").exists()


def test_missing_engine_is_found(qasr: Qasr) -> None:
    """What serving needs and does not have is named, and the exit code tells."""
    ran = qasr("doctor", QASR_ENGINES__DEFAULT="nonesuch")

    assert 1 == ran.code
    assert "BROKEN" in ran.out
    assert "nonesuch" in ran.out


def test_settings_are_told_with_their_origin_and_without_secrets(qasr: Qasr, tmp_path: Path) -> None:
    """Each value says where it came from; keys and passwords are masked, also where they do not work."""
    config = tmp_path / "qasr.toml"
    config.write_text("[uploads]\nkeep_hours = 1\n")

    ran = qasr(
        "doctor",
        "--json",
        "--config",
        config,
        "--data-dir",
        tmp_path / "data",
        QASR_ENGINES__DEFAULT="scripted",
        QASR_AUTH__KEYS="sk-one,sk-two",
        QASR_STORE__URL=f"file://{tmp_path}?secret=hidden",
        QASR_DATABASE__URL="postgresql://user:hidden@127.0.0.1:9/qasr",
        QASR_UPSTREAM__API_KEY="sk-hidden",
        QASR_AUHT__KEYS="sk-three",
    )

    report = json.loads(ran.out)
    settings = {setting["name"]: (setting["value"], setting["origin"]) for setting in report["settings"]}
    assert ("1.0", "file") == settings["uploads.keep_hours"]
    assert ("scripted", "environment") == settings["engines.default"]
    assert ("127.0.0.1", "default") == settings["server.host"]
    assert (str(tmp_path / "data"), "flag") == settings["data_dir"]
    assert ("****, ****", "environment") == settings["auth.keys"]
    assert (f"file://{tmp_path}?****", "environment") == settings["store.url"]
    assert ("postgresql://****@127.0.0.1:9/qasr", "environment") == settings["database.url"]
    assert ("****", "environment") == settings["upstream.api_key"]
    assert {"QASR_AUHT__KEYS": "QASR_AUTH__KEYS"} == report["unknown_variables"]
    assert not any(secret in ran.out + ran.err for secret in ("sk-one", "sk-two", "hidden", "sk-three"))
    assert ["database"] == [finding["name"] for finding in report["findings"] if not finding["ok"]]
    assert not report["ok"]


def test_running_server_is_left_alone(serve: Serve, qasr: Qasr, tmp_path: Path) -> None:
    """An examination of a directory in use disturbs nothing in it, and tells who uses it."""
    serving = serve(QASR_ENGINES__DEFAULT="scripted")
    before = files(tmp_path / "data")

    ran = qasr("doctor", "--data-dir", tmp_path / "data", QASR_ENGINES__DEFAULT="scripted")

    assert 0 == ran.code
    assert f"in use by process {serving.process.pid}" in " ".join(ran.out.split())
    assert before == files(tmp_path / "data")


def files(folder: Path) -> list[Path]:
    """All that lies there, but for the databases, whose files their server makes and removes while it works."""
    return sorted(path for path in folder.rglob("*") if ".db" not in path.name)

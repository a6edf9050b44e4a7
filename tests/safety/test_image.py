"""The container image: what its file says, and that the program lives with what the image gives it.

No image is built here. What it consists of is tried one by one: that the lock file covers the program with hashes, and
that the server runs on a read-only system, without any privilege, with one folder to write to.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Final

import httpx2
import pytest
from tests.jobs.program import Life

from qasr.config import Settings, walk

ROOT: Final = Path(__file__).parents[2]
NOBODY: Final = 65_534
READY_S: Final = 120.0

READ_ONLY: Final = """
set -e
mount --make-rprivate /
mount --bind "$DATA" "$DATA"
cut -d' ' -f5 /proc/self/mountinfo | while read -r place; do
  case "$place" in /proc*|/sys*|/dev*|"$DATA") ;; *) mount -o remount,bind,ro "$place" ;; esac
done
! touch "$ELSEWHERE" 2>/dev/null
exec setpriv $USER_OPTIONS --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
"""All of the machine is read-only for the program, but the folder ``DATA``."""


def instructions() -> list[tuple[str, str]]:
    """Of the Containerfile, in order, comments and line breaks gone."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for line in lines if line.strip() for name, _, rest in [line.strip().partition(" ")]]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(n for n, (name, _) in enumerate(found) if name == "FROM") :]


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for name, rest in last_stage() if name == "ENV" for pair in rest.split())


def test_nobody_in_the_image_is_root() -> None:
    """The last user is a number that is not 0: orchestrators can check it."""
    (user,) = [rest for name, rest in last_stage() if name == "USER"]

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert not [rest for name, rest in last_stage() if name == "RUN" and "pip" in rest]


def test_nothing_is_loaded_but_what_the_lock_file_covers() -> None:
    """No ADD, no download by hand; each installation is by hash, from the lock file, or of what was built here."""
    assert {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"} | {
        "ENTRYPOINT",
        "CMD",
    } >= {name for name, _ in instructions()}
    runs = [rest for name, rest in instructions() if name == "RUN"]
    assert not [run for run in runs if re.search(r"curl|wget|apt|https?://|git ", run)]
    installs = [step for run in runs for step in run.split("&&") if " install " in step and "pip" in step]
    assert 4 == len(installs)
    for step in installs:
        assert re.search(r"--require-hashes|--constraint requirements.lock|--no-deps dist/", step), step


def test_lock_file_has_hashes_for_all_that_the_program_needs() -> None:
    """As a constraint it is as good as a list only if it has everything."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower() for text in project["dependencies"]} | {"uv", "hatchling"}
    locked = dict(
        re.findall(r"^([a-z0-9._-]+)==[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}[ \\]*\n)+)", lock(), re.MULTILINE)
    )

    assert needed <= set(locked)


def lock() -> str:
    return (ROOT / "requirements.lock").read_text()


def test_what_is_copied_exists_and_is_let_in() -> None:
    """The folder that is sent to the builder has it, and little else."""
    copied = [rest for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    sources = [source for rest in copied for source in rest.split()[:-1]]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()

    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert sorted(f"!{source}" for source in sources) == sorted(line for line in allowed if line.startswith("!"))
    assert "*" in allowed


def test_settings_of_the_image_are_settings() -> None:
    """A misspelled one would not be in force; and it listens to the world, which needs a key."""
    known = {"QASR_" + path.replace(".", "__").upper() for path, _ in walk(Settings.model_construct())}
    ours = {name: value for name, value in environment().items() if name.startswith("QASR_")}

    assert set(ours) <= known
    assert ("0.0.0.0", "/data") == (ours["QASR_SERVER__HOST"], ours["QASR_DATA_DIR"])
    assert not [name for name in ours if "KEY" in name or "SECRET" in name]
    assert [("VOLUME", '["/data"]')] == [pair for pair in last_stage() if pair[0] == "VOLUME"]
    assert "127.0.0.1:8000/livez" in next(rest for name, rest in last_stage() if name == "HEALTHCHECK")


def reads_only() -> str | None:
    """Why a read-only machine cannot be had here."""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return "needs root, unshare and setpriv"
    tried = subprocess.run(["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "no namespaces of mounts here"


def is_for_all(path: Path) -> bool:
    """Whether another user could run it."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


@pytest.mark.skipif(reads_only() is not None, reason=str(reads_only()))
def test_server_runs_without_privileges_on_a_read_only_system(tmp_path: Path) -> None:
    """As in the image: nothing but the data directory can be written, no capability is left. It hears, and takes
    tasks. The user is nobody, or root without its rights where others cannot reach this interpreter.
    """
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    user = ""
    if is_for_all(Path(sys.executable)) and is_for_all(ROOT / "src" / "qasr" / "app.py") and is_for_all(data):
        os.chown(data, NOBODY, NOBODY)
        user = f"--reuid={NOBODY} --regid={NOBODY} --clear-groups"
    image = {name: value for name, value in environment().items() if name.startswith(("QASR_", "PYTHON"))}
    ours = {
        "DATA": str(data),
        "ELSEWHERE": str(tmp_path / "elsewhere"),
        "USER_OPTIONS": user,
        "PATH": os.environ["PATH"],
        "HOME": str(data),
        "QASR_DATA_DIR": str(data),
        "QASR_SERVER__HOST": "127.0.0.1",
        "QASR_AUTH__KEYS": "sk-image",
    }
    command = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        READ_ONLY,
        "sh",
        sys.executable,
        "-m",
        "qasr.cli",
        "serve",
        "--port",
        "0",
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=data, env=image | ours)
    life = Life(process)
    try:
        threading.Thread(target=life.read, daemon=True).start()
        base = life.wait_ready(READY_S)
        files = {"file": ("jfk.flac", (ROOT / "tests" / "data" / "jfk.flac").read_bytes())}
        answer = httpx2.post(
            f"{base}/v1/audio/transcriptions",
            files=files,
            data={"model": "whisper-1"},
            headers={"Authorization": "Bearer sk-image"},
            timeout=READY_S,
        )
        owner = Path(f"/proc/{process.pid}/status").read_text()
        code, _ = life.stop()
    finally:
        if process.poll() is None:
            life.kill()

    assert 200 == answer.status_code, answer.text
    assert "country" in answer.json()["text"]
    assert re.search(r"^CapEff:\s+0+$", owner, re.MULTILINE)
    assert 0 == code, (tmp_path / "log").read_text()
    assert not (tmp_path / "elsewhere").exists()

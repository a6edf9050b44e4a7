"""``qasr keys`` and ``qasr usage``: by way of the data directory, with a server on it or without."""

import json
import re
from pathlib import Path

import httpx2
import pytest
from tests.cli.program import Qasr, Serve
from typer.testing import CliRunner

from qasr.cli import app

KEY = r"sk-[0-9a-f]{16}-[A-Za-z0-9_-]{43}\n"


def test_a_key_lives_from_create_to_revoke(qasr: Qasr, tmp_path: Path) -> None:
    """Its text alone goes to standard output, once; everything else of it can be seen again."""
    where = ("--data-dir", tmp_path / "new" / "data")
    made = qasr(
        "keys", "create", "team a", "--scope", "openai", "--expires", "30d",
        "--limit", "requests_per_minute=60", "--limit", "qwen3-asr-flash:audio_hours_per_day=2", *where,
    )  # fmt: skip
    key_id = made.out.split("-")[1]
    shown = json.loads(qasr("keys", "show", key_id, *where).out)
    rotated = qasr("keys", "rotate", key_id, "--grace", "1h", *where)
    listed = qasr("keys", "list", *where)
    revoked = qasr("keys", "revoke", key_id, *where)
    after = json.loads(qasr("keys", "list", "--json", *where).out)["keys"]

    assert (0, True) == (made.code, bool(re.fullmatch(KEY, made.out))), made.err
    assert made.out.strip() not in made.err
    assert ("team a", ["openai"], "valid") == (shown["name"], shown["scopes"], shown["state"])
    assert 30 * 86_400 == pytest.approx(shown["expires_at"] - shown["created_at"], abs=60)
    assert {"requests_per_minute": 60} == shown["limits"]
    assert {"qwen3-asr-flash": {"audio_hours_per_day": 2}} == shown["model_limits"]
    assert re.fullmatch(KEY, rotated.out)
    assert rotated.out != made.out
    assert key_id in rotated.out
    assert ["id", "name", "state", "scopes", "made", "expires"] == listed.out.splitlines()[0].split()
    assert f"{key_id}  team a" in listed.out
    assert (0, "revoked\n") == (revoked.code, revoked.out)
    assert [(key_id, "revoked")] == [(key["id"], key["state"]) for key in after]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "a", "--scope", "root"), 2, "root"),
        (("create", "a", "--limit", "requests=1"), 2, "requests_per_minute"),
        (("create", "a", "--limit", "live_sessions=many"), 2, "many"),
        (("create", "a", "--limit", "live_sessions=-1"), 2, "live_sessions"),
        (("create", "a", "--limit", "nothing:live_sessions=1"), 2, "nothing"),
        (("create", "a", "--expires", "soon"), 2, "soon"),
        (("create", "a", "--expires", "2020-01-01"), 1, "expired"),
        (("create", ""), 1, "name"),
        (("show", "x"), 2, "no keys in"),
        (("list",), 2, "no keys in"),
        (("revoke", "x"), 2, "no keys in"),
        (("rotate", "x", "--grace", "long"), 2, "long"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    """And no key is made."""
    ran = CliRunner().invoke(app, ["keys", *arguments, "--data-dir", str(tmp_path / "data")])

    assert (code, "") == (ran.exit_code, ran.stdout)
    assert words in ran.stderr
    assert 1 == ran.stderr.count("\n")


def test_nobodys_key_is_told(tmp_path: Path) -> None:
    """By its own exit code."""
    runner, where = CliRunner(), ["--data-dir", str(tmp_path)]
    runner.invoke(app, ["keys", "create", "a", *where])

    for verb in ("show", "revoke", "rotate"):
        ran = runner.invoke(app, ["keys", verb, "0" * 16, *where])
        assert (1, "", "qasr: There is no such key.\n") == (ran.exit_code, ran.stdout, ran.stderr)


def test_a_running_server_takes_a_new_key_and_tells_what_it_used(qasr: Qasr, serve: Serve, tmp_path: Path) -> None:
    """A key is enough to listen to the world; usage is there as soon as it is written."""
    data_dir = tmp_path / "data"
    first = qasr("keys", "create", "first", "--data-dir", data_dir).out.strip()
    server = serve(
        "--host", "0.0.0.0", QASR_ENGINES__DEFAULT="scripted", QASR_ENGINES__DECODERS="1"
    )  # fmt: skip
    base = server.base.replace("0.0.0.0", "127.0.0.1")
    second = json.loads(qasr("keys", "create", "second", "--json", "--data-dir", data_dir).out)

    def heard(key: str) -> int:
        flac = (Path(__file__).parents[1] / "data" / "jfk.flac").read_bytes()
        return httpx2.post(
            f"{base}/v1/audio/transcriptions",
            headers={"Authorization": f"Bearer {key}"},
            files={"file": flac},
            data={"model": "whisper-1"},
            timeout=60,
        ).status_code

    answers = [heard(key) for key in (first, second["secret"], second["secret"], "any")]
    assert 0 == server.stop()
    lines = json.loads(qasr("usage", "--json", "--data-dir", data_dir).out)["usage"]
    mine = qasr("usage", "--key", second["key"]["id"], "--data-dir", data_dir)
    none = qasr("usage", "--to", "2020-01-01", "--data-dir", data_dir)

    assert [200, 200, 200, 401] == answers
    assert "API key: clients send one of those that qasr keys create has shown;" in "\n".join(server.lines)
    assert {first.split("-")[1]: 1, second["key"]["id"]: 2} == {line["key"]: line["requests"] for line in lines}
    assert ["second", "whisper-1", "openai", "2", "0", "22.0"] == mine.out.splitlines()[1].split()[1:7]
    assert (0, "", "no usage\n") == (none.code, none.out, none.err)


@pytest.mark.parametrize("arguments", [("--from", "yesterday"), ("--to", "2026-13-01"), ()])
def test_usage_that_cannot_be_told(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A day that is none, or nothing there."""
    ran = CliRunner().invoke(app, ["usage", *arguments, "--data-dir", str(tmp_path / "data")])

    assert (2, "", 1) == (ran.exit_code, ran.stdout, ran.stderr.count("\n"))

"""``qasr live``: text while it is spoken, here and by a server."""

import json
import os
import pty
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.cli.program import DATA, PROGRAM, Qasr, Serving, clean_environment
from tests.media import clip, wav_header

MODERN = DATA / "LJ001-0002.flac"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Speech of a few seconds as bare samples: 16 kHz, 16 bits, one channel."""
    path = tmp_path / "speech.pcm"
    path.write_bytes(np.rint(clip() * 32767).astype("<i2").tobytes())
    return path


def texts(out: str) -> list[str]:
    return [line for line in out.splitlines() if line]


def test_file_is_heard_as_if_it_were_spoken_now(qasr: Qasr) -> None:
    """Each utterance is a line on standard output, and nothing else is written to a pipe."""
    ran = qasr("live", MODERN)

    assert (0, "") == (ran.code, ran.err)
    assert "comparatively modern" in ran.out
    assert "\x1b" not in ran.out


def test_lines_of_json_have_times_and_partials_if_they_are_asked_for(qasr: Qasr) -> None:
    """What is being said comes before what was said, with the same number."""
    ran = qasr("live", MODERN, "--format", "json", "--partials", QASR_ENGINES__DEFAULT="scripted")

    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert 0 == ran.code, ran.err
    assert [1] * len(lines) == [line["utterance"] for line in lines]
    assert [False] * (len(lines) - 1) + [True] == [line["final"] for line in lines]
    assert len(lines) > 1
    assert 0 <= lines[-1]["begin_ms"] < lines[-1]["end_ms"] <= 2500
    assert lines[-1]["text"]


def test_final_lines_only_unless_partials_are_asked_for(qasr: Qasr) -> None:
    """Programs that read JSON want complete utterances."""
    ran = qasr("live", MODERN, "--format", "json", QASR_ENGINES__DEFAULT="scripted")

    assert [True] == [json.loads(line)["final"] for line in ran.out.splitlines()]


@pytest.mark.parametrize("header", [True, False])
def test_standard_input_with_a_header_or_without(raw: Path, qasr: Qasr, header: bool) -> None:
    """A wav stream tells its rate; bare samples are 16 bits."""
    samples = raw.read_bytes()

    ran = qasr("live", "-", stdin=wav_header(len(samples)) + samples if header else samples)

    assert (0, "") == (ran.code, ran.err)
    assert len(ran.out.split()) >= 3


def test_rate_of_bare_samples_is_told(raw: Path, qasr: Qasr) -> None:
    """Every second sample, called 8 kHz, is the same speech."""
    half = np.frombuffer(raw.read_bytes(), "<i2")[::2].tobytes()

    ran = qasr("live", "-", "--rate", "8000", "--format", "json", stdin=half, QASR_ENGINES__DEFAULT="scripted")

    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert lines
    assert abs(lines[-1]["end_ms"] - 1000 * len(half) / 16_000) < 1000


def test_microphone_is_a_program_that_records(raw: Path, qasr: Qasr) -> None:
    """Any program will do that writes samples."""
    ran = qasr("live", "--recorder", shlex.join(["cat", str(raw)]))

    assert (0, "") == (ran.code, ran.err)
    assert len(ran.out.split()) >= 3


def test_recorder_that_gives_up_is_told(qasr: Qasr) -> None:
    """In its own words."""
    ran = qasr("live", "--recorder", "sh -c 'echo no such device >&2; exit 3'", QASR_ENGINES__DEFAULT="scripted")

    assert (1, "qasr: sh gave up: no such device\n") == (ran.code, ran.err)


def test_recorder_that_is_missing_is_told(qasr: Qasr) -> None:
    """With its name."""
    ran = qasr("live", "--recorder", "no-such-recorder", QASR_ENGINES__DEFAULT="scripted")

    assert (1, "qasr: no-such-recorder cannot be started: No such file or directory\n") == (ran.code, ran.err)


def test_without_any_recorder_the_remedy_is_told(qasr: Qasr, tmp_path: Path) -> None:
    """How sound gets in all the same."""
    ran = qasr("live", PATH=str(tmp_path), QASR_ENGINES__DEFAULT="scripted")

    assert 1 == ran.code
    assert "qasr live -" in ran.err
    assert "--recorder" in ran.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.wav"], "missing.wav"),
        ([__file__], "illegal"),
        (["-", "--silence", "100"], "silence"),
        (["-", "--language", "xx-bad"], "xx-bad"),
        (["-", "--server", "127.0.0.1:1"], "--server needs an address"),
        (["-", "--server", "http://127.0.0.1:1"], "does not answer"),
    ],
)
def test_what_cannot_be_heard_is_told_in_a_line(qasr: Qasr, arguments: list[str], reason: str) -> None:
    """No traceback, and no success."""
    ran = qasr("live", *arguments, stdin=b"\0\0" * 100, QASR_ENGINES__DEFAULT="scripted")

    assert ran.code in (1, 2)
    assert reason in ran.err
    assert "Traceback" not in ran.err


def test_ctrl_c_hears_the_last_words_to_their_end(raw: Path, tmp_path: Path) -> None:
    """What was said until then is not lost."""
    recorder = tmp_path / "recorder.sh"
    recorder.write_text(f"cat {shlex.quote(str(raw))}\necho fed >&2\nexec sleep 600\n")
    process = subprocess.Popen(
        [*PROGRAM, "live", "--silence", "6000", "--format", "json", "--partials", "--recorder", f"sh {recorder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted"}),
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())

    process.send_signal(signal.SIGINT)

    out, err = process.communicate(timeout=60)
    assert not first["final"]
    assert (0, b"") == (process.returncode, err)
    assert json.loads(out.splitlines()[-1])["final"]


def test_terminal_sees_what_is_being_said(tmp_path: Path) -> None:
    """On standard error, and wiped out when it is complete; standard output has the complete line alone."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "live", str(MODERN)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted", "TERM": "xterm", "COLUMNS": "200"}),
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # how a terminal ends
        pass
    os.close(ours)

    out, _ = process.communicate(timeout=60)

    assert 1 == out.count(b"\n")
    assert out.split()[0] in seen
    assert b"\x1b" not in out


def test_server_hears_for_us(qasr: Qasr, server: Serving) -> None:
    """The same lines, by way of a socket."""
    ran = qasr("live", MODERN, "--server", server.base, "--format", "json", QASR_API_KEY="sk-right")

    (line,) = [json.loads(line) for line in ran.out.splitlines()]
    assert (0, "") == (ran.code, ran.err)
    assert "comparatively modern" in line["text"]
    assert 0 <= line["begin_ms"] < line["end_ms"]


def test_server_that_refuses_us_is_told(qasr: Qasr, server: Serving) -> None:
    """A wrong key, an unknown model."""
    wrong_key = qasr("live", MODERN, "--server", server.base, "--api-key", "sk-wrong")
    wrong_model = qasr("live", MODERN, "--server", server.base, "--api-key", "sk-right", "--model", "no-such")

    assert 1 == wrong_key.code
    assert "401" in wrong_key.err
    assert 1 == wrong_model.code
    assert "no-such" in wrong_model.err

"""Interrupted in a long recording, ``qasr transcribe`` goes on where it stopped."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.cli.program import PROGRAM, clean_environment
from tests.conftest import Speech
from tests.jobs.program import talk, write_wav

from qasr.cli.journal import KEPT_S, Journal, journal
from qasr.domain.audio import SAMPLE_RATE, Segment
from qasr.domain.transcript import Sentence, Token, Word

TIMES = 6


def segment(begin_ms: int, *, channel: int = 0) -> Segment:
    return Segment(pcm=np.zeros(SAMPLE_RATE, np.float32), begin_ms=begin_ms, channel=channel)


def said(begin_ms: int) -> tuple[Sentence, ...]:
    word = Word(text="hello", punctuation=".", begin_ms=begin_ms, end_ms=begin_ms + 500)
    token = Token(id=7, text=b"\xff", logprob=-0.5)
    return (Sentence(text="hello.", begin_ms=begin_ms, end_ms=begin_ms + 500, words=(word,), tokens=(token,)),)


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    return path


def files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "qasr" / "transcribe").glob("*"))


def interrupted(recording: Path, *begins_ms: int, way: str = "way") -> Journal:
    with suppress(KeyboardInterrupt), journal(recording, way, long_ms=3000) as kept:
        for begin_ms in begins_ms:
            if kept.recall(segment(begin_ms)) is None:
                kept.keep(segment(begin_ms), said(begin_ms))
        raise KeyboardInterrupt
    return kept


def test_what_was_heard_is_known_at_the_next_run(recording: Path, tmp_path: Path) -> None:
    """All of it, from the beginning; and it is gone when the transcript is done."""
    interrupted(recording, 0, 1000, 2000)
    (path,) = files(tmp_path)

    with journal(recording, "way", long_ms=3000) as kept:
        assert 3000 == kept.reached_ms
        assert [said(0), said(1000), said(2000), None] == [kept.recall(segment(ms)) for ms in (0, 1000, 2000, 3000)]
        assert kept.recall(segment(0, channel=1)) is None
        assert 0o600 == path.stat().st_mode & 0o777
    assert [] == files(tmp_path)


def test_short_recordings_leave_nothing(recording: Path, tmp_path: Path) -> None:
    interrupted(recording, 0, 1000)

    assert [] == files(tmp_path)


def test_a_changed_recording_or_another_way_begins_anew(recording: Path) -> None:
    interrupted(recording, 2000)

    assert 0 == interrupted(recording, way="other").reached_ms
    assert 3000 == interrupted(recording).reached_ms
    recording.write_bytes(b"RIFFRIFF")
    assert 0 == interrupted(recording).reached_ms


@pytest.mark.parametrize("end", [b'{"channel":0,"begin_', b"", b'{"other":"version"}\n'])
def test_a_torn_or_foreign_journal_does_no_harm(recording: Path, tmp_path: Path, end: bytes) -> None:
    """Whole lines count, and what is added next stands on a line of its own."""
    interrupted(recording, 2000)
    (path,) = files(tmp_path)
    with path.open("ab") as file:
        file.write(end)

    expected = 0 if end.endswith(b"\n") else 3000
    assert expected == interrupted(recording, 3000).reached_ms
    assert 4000 == interrupted(recording).reached_ms


def test_two_at_once_do_not_mix(recording: Path, tmp_path: Path) -> None:
    """The second remembers nothing, and does not take the first one's file away."""
    with suppress(KeyboardInterrupt), journal(recording, "way", long_ms=0) as first:
        first.keep(segment(0), said(0))
        with journal(recording, "way", long_ms=0) as second:
            assert 0 == second.reached_ms
            second.keep(segment(1000), said(1000))
        raise KeyboardInterrupt

    assert 1 == len(files(tmp_path))
    assert 1000 == interrupted(recording).reached_ms


def test_old_journals_are_removed(recording: Path, tmp_path: Path) -> None:
    interrupted(recording, 2000)
    (path,) = files(tmp_path)
    os.utime(path, (time.time() - KEPT_S - 1,) * 2)

    assert 0 == interrupted(recording).reached_ms
    assert [] == files(tmp_path)


def test_without_a_place_for_it_recordings_are_heard_all_the_same(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(recording))  # a file
    interrupted(recording, 2000, 3000)

    assert 0 == interrupted(recording).reached_ms


def test_interrupted_program_goes_on_where_it_stopped(tmp_path: Path, speech: Speech) -> None:
    """What the engine has heard, it does not hear again, and the text is whole; then nothing is left behind."""
    write_wav(tmp_path / "a.wav", talk(speech("LJ001-0002.flac"), times=TIMES, lead_ms=598_000))
    calls = tmp_path / "calls"
    command = [*PROGRAM, "transcribe", "--format", "json", str(tmp_path / "a.wav")]
    environment = clean_environment(
        {
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "QASR_ENGINES__DEFAULT": "scripted",
            "QASR_SCRIPTED__SLOTS": "1",
            "QASR_SCRIPTED__LATENCY_MS": "1000",
            "QASR_SCRIPTED__CALL_LOG": str(calls),
        }
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        deadline = time.monotonic() + 60
        while not any(path.read_bytes().count(b"\n") >= 2 for path in files(tmp_path)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        first = process.returncode
    (path,) = files(tmp_path)
    kept = path.read_bytes().count(b"\n")
    before = len(calls.read_text().splitlines())
    second = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    heard = len(calls.read_text().splitlines()) - before

    assert (130, b"") == (first, out)
    assert 0 == second.returncode, second.stderr
    assert "goes on at 10:0" in second.stderr
    assert 2 <= kept < TIMES
    assert TIMES - kept == heard
    assert TIMES == len({s["begin_ms"] for s in json.loads(second.stdout)["sentences"]})
    assert [] == files(tmp_path)

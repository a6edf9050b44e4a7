"""``qasr transcribe``: text out of recordings, here and by a server."""

import http.server
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.cli.program import DATA, PROGRAM, Qasr, Serving, clean_environment, word_error_rate
from tests.conftest import Speech
from tests.conversation import conversation, wav
from tests.media import float_wav

JFK = DATA / "jfk.flac"
MODERN = DATA / "LJ001-0002.flac"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A text that calls itself a recording."""
    path = tmp_path / "notes.mp3"
    path.write_text("milk, bread, butter\n" * 100)
    return path


def test_speech_becomes_text_on_standard_output(qasr: Qasr, references: dict[str, str]) -> None:
    """What was said is printed, and nothing else: no progress and no escape codes in a pipe."""
    ran = qasr("transcribe", JFK)

    assert (0, "") == (ran.code, ran.err)
    assert word_error_rate(references["jfk.flac"], ran.out) <= 0.15, ran.out
    assert 1 == ran.out.count("\n")
    assert "\x1b" not in ran.out


def test_one_bad_file_does_not_stop_the_others(qasr: Qasr, notes: Path) -> None:
    """Each failure is a line that names its file; the rest is transcribed, and the exit code tells."""
    ran = qasr("transcribe", notes, "missing.wav", MODERN)

    assert 1 == ran.code
    assert [str(notes), "missing.wav"] == [line.split(": ")[0] for line in ran.err.splitlines()]
    assert f"==> {MODERN} <==" == ran.out.splitlines()[0]
    assert "comparatively modern" in ran.out.splitlines()[1]


def test_results_come_in_the_order_of_the_files(qasr: Qasr) -> None:
    """A short file does not overtake a long one."""
    files = [DATA / name for name in ("LJ001-0001.flac", "LJ001-0002.flac", "jfk.flac", "LJ001-0002.flac")]

    ran = qasr("transcribe", *files, QASR_ENGINES__DEFAULT="scripted")

    assert [f"==> {file} <==" for file in files] == ran.out.splitlines()[::2]


def test_json_tells_times_of_sentences_and_words(qasr: Qasr) -> None:
    """One document per line, with measured times in order."""
    ran = qasr("transcribe", "--format", "json", JFK, MODERN)

    first, second = map(json.loads, ran.out.splitlines())
    assert [str(JFK), str(MODERN)] == [first["file"], second["file"]]
    assert ("en", 11_000, "moonshine") == (first["language"], first["duration_ms"], first["engine"])
    assert first["text"] == " ".join(sentence["text"] for sentence in first["sentences"])
    words = [word for sentence in first["sentences"] for word in sentence["words"]]
    assert not any(word["estimated"] for word in words)
    begins = [word["begin_ms"] for word in words]
    assert sorted(begins) == begins
    country = next(word for word in words if word["text"] == "country")
    assert 5_500 < country["begin_ms"] < country["end_ms"] < 6_800  # heard in the recording


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("srt", r"1\n\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}\n([^\n]{1,42}\n){1,2}\n"),
        ("vtt", r"WEBVTT\n\n\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}\n([^\n]{1,42}\n){1,2}\n"),
    ],
)
def test_subtitles_are_what_players_read(qasr: Qasr, form: str, pattern: str) -> None:
    """Cues have the syntax of their format."""
    ran = qasr("transcribe", "--format", form, MODERN)

    assert re.fullmatch(pattern, ran.out), ran.out


def test_directory_gets_one_file_per_recording(qasr: Qasr, tmp_path: Path, notes: Path) -> None:
    """Recordings of the same name keep a transcript each; nothing is printed, and a failed one leaves no file."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    (tmp_path / "a" / "talk.flac").write_bytes(JFK.read_bytes())
    (tmp_path / "b" / "Talk.wav").write_bytes(MODERN.read_bytes())
    out = tmp_path / "out" / "new"

    ran = qasr("transcribe", "--output-dir", out, tmp_path / "a/talk.flac", notes, tmp_path / "b/Talk.wav")

    assert (1, "") == (ran.code, ran.out)
    assert ["Talk-2.txt", "talk.txt"] == sorted(path.name for path in out.iterdir())
    assert "country" in (out / "talk.txt").read_text()
    assert "modern" in (out / "Talk-2.txt").read_text()


def test_dash_reads_standard_input(qasr: Qasr) -> None:
    """A recording may flow in."""
    ran = qasr("transcribe", "-", stdin=MODERN.read_bytes())

    assert 0 == ran.code, ran.err
    assert "comparatively modern" in ran.out


@pytest.fixture(scope="module")
def talk(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people on one channel, and one of them again on another."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    path.write_bytes(wav(conversation(speech).pcm, speech("LJ001-0002.flac")))
    return path


def test_speakers_are_told_by_line(qasr: Qasr, talk: Path) -> None:
    """A line per turn; the option may stand before a file, and before a number."""
    ran = qasr("transcribe", "--channels", "0", "--speakers", talk)
    two = qasr("transcribe", "--channels", "0", "--speakers", "2", talk)

    assert ["1", "2", "1", "3"] == re.findall(r"^Speaker (\d): \S", ran.out, re.MULTILINE), ran.out
    assert {"1", "2"} == set(re.findall(r"^Speaker (\d): ", two.out, re.MULTILINE)), two.out


def test_both_sides_of_a_call_are_mixed_by_time(qasr: Qasr, talk: Path) -> None:
    """Each sentence with its channel and its speaker, in JSON; names at the heads of cues and lines."""
    told = qasr("transcribe", "--channels", "0,1", "--speakers", "--format", "json", talk)
    cues = qasr("transcribe", "--channels", "1,0", "--format", "srt", talk)
    sentences = json.loads(told.out)["sentences"]

    begins = [sentence["begin_ms"] for sentence in sentences]
    assert sorted(begins) == begins
    assert {(0, 0), (0, 1), (0, 2), (1, 0)} == {(s["channel"], s["speaker"]) for s in sentences}
    assert "modern" in " ".join(s["text"] for s in sentences if s["channel"] == 1)
    assert "modern" not in " ".join(s["text"] for s in sentences if s["channel"] == 0)
    assert re.search(r"^Channel 0: ", cues.out, re.MULTILINE)
    assert re.search(r"^Channel 1: ", cues.out, re.MULTILINE)


def test_a_server_tells_speakers_of_files(qasr: Qasr, server: Serving, talk: Path) -> None:
    """In every form, by ``diarized_json``."""
    ran = qasr("transcribe", "--server", server.base, "--api-key", "sk-right", "--speakers", "--format", "vtt", talk)

    assert 0 == ran.code, ran.err
    assert ran.out.startswith("WEBVTT")
    assert re.search(r"^Speaker 2: ", ran.out, re.MULTILINE), ran.out


def test_numbers_are_written_as_figures(qasr: Qasr) -> None:
    """Only if that is wanted."""
    said = {"QASR_ENGINES__DEFAULT": "scripted", "QASR_SCRIPTED__TEXT": "It rose by twenty five percent."}

    plain = qasr("transcribe", MODERN, **said)
    figures = qasr("transcribe", "--itn", MODERN, **said)

    assert "It rose by twenty five percent.\n" == plain.out
    assert "It rose by 25%.\n" == figures.out


def test_a_channel_that_is_not_there_is_told(qasr: Qasr) -> None:
    """By number."""
    ran = qasr("transcribe", "--channels", "0,5", MODERN)

    assert (1, "") == (ran.code, ran.out)
    assert "5" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Missing argument"),
        (("--speakers=0", "a.wav"), "from 1 to 100"),
        (("--speakers", "101", "a.wav"), "from 1 to 100"),
        (("--speakers=many", "a.wav"), "many"),
        (("--channels", "left", "a.wav"), "left"),
        (("--channels", "", "a.wav"), "--channels"),
        (("--server", "http://127.0.0.1:9", "--speakers", "3", "a.wav"), "--speakers"),
        (("--server", "http://127.0.0.1:9", "--channels", "0", "a.wav"), "--channels"),
        (("--server", "http://127.0.0.1:9", "--speakers", "http://example.com/a.wav"), "--speakers"),
        (("--server", "http://127.0.0.1:9", "--itn", "a.wav"), "--itn"),
        (("-", "-"), "once only"),
        (("--format", "doc", "a.wav"), "doc"),
        (("--model", "no-such-model", "a.wav"), "no-such-model"),
        (("--language", "klingon", "a.wav"), "klingon"),
        (("--hotword", "Qwen=6", "a.wav"), "Qwen=6"),
        (("--hotword", " ", "a.wav"), "PHRASE"),
        (("--hotword", "Qwen=5", "--server", "http://127.0.0.1:9", "a.wav"), "no weights"),
        (("--hotword", "Qwen", "--server", "http://127.0.0.1:9", "http://example.com/a.wav"), "addresses"),
        (("--server", "localhost:80", "a.wav"), "localhost:80"),
        (("--server", "http://127.0.0.1:9", "--format", "srt", "http://example.com/a.wav"), "srt"),
    ],
)
def test_wrong_usage_is_told_before_any_work(qasr: Qasr, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, and a message that names what is wrong."""
    ran = qasr("transcribe", *arguments)

    assert (2, "") == (ran.code, ran.out)
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_hotwords_are_heard_here_and_by_a_server(qasr: Qasr, server: Serving) -> None:
    """With weights, and without."""
    recording = DATA / "LJ001-0004.flac"
    remote = ("--server", server.base, "--api-key", "sk-right")

    assert "blockbooks" in qasr("transcribe", recording).out
    assert "block books" in qasr("transcribe", "--hotword", "block books=5", "--hotword", "Qwen", recording).out
    assert "block books" in qasr("transcribe", "--hotword", "block books", *remote, recording).out


def test_language_that_no_engine_hears_fails_by_name(qasr: Qasr) -> None:
    """The engine's own languages are told, and nothing is made up."""
    ran = qasr("transcribe", "--language", "fr", JFK)

    assert (1, "") == (ran.code, ran.out)
    assert "'fr'" in ran.err


def test_model_brings_its_limits(qasr: Qasr, tmp_path: Path) -> None:
    """What is too long for the named model is refused as a server would."""
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(
            b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\xff\xff\xff\x7f"
        )
        file.truncate(44 + 301 * 32_000)

    ran = qasr("transcribe", "--model", "qwen3-asr-flash", path, QASR_ENGINES__DEFAULT="scripted")

    assert (1, "") == (ran.code, ran.out)
    assert ran.err.startswith(f"{path}: ")


def test_missing_engine_is_told_once(qasr: Qasr) -> None:
    """A broken installation is one line, not one per file."""
    ran = qasr("transcribe", JFK, MODERN, QASR_ENGINES__DEFAULT="nonesuch")

    assert (1, "", 1) == (ran.code, ran.out, ran.err.count("\n")), ran.err
    assert "nonesuch" in ran.err


# ---- addresses


@pytest.fixture
def origin() -> Iterator[str]:
    """A server of files on this machine."""
    handler = partial(_Quiet, directory=str(DATA))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_private_address_needs_to_be_allowed(qasr: Qasr, origin: str) -> None:
    """The same policy as a server's holds, and the message says how to change it."""
    ran = qasr("transcribe", f"{origin}/LJ001-0002.flac?token=secret")

    assert (1, "") == (ran.code, ran.out)
    assert "QASR_FETCH__ALLOW_HOSTS=127.0.0.1" in ran.err
    assert "secret" not in ran.err


def test_allowed_address_is_transcribed(qasr: Qasr, origin: str) -> None:
    """An address does as well as a file."""
    ran = qasr("transcribe", f"{origin}/LJ001-0002.flac", QASR_FETCH__ALLOW_HOSTS="127.0.0.1")

    assert 0 == ran.code, ran.err
    assert "comparatively modern" in ran.out


# ---- a server does the work


def test_server_gives_the_same_text(qasr: Qasr, server: Serving, notes: Path) -> None:
    """Files are heard over there; what it refuses is told in its words, and the others go on."""
    here = qasr("transcribe", JFK)

    there = qasr("transcribe", "--server", server.base, JFK, notes, QASR_API_KEY="sk-right")

    assert 1 == there.code
    assert f"==> {JFK} <==\n{here.out}" == there.out
    assert there.err.startswith(f"{notes}: ")
    assert "HTTP 400" in there.err


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_server_gives_the_same_subtitles(qasr: Qasr, server: Serving, form: str) -> None:
    """Times do not depend on where the work is done."""
    here = qasr("transcribe", "--format", form, MODERN)

    there = qasr("transcribe", "--format", form, "--server", server.base, "--api-key", "sk-right", MODERN)

    assert here.out == there.out


def test_server_gives_the_same_sentences(qasr: Qasr, server: Serving) -> None:
    """JSON has one shape, wherever it was made."""
    here = json.loads(qasr("transcribe", "--format", "json", JFK).out)

    ran = qasr("transcribe", "--format", "json", "--server", server.base, JFK, QASR_API_KEY="sk-right")

    there = json.loads(ran.out)
    assert set(here) == set(there)
    assert "moonshine" == there["engine"]
    assert [s["text"] for s in here["sentences"]] == [s["text"] for s in there["sentences"]]
    assert [len(s["words"]) for s in here["sentences"]] == [len(s["words"]) for s in there["sentences"]]


def test_wrong_key_is_told_in_the_servers_words(qasr: Qasr, server: Serving) -> None:
    """An error body is shown as its message."""
    ran = qasr("transcribe", "--server", server.base, "--api-key", "sk-wrong", JFK)

    assert (1, f"{JFK}: Incorrect API key provided. (HTTP 401)\n") == (ran.code, ran.err)


def test_address_is_fetched_by_the_server(qasr: Qasr, server: Serving, origin: str) -> None:
    """Addresses are sent, not fetched here; this server may not read private ones, and says so."""
    ran = qasr("transcribe", "--server", server.base, f"{origin}/jfk.flac", QASR_API_KEY="sk-right")

    assert (1, "") == (ran.code, ran.out)
    assert "not one that this server may read" in ran.err


def test_absent_server_is_told(qasr: Qasr) -> None:
    """No server, no traceback."""
    ran = qasr("transcribe", "--server", "http://127.0.0.1:9", JFK)

    assert (1, 1) == (ran.code, ran.err.count("\n"))
    assert "http://127.0.0.1:9" in ran.err


# ---- terminals


def test_interrupt_ends_quietly_and_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while a recording flows in: exit code 130, no traceback, no temporary files."""
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "--data-dir", str(tmp_path / "tmp"), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted"}),
    )
    deadline = time.monotonic() + 30
    while not any((tmp_path / "tmp").glob("qasr-*/spool")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)

    code = process.wait(30)

    out, err = process.communicate()
    assert (130, b"", b"") == (code, out, err)
    assert [] == list((tmp_path / "tmp").iterdir())


def test_interrupt_in_the_middle_of_a_recording_ends_at_once(tmp_path: Path, speech: Speech) -> None:
    """Ctrl-C once hung here: under asyncio's own loop, a killed decoder whose output was not read to its end was waited
    for without end.
    """
    recording = tmp_path / "long.wav"
    recording.write_bytes(float_wav(np.tile(speech("jfk.flac"), (1, 60))))
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", "--data-dir", str(tmp_path / "tmp"), str(recording)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted", "QASR_SCRIPTED__LATENCY_MS": "60000"}),
    )
    time.sleep(5)  # by then it is recognizing; if it is not yet, the promise is the same
    process.send_signal(signal.SIGINT)

    out, err = process.communicate(timeout=10)

    assert (130, b"", b"") == (process.returncode, out, err)
    assert [] == list((tmp_path / "tmp").glob("*"))  # a slow machine has not made the folder yet


def test_terminal_sees_progress_and_standard_output_only_text(tmp_path: Path) -> None:
    """Progress is drawn on standard error where that is a terminal; the text is untouched by it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", str(MODERN)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted", "QASR_SCRIPTED__TEXT": "Hi.", "TERM": "xterm"}),
    )
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 4096):
            seen += data
    except OSError:  # how a terminal ends
        pass
    os.close(ours)

    out, _ = process.communicate(timeout=30)

    assert b"Hi.\n" == out
    assert b"1 recording done" in seen
    assert b"Hi." not in seen


def test_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    """``qasr transcribe … | head`` leaves no traceback."""
    process = subprocess.Popen(
        [*PROGRAM, "transcribe", *[str(MODERN)] * 3],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment({"QASR_ENGINES__DEFAULT": "scripted"}),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    err = process.stderr.read()

    assert (1, b"") == (process.wait(30), err)
    process.stderr.close()

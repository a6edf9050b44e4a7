"""Bad input: whatever a client sends, the answer is an error in its dialect that says why, and the server goes on.

Each test asks the interfaces it concerns; ``refusal`` checks what holds for all errors. The last test looks at what the
others left behind.
"""

import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from tests.faces.dialects import (
    CHAT,
    CHAT_DIALECT,
    DIALECTS,
    FUN,
    GENERATION,
    QWEN,
    SSE,
    TRANSCRIPTIONS,
    Dialect,
    Refusal,
    data_url,
    refusal,
)
from tests.media import CORRUPT, Media, half, video_only, wav_header
from tests.recordings import write_flac
from tests.server import JFK, KEY, Origin, Server

QUICK_S: Final = 20.0
"""Refusing takes seconds at the most, on a busy machine too."""
LOWER: Final = {
    "InvalidParameter": "invalid_parameter_error",
    "BadRequest.TooLarge": "invalid_parameter_error",
    "InvalidFile.DownloadFailed": "invalid_parameter_error",
    "InvalidURL.Timeout": "invalid_parameter_error",
    "InvalidURL": "InvalidURL",
    "ModelNotFound": "model_not_found",
    "AUDIO_DURATION_TOO_LONG": "invalid_parameter_error",
}
"""Native codes in the words of the compatible dialect."""


def expected_code(dialect: Dialect, native: str) -> str:
    """*native* as *dialect* says it."""
    if native == "AUDIO_DURATION_TOO_LONG" and dialect is QWEN:
        return "InvalidParameter"
    return LOWER[native] if dialect.name == "chat" else native


def assert_refused(dialect: Dialect, answer: httpx2.Response, native: str, status: int = 400) -> Refusal:
    refused = refusal(answer)
    assert (status, expected_code(dialect, native)) == (refused.status, refused.code), refused.message
    return refused


each_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=str)


# ---- the recording


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@each_dialect
@pytest.mark.parametrize("name", sorted(CORRUPT))
def test_what_is_no_audio_is_refused(scripted: Server, dialect: Dialect, media: Media, name: str) -> None:
    """Text, pages, pictures, noise, empty and broken files: 400 in words, whatever they are called."""
    assert_refused(dialect, dialect.ask(scripted, data_url(media.corrupt(name), "audio/mpeg")), "InvalidParameter")


@each_dialect
def test_truncated_m4a_is_refused(scripted: Server, dialect: Dialect, media: Media) -> None:
    """The index of an m4a stands at its end; without it, there is nothing to hear."""
    assert_refused(dialect, dialect.ask(scripted, data_url(half(media.bytes("m4a")), "audio/mp4")), "InvalidParameter")


@each_dialect
def test_film_without_sound_is_refused(scripted: Server, dialect: Dialect, files: Path) -> None:
    """A container without an audio track is told apart from a broken one."""
    refused = assert_refused(
        dialect, dialect.ask(scripted, data_url(video_only(files / "film.mp4"), "video/mp4")), "InvalidParameter"
    )

    assert "audio" in refused.message.lower()


WAVS: Final[Mapping[str, bytes]] = {
    "65535 channels": wav_header(65_535 * 100, n_channels=65_535, bits=8) + bytes(65_535 * 100),
    "1 Hz": wav_header(400, 1) + bytes(400),
    "no channels": wav_header(400, n_channels=0) + bytes(400),
    "no bits": wav_header(400, bits=0) + bytes(400),
    "4 GHz": wav_header(400, 2**31 - 1, bits=8) + bytes(400),
    "only a header": wav_header(2**32 - 1),
    "header of a header": wav_header(400)[:20],
}


@each_dialect
@pytest.mark.parametrize("name", WAVS)
def test_absurd_wav_is_no_failure_of_ours(scripted: Server, dialect: Dialect, name: str) -> None:
    """Headers that lie are answered quickly: 400, or 200 where something could be read."""
    began = time.monotonic()
    answer = dialect.ask(scripted, data_url(WAVS[name], "audio/wav"))

    assert answer.status_code == httpx2.codes.OK or 400 == refusal(answer).status
    assert time.monotonic() - began < QUICK_S


@each_dialect
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_recording_over_five_minutes_is_too_long(
    scripted: Server, dialect: Dialect, files: Path, declared: bool
) -> None:
    """300 s are heard, 301 s are not, whether the file says how long it is or lets us find out."""
    long = write_flac(files / f"301-{declared}.flac", None, 301, declared=declared)
    fits = write_flac(files / f"300-{declared}.flac", None, 300, declared=declared)

    refused = assert_refused(dialect, dialect.ask(scripted, data_url(long)), "AUDIO_DURATION_TOO_LONG")

    assert "300" in refused.message
    answer = dialect.ask(scripted, data_url(fits))
    assert (dialect is FUN) == (answer.status_code != httpx2.codes.OK)  # silence is an error there


@each_dialect
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_two_hours_in_a_small_file_are_refused_quickly(
    scripted: Server, dialect: Dialect, files: Path, declared: bool
) -> None:
    """Silence compresses well: what a file may cost is counted in decoded audio, and counting stops at the limit."""
    path = files / f"two-hours-{declared}.flac"
    if not path.exists():
        write_flac(path, None, 7200, declared=declared)

    began = time.monotonic()
    answer = dialect.ask(scripted, data_url(path))

    assert_refused(dialect, answer, "AUDIO_DURATION_TOO_LONG")
    assert time.monotonic() - began < QUICK_S


@each_dialect
def test_silence_is_not_a_failure(server: Server, dialect: Dialect, silence: Path) -> None:
    """Nothing said: an empty text, but in the Fun dialect, which has an error for it."""
    answer = dialect.ask(server, data_url(silence))

    if dialect is FUN:
        refused = refusal(answer)
        assert (400, "ASR_RESPONSE_HAVE_NO_WORDS") == (refused.status, refused.code)
    else:
        assert "" == dialect.text(answer)


# ---- how the recording comes


@pytest.mark.parametrize("dialect", [CHAT_DIALECT, QWEN], ids=str)
def test_ten_megabytes_of_data_url_are_the_limit(scripted: Server, dialect: Dialect) -> None:
    """Of a data URL the encoded text counts; one character more is refused by its size and not by its content."""
    head = "data:audio/wav;base64,"
    fits, over = (head + "A" * (10 * 1024**2 + more - len(head)) for more in (-2, 1))

    refused = assert_refused(dialect, dialect.ask(scripted, over), "BadRequest.TooLarge")
    inside = refusal(dialect.ask(scripted, fits))

    assert "10485760" in refused.message
    assert "10485760" not in inside.message


@each_dialect
@pytest.mark.parametrize(
    "audio",
    [
        "",
        "data:audio/wav;base64,",
        "data:audio/wav;base64,!!!!",
        "data:audio/wav;base64,UklGRg=",
        "data:audio/wav;base64,UklG Rg==",
        "data:audio/wav;base64,ÄÖÜ=",
        "data:audio/wav,UklGRg==",
        "data:",
        "not base64 at all",
        "a" * 5,
        "file:///etc/passwd",
        "/etc/passwd",
        "FILE:///etc/passwd",
        "ftp://example.com/a.wav",
        "gopher://127.0.0.1/",
        "javascript:alert(1)",
        "http://" + "a" * 9000,
        "\x00",
    ],
    ids=lambda audio: repr(audio)[:30],
)
def test_broken_reference_to_a_recording_is_refused(scripted: Server, dialect: Dialect, audio: str) -> None:
    """Broken base64, broken data URLs, other schemes, local paths: none of it is tried."""
    assert_refused(dialect, dialect.ask(scripted, audio), "InvalidParameter")


UNREADABLE: Final[Mapping[str, str]] = {
    "/missing": "InvalidFile.DownloadFailed",
    "/error": "InvalidFile.DownloadFailed",
    "/broken": "InvalidFile.DownloadFailed",
    "/page": "InvalidParameter",
    "/silent": "InvalidURL.Timeout",
    "/to/itself": "InvalidFile.DownloadFailed",
    "/to/metadata": "InvalidURL",
    "/to/file": "InvalidURL",
    "/to/ftp": "InvalidURL",
    "/to/private": "InvalidURL",
}


@each_dialect
@pytest.mark.parametrize("path", UNREADABLE)
def test_address_that_cannot_be_read_is_the_callers_to_fix(
    scripted: Server, dialect: Dialect, origin: Origin, path: str
) -> None:
    """Each way in which an origin fails has its code, and the server does not wait for long."""
    began = time.monotonic()
    answer = dialect.ask(scripted, origin.url(path))

    assert_refused(dialect, answer, UNREADABLE[path])
    assert time.monotonic() - began < QUICK_S


@pytest.mark.parametrize("dialect", [CHAT_DIALECT, QWEN], ids=str)
def test_endless_body_stops_at_the_limit(scripted: Server, dialect: Dialect, origin: Origin) -> None:
    """No more is read than the model takes."""
    assert_refused(dialect, dialect.ask(scripted, origin.url("/endless")), "BadRequest.TooLarge")


def test_endless_body_stops_at_the_deadline(scripted: Server, origin: Origin) -> None:
    """The Fun dialect takes 2 GB by address: there the time ends it, or the size."""
    refused = refusal(FUN.ask(scripted, origin.url("/endless")))

    assert refused.code in ("InvalidURL.Timeout", "BadRequest.TooLarge")


def test_nobody_at_the_address_is_told(scripted: Server) -> None:
    """A closed port is the caller's to fix, and the answer does not tell addresses."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    refused = assert_refused(QWEN, QWEN.ask(scripted, f"http://127.0.0.1:{port}/a.wav"), "InvalidFile.DownloadFailed")

    assert str(port) not in refused.message


PRIVATE: Final = (
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[fe80::1]",
    "[fd00::1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_address_is_refused_however_it_is_written(strict: Server, origin: Origin, host: str) -> None:
    """The server asks nothing of its own network for strangers, in any notation, and says the same about all of it."""
    before = len(origin.requests)

    refused = assert_refused(CHAT_DIALECT, CHAT_DIALECT.ask(strict, origin.url("/files/jfk.flac", host)), "InvalidURL")

    assert before == len(origin.requests)
    assert "127" not in refused.message


def test_private_address_is_told_in_each_dialect(strict: Server, origin: Origin) -> None:
    """``InvalidURL`` in all of them."""
    codes = [refusal(dialect.ask(strict, origin.url("/files/jfk.flac"))).code for dialect in DIALECTS]

    assert ["InvalidURL"] * 3 == codes


# ---- the request


@each_dialect
def test_unknown_model_is_404(scripted: Server, dialect: Dialect) -> None:
    """The name that was asked for stands in the message."""
    answer = scripted.post(dialect.path, dialect.body(data_url(JFK), model="whisper-99"))

    refused = refusal(answer)
    assert (404, "model_not_found" if dialect is CHAT_DIALECT else "ModelNotFound") == (refused.status, refused.code)
    assert "whisper-99" in refused.message


@pytest.mark.parametrize("model", ["qwen3-asr-flash-filetrans", "fun-asr-realtime", "paraformer-v2"])
def test_model_of_another_interface_is_told_apart(scripted: Server, model: str) -> None:
    """A right name in the wrong place is not an unknown name."""
    chat = refusal(scripted.post(CHAT, CHAT_DIALECT.body(data_url(JFK), model=model)))
    native = refusal(scripted.post(GENERATION, QWEN.body(data_url(JFK), model=model)))

    assert (404, "model_not_supported") == (chat.status, chat.code)
    assert (400, "InvalidParameter") == (native.status, native.code)


@each_dialect
def test_no_audio_and_two_audios_are_refused(scripted: Server, dialect: Dialect) -> None:
    """One recording per request: the answer says which of the two it was."""
    none = assert_refused(dialect, scripted.post(dialect.path, dialect.body()), "InvalidParameter")
    two = assert_refused(dialect, scripted.post(dialect.path, dialect.body("a", "b")), "InvalidParameter")

    assert "certain modal" in none.message
    assert "Only one audio" in two.message


@each_dialect
def test_messages_without_a_user_are_refused(scripted: Server, dialect: Dialect) -> None:
    """The documented words for it."""
    body = json.loads(json.dumps(dialect.body(data_url(JFK))).replace('"user"', '"system"'))

    refused = assert_refused(dialect, scripted.post(dialect.path, body), "InvalidParameter")

    assert "do not contain elements with the role of user" in refused.message


def changed(dialect: Dialect, where: tuple[str | int, ...], value: object) -> Any:
    """A good request with one wrong place."""
    body = dialect.body(data_url(JFK))
    if not where:
        return value
    node: Any = body
    for step in where[:-1]:
        node = node[step]
    node[where[-1]] = value
    return body


NO_BODIES: Final[tuple[object, ...]] = ([], "text", 1, {}, {"model": "qwen3-asr-flash"})
NO_MODELS: Final[tuple[object, ...]] = (1, None, ["qwen3-asr-flash"], {})
NO_MESSAGES: Final[tuple[object, ...]] = ("text", {}, None, [1], [None], [[]], [{}])
WRONG: Final[tuple[tuple[Dialect, tuple[str | int, ...], object], ...]] = (
    *((dialect, (), value) for dialect in DIALECTS for value in NO_BODIES),
    *((dialect, ("model",), value) for dialect in DIALECTS for value in NO_MODELS),
    *((CHAT_DIALECT, ("messages",), value) for value in NO_MESSAGES),
    (CHAT_DIALECT, ("messages", 0, "content"), 5),
    (CHAT_DIALECT, ("messages", 0, "content"), [5]),
    (CHAT_DIALECT, ("messages", 0, "content", 0, "input_audio"), "text"),
    (CHAT_DIALECT, ("messages", 0, "content", 0, "input_audio", "data"), 7),
    (CHAT_DIALECT, ("messages", 0, "content", 0, "input_audio", "data"), None),
    (CHAT_DIALECT, ("messages",), [{"role": "user", "content": "text"}] * 65),
    (CHAT_DIALECT, ("asr_options",), "en"),
    (CHAT_DIALECT, ("asr_options",), {"language": 5}),
    (CHAT_DIALECT, ("asr_options",), {"language": ["en"]}),
    (CHAT_DIALECT, ("stream",), "perhaps"),
    (CHAT_DIALECT, ("stream_options",), {"include_usage": True}),
    (CHAT_DIALECT, ("modalities",), ["text", "audio"]),
    (QWEN, ("input",), None),
    (QWEN, ("input",), "text"),
    (QWEN, ("input", "messages"), {}),
    (QWEN, ("input", "messages", 0, "content"), [[]]),
    (QWEN, ("input", "messages", 0, "content", 0, "audio"), {"url": "x"}),
    (QWEN, ("parameters",), []),
    (QWEN, ("parameters", "asr_options"), "en"),
    (QWEN, ("parameters", "incremental_output"), "perhaps"),
    (FUN, ("parameters", "sample_rate"), "fast"),
    (FUN, ("parameters", "sample_rate"), 10**30),
    (FUN, ("parameters", "sample_rate"), -1),
    (FUN, ("parameters", "sample_rate"), "²"),
    (FUN, ("parameters", "vocabulary"), ["word"]),
    (FUN, ("parameters", "vocabulary"), {"word": 1000}),
    (FUN, ("parameters", "vocabulary"), {"word": 10**30}),
    (FUN, ("parameters", "vocabulary"), {str(i): 1 for i in range(51)}),
    (FUN, ("parameters", "language_hints"), "en"),
    (FUN, ("parameters", "language_hints"), ["en", "de", "fr", "es", "it"]),
    (FUN, ("parameters", "vocabulary_id"), "vocab-1"),
    (FUN, ("parameters", "speaker_diarization_enabled"), True),
)


@pytest.mark.parametrize(
    ("dialect", "where", "value"),
    WRONG,
    ids=[f"{dialect} {'.'.join(map(str, where))}={str(value)[:30]}" for dialect, where, value in WRONG],
)
def test_wrong_field_is_refused(
    scripted: Server, dialect: Dialect, where: tuple[str | int, ...], value: object
) -> None:
    """Wrong types, missing fields, numbers beyond all bounds: 400."""
    assert_refused(dialect, scripted.post(dialect.path, changed(dialect, where, value)), "InvalidParameter")


BYTES: Final[Mapping[str, bytes]] = {
    "nothing": b"",
    "no json": b"{",
    "form": b"a=b&c=d",
    "nan": b"NaN",
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested in an unknown field": b'{"model":"qwen3-asr-flash","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "invalid utf-8": b'{"model":"\xff\xfe"}',
    "invalid utf-8 in a key": b'{"\xff":1}',
    "lone surrogate": b'{"model":"\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"model":"qwen3-asr-flash"}',
    "utf-16": '{"model":"x"}'.encode("utf-16"),
    "NUL bytes": b"\x00" * 1000,
    "NUL in text": b'{"model":"qwen3\\u0000-asr-flash","messages":[],"input":{}}',
    "huge number": b'{"model":"qwen3-asr-flash","messages":[],"input":{},"x":' + b"9" * 100_000 + b"}",
    "huge exponent": b'{"model":"qwen3-asr-flash","messages":[],"input":{},"x":1e999999999}',
    "two values": b"{}{}",
}


@each_dialect
@pytest.mark.parametrize("name", BYTES)
def test_malformed_json_is_refused(scripted: Server, dialect: Dialect, name: str) -> None:
    """No bytes make the parser fail in a way that the client cannot read; what it can read names no audio."""
    refused = refusal(scripted.post(dialect.path, content=BYTES[name]))

    assert refused.status in (400, 404)


@each_dialect
def test_unknown_language_is_refused(scripted: Server, dialect: Dialect) -> None:
    """A code that nobody knows is named, not ignored."""
    options = {"language_hints": ["klingon"]} if dialect is FUN else {"language": "klingon"}

    refused = assert_refused(dialect, dialect.ask(scripted, data_url(JFK), **options), "InvalidParameter")

    assert "klingon" in refused.message


@each_dialect
def test_language_that_the_engine_does_not_hear_is_refused_with_the_remedy(server: Server, dialect: Dialect) -> None:
    """The English engine does not pretend to know Chinese; the message names the setting that helps."""
    options = {"language_hints": ["zh"]} if dialect is FUN else {"language": "zh"}

    refused = assert_refused(dialect, dialect.ask(server, data_url(JFK), **options), "InvalidParameter")

    assert "zh" in refused.message
    assert "QASR_ENGINES__DEFAULT" in refused.message


# ---- bodies and connections


@each_dialect
def test_body_over_the_limit_is_refused_and_readable(scripted: Server, dialect: Dialect) -> None:
    """41 MB: the answer arrives after the body was sent, so that clients that write first can read it."""
    answer = scripted.post(dialect.path, content=b" " * (41 * 1024**2))

    assert_refused(dialect, answer, "BadRequest.TooLarge")


def pieces(n_bytes: int) -> Iterator[bytes]:
    for _ in range(n_bytes // 65_536):
        yield b" " * 65_536


@each_dialect
def test_chunked_body_is_bounded_too(scripted: Server, dialect: Dialect) -> None:
    """Without a ``Content-Length`` the bytes are counted as they come."""
    answer = scripted.post(dialect.path, content=pieces(41 * 1024**2))

    assert_refused(dialect, answer, "BadRequest.TooLarge")


@each_dialect
def test_chunked_body_is_heard(scripted: Server, dialect: Dialect) -> None:
    """A body in pieces of unknown number is as good as any."""
    body = json.dumps(dialect.body(data_url(JFK))).encode()

    answer = scripted.post(dialect.path, content=(body[i : i + 10_000] for i in range(0, len(body), 10_000)))

    assert "lasting" in dialect.text(answer)


@each_dialect
@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "1e3"])
def test_absurd_content_length_ends_with_an_error(scripted: Server, dialect: Dialect, length: str) -> None:
    """The server answers or hangs up; it waits for nothing and keeps nothing."""
    head = f"POST {dialect.path} HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n"
    with closing(socket.create_connection(scripted.address, timeout=15)) as connection:
        connection.sendall(head.encode() + b"{}")
        connection.shutdown(socket.SHUT_WR)
        said = connection.recv(1000)

    assert said == b"" or said.startswith(b"HTTP/1.1 4")


def test_body_that_never_comes_is_no_burden(scripted: Server) -> None:
    """A client that announces a body and leaves is forgotten."""
    for n in range(20):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: q\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {10_000 + n}\r\n\r\n"
        with closing(socket.create_connection(scripted.address, timeout=15)) as connection:
            connection.sendall(head.encode() + b'{"model":')
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed

    assert "lasting" in CHAT_DIALECT.text(CHAT_DIALECT.ask(scripted, data_url(JFK)))


def test_connection_outlives_refusals(scripted: Server) -> None:
    """Keep-alive: refusals of all kinds and answers come over one connection, in turn."""
    good = CHAT_DIALECT.body(data_url(JFK))
    with httpx2.Client(
        base_url=scripted.base, headers={"Authorization": f"Bearer {KEY}"}, limits=httpx2.Limits(max_connections=1)
    ) as client:
        ports = set()
        for body, status in [(good, 200), ({}, 400), (good, 200), (CHAT_DIALECT.body("x"), 400), (good, 200)]:
            answer = client.post(CHAT, json=body, timeout=30)
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))

            assert status == answer.status_code

    assert 1 == len(ports)


# ---- forms


def post_form(server: Server, files: Any, **fields: Any) -> httpx2.Response:
    return server.post(TRANSCRIPTIONS, files=files, data=fields)


FLAC: Final = ("a.flac", JFK.read_bytes())

FORMS: Final[Mapping[str, tuple[Any, Mapping[str, Any], str | None]]] = {
    "no file": ([("x", ("a.flac", b"a"))], {"model": "whisper-1"}, "file"),
    "two files": ([("file", FLAC), ("file", FLAC)], {"model": "whisper-1"}, "file"),
    "no model": ([("file", FLAC)], {}, "model"),
    "format": ([("file", FLAC)], {"model": "whisper-1", "response_format": "xml"}, "response_format"),
    "granularity": (
        [("file", FLAC)],
        {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "letter"},
        "timestamp_granularities",
    ),
    "granularity without verbose": (
        [("file", FLAC)],
        {"model": "whisper-1", "timestamp_granularities[]": "word"},
        "timestamp_granularities",
    ),
    "include": ([("file", FLAC)], {"model": "whisper-1", "include[]": "everything"}, "include"),
    "temperature": ([("file", FLAC)], {"model": "whisper-1", "temperature": "hot"}, "temperature"),
    "temperature nan": ([("file", FLAC)], {"model": "whisper-1", "temperature": "nan"}, "temperature"),
    "temperature inf": ([("file", FLAC)], {"model": "whisper-1", "temperature": "1e999"}, "temperature"),
    "stream": ([("file", FLAC)], {"model": "whisper-1", "stream": "perhaps"}, "stream"),
    "stream of srt": ([("file", FLAC)], {"model": "whisper-1", "stream": "true", "response_format": "srt"}, None),
    "language": ([("file", FLAC)], {"model": "whisper-1", "language": "klingon"}, "language"),
    "language twice": ([("file", FLAC)], {"model": "whisper-1", "language": ["en", "de"]}, "language"),
    "speakers": ([("file", FLAC)], {"model": "whisper-1", "known_speaker_names[]": "A"}, "known_speaker_names"),
    "chunking": ([("file", FLAC)], {"model": "whisper-1", "chunking_strategy": "none"}, "chunking_strategy"),
    "threshold": (
        [("file", FLAC)],
        {
            "model": "whisper-1",
            "chunking_strategy[type]": "server_vad",
            "chunking_strategy[threshold]": "nan",
        },
        "chunking_strategy[threshold]",
    ),
    "long prompt": ([("file", FLAC)], {"model": "whisper-1", "prompt": "a" * 50_000}, "prompt"),
    "empty file": ([("file", ("a.mp3", b""))], {"model": "whisper-1"}, None),
    "text file": ([("file", ("a.mp3", b"hello" * 100))], {"model": "whisper-1"}, None),
    "many fields": ([("file", FLAC)], {"model": "whisper-1", **{f"f{i}": "x" for i in range(200)}}, None),
}


@pytest.mark.parametrize("name", FORMS)
def test_wrong_form_is_refused(scripted: Server, name: str) -> None:
    """400, and ``param`` names the field where there is one to name."""
    files, fields, parameter = FORMS[name]

    answer = post_form(scripted, files, **fields)

    refused = refusal(answer)
    assert (400, "invalid_parameter_error") == (refused.status, refused.code), refused.message
    assert parameter in (None, answer.json()["error"]["param"])


def test_form_of_another_type_is_refused(scripted: Server) -> None:
    """JSON, URL-encoded fields, and multipart without a boundary are no forms with a file."""
    answers = [
        scripted.post(TRANSCRIPTIONS, {"model": "whisper-1"}),
        scripted.post(TRANSCRIPTIONS, data={"model": "whisper-1"}),
        scripted.post(TRANSCRIPTIONS, content=b"--x", headers={"Content-Type": "multipart/form-data"}),
        scripted.post(TRANSCRIPTIONS, content=b"nothing", headers={"Content-Type": "multipart/form-data; boundary=x"}),
        scripted.post(
            TRANSCRIPTIONS,
            content=b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf a fil',
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        ),
    ]

    assert [400] * 5 == [refusal(answer).status for answer in answers]


def test_form_with_a_model_of_another_interface_is_told(scripted: Server) -> None:
    """A realtime model cannot take a file; an unknown one does not exist."""
    realtime = refusal(post_form(scripted, [("file", FLAC)], model="fun-asr-realtime"))
    unknown = refusal(post_form(scripted, [("file", FLAC)], model="whisper-99"))

    assert (404, "model_not_supported") == (realtime.status, realtime.code)
    assert (404, "model_not_found") == (unknown.status, unknown.code)


def test_form_over_25_megabytes_is_413(scripted: Server) -> None:
    """OpenAI's limit and status; the body is read first, so that the answer arrives."""
    refused = refusal(post_form(scripted, [("file", ("a.wav", bytes(27 * 1024**2)))], model="whisper-1"))

    assert 413 == refused.status


def test_translation_is_refused_by_name(scripted: Server) -> None:
    """No English is invented for other languages."""
    refused = refusal(scripted.post("/v1/audio/translations", files=[("file", FLAC)], data={"model": "whisper-1"}))

    assert 400 == refused.status
    assert "translate" in refused.message


# ---- afterwards


@each_dialect
def test_streamed_refusals_are_plain_errors(scripted: Server, dialect: Dialect) -> None:
    """A client that asked for a stream gets the same error, as JSON and with its status."""
    body = dialect.body("data:audio/wav;base64,UklGRg==")
    body |= {"stream": True} if dialect is CHAT_DIALECT else {}

    assert_refused(dialect, scripted.post(dialect.path, body, headers=SSE), "InvalidParameter")


def test_server_still_hears_and_keeps_nothing(server: Server, scripted: Server, strict: Server) -> None:
    """After all of the above, requests are answered and no file of a stranger is left in the spool."""
    texts = [dialect.text(dialect.ask(server, data_url(JFK))) for dialect in DIALECTS]
    other = CHAT_DIALECT.text(CHAT_DIALECT.ask(scripted, data_url(JFK)))

    assert all("country" in text for text in texts)
    assert "lasting" in other
    assert ([], [], []) == (server.spooled, scripted.spooled, strict.spooled)

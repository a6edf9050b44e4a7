"""The official ``dashscope`` package on ``/api-ws/v1/inference``, as it is: real sockets, real speech."""

import json
import struct
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Final

import av
import dashscope
import numpy as np
import pytest
import websocket
from dashscope.audio.asr import (
    Recognition,
    RecognitionCallback,
    RecognitionResult,
    TranslationRecognizerCallback,
    TranslationRecognizerRealtime,
)
from dashscope.v2 import errors
from dashscope.v2.transport.ws_connection import WsConnection
from tests.conftest import Speech
from tests.faces.test_inference_dialogue import ID, OTHER, finish, run
from tests.server import DATA, KEY, SCRIPTED, Server, serving

from qasr.domain.audio import SAMPLE_RATE, Pcm

pytestmark = pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API:FutureWarning")

MODEL: Final = "fun-asr-realtime"
SAID: Final = "ask not what your country can do for you"
FRAME: Final = 3200
"""Bytes: 100 ms, as the documentation has it."""
PATIENCE_S: Final = 120.0
PAUSE: Final = np.zeros(2 * SAMPLE_RATE, np.float32)


def pcm16(samples: Pcm) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def write_wav(path: Path, samples: Pcm) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm16(samples))
    return path


@pytest.fixture(scope="session")
def jfk(speech: Speech) -> bytes:
    """Eleven seconds of headerless sound."""
    return pcm16(speech("jfk.flac"))


@pytest.fixture(scope="session")
def jfk_wav(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("live") / "jfk.wav", speech("jfk.flac"))


@pytest.fixture(scope="session")
def two_wav(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, with a pause: the second begins after 13 seconds."""
    samples = np.concatenate([speech("jfk.flac"), PAUSE, speech("LJ001-0002.flac"), PAUSE])
    return write_wav(tmp_path_factory.mktemp("live") / "two.wav", samples)


def address(server: Server) -> str:
    return server.base.replace("http", "ws", 1) + "/api-ws/v1/inference"


def point_at(server: Server, key: str) -> Iterator[None]:
    before = dashscope.base_websocket_api_url, dashscope.api_key
    dashscope.base_websocket_api_url, dashscope.api_key = address(server), key
    yield
    dashscope.base_websocket_api_url, dashscope.api_key = before


@pytest.fixture
def heard(server: Server) -> Iterator[None]:
    """By the embedded engine."""
    yield from point_at(server, "any")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One session at a time, and an engine that fails at what begins after 12 seconds."""
    limits = {"LIVE__MOST_SESSIONS": "1", "SCRIPTED__FAIL_AT_MS": "12000", "AUTH__KEYS": KEY}
    with serving(tmp_path_factory.mktemp("narrow"), SCRIPTED | limits) as running:
        yield running


@pytest.fixture
def narrowly(narrow: Server) -> Iterator[None]:
    yield from point_at(narrow, KEY)


@dataclass
class Told(RecognitionCallback):  # type: ignore[misc]
    """All that the SDK tells, and when it is over."""

    calls: list[str] = field(default_factory=list)
    sentences: list[Any] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def on_open(self) -> None:
        self.calls.append("open")

    def on_complete(self) -> None:
        self.calls.append("complete")

    def on_error(self, result: Any) -> None:
        self.calls.append("error")
        self.errors.append(result)

    def on_close(self) -> None:
        self.calls.append("close")
        self.over.set()

    def on_event(self, result: Any) -> None:
        self.calls.append("event")
        self.sentences.append(result.get_sentence())


def check_sentences(sentences: list[Any]) -> None:
    """Numbered from 1, in order of time, and so are their words."""
    times = [time for s in sentences for w in s["words"] for time in (w["begin_time"], w["end_time"])]

    assert list(range(1, len(sentences) + 1)) == [s["sentence_id"] for s in sentences]
    assert all(a["end_time"] <= b["begin_time"] for a, b in pairwise(sentences))
    assert sorted(times) == times
    assert all(s["sentence_end"] and s["words"] for s in sentences)
    assert all(s["text"] == "".join(w["text"] + w["punctuation"] for w in s["words"]) for s in sentences)


def said(sentences: list[Any]) -> list[tuple[int, int, str]]:
    """Without times of words: on a busy machine they are estimated where the aligner takes too long."""
    return [(s["begin_time"], s["end_time"], s["text"]) for s in sentences]


def text_of(sentences: list[Any]) -> str:
    return " ".join(s["text"] for s in sentences).lower()


# ---- the classic SDK


@pytest.mark.usefixtures("heard")
def test_file_is_heard(two_wav: Path, references: dict[str, str]) -> None:
    """``call(file)`` sends all of it at once, header included, and gets its sentences with usage."""
    result = Recognition(MODEL, None, "wav", SAMPLE_RATE).call(str(two_wav))

    assert 200 == result.status_code, result.message
    sentences = result.get_sentence()
    check_sentences(sentences)
    assert len(sentences) >= 2
    assert SAID in text_of(sentences)
    assert references["LJ001-0002.flac"].lower().split()[:3] == sentences[-1]["text"].lower().split()[:3]
    assert [s["end_time"] // 1000 for s in sentences] == [result.get_usage(s)["duration"] for s in sentences]


@pytest.mark.usefixtures("heard")
def test_speech_is_heard_while_it_is_sent(jfk: bytes) -> None:
    """Interim results replace each other; the end of each sentence is told once; then all is complete."""
    told = Told()
    recognition = Recognition(MODEL, told, "pcm", SAMPLE_RATE)
    recognition.start()
    for place in range(0, len(jfk), FRAME):
        recognition.send_audio_frame(jfk[place : place + FRAME])
    recognition.stop()

    assert told.over.wait(PATIENCE_S)
    assert ["open", *["event"] * len(told.sentences), "complete", "close"] == told.calls
    ended = [s for s in told.sentences if RecognitionResult.is_sentence_end(s)]
    check_sentences(ended)
    assert SAID in text_of(ended)
    ids = [s["sentence_id"] for s in told.sentences]
    assert sorted(ids) == ids
    assert all(s["sentence_begin"] == (i == 0 or ids[i - 1] != ids[i]) for i, s in enumerate(told.sentences))


@pytest.mark.usefixtures("heard")
def test_context_is_updated_while_it_is_sent(jfk: bytes) -> None:
    """``update_context`` between two frames."""
    told = Told()
    recognition = Recognition(MODEL, told, "pcm", SAMPLE_RATE)
    recognition.start(raw_input={"context": []})
    recognition.send_audio_frame(jfk[: len(jfk) // 2])
    recognition.update_context({"context": [{"role": "user", "content": [{"type": "input_text", "text": "Kennedy"}]}]})
    recognition.send_audio_frame(jfk[len(jfk) // 2 :])
    recognition.stop()

    assert told.over.wait(PATIENCE_S)
    assert "complete" in told.calls
    assert SAID in text_of([s for s in told.sentences if s["sentence_end"]])


ENCODED: Final = {
    "mp3": ("mp3", "libmp3lame", 16_000),
    "opus": ("ogg", "libopus", 16_000),
    "aac": ("adts", "aac", 16_000),
    "amr": ("amr", "libopencore_amrnb", 8_000),
}
"""Container, codec, rate."""


def encode(path: Path, samples: Pcm, container: str, codec: str, rate_hz: int) -> None:
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None, :], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate_hz)
        fifo = av.AudioFifo()
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            part.pts = None
            fifo.write(part)
        while (piece := fifo.read(stream.codec_context.frame_size, partial=True)) is not None:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("encoding", [*ENCODED, "speex"])
def test_encoded_file_is_heard(speech: Speech, tmp_path: Path, encoding: str) -> None:
    """All formats that the documentation has, at the rates of their encoders."""
    path, rate_hz = DATA / "jfk.spx", SAMPLE_RATE  # nothing here encodes Speex
    if encoding in ENCODED:
        path, rate_hz = tmp_path / f"jfk.{encoding}", ENCODED[encoding][2]
        encode(path, speech("jfk.flac"), *ENCODED[encoding])

    result = Recognition("paraformer-realtime-v2", None, encoding, rate_hz).call(str(path))

    assert 200 == result.status_code, result.message
    assert "your country" in text_of(result.get_sentence())


@pytest.mark.usefixtures("heard")
def test_silence_is_complete_and_empty(tmp_path: Path) -> None:
    """No sentence, no error."""
    result = Recognition(MODEL, None, "wav", SAMPLE_RATE).call(str(write_wav(tmp_path / "silence.wav", PAUSE)))

    assert 200 == result.status_code, result.message
    assert not result.get_sentence()


@pytest.mark.usefixtures("heard")
def test_language_that_nobody_hears_is_refused() -> None:
    """In place of ``task-started``; the message names the remedy."""
    told = Told()
    recognition = Recognition(MODEL, told, "pcm", SAMPLE_RATE, language_hints=["zh"])
    recognition.start()

    assert told.over.wait(PATIENCE_S)
    assert ["open", "error", "close"] == told.calls
    assert (44, "InvalidParameter") == (told.errors[0].status_code, told.errors[0].code)
    assert "QASR_ENGINES__DEFAULT" in told.errors[0].message
    recognition._silence_timer.cancel()  # the SDK forgets it, and would keep the process for 23 s


@pytest.mark.usefixtures("heard")
def test_garbage_is_told(tmp_path: Path) -> None:
    """What is not in the format that was told."""
    (tmp_path / "song.mp3").write_bytes(b"not a song" * 4000)
    result = Recognition(MODEL, None, "mp3", SAMPLE_RATE).call(str(tmp_path / "song.mp3"))

    assert (44, "UNSUPPORTED_FORMAT") == (result.status_code, result.code)
    assert result.message.startswith("Failed to decode audio")


def test_wrong_key_is_refused_at_the_door(narrow: Server, jfk_wav: Path) -> None:
    """The SDK makes its own message of the status."""
    before = dashscope.base_websocket_api_url, dashscope.api_key
    dashscope.base_websocket_api_url, dashscope.api_key = address(narrow), "sk-wrong"
    result = Recognition(MODEL, None, "wav", SAMPLE_RATE).call(str(jfk_wav))
    dashscope.base_websocket_api_url, dashscope.api_key = before

    assert (401, "Unauthorized, your api-key is invalid!") == (result.status_code, result.message)


class Translated(TranslationRecognizerCallback):  # type: ignore[misc]
    """What Gummy's class tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.over = threading.Event()
        self.is_complete = False

    def on_complete(self) -> None:
        self.is_complete = True

    def on_close(self) -> None:
        self.over.set()

    def on_event(self, _: str, transcription: Any, translation: Any, usage: Any) -> None:
        self.told.append((transcription, translation, usage))


@pytest.mark.usefixtures("heard")
def test_gummy_transcribes(jfk: bytes, two_wav: Path) -> None:
    """Sentence by sentence, as it is sent and as a file."""
    told = Translated()
    recognizer = TranslationRecognizerRealtime("gummy-realtime-v1", told, "pcm", SAMPLE_RATE, source_language="en")
    recognizer.start()
    recognizer.send_audio_frame(jfk)
    recognizer.stop()
    whole = TranslationRecognizerRealtime("gummy-realtime-v1", None, "wav", SAMPLE_RATE).call(str(two_wav))

    assert told.over.wait(PATIENCE_S)
    assert told.is_complete
    ended = [(t, usage) for t, _, usage in told.told if t.is_sentence_end]
    assert "your country" in " ".join(t.text for t, _ in ended).lower()
    assert all(t.words and usage["duration"] for t, usage in ended)
    assert whole.error_message is None
    assert len(whole.transcription_result_list) >= 2
    assert all(t.text == "".join(word.text for word in t.words) for t in whole.transcription_result_list)


@pytest.mark.usefixtures("narrowly")
def test_engine_that_fails_fails_the_task(narrow: Server, two_wav: Path) -> None:
    """What was heard before is told; then the error, once, and the next task is as good as new."""
    told = Told()
    recognition = Recognition(MODEL, told, "wav", SAMPLE_RATE)
    recognition.start()
    recognition.send_audio_frame(two_wav.read_bytes())
    while not told.over.wait(0.05):  # the SDK looks for answers only while it has something to send
        recognition._stream_data.put(bytes(FRAME))
    recognition._silence_timer.cancel()  # the SDK forgets it, and would keep the process for 23 s

    assert ["error", "close"] == told.calls[-2:]
    assert (44, "InternalError") == (told.errors[0].status_code, told.errors[0].code)
    assert [1] == [s["sentence_id"] for s in told.sentences if s["sentence_end"]]
    begin(narrow).close()


# ---- the new client


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    found = dashscope.Client(api_key="any", base_url=server.native)
    yield found
    found.close()


def test_new_client_recognizes(server: Server, client: Any, jfk: bytes, jfk_wav: Path) -> None:
    """As it is sent, with a context that changes, and as a file."""
    with client.audio.asr.recognize(model=MODEL, ws_url=address(server), input={"context": []}) as recognition:
        for place in range(0, len(jfk), FRAME):
            recognition.send_audio_frame(jfk[place : place + FRAME])
        recognition.session.continue_task({"context": []})
        recognition.stop()
        sentences = [result.get_sentence() for result in recognition.results()]
        usage = recognition.usage
    events = list(client.audio.asr.recognize_file(str(jfk_wav), model=MODEL, format="wav", ws_url=address(server)))

    ended = [s for s in sentences if s and s["sentence_end"]]
    check_sentences(ended)
    assert SAID in text_of(ended)
    from_file = [event["payload"]["output"].get("sentence") for event in events if "output" in event["payload"]]
    assert said(ended) == said([s for s in from_file if s and s["sentence_end"]])
    assert ended[-1]["end_time"] // 1000 == usage["duration"]


def test_new_client_raises_what_the_task_failed_with(server: Server, client: Any) -> None:
    """Its own exception, with our message."""
    with (
        pytest.raises(errors.DashScopeError, match="vocabulary_id"),
        client.audio.asr.recognize(model=MODEL, ws_url=address(server), vocabulary_id="vocab-1"),
    ):
        pass


def test_socket_is_used_again(server: Server, client: Any, jfk: bytes) -> None:
    """Two tasks one after the other on one connection; a second one beside them is refused and disturbs nobody."""
    texts = []
    with closing(WsConnection(url=address(server), api_key="any", timeout=PATIENCE_S)) as connection:
        for _ in range(2):
            with client.audio.asr.recognize(model=MODEL, connection=connection) as recognition:
                recognition.send_audio_frame(jfk)
                with (
                    pytest.raises(errors.DashScopeError, match="Another task is running"),
                    client.audio.asr.recognize(model=MODEL, connection=connection),
                ):
                    pass
                recognition.stop()
                sentences = [result.get_sentence() for result in recognition.results()]
            texts.append(text_of([s for s in sentences if s and s["sentence_end"]]))

    assert SAID in texts[0]
    assert texts[0] == texts[1]


# ---- by hand


class Socket(websocket.WebSocket):
    """Releases its file descriptor in any case."""

    def close(self, *args: Any, **options: Any) -> None:
        super().close(*args, **options)
        self.shutdown()  # type: ignore[no-untyped-call]


def connect(server: Server, path: str = "/api-ws/v1/inference") -> Any:
    """A socket of a client that writes ``bearer`` in small letters."""
    url, header = server.base.replace("http", "ws", 1) + path, [f"Authorization: bearer {KEY}"]
    return websocket.create_connection(url, header=header, timeout=PATIENCE_S, class_=Socket)


def next_header(socket: Any) -> Any:
    header: Any = json.loads(socket.recv())["header"]
    return header


def begin(server: Server, identity: str = ID) -> Any:
    """A socket whose task has started, sooner or later: the one session of ``narrow`` may be in use a moment longer."""
    for _ in range(600):
        socket = connect(server)
        socket.send(run(identity))
        header = next_header(socket)
        if header["event"] == "task-started":
            return socket
        socket.close()
        assert header["error_code"].startswith("Throttling")
        time.sleep(0.1)
    pytest.fail("the session was never released")


def test_both_spellings_of_the_path(narrow: Server, jfk: bytes) -> None:
    """Older samples have a slash at the end; and a socket may be used without any SDK."""
    with closing(connect(narrow, "/api-ws/v1/inference/")) as socket:
        socket.send(finish())

        assert ("task-failed", ID) == (next_header(socket)["event"], ID)
    with closing(begin(narrow)) as socket:
        socket.send_binary(jfk)
        socket.send(finish())
        names: list[str] = []
        while not names or names[-1] not in ("task-finished", "task-failed"):
            names.append(next_header(socket)["event"])

    assert ["result-generated", "task-finished"] == sorted(set(names))


def test_more_sessions_than_there_may_be_are_told(narrow: Server) -> None:
    """In the dialect's own words; the socket is closed, and the one that runs does not notice."""
    with closing(begin(narrow)) as first, closing(connect(narrow)) as second:
        second.send(run(OTHER))
        failed = next_header(second)
        opcode, data = second.recv_data()
        first.send_binary(bytes(FRAME))
        first.send(finish())

        assert ("task-failed", "Throttling.AllocationQuota") == (failed["event"], failed["error_code"])
        assert (websocket.ABNF.OPCODE_CLOSE, 1000) == (opcode, int.from_bytes(data[:2]))
        assert "task-finished" == next_header(first)["event"]


def vanish(socket: Any) -> None:
    """Without a goodbye: the connection is reset."""
    socket.sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    socket.sock.close()


@pytest.mark.parametrize("state", ["connected", "started", "fed", "finishing"])
@pytest.mark.parametrize("politely", [True, False])
def test_client_that_leaves_releases_everything(narrow: Server, jfk: bytes, state: str, politely: bool) -> None:
    """At each state of the protocol; the one session is free for the next client."""
    socket = connect(narrow) if state == "connected" else begin(narrow)
    if state in ("fed", "finishing"):
        socket.send_binary(jfk[: 5 * 32_000])
    if state == "finishing":
        socket.send(finish())
    if politely:
        socket.close()
    else:
        vanish(socket)

    with closing(begin(narrow, OTHER)) as next_one:
        next_one.send_binary(bytes(FRAME))
        next_one.send(finish(OTHER))
        assert "task-finished" == next_header(next_one)["event"]


def test_clients_that_take_too_long_are_told(tmp_path: Path) -> None:
    """Without a task, without a frame, without speech: each has its own limit, which can be set."""
    limits = {"LIVE__IDLE_S": "1", "LIVE__NO_DATA_S": "2", "LIVE__SILENCE_S": "1.5"}
    with serving(tmp_path, SCRIPTED | limits) as impatient:
        with closing(connect(impatient)) as idle:
            opcode, data = idle.recv_data()
        with closing(begin(impatient)) as still:
            no_data = next_header(still)
        with closing(begin(impatient)) as silent:
            silence: list[Any] = []
            reader = threading.Thread(target=lambda: silence.append(next_header(silent)))
            reader.start()
            while reader.is_alive():
                with suppress(OSError, websocket.WebSocketException):
                    silent.send_binary(bytes(FRAME))
                reader.join(0.1)

    assert (websocket.ABNF.OPCODE_CLOSE, 1000) == (opcode, int.from_bytes(data[:2]))
    assert "CLIENT_ERROR" == no_data["error_code"]
    assert "ResponseTimeout" == silence[0]["error_code"]

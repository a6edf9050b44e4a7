"""Official clients of both realtime dialects, as they are, over real sockets, with real speech and the real engine."""

import base64
import gc
import json
import queue
import re
import threading
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import dashscope
import numpy as np
import pytest
from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeCallback, OmniRealtimeConversation
from dashscope.audio.qwen_omni.omni_realtime import AudioFormatConfig, TranscriptionParams
from dashscope.v2 import errors
from openai import AsyncOpenAI
from tests.conftest import Speech
from tests.server import KEY, SCRIPTED, Server, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from qasr.domain.audio import SAMPLE_RATE, Pcm

MODEL: Final = "qwen3-asr-flash-realtime"
ANSWER_S: Final = 60.0
FRAME: Final = 3200
SAID: Final = {"ask", "not", "what", "your", "country", "can", "do", "for", "you"}
TEXT: Final = "conversation.item.input_audio_transcription"


def coded(pcm: Pcm, rate_hz: int = SAMPLE_RATE) -> bytes:
    """16-bit samples at another rate; with a second of silence behind them."""
    pcm = np.concatenate([pcm, np.zeros(SAMPLE_RATE, np.float32)])
    places = np.arange(int(len(pcm) * rate_hz / SAMPLE_RATE)) * (SAMPLE_RATE / rate_hz)
    return bytes((np.interp(places, np.arange(len(pcm)), pcm) * 32767).astype("<i2").tobytes())


def pieces(sound: bytes) -> Iterator[str]:
    """As clients send it."""
    for begin in range(0, len(sound), FRAME):
        yield base64.b64encode(sound[begin : begin + FRAME]).decode()


def words(texts: list[str]) -> set[str]:
    return set(re.findall(r"[a-z]+", " ".join(texts).lower()))


def transcripts(events: list[Mapping[str, Any]]) -> list[str]:
    return [event["transcript"] for event in events if event["type"] == f"{TEXT}.completed"]


class Notes(OmniRealtimeCallback):  # type: ignore[misc]
    """Keeps what comes."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []
        self.closed: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.news = threading.Condition()

    def on_event(self, message: Any) -> None:
        with self.news:
            self.events.append(message)
            self.news.notify_all()

    def on_close(self, close_status_code: Any, close_msg: Any) -> None:
        self.closed.put((close_status_code, close_msg))

    def wait_for(self, kind: str, count: int = 1) -> list[Mapping[str, Any]]:
        """All events once there are *count* of *kind*."""
        with self.news:
            enough = self.news.wait_for(lambda: [e["type"] for e in self.events].count(kind) >= count, ANSWER_S)
        assert enough, self.events
        return self.events


def conversation(server: Server, notes: Notes, model: str = MODEL, key: str = KEY) -> Any:
    """The classic SDK, connected."""
    url = server.base.replace("http", "ws", 1) + "/api-ws/v1/realtime"
    client = OmniRealtimeConversation(model=model, callback=notes, url=url, api_key=key)
    client.connect()
    return client


def configure(client: Any, *, vad: bool = True, **options: Any) -> None:
    client.update_session(
        output_modalities=[MultiModality.TEXT],
        enable_turn_detection=vad,
        **{"transcription_params": TranscriptionParams(language="en", corpus_text="Kennedy"), **options},
    )


def test_classic_client_with_server_vad(server: Server, speech: Speech) -> None:
    """Speech sent at once: utterances one after the other, each with its events in order, and an orderly end."""
    notes = Notes()
    client = conversation(server, notes)
    configure(client, turn_detection_silence_duration_ms=400)
    for piece in pieces(coded(speech("jfk.flac"))):
        client.append_audio(piece)
    client.end_session(timeout=ANSWER_S)
    client.close()

    types = [event["type"] for event in notes.events]
    assert ["session.created", "session.updated"] == types[:2]
    assert "session.finished" == types[-1]
    assert client.session_id == notes.events[0]["session"]["id"]
    assert words(transcripts(notes.events)) >= SAID
    items = [event["item_id"] for event in notes.events if event["type"].endswith("speech_started")]
    assert len(items) > 1
    assert [None, *items[:-1]] == [e["previous_item_id"] for e in notes.events if e["type"].endswith(".committed")]
    assert len(items) == len(transcripts(notes.events))


def test_classic_client_that_commits(server: Server, speech: Speech) -> None:
    """Manual mode, at 8 kHz, in the nested form: one text for each commit."""
    notes = Notes()
    client = conversation(server, notes)
    configure(client, vad=False, input_audio_config=AudioFormatConfig(type="pcm", sample_rate=8000))
    for count in (1, 2):
        for piece in pieces(coded(speech("jfk.flac"), 8000)):
            client.append_audio(piece)
        client.commit()
        notes.wait_for(f"{TEXT}.completed", count)
    client.end_session(timeout=ANSWER_S)
    client.close()

    texts = transcripts(notes.events)
    assert 2 == len(texts)
    assert all(words([text]) >= SAID for text in texts)
    assert not [event for event in notes.events if "speech_" in event["type"]]


def test_classic_client_is_corrected(server: Server) -> None:
    """What Omni clients send besides is told, and the session goes on to its end."""
    notes = Notes()
    client = conversation(server, notes, "qwen3.5-omni-plus-realtime")
    client.update_session(output_modalities=[MultiModality.TEXT], turn_detection_type="semantic_vad")
    client.create_response(instructions="x")
    client.cancel_response()
    client.create_item({"type": "message"})
    client.clear_appended_audio()
    notes.wait_for("input_audio_buffer.cleared")
    client.end_session(timeout=ANSWER_S)
    client.close()

    assert ["session.created", "session.updated", *["error"] * 3, "input_audio_buffer.cleared", "session.finished"] == [
        event["type"] for event in notes.events
    ]


@contextmanager
def left_to_the_collector() -> Iterator[None]:
    """The classic SDK does not close a socket that the server has closed; what it warns of then is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_classic_client_learns_of_an_unknown_model(server: Server) -> None:
    """By an event, since it cannot show why an upgrade was refused."""
    notes = Notes()

    with left_to_the_collector():
        conversation(server, notes, "nobody")
        assert 1008 == notes.closed.get(timeout=ANSWER_S)[0]

    assert ["error"] == [event["type"] for event in notes.events]
    assert "model_not_found" == notes.events[0]["error"]["code"]


def test_classic_client_learns_that_the_server_is_full(tmp_path: Path) -> None:
    """By an event, too: it connects, and is told to come later. The session that is open goes on."""
    first, second = Notes(), Notes()

    with serving(tmp_path, SCRIPTED | {"LIVE__MOST_SESSIONS": "1"}) as small, left_to_the_collector():
        client = conversation(small, first)
        first.wait_for("session.created")
        conversation(small, second)
        assert (1013, "Throttling") == second.closed.get(timeout=ANSWER_S)
        configure(client)
        first.wait_for("session.updated")
        client.close()

    assert ["error"] == [event["type"] for event in second.events]
    assert ("server_error", "Throttling") == (second.events[0]["error"]["type"], second.events[0]["error"]["code"])


def test_classic_client_with_a_wrong_key(scripted: Server) -> None:
    """It does not connect."""
    notes = Notes()

    with left_to_the_collector():
        with pytest.raises(TimeoutError) as failed:
            conversation(scripted, notes, key="sk-wrong")
        assert (None, None) == notes.closed.get(timeout=ANSWER_S)
        del failed

    assert [] == notes.events


preview = pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API is a preview:FutureWarning")


@pytest.fixture
def modern(server: Server) -> Iterator[Any]:
    client = dashscope.Client(api_key=KEY, base_url=server.native)
    yield client.audio.realtime.connect(
        model=MODEL, ws_url=server.base.replace("http", "ws", 1) + "/api-ws/v1/realtime", workspace="ws-v2"
    )
    client.close()


@preview
def test_new_client(modern: Any, speech: Speech) -> None:
    """``audio.realtime.connect``: events until ``session.finished``, and no error in between."""
    with modern as session:
        session.update_session(["text"], transcription_params={"language": "en", "corpus_text": "Alibaba"})
        for piece in pieces(coded(speech("jfk.flac"))):
            session.append_audio(piece)
        session.end_session()
        events = list(session.events())

    assert session.session_id == events[0]["session"]["id"]
    assert "session.finished" == events[-1]["type"]
    assert words(transcripts(events)) >= SAID
    assert all(event["text"] + event["stash"] for event in events if event["type"] == f"{TEXT}.text")


@preview
def test_new_client_goes_on_after_an_error(modern: Any) -> None:
    """It raises what was wrong, and reads on: the error is of the kind that it takes for recoverable."""
    with modern as session:
        assert "session.created" == session.recv_event()["type"]
        session.update_session(["text"], turn_detection_silence_duration_ms=1)
        with pytest.raises(errors.DashScopeError, match="200 and 6000"):
            session.recv_event()
        session.update_session(["text"])

        assert "session.updated" == session.recv_event()["type"]


@asynccontextmanager
async def openai_session(server: Server, **options: Any) -> AsyncIterator[Any]:
    """The SDK's realtime client."""
    async with (
        AsyncOpenAI(api_key=KEY, base_url=f"{server.base}/v1") as client,
        client.realtime.connect(**options) as connection,
    ):
        yield connection


@pytest.mark.anyio
async def test_openai_client_with_server_vad(server: Server, speech: Speech) -> None:
    """A transcription session of the present schema: the deltas of an item are its text."""
    events: list[Any] = []
    async with openai_session(server, extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
                    }
                },
            }
        )
        for piece in pieces(coded(speech("jfk.flac"), 24_000)):
            await connection.input_audio_buffer.append(audio=piece)
        with anyio.fail_after(ANSWER_S):
            while words([event.transcript for event in events if hasattr(event, "transcript")]) < SAID:
                events.append(await connection.recv())

    assert ["session.created", "session.updated"] == [event.type for event in events[:2]]
    done = [event for event in events if event.type == f"{TEXT}.completed"]
    for event in done:
        deltas = [each.delta for each in events if each.type == f"{TEXT}.delta" and each.item_id == event.item_id]
        assert event.transcript == "".join(deltas)
        assert event.usage.input_tokens > 0
        assert ["en"] == [language.code for language in event.languages]


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"model": "gpt-4o-transcribe"}, {"extra_query": {"intent": "transcription"}}])
async def test_openai_client_that_commits(server: Server, speech: Speech, options: dict[str, Any]) -> None:
    """Named in the address or not at all; one text for the commit."""
    async with openai_session(server, **options) as connection:
        await connection.session.update(session={"type": "transcription", "audio": {"input": {"turn_detection": None}}})
        for piece in pieces(coded(speech("jfk.flac"), 24_000)):
            await connection.input_audio_buffer.append(audio=piece)
        await connection.input_audio_buffer.commit()
        with anyio.fail_after(ANSWER_S):
            while (event := await connection.recv()).type != f"{TEXT}.completed":
                assert event.type != "error"

    assert words([event.transcript]) >= SAID


@pytest.mark.anyio
async def test_openai_beta_client(server: Server, speech: Speech) -> None:
    """The flat schema, with the names of its time, at 8 kHz µ-law."""
    mulaw = _mulaw(np.frombuffer(coded(speech("jfk.flac"), 8000), "<i2"))
    types: list[str] = []
    async with (
        AsyncOpenAI(
            api_key=KEY, base_url=f"{server.base}/v1", websocket_base_url=f"{server.base.replace('http', 'ws', 1)}/v1"
        ) as client,
        client.beta.realtime.connect(model="gpt-4o-transcribe") as connection,
    ):
        await connection.transcription_session.update(
            session={
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                "turn_detection": None,  # type: ignore[typeddict-item]
            }
        )
        for piece in pieces(mulaw):
            await connection.input_audio_buffer.append(audio=piece)
        await connection.input_audio_buffer.commit()
        with anyio.fail_after(ANSWER_S):
            while True:
                event: Any = await connection.recv()
                types.append(event.type)
                if event.type in (f"{TEXT}.completed", "error"):
                    break

    assert ["transcription_session.created", "transcription_session.updated"] == types[:2]
    assert "conversation.item.created" in types
    assert words([event.transcript]) >= SAID


def _mulaw(samples: np.ndarray[Any, np.dtype[np.int16]]) -> bytes:
    """G.711: sign, exponent, mantissa, inverted."""
    level = np.minimum(np.abs(samples.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(level)).astype(np.int32) - 7
    mantissa = (level >> (exponent + 3)) & 15
    sign = np.where(samples < 0, 128, 0)
    return bytes((~(sign | exponent << 4 | mantissa) & 255).astype(np.uint8).tobytes())


@pytest.mark.anyio
async def test_sessions_do_not_wait_for_each_other(server: Server, speech: Speech) -> None:
    """Ten at once, each with its own text."""
    texts: list[str] = []

    async def speak(name: str) -> None:
        async with openai_session(server, model="whisper-1") as connection:
            turns = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
            await connection.session.update(session=turns)
            for piece in pieces(coded(speech(name)[: 4 * SAMPLE_RATE], 24_000)):
                await connection.input_audio_buffer.append(audio=piece)
            await connection.input_audio_buffer.commit()
            with anyio.fail_after(ANSWER_S):
                while (event := await connection.recv()).type != f"{TEXT}.completed":
                    assert event.type != "error"
            texts.append(f"{name} {event.transcript}")

    async with anyio.create_task_group() as group:
        for name in ("jfk.flac", "LJ001-0001.flac") * 5:
            group.start_soon(speak, name)

    assert 2 == len(set(texts))
    assert {5} == {texts.count(text) for text in texts}


@pytest.mark.parametrize("path", ["/v1/realtime", "/compatible-mode/v1/realtime/"])
def test_browser_sends_its_key_as_a_subprotocol(scripted: Server, path: str) -> None:
    """It cannot set headers; a wrong key is refused before the upgrade, in the dialect's shape."""
    url = scripted.base.replace("http", "ws", 1) + path
    protocols = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]

    with connect(url, subprotocols=[Subprotocol(each) for each in protocols]) as client:
        assert "realtime" == client.subprotocol
        assert "transcription_session.created" == json.loads(client.recv(ANSWER_S))["type"]
    with pytest.raises(InvalidStatus) as refused:
        connect(url, subprotocols=[Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.sk-wrong")])

    assert 401 == refused.value.response.status_code
    assert "invalid_api_key" == json.loads(refused.value.response.body)["error"]["code"]


@pytest.mark.parametrize("query", ["?model=nobody", "?model=gpt-realtime", "?intent=transcription&model=fun-asr"])
def test_wrong_model_is_told_behind_the_upgrade(scripted: Server, query: str) -> None:
    """And then the socket is closed."""
    url = scripted.base.replace("http", "ws", 1) + "/v1/realtime" + query
    with connect(url, additional_headers={"Authorization": f"bearer {KEY}"}) as client:
        assert "model_not_found" == json.loads(client.recv(ANSWER_S))["error"]["code"]
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(ANSWER_S)

    assert closed.value.rcvd is not None
    assert 1008 == closed.value.rcvd.code


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With room for one session, which is in use."""
    settings = SCRIPTED | {"LIVE__MOST_SESSIONS": "1", "AUTH__KEYS": KEY}
    with serving(tmp_path_factory.mktemp("narrow"), settings) as server:
        url = server.base.replace("http", "ws", 1) + "/v1/realtime"
        with connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}) as only:
            assert "session.created" == json.loads(only.recv(ANSWER_S))["type"]
            yield server


@pytest.mark.anyio
async def test_openai_client_without_room_is_refused_at_once(narrow: Server) -> None:
    """Before the upgrade, with a time to come back; who has no key does not learn of it."""
    url = narrow.base.replace("http", "ws", 1) + "/v1/realtime"
    with pytest.raises(InvalidStatus) as refused:
        await openai_session(narrow).__aenter__()
    with pytest.raises(InvalidStatus) as stranger:
        connect(url, additional_headers={"Authorization": "Bearer no"})

    response = refused.value.response
    assert (429, "limit_requests") == (response.status_code, json.loads(response.body or b"")["error"]["code"])
    assert int(response.headers["Retry-After"]) > 0
    assert 401 == stranger.value.response.status_code


def test_browser_without_room_is_told_by_an_event(narrow: Server) -> None:
    """A page sees no status of an upgrade."""
    url = narrow.base.replace("http", "ws", 1) + "/v1/realtime"
    protocols = [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{KEY}")]
    with connect(url, subprotocols=protocols) as client:
        assert "limit_requests" == json.loads(client.recv(ANSWER_S))["error"]["code"]
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(ANSWER_S)

    assert closed.value.rcvd is not None
    assert 1013 == closed.value.rcvd.code


def test_stop_is_told_to_sessions(tmp_path: Path) -> None:
    """1001; the server does not wait for its clients to go."""
    notes = Notes()

    with serving(tmp_path, SCRIPTED) as server, left_to_the_collector():
        conversation(server, notes)
        notes.wait_for("session.created")
        server.process.terminate()
        told = notes.closed.get(timeout=ANSWER_S)

    assert 1001 == told[0]

"""Every interface with Qwen3-ASR behind it: a tiny checkpoint, real sockets, the official SDKs as they are.

The weights are random, so no text is right. But the same speech under the same language has one text, whoever asks, as
long as it is cut in the same places: by all synchronous interfaces.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import anyio
import openai
import pytest
from dashscope import MultiModalConversation
from dashscope.audio.asr import Recognition
from dashscope.audio.qwen_asr import QwenTranscription
from tests.conftest import Speech
from tests.engines.qwen3.conftest import Folders
from tests.sdk import test_inference_sdk as inference
from tests.sdk import test_realtime_sdk as realtime
from tests.sdk import test_transcription_sdk as files
from tests.server import JFK, KEY, KEYS, LOOPBACK, Origin, Server, serving

from qasr.domain.audio import SAMPLE_RATE

pytestmark = pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API:FutureWarning")

MODEL: Final = "qwen3-asr-flash"


@pytest.fixture(scope="module")
def qwen(checkpoints: Folders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "ENGINES__DEFAULT": "qwen3_asr",
        "ENGINES__DECODERS": "1",
        "LIVE__PARTIAL_MS": "500",
        "QWEN3_ASR__FOLDER": str(checkpoints("asr", "hf")),
        "QWEN3_ASR__PRECISION": "fp32",
        "QWEN3_ASR__THREADS": "1",
    }
    with serving(tmp_path_factory.mktemp("qwen"), KEYS | LOOPBACK | settings) as running:
        yield running


@pytest.fixture
def pointed(qwen: Server) -> Iterator[Server]:
    """DashScope's SDK, told where to go for all that it does."""
    sockets = inference.point_at(qwen, KEY)
    with files.pointed_at(qwen, KEY):
        next(sockets)
        yield qwen
    next(sockets, None)


@pytest.fixture(scope="module")
def expected(qwen: Server) -> str:
    """What OpenAI's file interface says."""
    with openai.OpenAI(base_url=f"{qwen.base}/v1", api_key=KEY) as client:
        text = client.audio.transcriptions.create(model=MODEL, file=JFK, language="en").text
    assert text
    return text


def test_chat_completions(qwen: Server, expected: str) -> None:
    sound = "data:audio/flac;base64," + base64.b64encode(JFK.read_bytes()).decode()
    messages: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": sound}}]}]
    with openai.OpenAI(base_url=qwen.compatible, api_key=KEY) as client:
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, extra_body={"asr_options": {"language": "en"}}
        )

    assert expected == answer.choices[0].message.content


@pytest.mark.usefixtures("pointed")
def test_generation(expected: str) -> None:
    """DashScope's synchronous interface, whole and as a stream."""
    messages = [{"role": "user", "content": [{"audio": str(JFK)}]}]
    options: dict[str, Any] = {"model": MODEL, "messages": messages, "asr_options": {"language": "en"}}
    whole: Any = MultiModalConversation.call(**options)
    *_, last = cast("Iterator[Any]", MultiModalConversation.call(**options, stream=True))

    for answer in (whole, last):
        assert 200 == answer.status_code, answer.message
        assert expected == "".join(part["text"] for part in answer.output.choices[0].message.content)


@pytest.mark.usefixtures("pointed")
def test_file_tasks(origin: Origin) -> None:
    """A task that ends, with a document of sentences in order."""
    task = QwenTranscription.async_call(
        model="qwen3-asr-flash-filetrans", file_url=origin.url("/files/jfk.flac"), language="en"
    )
    answer = files.ended(task, QwenTranscription)
    (channel,) = files.download(answer.output.result["transcription_url"])["transcripts"]
    times = [time for sentence in channel["sentences"] for time in (sentence["begin_time"], sentence["end_time"])]

    assert channel["text"]
    assert times
    assert sorted(times) == times


@pytest.mark.usefixtures("pointed")
def test_live_tasks(speech: Speech, tmp_path: Path) -> None:
    """DashScope's task protocol: partials while it is spoken, then numbered sentences."""
    told = inference.Told()
    recognition = Recognition("fun-asr-realtime", told, "pcm", SAMPLE_RATE, language_hints=["en"])
    sound = inference.pcm16(speech("jfk.flac"))
    recognition.start()
    for place in range(0, len(sound), inference.FRAME):
        recognition.send_audio_frame(sound[place : place + inference.FRAME])
    recognition.stop()
    finals = [sentence for sentence in told.sentences if sentence["sentence_end"]]

    assert not told.errors
    assert "complete" in told.calls
    assert finals
    assert all(sentence["text"] for sentence in finals)


def test_live_conversation(qwen: Server, speech: Speech) -> None:
    """DashScope's realtime events, with a client that says where its utterances end."""
    notes = realtime.Notes()
    client = realtime.conversation(qwen, notes)
    realtime.configure(client, vad=False)
    for piece in realtime.pieces(realtime.coded(speech("jfk.flac"))):
        client.append_audio(piece)
    client.commit()
    notes.wait_for(f"{realtime.TEXT}.completed")
    client.end_session(timeout=realtime.ANSWER_S)
    client.close()

    assert all(realtime.transcripts(notes.events))
    assert "error" not in {event["type"] for event in notes.events}


@pytest.mark.anyio
async def test_live_transcription(qwen: Server, speech: Speech) -> None:
    """OpenAI's realtime transcription."""
    events: list[Any] = []
    transcription = {"model": "gpt-4o-transcribe", "language": "en"}
    sound = {"format": {"type": "audio/pcm", "rate": 24000}, "transcription": transcription, "turn_detection": None}
    async with realtime.openai_session(qwen, extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session={"type": "transcription", "audio": {"input": sound}})
        for piece in realtime.pieces(realtime.coded(speech("jfk.flac"), 24_000)):
            await connection.input_audio_buffer.append(audio=piece)
        await connection.input_audio_buffer.commit()
        with anyio.fail_after(realtime.ANSWER_S):
            while not events or events[-1].type not in (f"{realtime.TEXT}.completed", "error"):
                events.append(await connection.recv())

    assert events[-1].transcript

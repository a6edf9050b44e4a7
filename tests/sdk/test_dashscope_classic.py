"""The official ``dashscope`` package, its classic interface, as it is: ``MultiModalConversation.call``."""

import os
from collections.abc import Iterator
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import dashscope
import pytest
from dashscope import AioMultiModalConversation, MultiModalConversation
from dashscope.api_entities.aio_session import close_shared_aio_session
from tests.faces.dialects import data_url
from tests.server import JFK, KEY, Origin, Server

MODEL: Final = "qwen3-asr-flash"
SAID: Final = "ask not what your country can do for you"


@pytest.fixture(autouse=True)
def address(server: Server) -> Iterator[None]:
    """Where users set it."""
    before = dashscope.base_http_api_url, dashscope.api_key
    dashscope.base_http_api_url, dashscope.api_key = server.native, "any"
    yield
    dashscope.base_http_api_url, dashscope.api_key = before


@pytest.fixture
def keyed(scripted: Server, address: None) -> None:
    """The server that answers at once and asks for a key."""
    dashscope.base_http_api_url, dashscope.api_key = scripted.native, KEY


def call(audio: str, *, model: str = MODEL, context: str | None = None, **options: Any) -> Any:
    system = [{"role": "system", "content": [{"text": context}]}] if context is not None else []
    messages = [*system, {"role": "user", "content": [{"audio": audio}]}]
    return MultiModalConversation.call(model=model, messages=messages, **options)


def text(answer: Any) -> str:
    assert HTTPStatus.OK == answer.status_code, answer.message
    return "".join(part["text"] for part in answer.output.choices[0].message.content)


def test_local_file_is_uploaded_and_heard() -> None:
    """A path is enough: the SDK asks for a policy, sends the form and names the file; so does ``file://``."""
    plain, as_url = call(str(JFK)), call(JFK.as_uri())

    assert SAID in text(plain).lower()
    assert text(plain) == text(as_url)


def test_relative_path_and_strange_names_are_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and Chinese in a file's name survive the way."""
    (tmp_path / "今天 天气.flac").write_bytes(JFK.read_bytes())
    monkeypatch.chdir(tmp_path)

    answer = call(f"file://{os.curdir}/今天 天气.flac")

    assert SAID in text(answer).lower()


def test_address_and_data_url_are_heard(origin: Origin) -> None:
    """Both other ways that the documentation names."""
    by_address, inside = call(origin.url("/files/jfk.flac")), call(data_url(JFK))

    assert SAID in text(by_address).lower()
    assert text(by_address) == text(inside)


def test_answer_has_the_documented_fields() -> None:
    """Language, the reason of the end, and usage in seconds."""
    answer = call(
        data_url(JFK),
        context="Kennedy",
        result_format="message",
        asr_options={"language": "en", "enable_itn": False, "enable_lid": True},
    )

    choice = answer.output.choices[0]
    assert ("stop", "assistant") == (choice.finish_reason, choice.message.role)
    assert "en" == choice.message.annotations[0]["language"]
    assert 11 == answer.usage["seconds"]
    assert answer.usage["output_tokens_details"]["text_tokens"] > 10
    assert answer.request_id


def test_stream_is_cumulative_by_default(three_utterances: Path) -> None:
    """Each frame holds the text so far, the last one all of it."""
    whole = text(call(data_url(three_utterances)))

    frames = list(call(data_url(three_utterances), stream=True))

    texts = [text(frame) for frame in frames]
    assert whole == texts[-1]
    assert len(set(texts)) >= 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert ["null"] * (len(frames) - 1) + ["stop"] == [frame.output.choices[0].finish_reason for frame in frames]


def test_incremental_frames_hold_what_is_new(three_utterances: Path) -> None:
    """Joined they are the whole text."""
    whole = text(call(data_url(three_utterances)))

    frames = list(call(data_url(three_utterances), stream=True, incremental_output=True))

    assert whole == "".join(map(text, frames))
    assert len(frames) >= 4


def test_sdk_merges_when_increments_are_declined(three_utterances: Path) -> None:
    """``incremental_output=False``: the SDK asks for increments and adds them up itself; its sum is the whole text."""
    whole = text(call(data_url(three_utterances)))

    frames = list(call(data_url(three_utterances), stream=True, incremental_output=False))

    texts = [text(frame) for frame in frames]
    assert whole == texts[-1]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(
    "name", ["qwen3-asr-flash-us", "qwen3-asr-flash-2025-09-08", "qwen3-asr-flash-2025-09-08-us", "qwen-audio-asr"]
)
def test_regional_and_dated_names_resolve(name: str) -> None:
    """Code written for another region or snapshot works unchanged."""
    assert "lasting" in text(call(data_url(JFK), model=name))


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("stream", [False, True])
def test_wrong_key_is_told(stream: bool) -> None:
    """The vendor's status and code."""
    answer = call(data_url(JFK), api_key="sk-wrong", stream=stream)
    answer = next(iter(answer)) if stream else answer

    assert (401, "InvalidApiKey") == (answer.status_code, answer.code)
    assert "Invalid API-key provided." == answer.message


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("stream", [False, True])
def test_unknown_model_is_told(stream: bool) -> None:
    """The vendor's status and code, with the name in the message."""
    answer = call(data_url(JFK), model="qwen9-asr", stream=stream)
    answer = next(iter(answer)) if stream else answer

    assert (404, "ModelNotFound") == (answer.status_code, answer.code)
    assert "qwen9-asr" in answer.message
    assert answer.request_id


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize("stream", [False, True])
def test_bad_recording_is_told(tmp_path: Path, stream: bool) -> None:
    """A text that calls itself mp3 is uploaded, looked at, and refused."""
    (tmp_path / "song.mp3").write_text("not a song")

    answer = call(str(tmp_path / "song.mp3"), stream=stream)
    answer = next(iter(answer)) if stream else answer

    assert (400, "InvalidParameter") == (answer.status_code, answer.code)


def test_late_error_is_a_frame(slow: Server, three_utterances: Path) -> None:
    """What goes wrong after the first text arrives as a frame with status and code; what was heard came before."""
    dashscope.base_http_api_url, dashscope.api_key = slow.native, KEY

    *heard, last = list(call(data_url(three_utterances), stream=True))

    assert "Segment at" in text(heard[0])
    assert (500, "RequestTimeOut") == (last.status_code, last.code)


def test_language_without_an_engine_is_refused_with_the_remedy() -> None:
    """No Chinese is guessed by an English engine."""
    answer = call(data_url(JFK), asr_options={"language": "zh"})

    assert (400, "InvalidParameter") == (answer.status_code, answer.code)
    assert "QASR_ENGINES__DEFAULT" in answer.message


@pytest.mark.anyio
async def test_asynchronous_class_hears_and_streams(three_utterances: Path) -> None:
    """``AioMultiModalConversation``, which uses another HTTP library."""
    messages = [{"role": "user", "content": [{"audio": data_url(three_utterances)}]}]

    whole = await AioMultiModalConversation.call(model=MODEL, messages=messages)
    stream: Any = await AioMultiModalConversation.call(
        model=MODEL, messages=messages, stream=True, incremental_output=True
    )
    frames = [frame async for frame in stream]
    await close_shared_aio_session()

    assert SAID in text(whole).lower()
    assert text(whole) == "".join(map(text, frames))

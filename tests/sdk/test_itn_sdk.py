"""Numbers in digits, by every interface that has a parameter for it, through the official SDKs as they are."""

import json
import re
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import dashscope
import numpy as np
import pytest
from dashscope import MultiModalConversation
from dashscope.audio.asr import Recognition
from dashscope.audio.qwen_asr import QwenTranscription
from openai import OpenAI
from tests.conftest import Speech
from tests.faces.dialects import data_url
from tests.sdk.test_inference_sdk import write_wav
from tests.server import JFK, LOOPBACK, SCRIPTED, Origin, Server, serving

SPOKEN: Final = "二零二五年三月十五日涨了百分之三点五，about twenty five percent."
WRITTEN: Final = "2025年3月15日涨了3.5%，about 25%."


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An engine that hears numbers in all that is said, and knows nothing of digits."""
    said = {"SCRIPTED__TEXT": SPOKEN}
    with serving(tmp_path_factory.mktemp("numbers"), SCRIPTED | LOOPBACK | said) as running:
        before = dashscope.base_http_api_url, dashscope.base_websocket_api_url, dashscope.api_key
        dashscope.base_http_api_url, dashscope.api_key = running.native, "any"
        dashscope.base_websocket_api_url = running.base.replace("http", "ws", 1) + "/api-ws/v1/inference"
        yield running
        dashscope.base_http_api_url, dashscope.base_websocket_api_url, dashscope.api_key = before


@pytest.mark.parametrize(("itn", "said"), [(True, WRITTEN), (False, SPOKEN)])
def test_synchronous_calls(house: Server, *, itn: bool, said: str) -> None:
    """``enable_itn`` of ``asr_options``: natively, and in OpenAI's protocol."""
    options = {"language": "zh", "enable_itn": itn}
    native: Any = MultiModalConversation.call(
        model="qwen3-asr-flash",
        messages=[{"role": "user", "content": [{"audio": data_url(JFK)}]}],
        asr_options=options,
        result_format="message",
    )
    audio: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": data_url(JFK)}}]}]
    with OpenAI(api_key="any", base_url=house.compatible, max_retries=0) as client:
        chat = client.chat.completions.create(
            model="qwen3-asr-flash", messages=audio, extra_body={"asr_options": options}
        )

    assert HTTPStatus.OK == native.status_code, native.message
    assert {said} == _sayings(native.output.choices[0].message.content[0]["text"])
    assert {said} == _sayings(chat.choices[0].message.content or "")


def test_other_languages_are_not_touched(house: Server) -> None:
    """The documents have it for Chinese and English; elsewhere it is accepted and changes nothing."""
    answer: Any = MultiModalConversation.call(
        model="qwen3-asr-flash",
        messages=[{"role": "user", "content": [{"audio": data_url(JFK)}]}],
        asr_options={"language": "ja", "enable_itn": True},
        result_format="message",
    )

    assert {SPOKEN} == _sayings(answer.output.choices[0].message.content[0]["text"])


def _sayings(text: str) -> set[str]:
    """Each segment of the recording says the same."""
    return set(re.findall(r".+?percent\.|.+?25%\.", text))


@pytest.mark.parametrize(("itn", "said"), [(True, WRITTEN), (False, SPOKEN)])
def test_tasks(house: Server, origin: Origin, *, itn: bool, said: str) -> None:
    """``enable_itn`` of ``QwenTranscription``; words are those of the text, and in order."""
    task = QwenTranscription.async_call(
        model="qwen3-asr-flash-filetrans",
        file_url=origin.url("/files/jfk.flac"),
        language="zh",
        enable_itn=itn,
        enable_words=True,
    )
    answer = QwenTranscription.wait(task, wait_timeout=90)
    with urllib.request.urlopen(answer.output.result["transcription_url"], timeout=30) as document:
        (track,) = json.load(document)["transcripts"]

    assert {said} == {sentence["text"] for sentence in track["sentences"]}
    for sentence in track["sentences"]:
        words = sentence["words"]
        assert said == "".join(word["text"] + word["punctuation"] for word in words)
        assert all(before["end_time"] <= after["begin_time"] for before, after in pairwise(words))


@pytest.mark.parametrize(("options", "said"), [({}, WRITTEN), ({"inverse_text_normalization_enabled": False}, SPOKEN)])
def test_live_finals(house: Server, speech: Speech, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """On by default, as documented; ``False`` leaves words."""
    samples = np.concatenate([speech("LJ001-0002.flac"), np.zeros(32_000, np.float32)])
    recognition = Recognition(
        model="paraformer-realtime-v2",
        callback=None,
        format="wav",
        sample_rate=16_000,
        language_hints=["zh"],
        **options,
    )
    heard = recognition.call(str(write_wav(tmp_path / "a.wav", samples)))

    assert HTTPStatus.OK == heard.status_code, heard.message
    assert {said} == {sentence["text"] for sentence in heard.get_sentence()}

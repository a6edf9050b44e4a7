"""Engines that are not embedded, from the settings to the client: small models behind the real program."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from tests.engines import tiny_sherpa, tiny_whisper
from tests.faces.dialects import data_url
from tests.server import JFK, KEY, Server, serving

CHAT = "/compatible-mode/v1/chat/completions"


@pytest.fixture(scope="module")
def sense_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It is happy about everything."""
    return tiny_sherpa.sense_voice(tmp_path_factory.mktemp("sense_voice"), said=["▁yes"], emotion="HAPPY")


@pytest.fixture(scope="module")
def sherpa(tmp_path_factory: pytest.TempPathFactory, sense_voice: Path) -> Iterator[Server]:
    """A server that hears with it."""
    settings = {"ENGINES__DEFAULT": "sherpa", "SHERPA__FOLDER": str(sense_voice), "SHERPA__ITN": "asked"}
    with serving(tmp_path_factory.mktemp("server"), settings) as server:
        yield server


def ask(server: Server, **options: object) -> dict[str, object]:
    audio = {"type": "input_audio", "input_audio": {"data": data_url(JFK)}}
    body = {"model": "qwen3-asr-flash", "messages": [{"role": "user", "content": [audio]}], **options}
    answer = server.post(CHAT, body)
    assert 200 == answer.status_code, answer.text
    assert answer.headers["x-qasr-engine"]
    message: dict[str, object] = answer.json()["choices"][0]["message"]
    return message


def test_emotion_and_language_of_the_engine_reach_the_client(sherpa: Server) -> None:
    """In the annotation that is null elsewhere."""
    message = ask(sherpa)

    assert "yes" in str(message["content"])
    assert [{"type": "audio_info", "language": "en", "emotion": "happy"}] == message["annotations"]


def test_itn_is_done_for_those_who_ask(sherpa: Server) -> None:
    """The option is refused by engines without it."""
    assert "10 yes" in str(ask(sherpa, asr_options={"enable_itn": True})["content"])
    assert "10" not in str(ask(sherpa)["content"])


def test_a_server_says_that_it_tells_emotions(sherpa: Server) -> None:
    """Where others look: readiness and the listing of models."""
    ready = sherpa.get("/readyz").json()
    assert ("ok", True) == (ready["status"], ready["emotion"])
    listed = sherpa.get("/api/v1/models").json()["output"]["models"]
    assert {"speech to text by sherpa, loaded, with emotion"} == {model["description"] for model in listed}


def test_a_tagger_tells_emotions_beside_any_engine(tmp_path_factory: pytest.TempPathFactory, sense_voice: Path) -> None:
    """The text is the engine's, the emotion the tagger's."""
    settings = {
        "ENGINES__DEFAULT": "scripted",
        "SCRIPTED__TEXT": "Said so.",
        "TAGGER__FOLDER": str(sense_voice),
    }
    with serving(tmp_path_factory.mktemp("tagged"), settings) as server:
        message = ask(server)
        ready = server.get("/readyz").json()

    assert "Said so." in str(message["content"])
    assert [{"type": "audio_info", "language": "en", "emotion": "happy"}] == message["annotations"]
    assert ("ok", True) == (ready["status"], ready["emotion"])


def test_a_tagger_that_does_not_load_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What was set is not left out silently."""
    directory = tmp_path_factory.mktemp("untagged")
    settings = {"ENGINES__DEFAULT": "scripted", "TAGGER__FOLDER": str(directory)}
    with serving(directory, settings, ready=False) as server:
        while (answer := server.get("/readyz").json())["reasons"][0] == "the speech engine is loading":
            time.sleep(0.05)

    assert "QASR_TAGGER__FOLDER" in answer["reasons"][0]


def test_whisper_answers_under_its_own_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The official SDK asks for ``whisper-1`` with word times, and gets those of the engine."""
    model = tiny_whisper.build(
        tmp_path_factory.mktemp("whisper"), script=tiny_whisper.spoken(" And so, my friends.", 0.0, 9.0)
    )
    settings = {"ENGINES__DEFAULT": "whisper", "WHISPER__FOLDER": str(model), "WHISPER__BEAM": "1"}
    with (
        serving(tmp_path_factory.mktemp("server"), settings) as server,
        OpenAI(base_url=f"{server.base}/v1", api_key=KEY, max_retries=0) as client,
        JFK.open("rb") as file,
    ):
        heard = client.audio.transcriptions.create(
            model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )

    assert heard.text.startswith("And so, my friends.")
    assert heard.words is not None
    assert ["And", "so", "my", "friends"] == [word.word for word in heard.words[:4]]
    assert all(word.start <= word.end <= heard.duration for word in heard.words)

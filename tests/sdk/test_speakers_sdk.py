"""Who says what, by the official SDKs, as they are: tasks of ``dashscope``, ``diarized_json`` of ``openai``."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import dashscope
import pytest
from dashscope.audio.asr import Transcription
from openai import BadRequestError, OpenAI
from tests.conftest import Speech
from tests.conversation import Conversation, conversation, wav
from tests.sdk.test_transcription_sdk import download, ended, pointed_at
from tests.server import KEY, KEYS, LOOPBACK, SCRIPTED, Origin, Server, serving

FUN: Final = "fun-asr"


@pytest.fixture(scope="module")
def talk(speech: Speech) -> Conversation:
    return conversation(speech)


@pytest.fixture(scope="module")
def recording(talk: Conversation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people on one channel."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    path.write_bytes(wav(talk.pcm))
    return path


@pytest.fixture
def english(server: Server) -> Iterator[Server]:
    """The embedded engine."""
    with pointed_at(server, "any"):
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.compatible, api_key="any", max_retries=0) as openai:
        yield openai


@pytest.fixture
def without(tmp_path: Path) -> Iterator[Server]:
    """The models that tell speakers apart are switched off."""
    settings = SCRIPTED | KEYS | LOOPBACK | {"DIARIZER__ENABLED": "false"}
    with serving(tmp_path, settings) as server, pointed_at(server, KEY):
        yield server


def transcript(url: str, **parameters: Any) -> list[Any]:
    """The tracks of the result of a task."""
    answer = ended(Transcription.async_call(model=FUN, file_urls=[url], language_hints=["en"], **parameters))
    (result,) = answer.output.results
    assert "SUCCEEDED" == result["subtask_status"], result
    tracks: list[Any] = download(result["transcription_url"])["transcripts"]
    return tracks


def test_each_sentence_has_its_speaker(english: Server, origin: Origin, recording: Path, talk: Conversation) -> None:
    """From 0, by who speaks first; sentences end where the speaker changes, and words stay as they are."""
    url = origin.serve(recording)
    (track,) = transcript(url, diarization_enabled=True)
    (plain,) = transcript(url)
    words = [(word, s["speaker_id"]) for s in track["sentences"] for word in s["words"]]

    assert 0 == track["sentences"][0]["speaker_id"]
    assert {0, 1, 2} == {s["speaker_id"] for s in track["sentences"]}
    assert list(range(1, len(track["sentences"]) + 1)) == [s["sentence_id"] for s in track["sentences"]]
    assert not any("speaker_id" in s for s in plain["sentences"])
    assert plain["text"].split() == track["text"].split()
    assert [w["begin_time"] for s in plain["sentences"] for w in s["words"]] == [w["begin_time"] for w, _ in words]
    right = sum(talk.who(word["begin_time"], word["end_time"]) == speaker for word, speaker in words)
    assert right >= 0.95 * len(words), f"{right} of {len(words)}"


def test_the_number_of_speakers_may_be_told(english: Server, origin: Origin, recording: Path) -> None:
    """Two where three speak: two of them become one."""
    (track,) = transcript(origin.serve(recording), diarization_enabled=True, speaker_count=2)

    assert {0, 1} == {s["speaker_id"] for s in track["sentences"]}


def test_each_channel_has_its_transcript_and_its_speakers(
    english: Server, origin: Origin, talk: Conversation, speech: Speech, tmp_path: Path
) -> None:
    """A call on two channels: nothing of one is in the other's; the reader on the second is one person."""
    path = tmp_path / "call.wav"
    path.write_bytes(wav(talk.pcm, speech("LJ001-0001.flac")))

    first, second = transcript(origin.serve(path), channel_id=[0, 1], diarization_enabled=True)

    assert (0, 1) == (first["channel_id"], second["channel_id"])
    assert {0, 1, 2} == {s["speaker_id"] for s in first["sentences"]}
    assert {0} == {s["speaker_id"] for s in second["sentences"]}
    assert "country" in first["text"].lower()
    assert "country" not in second["text"].lower()
    assert "printing" in second["text"].lower()


@pytest.mark.parametrize("count", [-1, 0, 1, 101])
def test_numbers_of_speakers_have_bounds(english: Server, origin: Origin, count: int) -> None:
    """2 to 100, as documented; without diarization nobody looks at it."""
    url = origin.url("/files/jfk.flac")
    refused = Transcription.async_call(model=FUN, file_urls=[url], diarization_enabled=True, speaker_count=count)
    taken = Transcription.async_call(model=FUN, file_urls=[url], speaker_count=count)

    assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (refused.status_code, refused.code)
    assert "speaker_count" in refused.message
    assert HTTPStatus.OK == taken.status_code


def test_what_tells_no_speakers_is_refused_by_name(without: Server, origin: Origin) -> None:
    """Switched off: at submission, and in a form."""
    refused = Transcription.async_call(model=FUN, file_urls=[origin.url("/files/jfk.flac")], diarization_enabled=True)
    with OpenAI(base_url=without.compatible, api_key=KEY, max_retries=0) as client, pytest.raises(BadRequestError):
        client.audio.transcriptions.create(
            model="whisper-1", file=("a.flac", (origin.files["jfk.flac"]).read_bytes()), response_format="diarized_json"
        )

    assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (refused.status_code, refused.code)
    assert "diarization_enabled" in refused.message
    assert dashscope.api_key == KEY


def test_a_form_is_answered_with_speakers(client: OpenAI, recording: Path, talk: Conversation) -> None:
    """Segments by A, B, C, in order of time; together they are the text."""
    answer: Any = client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=recording, response_format="diarized_json", language="en"
    )
    segments = answer.segments

    assert "A" == segments[0].speaker
    assert {"A", "B", "C"} == {segment.speaker for segment in segments}
    assert [f"seg_{n:03}" for n in range(1, len(segments) + 1)] == [segment.id for segment in segments]
    assert {"transcript.text.segment"} == {segment.type for segment in segments}
    assert answer.text == " ".join(segment.text for segment in segments)
    assert all(segment.start <= segment.end <= answer.duration for segment in segments)
    assert "transcribe" == answer.task
    for segment in segments:
        assert "ABC"[talk.who(int(segment.start * 1000), int(segment.end * 1000))] == segment.speaker, segment


def test_a_stream_tells_segments(client: OpenAI, recording: Path) -> None:
    """Each segment follows its text; the end has all of it."""
    events: list[Any] = list(
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe", file=recording, response_format="diarized_json", language="en", stream=True
        )
    )
    kinds = [event.type.removeprefix("transcript.text.") for event in events]
    *told, done = events

    assert "done" == kinds[-1]
    assert ["delta", "segment"] * (len(told) // 2) == kinds[:-1]
    for delta, segment in zip(told[::2], told[1::2], strict=True):
        assert delta.segment_id == segment.id
        assert delta.delta.strip() == segment.text
    assert done.text == "".join(event.delta for event in told[::2])


def test_known_speakers_are_refused_by_name(client: OpenAI, recording: Path) -> None:
    """Nobody is called by a name that was not checked."""
    with pytest.raises(BadRequestError) as caught:
        client.audio.transcriptions.create(
            model="gpt-4o-transcribe",
            file=recording,
            response_format="diarized_json",
            known_speaker_names=["Kennedy"],
            known_speaker_references=["data:audio/wav;base64,AAAA"],
        )

    assert "known_speaker_names" == caught.value.param

"""DashScope's realtime dialogue: every recorded exchange, every documented rule, every bad input. No sockets."""

import base64
import json
from typing import Any, Final

import pytest
from tests.faces.realtime_talk import (
    ABLE,
    SECOND,
    Failed,
    Talk,
    final,
    named,
    partial,
    qwen,
    started,
    stopped,
    types,
)

from qasr.domain.audio import LiveFormat
from qasr.domain.errors import EngineFailed, EngineUnavailable, QueueFull, TooLong, Undecodable
from qasr.domain.live import Endpointing
from qasr.faces import sockets
from qasr.faces.dashscope.realtime import speech_probability
from qasr.faces.realtime import Turned

VAD: Final = {"type": "server_vad", "threshold": 0.2, "prefix_padding_ms": 300, "silence_duration_ms": 800}
BASE: Final = {"modalities": ["text"], "voice": None, "output_audio_format": "pcm16"}
PCM: Final = {**BASE, "input_audio_format": "pcm", "sample_rate": 16000}
"""What the SDK always sends."""
HELLO: Final = (
    {
        "type": "conversation.item.created",
        "previous_item_id": None,
        "item": {
            "id": "item_1",
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        },
    },
    {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": "item_1",
        "content_index": 0,
        "language": "en",
        "emotion": None,
        "transcript": "Hello world.",
    },
)


def session(frame: dict[str, Any]) -> dict[str, Any]:
    """The configuration that is told, without what differs from session to session."""
    return {key: value for key, value in frame["session"].items() if key not in ("id", "qasr")}


def error(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """The one error."""
    assert ["error"] == types(frames)
    found: dict[str, Any] = frames[0]["error"]
    assert found["message"].strip()
    return found


def test_session_is_told_unasked() -> None:
    """The first frame is ``session.created`` with all defaults; the session hears from then on."""
    talk = qwen(opened=False)

    (created,) = talk.open()

    assert "session.created" == created["type"]
    assert created["session"]["id"].startswith("sess_")
    assert {
        "object": "realtime.session",
        "model": "qwen3-asr-flash-realtime",
        "modalities": ["text"],
        "input_audio_format": "pcm",
        "sample_rate": 16000,
        "input_audio_transcription": None,
        "turn_detection": VAD,
    } == session(created)
    (opened,) = talk.asked
    assert isinstance(opened, sockets.Open)
    assert LiveFormat(codec="pcm", rate_hz=16_000) == opened.format
    assert Endpointing(threshold=0.5, silence_ms=800, prefix_ms=300, longest_ms=30_000) == opened.options.endpointing


def test_recorded_server_vad() -> None:
    """The recorded exchange of ``OmniRealtimeConversation``: update, sound, finish."""
    talk = qwen()

    (updated,) = talk.update(**PCM, input_audio_transcription={"language": "en"}, turn_detection=VAD)
    quiet = talk.append()
    talk.hear(started(), partial("", "Hello"))
    late = talk.send({"event_id": "event_f", "type": "session.finish"})
    talk.hear(stopped(), final("Hello world."))
    talk.note(talk.dialogue.heard())

    assert session(updated) == {
        **PCM,
        "object": "realtime.session",
        "model": "qwen3-asr-flash-realtime",
        "input_audio_transcription": {"language": "en"},
        "turn_detection": VAD,
    }
    assert [] == quiet
    assert [] == late
    assert [
        {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "item_1"},
        {
            "type": "conversation.item.input_audio_transcription.text",
            "item_id": "item_1",
            "content_index": 0,
            "language": "en",
            "emotion": None,
            "text": "",
            "stash": "Hello",
        },
        {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 2000, "item_id": "item_1"},
        {"type": "input_audio_buffer.committed", "item_id": "item_1", "previous_item_id": None},
        *HELLO,
        {"type": "session.finished"},
    ] == named(talk.frames[2:])
    assert [sockets.Open, sockets.Configure, sockets.Feed, sockets.Finish] == [type(each) for each in talk.asked]


def test_recorded_manual_mode() -> None:
    """The recorded exchange with ``turn_detection: null``: nothing is told before the commit."""
    talk = qwen()
    talk.update(**PCM, input_audio_transcription={"language": "en"}, turn_detection=None)

    early = [*talk.append(), *talk.hear(partial("He", "llo")), *talk.append()]
    committed = talk.send({"type": "input_audio_buffer.commit"})
    talk.hear(stopped(), final("Hello world."))
    talk.send({"type": "session.finish"})
    talk.note(talk.dialogue.heard())

    assert [] == early
    assert [] == committed
    assert [
        {"type": "input_audio_buffer.committed", "item_id": "item_1", "previous_item_id": None},
        *HELLO,
        {"type": "session.finished"},
    ] == named(talk.frames[2:])
    assert sockets.Commit() in talk.asked


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        ({"input_audio_transcription": {"language": "en", "corpus": {"text": "Alibaba Cloud"}}}, "Alibaba Cloud"),
        ({"instructions": "On shops.", "input_audio_transcription": {"corpus": {"text": "Ali"}}}, "On shops.\nAli"),
    ],
)
def test_context_is_taken(sent: dict[str, Any], heard: str) -> None:
    """``corpus.text`` and ``instructions`` help to hear, and an engine that cannot use them is named."""
    able, unable = qwen(ABLE), qwen()

    able.update(**PCM, **sent)
    (told,) = unable.update(**PCM, **sent)

    assert isinstance(able.asked_last, sockets.Configure)
    assert heard == able.asked_last.options.hints.context
    assert {"engine": "able", "unused": []} == able.frames[-1]["session"]["qasr"]
    assert {"engine": "english", "unused": ["context"]} == told["session"]["qasr"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({**BASE, "audio": {"input": {"format": {"type": "wav", "sample_rate": 8000}}}}, ("wav", 8_000)),
        ({**BASE, "audio": {"input": {"format": {"type": "pcm", "sample_rate": 48000, "x": 1}}}}, ("pcm", 48_000)),
        ({**BASE, "audio": {"output": {"format": {"type": "pcm"}}}}, ("pcm", 16_000)),
        ({**BASE, "input_audio_format": "pcm16"}, ("pcm", 16_000)),
        ({**PCM, "input_audio_format": "opus"}, ("opus", 16_000)),
        ({**PCM, "sample_rate": 8000}, ("pcm", 8_000)),
    ],
)
def test_format_is_understood_and_echoed(sent: dict[str, Any], expected: tuple[str, int]) -> None:
    """Flat or nested, as the client spelled it; the nested form is sent instead of the flat keys."""
    talk = qwen()

    (updated,) = talk.update(**sent)

    opened = LiveFormat(codec="pcm", rate_hz=16_000)
    formats = [each.format for each in talk.asked if isinstance(each, sockets.Open | sockets.Reformat)]
    assert expected == (formats[-1].codec, formats[-1].rate_hz)
    assert (1 if formats[-1] == opened else 2) == len(formats)
    if "input" in sent.get("audio", {}):
        assert sent["audio"]["input"]["format"]["type"] == updated["session"]["audio"]["input"]["format"]["type"]
        assert "input_audio_format" not in updated["session"]
    elif "input_audio_format" in sent:
        assert sent["input_audio_format"] == updated["session"]["input_audio_format"]


@pytest.mark.parametrize(
    "sent",
    [
        {**BASE, "input_audio_format": "pcm16", "input_audio_transcription": {"model": None}, "turn_detection": VAD},
        {**PCM, "turn_detection": {**VAD, "type": "semantic_vad", "create_response": False}},
        {"translation": {"language": "en"}, "video": {"input": {}}, "temperature": 0.1, "tools": []},
        {"input_audio_transcription": {"language": None, "corpus": None}},
        {"input_audio_transcription": None},
        {},
    ],
)
def test_what_clients_send_is_accepted(sent: dict[str, Any]) -> None:
    """Recorded option sets, and fields that mean nothing to a transcription."""
    talk = qwen()

    assert ["session.updated"] == types(talk.update(**sent))
    for key in ("turn_detection", "input_audio_transcription", "voice"):
        if key in sent:
            assert sent[key] == talk.frames[-1]["session"][key]


def test_update_changes_what_it_names() -> None:
    """All else stays; a part of an object changes that part."""
    talk = qwen()
    talk.update(input_audio_transcription={"language": "en", "corpus": {"text": "Ali"}}, sample_rate=8000)

    (updated,) = talk.update(turn_detection={"silence_duration_ms": 400})

    assert {**VAD, "silence_duration_ms": 400} == updated["session"]["turn_detection"]
    assert {"language": "en", "corpus": {"text": "Ali"}} == updated["session"]["input_audio_transcription"]
    assert 8000 == updated["session"]["sample_rate"]


def test_turn_detection_comes_back_with_its_defaults() -> None:
    """After manual mode, an object without numbers has the documented ones."""
    talk = qwen()
    talk.update(turn_detection=None)

    (updated,) = talk.update(turn_detection={"type": "server_vad"})

    assert VAD == updated["session"]["turn_detection"]


def test_threshold_becomes_a_probability() -> None:
    """The default is ours, and a higher threshold never hears more."""
    probabilities = [speech_probability(step / 50 - 1) for step in range(101)]

    assert 0.5 == pytest.approx(speech_probability(0.2))
    assert probabilities == sorted(set(probabilities))
    assert [0.05, 0.95] == pytest.approx([probabilities[0], probabilities[-1]])


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        ({"sample_rate": 44100}, "session.sample_rate"),
        ({"sample_rate": "fast"}, "session.sample_rate"),
        ({"audio": {"input": {"format": {"type": "mp3"}}}}, "session.audio.input.format.type"),
        ({"audio": {"input": {"format": {"sample_rate": 1}}}}, "session.audio.input.format.sample_rate"),
        ({"audio": []}, "session.audio"),
        ({"turn_detection": {"type": "magic"}}, "session.turn_detection.type"),
        ({"turn_detection": {"threshold": 1.5}}, "session.turn_detection.threshold"),
        ({"turn_detection": {"threshold": -1.01}}, "session.turn_detection.threshold"),
        ({"turn_detection": {"threshold": None}}, "session.turn_detection.threshold"),
        ({"turn_detection": {"silence_duration_ms": 199}}, "session.turn_detection.silence_duration_ms"),
        ({"turn_detection": {"silence_duration_ms": 6001}}, "session.turn_detection.silence_duration_ms"),
        ({"turn_detection": {"prefix_padding_ms": -1}}, "session.turn_detection.prefix_padding_ms"),
        ({"turn_detection": "server_vad"}, "session.turn_detection"),
        ({"input_audio_transcription": {"language": "xx"}}, "session.input_audio_transcription.language"),
        ({"input_audio_transcription": {"language": "bg"}}, "session.input_audio_transcription.language"),
        ({"input_audio_transcription": {"language": "de"}}, "session.input_audio_transcription.language"),
        ({"input_audio_transcription": {"language": 1.5}}, "session.input_audio_transcription.language"),
        ({"input_audio_transcription": {"corpus": {"text": "a" * 40_001}}},
         "session.input_audio_transcription.corpus.text"),
        (None, "session"),
        ("none", "session"),
    ],
)  # fmt: skip
def test_wrong_value_is_refused_with_its_place(sent: Any, param: str) -> None:
    """``invalid_value`` with the place and the id of the event; nothing has changed, and the session goes on."""
    talk = qwen()

    refused = error(talk.send({"event_id": "event_mine", "type": "session.update", "session": sent}))

    assert ("invalid_request_error", "invalid_value", param, "event_mine") == (
        refused["type"],
        refused["code"],
        refused["param"],
        refused["event_id"],
    )
    assert 1 == len(talk.asked)
    assert ["session.updated"] == types(talk.update())
    assert VAD == talk.frames[-1]["session"]["turn_detection"]


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ("", "invalid_json", None),
        ("{", "invalid_json", None),
        ('{"type": "session.finish"} extra', "invalid_json", None),
        ('{"x": ' + "[" * 100_000, "invalid_json", None),
        ("[]", "invalid_value", None),
        ("null", "invalid_value", None),
        ('{"event_id": "event_mine"}', "invalid_value", None),
        ('{"type": 5}', "invalid_value", "type"),
        ('{"type": "session.destroy"}', "invalid_value", "type"),
        ('{"type": "session.update"}', "invalid_value", None),
        ('{"type": "input_audio_buffer.append"}', "invalid_value", None),
        ('{"type": "input_audio_buffer.append", "audio": null}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "*no*"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "AAA"}', "invalid_value", "audio"),
        ('{"type": "response.create", "response": {"instructions": "x"}}', "invalid_value", "type"),
        ('{"type": "response.cancel"}', "invalid_value", "type"),
        ('{"type": "conversation.item.create", "item": {"type": "message"}}', "invalid_value", "type"),
        ('{"type": "input_image_buffer.append", "image": ""}', "invalid_value", "type"),
        (b"\x00\x01", "invalid_value", None),
    ],
)
def test_bad_frame_is_an_error_that_ends_nothing(frame: str | bytes, code: str, param: str | None) -> None:
    """Also those that clients of Omni models send; ``invalid_request_error`` tells that the session goes on."""
    talk = qwen()

    refused = error(talk.send(frame))

    assert ("invalid_request_error", code, param) == (refused["type"], refused["code"], refused["param"])
    assert talk.closed is None
    assert [] == talk.append()


@pytest.mark.parametrize("event_id", [None, 7, "event_mine"])
def test_error_names_the_event(event_id: Any) -> None:
    """If it has an id that can be one; clients may leave it out."""
    refused = error(qwen().send({"event_id": event_id, "type": "nothing"}))

    assert (event_id if isinstance(event_id, str) else None) == refused["event_id"]


def test_commit_without_sound_is_refused() -> None:
    """At first, after another commit, and after ``clear``."""
    talk = qwen()
    talk.update(turn_detection=None)
    commit = {"type": "input_audio_buffer.commit"}

    first = error(talk.send(commit))
    talk.append(), talk.send(commit)
    second = error(talk.send(commit))
    talk.append(), talk.send({"type": "input_audio_buffer.clear"})
    third = error(talk.send(commit))

    assert {"input_audio_buffer_commit_empty"} == {each["code"] for each in (first, second, third)}
    assert 1 == talk.asked.count(sockets.Commit())


def test_commit_is_refused_where_the_server_commits() -> None:
    """As documented for VAD mode."""
    talk = qwen()
    talk.append()

    refused = error(talk.send({"type": "input_audio_buffer.commit"}))

    assert ("invalid_request_error", "invalid_value") == (refused["type"], refused["code"])
    assert sockets.Commit() not in talk.asked


def test_clear_is_answered() -> None:
    """By ``cleared``; the session forgets."""
    talk = qwen()
    talk.append()

    assert ["input_audio_buffer.cleared"] == types(talk.send({"type": "input_audio_buffer.clear"}))
    assert sockets.Clear() == talk.asked_last


def test_fifteen_mebibytes_are_one_append() -> None:
    """The documented most."""
    talk = qwen()
    audio = bytes(15 * 1024**2)

    assert [] == talk.append(base64.b64encode(audio).decode())
    assert sockets.Feed(audio) == talk.asked_last


def test_items_are_a_chain() -> None:
    """Each names the one committed before it, also where the texts come late."""
    talk = qwen()

    talk.hear(started(1), stopped(1), started(2), stopped(2), final("One.", 1), started(3), final("Two.", 2))
    talk.hear(stopped(3), final("", 3))

    frames = named(talk.frames[1:])
    chain = [(f["previous_item_id"], f["item_id"]) for f in frames if f["type"] == "input_audio_buffer.committed"]
    assert [(None, "item_1"), ("item_1", "item_2"), ("item_2", "item_3")] == chain
    created = [(f["previous_item_id"], f["item"]["id"]) for f in frames if "item" in f]
    assert chain == created
    texts = [(f["item_id"], f["transcript"]) for f in frames if "transcript" in f]
    assert [("item_1", "One."), ("item_2", "Two."), ("item_3", "")] == texts


def test_the_same_text_is_not_told_twice() -> None:
    """A partial that changes nothing is no news."""
    talk = qwen()

    talk.hear(started(), partial("", "He"), partial("", "He"), partial("He", "llo"), partial("He", "llo"))

    texts = [(frame["text"], frame["stash"]) for frame in talk.frames if "stash" in frame]
    assert [("", "He"), ("He", "llo")] == texts


def test_emotion_is_told_where_it_is_known() -> None:
    """And is null where it is not; nobody is called neutral for want of an opinion."""
    talk = qwen(ABLE)
    opened = talk.asked[0]

    talk.hear(started(), stopped(), final("Ha!", emotion="happy"))

    assert isinstance(opened, sockets.Open)
    assert opened.options.emotion
    assert "happy" == talk.frames[-1]["emotion"]


def test_failed_utterance_ends_alone() -> None:
    """``failed`` with a reason; the next utterance is heard."""
    talk = qwen()

    talk.hear(started(1), stopped(1), Failed(utterance=1, error=EngineFailed("The engine failed.")))
    failed = talk.frames[-1]
    talk.hear(started(2), stopped(2), final("Two.", 2))

    assert "conversation.item.input_audio_transcription.failed" == failed["type"]
    assert {"type": "server_error", "code": "InternalError", "message": "The engine failed.", "param": None} == failed[
        "error"
    ]
    assert "Two." == talk.frames[-1]["transcript"]
    assert talk.closed is None


def test_finish_without_speech_is_finished_at_once() -> None:
    """No event about items; the client closes, and we do after 10 s if it does not."""
    talk = qwen()
    talk.append()
    talk.send({"type": "session.finish"})

    talk.note(talk.dialogue.heard())
    talk.note(talk.dialogue.tick(5.0, 0.0))
    talk.note(talk.dialogue.tick(14.9, 9.9))
    open_still = talk.closed
    talk.note(talk.dialogue.tick(15.1, 10.1))

    assert ["session.created", "session.finished"] == types(talk.frames)
    assert open_still is None
    assert sockets.Close(1000) == talk.closed


@pytest.mark.parametrize("frame", ["{", '{"type": "nothing"}', b"\x00", '{"type": "session.finish"}'])
def test_nothing_is_said_after_finish_but_what_was_said(frame: str | bytes) -> None:
    """The SDK takes any error then for a failure of the whole session."""
    talk = qwen()
    talk.send({"type": "session.finish"})

    answers = [*talk.send(frame), *talk.append(SECOND), *talk.note(talk.dialogue.fail(Undecodable("no")))]
    talk.note(talk.dialogue.tick(100.0, 100.0))
    talk.note(talk.dialogue.heard())
    after = [*talk.send(frame), *talk.note(talk.dialogue.fail(EngineFailed("late")))]

    assert [] == answers
    assert "session.finished" == talk.frames[-1]["type"]
    assert [] == after
    assert 1 == talk.asked.count(sockets.Finish())


def test_undecodable_sound_ends_nothing() -> None:
    """The client may send better sound."""
    talk = qwen()

    refused = error(talk.note(talk.dialogue.fail(Undecodable("This is not opus."))))

    assert ("invalid_request_error", "audio") == (refused["type"], refused["param"])
    assert talk.closed is None


@pytest.mark.parametrize(
    ("failure", "kind", "code", "close"),
    [
        (EngineFailed("The engine failed."), "server_error", "InternalError", 1011),
        (EngineUnavailable("Not yet."), "server_error", "ModelUnavailable", 1011),
        (QueueFull("Too many sessions."), "server_error", "Throttling", 1013),
        (TooLong("Two hours."), "invalid_request_error", "session_expired", 1000),
    ],
)
def test_broken_session_is_told_before_the_close(failure: Any, kind: str, code: str, close: int) -> None:
    """The SDK waits in vain for the end of a session that is just closed."""
    talk = qwen()
    talk.hear(started())

    told = error(talk.note(talk.dialogue.fail(failure)))

    assert (kind, code) == (told["type"], told["code"])
    assert talk.closed is not None
    assert close == talk.closed.code
    assert [] == [*talk.hear(stopped()), *talk.append(), *talk.note(talk.dialogue.heard())]


def test_silent_client_is_let_go() -> None:
    """60 s without a frame, but not while we owe it something."""
    busy, idle = qwen(), qwen()
    busy.hear(started(), stopped())

    busy.note(busy.dialogue.tick(61.0, 61.0))
    idle.note(idle.dialogue.tick(59.0, 59.0))
    patient = idle.closed
    idle.note(idle.dialogue.tick(60.0, 60.0))

    assert busy.closed is None
    assert patient is None
    assert idle.closed is not None
    assert 1000 == idle.closed.code
    assert ("invalid_request_error", "session_timeout") == (
        idle.frames[-1]["error"]["type"],
        idle.frames[-1]["error"]["code"],
    )


def test_session_has_an_end() -> None:
    """After its longest duration, whatever goes on."""
    talk = qwen(session_s=10.0)
    talk.hear(started(), stopped())

    talk.note(talk.dialogue.tick(10.0, 0.0))

    assert "session_expired" == talk.frames[-1]["error"]["code"]
    assert talk.closed is not None
    assert 1000 == talk.closed.code


@pytest.mark.parametrize(
    "name",
    [
        "qwen3-asr-flash-realtime-2026-02-10",
        "qwen3.5-omni-plus-realtime",
        "qwen3.5-omni-flash-realtime-2026-03-15",
        "qwen3-omni-flash-realtime",
    ],
)
def test_name_that_was_asked_for_is_echoed(name: str) -> None:
    """Snapshots and Omni models too."""
    talk = qwen(name=name)

    assert name == talk.frames[0]["session"]["model"]


def test_wrong_model_is_told_and_then_closed() -> None:
    """A second later: the SDK would miss a socket that is closed at once. Nothing else is answered."""
    turned = Turned("model_not_found", "The model `nobody` does not exist.")

    told, close = turned.open()
    quiet = [*turned.receive("{"), *turned.hear(started()), *turned.heard(), *turned.fail(EngineFailed("no"))]

    assert isinstance(told, sockets.Send)
    assert {
        "type": "invalid_request_error",
        "code": "model_not_found",
        "message": "The model `nobody` does not exist.",
        "param": "model",
        "event_id": None,
    } == json.loads(told.text)["error"]
    assert [] == [*quiet, *turned.tick(0.9, 0.9)]
    assert sockets.Close(1008, "model_not_found", 1.0) == close


def test_engine_bounds_utterances() -> None:
    """An engine that takes 20 s gets no longer ones."""
    opened = qwen(ABLE).asked[0]

    assert isinstance(opened, sockets.Open)
    assert opened.options.endpointing is not None
    assert 20_000 == opened.options.endpointing.longest_ms


def test_frames_are_json_with_ids() -> None:
    """Each has one of its own."""
    talk = qwen()
    talk.hear(started(), partial("", "He"), stopped(), final("Hello."))

    ids = [frame["event_id"] for frame in talk.frames]
    assert len(ids) == len(set(ids))
    assert json.loads(json.dumps(talk.frames)) == talk.frames


def test_talk_is_checked() -> None:
    """These tests would see a frame behind a close."""
    talk = Talk(qwen().dialogue, closed=sockets.Close())

    with pytest.raises(AssertionError):
        talk.open()

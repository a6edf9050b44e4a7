"""OpenAI's transcription sessions: both schemas, what two plugins send, every bad input. No sockets."""

from typing import Any, Final

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from tests.faces.realtime_talk import (
    ABLE,
    ENGLISH,
    SECOND,
    Failed,
    Talk,
    final,
    named,
    partial,
    started,
    stopped,
    transcribing,
    types,
)

from qasr.catalogue import built_in
from qasr.domain.audio import LiveFormat
from qasr.domain.errors import EngineFailed, QueueFull, UnknownModel
from qasr.domain.live import Endpointing
from qasr.domain.options import Hotword
from qasr.faces import sockets
from qasr.faces.openai.realtime import Transcribing, speech_probability

VAD: Final = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
LIVEKIT: Final = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"rate": 24000, "type": "audio/pcm"},
                "transcription": {"language": "en", "model": "gpt-4o-mini-transcribe"},
                "turn_detection": {
                    "type": "server_vad",
                    "prefix_padding_ms": 600,
                    "silence_duration_ms": 350,
                    "threshold": 0.5,
                },
            }
        },
    },
}
"""As livekit-plugins-openai 1.8.9 sends it, to ``?intent=transcription&model=gpt-4o-mini-transcribe``."""
LIVEKIT_WHISPER: Final = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"rate": 24000, "type": "audio/pcm"},
                "transcription": {"language": "en", "model": "gpt-realtime-whisper"},
            }
        },
    },
}
"""The same with a model whose clients commit; it sends ``input_audio_buffer.commit`` at the end of speech."""
PIPECAT: Final = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-realtime-whisper", "language": "en"},
                "turn_detection": None,
            }
        },
    },
}
"""As pipecat-ai 1.14.0 sends it in answer to ``session.created``, to ``?intent=transcription``."""
PIPECAT_VAD: Final = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                "turn_detection": {"type": "server_vad"},
            }
        },
    },
}


def heard_input(frame: dict[str, Any]) -> dict[str, Any]:
    """What a session tells of its sound."""
    found: dict[str, Any] = frame["session"]["audio"]["input"]
    return found


def error(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """The one error."""
    assert ["error"] == types(frames)
    found: dict[str, Any] = frames[0]["error"]
    assert found["message"].strip()
    return found


def endpointing(talk: Talk) -> Endpointing | None:
    """What the session was last told of the ends of utterances."""
    options = [each.options for each in talk.asked if isinstance(each, sockets.Open | sockets.Configure)]
    return options[-1].endpointing


def test_session_is_told_unasked() -> None:
    """``session.created`` with all defaults: the client need not configure anything."""
    talk = transcribing(opened=False)

    (created,) = talk.open()

    assert "session.created" == created["type"]
    assert ("transcription", "realtime.transcription_session") == (
        created["session"]["type"],
        created["session"]["object"],
    )
    assert {
        "format": {"type": "audio/pcm", "rate": 24000},
        "noise_reduction": None,
        "transcription": {"model": "gpt-4o-transcribe"},
        "turn_detection": VAD,
    } == heard_input(created)
    (opened,) = talk.asked
    assert isinstance(opened, sockets.Open)
    assert LiveFormat(codec="pcm", rate_hz=24_000) == opened.format
    assert Endpointing(threshold=0.5, silence_ms=500, prefix_ms=300, longest_ms=30_000) == endpointing(talk)


def test_livekit() -> None:
    """Its exchange with server VAD: it reads starts, stops, deltas, the text, its language and its tokens."""
    talk = transcribing(name="gpt-4o-mini-transcribe")

    (updated,) = talk.send(LIVEKIT)
    talk.append()
    talk.hear(started(), partial("", "And"), partial("And so", " my"), stopped(), final("And so my fellow."))

    assert heard_input(updated) == {
        "format": {"rate": 24000, "type": "audio/pcm"},
        "noise_reduction": None,
        "transcription": {"language": "en", "model": "gpt-4o-mini-transcribe"},
        "turn_detection": {**VAD, "prefix_padding_ms": 600, "silence_duration_ms": 350},
    }
    item = {
        "previous_item_id": None,
        "item": {
            "id": "item_1",
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        },
    }
    text = "conversation.item.input_audio_transcription"
    assert [
        {"type": "input_audio_buffer.speech_started", "audio_start_ms": 100, "item_id": "item_1"},
        {"type": f"{text}.delta", "item_id": "item_1", "content_index": 0, "delta": "And so"},
        {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 2000, "item_id": "item_1"},
        {"type": "input_audio_buffer.committed", "item_id": "item_1", "previous_item_id": None},
        {"type": "conversation.item.added", **item},
        {"type": "conversation.item.done", **item},
        {"type": f"{text}.delta", "item_id": "item_1", "content_index": 0, "delta": " my fellow."},
        {
            "type": f"{text}.completed",
            "item_id": "item_1",
            "content_index": 0,
            "transcript": "And so my fellow.",
            "languages": [{"code": "en"}],
            "usage": {
                "type": "tokens",
                "input_tokens": 48,
                "output_tokens": 4,
                "total_tokens": 52,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 48},
            },
        },
    ] == named(talk.frames[2:])


@pytest.mark.parametrize(("name", "update"), [("gpt-realtime-whisper", LIVEKIT_WHISPER), (None, PIPECAT)])
def test_clients_that_commit(name: str | None, update: dict[str, Any]) -> None:
    """Models without server VAD: who says nothing of turns gets none, and a commit is no error."""
    talk = transcribing(name=name)

    (updated,) = talk.send(update)
    talk.append()
    talk.hear(partial("And", " so"))
    talk.send({"type": "input_audio_buffer.commit"})
    talk.hear(stopped(), final("And so."))

    assert heard_input(updated)["turn_detection"] is None
    assert endpointing(talk) is None
    assert sockets.Commit() == talk.asked_last
    assert [
        "…delta",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "…delta",
        "…completed",
    ] == types(talk.frames[2:])
    assert "And so." == "".join(frame.get("delta", "") for frame in talk.frames)


def test_pipecat_with_server_vad() -> None:
    """Numbers that are not sent have the documented defaults."""
    talk = transcribing()

    (updated,) = talk.send(PIPECAT_VAD)

    assert VAD == heard_input(updated)["turn_detection"]


def test_other_models_tell_nothing_before_the_commit() -> None:
    """An item is known by its commit."""
    talk = transcribing(name="gpt-4o-transcribe")
    talk.send({"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}})

    assert [] == talk.hear(partial("And", " so"))
    assert ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"] == types(
        talk.hear(stopped())
    )
    assert ["…delta", "…completed"] == types(talk.hear(final("And so.")))


def test_beta_schema() -> None:
    """Flat fields and other names: asked for at the handshake."""
    talk = transcribing(beta=True, opened=False)

    (created,) = talk.open()
    (updated,) = talk.send(
        {
            "type": "transcription_session.update",
            "session": {
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en", "prompt": "names"},
                "input_audio_noise_reduction": {"type": "near_field"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 600},
            },
        }
    )
    talk.hear(started(), stopped(), final("Hello."))

    assert "transcription_session.created" == created["type"]
    assert "pcm16" == created["session"]["input_audio_format"]
    assert "transcription_session.updated" == updated["type"]
    told = {key: value for key, value in updated["session"].items() if key not in ("id", "expires_at", "qasr")}
    assert {
        "object": "realtime.transcription_session",
        "modalities": ["text"],
        "input_audio_format": "g711_ulaw",
        "input_audio_noise_reduction": None,
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en", "prompt": "names"},
        "turn_detection": {**VAD, "silence_duration_ms": 600},
        "include": None,
    } == told
    assert {"engine": "english", "unused": ["context"]} == updated["session"]["qasr"]
    assert sockets.Reformat(LiveFormat(codec="mulaw", rate_hz=8_000)) in talk.asked
    assert "conversation.item.created" in types(talk.frames)


def test_flat_fields_are_understood_without_the_beta() -> None:
    """``session.update`` with flat fields, answered in the present schema."""
    talk = transcribing()

    (updated,) = talk.update(
        input_audio_format="g711_alaw", input_audio_transcription={"language": "en"}, turn_detection=None
    )

    assert "session.updated" == updated["type"]
    assert {"type": "audio/pcma"} == heard_input(updated)["format"]
    assert {"model": "gpt-4o-transcribe", "language": "en"} == heard_input(updated)["transcription"]
    assert heard_input(updated)["turn_detection"] is None


def test_beta_begins_with_its_update() -> None:
    """A client that shows it only then gets the beta's names from then on."""
    talk = transcribing()

    assert ["session.created"] == types(talk.frames)
    assert ["transcription_session.updated"] == types(
        talk.send({"type": "transcription_session.update", "session": {}})
    )
    assert ["transcription_session.updated"] != types(transcribing().update())
    assert "conversation.item.created" in types(talk.hear(started(), stopped()))


@pytest.mark.parametrize(
    ("eagerness", "silence_ms"), [("low", 2000), ("medium", 1000), ("auto", 1000), ("high", 500), (None, 1000)]
)
def test_semantic_vad_is_a_length_of_silence(eagerness: str | None, silence_ms: int) -> None:
    """How long depends on the eagerness; it is shown as it was asked for."""
    talk = transcribing()
    asked = {"type": "semantic_vad", **({"eagerness": eagerness} if eagerness else {})}

    (updated,) = talk.update(audio={"input": {"turn_detection": asked}})

    assert {"type": "semantic_vad", "eagerness": eagerness or "auto"} == heard_input(updated)["turn_detection"]
    found = endpointing(talk)
    assert found is not None
    assert silence_ms == found.silence_ms


def test_fields_about_responses_mean_nothing() -> None:
    """And are no error."""
    talk = transcribing()
    asked = {**VAD, "create_response": False, "interrupt_response": True, "idle_timeout_ms": 5000}

    (updated,) = talk.update(type="transcription", audio={"input": {"turn_detection": asked}}, include=[])

    assert {**VAD, "create_response": False, "interrupt_response": True} == heard_input(updated)["turn_detection"]


def test_hints_reach_the_engine() -> None:
    """Prompt, keywords, and of several languages none."""
    talk = transcribing(ABLE)
    asked = {"model": "gpt-transcribe", "prompt": "About shops.", "keywords": ["Kennedy"], "languages": ["en", "de"]}

    talk.update(audio={"input": {"transcription": asked}})
    several = talk.asked_last
    talk.update(audio={"input": {"transcription": {"languages": ["de"]}}})
    one = talk.asked_last

    assert isinstance(several, sockets.Configure)
    assert isinstance(one, sockets.Configure)
    assert ("About shops.", None) == (several.options.hints.context, several.options.hints.language)
    assert (Hotword(text="Kennedy", weight=4),) == several.options.hints.hotwords
    assert "de" == one.options.hints.language


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        ({"type": "realtime"}, "session.type", "invalid_value"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include", "invalid_value"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format", "invalid_value"),
        ({"audio": {"input": {"format": {"rate": 44100}}}}, "session.audio.input.format", "invalid_value"),
        ({"input_audio_format": "mp3"}, "session.audio.input.format", "invalid_value"),
        ({"audio": {"input": {"transcription": None}}}, "session.audio.input.transcription", "invalid_value"),
        ({"audio": {"input": {"transcription": {"model": "nobody"}}}}, "session.audio.input.transcription.model",
         "model_not_found"),
        ({"audio": {"input": {"transcription": {"model": "fun-asr"}}}}, "session.audio.input.transcription.model",
         "model_not_found"),
        ({"audio": {"input": {"transcription": {"language": "xx"}}}}, "session.audio.input.transcription.language",
         "invalid_value"),
        ({"audio": {"input": {"transcription": {"language": "de"}}}}, "session.audio.input.transcription.language",
         "invalid_value"),
        ({"audio": {"input": {"transcription": {"languages": ["xx"]}}}}, "session.audio.input.transcription.languages",
         "invalid_value"),
        ({"audio": {"input": {"transcription": {"keywords": ["Ask"]}}}}, "session.audio.input.transcription.keywords",
         "invalid_value"),
        ({"audio": {"input": {"transcription": {"delay": "long"}}}}, "session.audio.input.transcription.delay",
         "invalid_value"),
        ({"audio": {"input": {"transcription": {"prompt": "a" * 40_001}}}}, "session.audio.input.transcription.prompt",
         "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "magic"}}}}, "session.audio.input.turn_detection.type",
         "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"threshold": 1.1}}}}, "session.audio.input.turn_detection.threshold",
         "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"silence_duration_ms": 99}}}},
         "session.audio.input.turn_detection.silence_duration_ms", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"prefix_padding_ms": -1}}}},
         "session.audio.input.turn_detection.prefix_padding_ms", "invalid_value"),
        ({"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "now"}}}},
         "session.audio.input.turn_detection.eagerness", "invalid_value"),
        ({"audio": {"input": {"turn_detection": 5}}}, "session.audio.input.turn_detection", "invalid_value"),
    ],
)  # fmt: skip
def test_wrong_value_is_refused_with_its_place(sent: dict[str, Any], param: str, code: str) -> None:
    """Nothing has changed, and the session goes on."""
    talk = transcribing()
    before = heard_input(talk.frames[0])

    refused = error(talk.update(**sent))

    assert ("invalid_request_error", code, param, "event_mine") == (
        refused["type"],
        refused["code"],
        refused["param"],
        refused["event_id"],
    )
    assert 1 == len(talk.asked)
    assert before == heard_input(talk.update()[0])


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        ({"turn_detection": {"threshold": 2}}, "session.turn_detection.threshold"),
        ({"input_audio_transcription": {"language": "xx"}}, "session.input_audio_transcription.language"),
    ],
)
def test_beta_places_are_flat(sent: dict[str, Any], param: str) -> None:
    """Errors name what the client wrote."""
    talk = transcribing(beta=True)

    refused = error(talk.send({"type": "transcription_session.update", "session": sent}))

    assert param == refused["param"]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "response.create"},
        {"type": "response.cancel"},
        {"type": "conversation.item.create", "item": {}},
        {"type": "conversation.item.delete", "item_id": "x"},
        {"type": "conversation.item.retrieve", "item_id": "x"},
        {"type": "conversation.item.truncate", "item_id": "x"},
        {"type": "output_audio_buffer.clear"},
        {"type": "session.finish"},
        {"type": "input_audio_buffer.commit"},
        "{",
        b"\x00",
    ],
)
def test_bad_frame_is_an_error_that_ends_nothing(frame: Any) -> None:
    """What belongs to conversations or to another dialect, and a commit under server VAD."""
    talk = transcribing()
    talk.append()

    assert "invalid_request_error" == error(talk.send(frame))["type"]
    assert talk.closed is None


def test_commit_needs_a_tenth_of_a_second() -> None:
    """Documented."""
    talk = transcribing()
    talk.update(audio={"input": {"turn_detection": None}})
    commit = {"type": "input_audio_buffer.commit"}

    talk.append("AAAA" * 1599)  # 3 bytes each, 4 797 in all
    early = error(talk.send(commit))
    talk.append("AAAA")
    in_time = talk.send(commit)

    assert "input_audio_buffer_commit_empty" == early["code"]
    assert "99.94ms" in early["message"]
    assert [] == in_time
    assert sockets.Commit() == talk.asked_last


def test_deltas_are_the_text() -> None:
    """What was told stays; what changed nevertheless is only in the transcript."""
    talk = transcribing()

    talk.hear(started(1), partial("And", " so"), partial("And so", ""), partial("And so", " on"), stopped(1))
    talk.hear(final("And so on.", 1))
    talk.hear(started(2), partial("Ask", "", 2), stopped(2), final("As we know.", 2))
    talk.hear(started(3), stopped(3), final("", 3))

    ids = [frame["item_id"] for frame in talk.frames if frame["type"].endswith(".speech_started")]
    told = ["".join(f["delta"] for f in talk.frames if "delta" in f and f["item_id"] == each) for each in ids]
    texts = [frame["transcript"] for frame in talk.frames if "transcript" in frame]
    assert ["And so on.", "Ask", ""] == told
    assert ["And so on.", "As we know.", ""] == texts


def test_usage_of_whisper_is_in_seconds() -> None:
    """As in the interface for files."""
    talk = transcribing(name="whisper-1")

    talk.hear(started(), stopped(), final("Hello."))

    assert {"type": "duration", "seconds": 2} == talk.frames[-1]["usage"]


def test_failed_utterance_ends_alone() -> None:
    """With the reason, in the dialect's words."""
    talk = transcribing()

    talk.hear(started(), stopped(), Failed(utterance=1, error=EngineFailed("The engine failed.")))

    assert {"type": "server_error", "code": "internal_error", "message": "The engine failed.", "param": None} == (
        talk.frames[-1]["error"]
    )
    assert talk.closed is None


def test_too_many_sessions() -> None:
    """The code of the HTTP interface, and a close that says to come later."""
    talk = transcribing()

    told = error(talk.note(talk.dialogue.fail(QueueFull("Too many."))))

    assert ("server_error", "limit_requests") == (told["type"], told["code"])
    assert talk.closed is not None
    assert 1013 == talk.closed.code


def test_silence_is_allowed() -> None:
    """Clients of this dialect send nothing while nobody speaks; only the session's end comes."""
    talk = transcribing(session_s=7200.0)

    talk.note(talk.dialogue.tick(7199.0, 7199.0))
    quiet = talk.closed
    talk.note(talk.dialogue.tick(7200.0, 7200.0))

    assert quiet is None
    assert "session_expired" == talk.frames[-1]["error"]["code"]


@pytest.mark.parametrize("name", ["nobody", "gpt-realtime", "fun-asr", "qwen3-asr-flash"])
def test_unknown_model_is_no_session(name: str) -> None:
    """Models of conversations and of files, too."""
    with pytest.raises(UnknownModel):
        Transcribing(name, built_in(), ENGLISH, session_s=1.0, beta=False)


@pytest.mark.parametrize(
    "name", ["gpt-4o-mini-transcribe-2025-12-15", "gpt-live-transcribe", "qwen3-asr-flash-realtime"]
)
def test_known_model_is_told(name: str) -> None:
    """As it was asked for."""
    assert name == heard_input(transcribing(name=name).frames[0])["transcription"]["model"]


def test_threshold_becomes_a_probability() -> None:
    """The default is ours; higher never hears more."""
    probabilities = [speech_probability(step / 50) for step in range(51)]

    assert 0.5 == pytest.approx(speech_probability(0.5))
    assert probabilities == sorted(set(probabilities))


def test_sdk_knows_every_event() -> None:
    """Each frame is of a type that the SDK has, with its required fields."""
    talk = transcribing()
    talk.update(audio={"input": {"transcription": {"language": "en"}}})
    talk.append(SECOND)
    talk.hear(started(), partial("He", ""), stopped(), final("Hello."))
    talk.hear(started(2), stopped(2), Failed(utterance=2, error=EngineFailed("no")))
    talk.send("{")
    talk.send({"type": "input_audio_buffer.clear"})
    adapter: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)

    parsed = [adapter.validate_python(frame) for frame in talk.frames]

    assert [frame["type"] for frame in talk.frames] == [event.type for event in parsed]

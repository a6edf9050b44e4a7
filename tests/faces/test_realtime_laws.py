"""What holds for realtime dialogues whatever clients and sessions do."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faces.realtime_talk import SECOND, Failed, Talk, final, partial, qwen, started, stopped, transcribing, types

from qasr.domain.errors import EngineFailed, Undecodable
from qasr.domain.live import LiveEvent

LEAVES: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING: Final = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
NAMES: Final = (
    "session.update",
    "transcription_session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "session.finish",
    "response.create",
    "nothing",
)
SESSIONS: Final = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("transcription") | LEAVES,
        "audio": ANYTHING,
        "input_audio_format": st.sampled_from(["pcm", "pcm16", "opus", "g711_ulaw"]) | LEAVES,
        "sample_rate": st.sampled_from([8000, 16000]) | LEAVES,
        "turn_detection": st.none()
        | st.fixed_dictionaries({}, optional={"type": st.just("server_vad") | LEAVES, "threshold": LEAVES})
        | ANYTHING,
        "input_audio_transcription": st.fixed_dictionaries({}, optional={"language": st.just("en") | LEAVES})
        | ANYTHING,
        "instructions": LEAVES,
    },
)
FRAMES: Final = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20),
    ANYTHING.map(json.dumps),
    st.fixed_dictionaries({"type": st.sampled_from(NAMES)}, optional={"event_id": LEAVES}).map(json.dumps),
    st.builds(lambda session: json.dumps({"type": "session.update", "session": session}), SESSIONS),
    st.just(json.dumps({"type": "input_audio_buffer.append", "audio": SECOND})),
)

each_dialect = pytest.mark.parametrize("talk", [qwen, transcribing], ids=["dashscope", "openai"])


def life(number: int, partials: list[str], *, fails: bool, vad: bool) -> list[LiveEvent]:
    """All that a session tells of one utterance, as ``domain/live.py`` orders it."""
    text = " ".join(partials)
    told: list[LiveEvent] = [started(number, number * 1000)] if vad else []
    told += [partial(text[:cut], text[cut:], number) for cut in range(len(text))]
    told.insert(1 + len(told) // 2, stopped(number, number * 1000 + 900))
    ended = Failed(utterance=number, error=EngineFailed("no")) if fails else final(text, number)
    return [*told, ended]


LIVES: Final = st.lists(
    st.tuples(st.lists(st.text("abc", min_size=1, max_size=3), max_size=3), st.booleans(), st.booleans()), max_size=4
).map(lambda all_: [life(number, words, fails=fails, vad=vad) for number, (words, fails, vad) in enumerate(all_, 1)])


@each_dialect
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_order_of_anything_is_answered_in_order(talk: Callable[[], Talk], data: st.DataObject) -> None:
    """No frame, no event and no failure raises; items keep their order; nothing follows the last event."""
    spoken = talk()
    events = [event for life_ in data.draw(LIVES) for event in life_]
    for _ in range(data.draw(st.integers(0, 12))):
        match data.draw(st.sampled_from(["frame", "event", "event", "tick", "undecodable", "heard", "broken"])):
            case "frame" if spoken.closed is None:
                spoken.send(data.draw(FRAMES))
            case "event" if events and spoken.closed is None:
                spoken.hear(events.pop(0))
            case "tick" if spoken.closed is None:
                waiting_s = data.draw(st.floats(0, 100))
                spoken.note(spoken.dialogue.tick(waiting_s, waiting_s))
            case "undecodable" if spoken.closed is None:
                spoken.note(spoken.dialogue.fail(Undecodable("no")))
            case "broken" if spoken.closed is None and data.draw(st.booleans()):
                spoken.note(spoken.dialogue.fail(EngineFailed("no")))
            case "heard" if not events and spoken.closed is None:
                spoken.note(spoken.dialogue.heard())

    check_order(spoken)


def check_order(spoken: Talk) -> None:
    """The laws of one conversation."""
    names = types(spoken.frames)
    assert len({frame["event_id"] for frame in spoken.frames}) == len(spoken.frames)
    if "session.finished" in names:
        assert "session.finished" == names[-1]
        assert 1 == names.count("session.finished")
    if spoken.closed is not None and "session.finished" not in names:
        assert "error" == names[-1]
    starts = [frame["audio_start_ms"] for frame in spoken.frames if "audio_start_ms" in frame]
    assert sorted(starts) == starts
    items: dict[str, list[str]] = {}
    previous: str | None = None
    for frame, name in zip(spoken.frames, names, strict=True):
        item = frame.get("item_id") or frame.get("item", {}).get("id")
        if item is not None:
            items.setdefault(item, []).append(name)
        if name == "input_audio_buffer.committed":
            assert previous == frame["previous_item_id"]
            previous = item
    for told in items.values():
        assert not set(told[:-1]) & {"…completed", "…failed"}
        for earlier, later in (
            ("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"),
            ("input_audio_buffer.speech_stopped", "input_audio_buffer.committed"),
            ("input_audio_buffer.committed", "…completed"),
            ("input_audio_buffer.committed", "…failed"),
        ):
            if earlier in told and later in told:
                assert told.index(earlier) < told.index(later)


@each_dialect
@settings(max_examples=100, deadline=None)
@given(lives=LIVES)
def test_every_utterance_has_its_end(talk: Callable[[], Talk], lives: list[list[LiveEvent]]) -> None:
    """One text or one failure for each; confirmed text is never taken back, and deltas are the text."""
    spoken = talk()

    for told in lives:
        spoken.hear(*told)

    check_order(spoken)
    ends = [name for name in types(spoken.frames) if name in ("…completed", "…failed")]
    assert len(lives) == len(ends)
    so_far: dict[str, str] = {}
    for frame in spoken.frames:
        if "stash" in frame:
            assert frame["text"].startswith(so_far.get(frame["item_id"], ""))
            so_far[frame["item_id"]] = frame["text"]
        if "delta" in frame:
            so_far[frame["item_id"]] = so_far.get(frame["item_id"], "") + frame["delta"]
        if "transcript" in frame and talk is transcribing:
            assert frame["transcript"] == so_far.get(frame["item_id"], "")


@each_dialect
@settings(max_examples=100, deadline=None)
@given(session=SESSIONS)
def test_update_is_taken_whole_or_not_at_all(talk: Callable[[], Talk], session: dict[str, Any]) -> None:
    """What is refused changes nothing. What is taken is told as it is in force: asking for that changes nothing."""
    spoken = talk()
    before = dict(spoken.frames[0]["session"])

    (answer,) = spoken.update(**session)
    if answer["type"] == "error":
        assert before == spoken.update()[0]["session"]
    else:
        told = {key: value for key, value in answer["session"].items() if key not in ("id", "object", "model", "qasr")}
        n_asked = len(spoken.asked)
        (again,) = spoken.update(**told)
        assert answer["session"] == again["session"]
        assert n_asked == len(spoken.asked)

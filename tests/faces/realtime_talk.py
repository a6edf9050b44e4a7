"""A realtime dialogue without a socket: what the client sends, what the session tells, what comes of it."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qasr.catalogue import built_in
from qasr.domain.live import Failed, LiveEvent, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as Heard
from qasr.engines.base import Capabilities
from qasr.faces import sockets
from qasr.faces.dashscope.realtime import Qwen
from qasr.faces.openai.realtime import Transcribing
from qasr.faces.realtime import RealtimeDialogue

ENGLISH: Final = Capabilities(name="english", languages=frozenset({"en"}), longest_s=64.0)
ABLE: Final = Capabilities(
    name="able", languages=None, longest_s=20.0, context=True, hotwords=True, emotion=True, itn=True
)
SECOND: Final = base64.b64encode(bytes(32_000)).decode()
"""Of silence, at 16 kHz."""


@dataclass
class Talk:
    """One client and one session, with a dialogue between them."""

    dialogue: RealtimeDialogue
    frames: list[dict[str, Any]] = field(default_factory=list)
    """All that the client was sent."""
    asked: list[sockets.Action] = field(default_factory=list)
    """All that was asked of the session."""
    closed: sockets.Close | None = None

    def open(self) -> list[dict[str, Any]]:
        return self.note(self.dialogue.open())

    def send(self, frame: Mapping[str, Any] | str | bytes) -> list[dict[str, Any]]:
        return self.note(self.dialogue.receive(frame if isinstance(frame, str | bytes) else json.dumps(frame)))

    def hear(self, *events: LiveEvent) -> list[dict[str, Any]]:
        return [frame for event in events for frame in self.note(self.dialogue.hear(event))]

    def update(self, **session: Any) -> list[dict[str, Any]]:
        return self.send({"event_id": "event_mine", "type": "session.update", "session": session})

    def append(self, audio: str = SECOND) -> list[dict[str, Any]]:
        return self.send({"type": "input_audio_buffer.append", "audio": audio})

    def note(self, actions: Sequence[sockets.Action]) -> list[dict[str, Any]]:
        """What the client is sent; nothing is sent after a close."""
        told = []
        for action in actions:
            assert self.closed is None
            if isinstance(action, sockets.Send):
                told.append(json.loads(action.text))
            elif isinstance(action, sockets.Close):
                self.closed = action
            else:
                self.asked.append(action)
        self.frames += told
        return told

    @property
    def asked_last(self) -> sockets.Action:
        return self.asked[-1]


def qwen(
    engine: Capabilities = ENGLISH, name: str = "qwen3-asr-flash-realtime", *, opened: bool = True, **limits: float
) -> Talk:
    """DashScope's dialect."""
    dialect = Qwen(name, built_in().resolve(name), engine)
    return _talk(RealtimeDialogue(dialect, **{"session_s": 7200.0, "idle_s": 60.0, **limits}), opened=opened)


def transcribing(
    engine: Capabilities = ENGLISH,
    name: str | None = None,
    *,
    beta: bool = False,
    opened: bool = True,
    session_s: float = 7200.0,
) -> Talk:
    """OpenAI's dialect."""
    dialect = Transcribing(name, built_in(), engine, session_s=session_s, beta=beta)
    return _talk(RealtimeDialogue(dialect, session_s=session_s, idle_s=None), opened=opened)


def _talk(dialogue: RealtimeDialogue, *, opened: bool) -> Talk:
    talk = Talk(dialogue)
    if opened:
        talk.open()
    return talk


def named(frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """*frames* without their own ids, and with ``item_1``, ``item_2``, … in place of those of items."""
    text = json.dumps([{key: value for key, value in frame.items() if key != "event_id"} for frame in frames])
    ids: list[str] = []
    for frame in frames:
        found = frame.get("item_id") or frame.get("item", {}).get("id")
        if found and found not in ids:
            ids.append(found)
    for number, found in enumerate(ids, 1):
        text = text.replace(found, f"item_{number}")
    named_frames: list[dict[str, Any]] = json.loads(text)
    return named_frames


def types(frames: Sequence[dict[str, Any]]) -> list[str]:
    """Their types, without what all of them begin with."""
    return [frame["type"].replace("conversation.item.input_audio_transcription.", "…") for frame in frames]


def started(utterance: int = 1, at_ms: int = 100) -> SpeechStarted:
    return SpeechStarted(utterance=utterance, at_ms=at_ms)


def stopped(utterance: int = 1, at_ms: int = 2000) -> SpeechStopped:
    return SpeechStopped(utterance=utterance, at_ms=at_ms)


def partial(confirmed: str, tentative: str, utterance: int = 1) -> Partial:
    return Partial(utterance=utterance, begin_ms=100, confirmed=confirmed, tentative=tentative, language="en")


def final(text: str, utterance: int = 1, **facts: Any) -> Heard:
    return Heard(utterance=utterance, begin_ms=100, end_ms=2000, text=text, **{"language": "en", **facts})


__all__ = [
    "ABLE",
    "ENGLISH",
    "SECOND",
    "Failed",
    "Talk",
    "final",
    "named",
    "partial",
    "qwen",
    "started",
    "stopped",
    "transcribing",
    "types",
]

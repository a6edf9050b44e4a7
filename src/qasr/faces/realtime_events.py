"""Realtime events that DashScope and OpenAI have in common, as they are on the wire.

Sources: docs/faces/dashscope-realtime.md, docs/faces/openai-realtime.md.
"""

import uuid

from msgspec import Struct, field


def event_id() -> str:
    """A fresh one."""
    return f"event_{uuid.uuid4().hex}"


def item_id() -> str:
    """A fresh one."""
    return f"item_{uuid.uuid4().hex[:21]}"


def session_id() -> str:
    """A fresh one."""
    return f"sess_{uuid.uuid4().hex[:21]}"


class Event(Struct, frozen=True, kw_only=True, tag_field="type", tag=""):
    """What all have; ``type`` is the tag of each."""

    event_id: str = field(default_factory=event_id)


class SpeechStarted(Event, frozen=True, kw_only=True, tag="input_audio_buffer.speech_started"):
    """Where the server finds the ends of utterances."""

    audio_start_ms: int
    item_id: str


class SpeechStopped(Event, frozen=True, kw_only=True, tag="input_audio_buffer.speech_stopped"):
    """Where the server finds the ends of utterances."""

    audio_end_ms: int
    item_id: str


class Committed(Event, frozen=True, kw_only=True, tag="input_audio_buffer.committed"):
    """An utterance is complete."""

    previous_item_id: str | None
    item_id: str


class Cleared(Event, frozen=True, kw_only=True, tag="input_audio_buffer.cleared"):
    """The answer to ``clear``."""


class Content(Struct, frozen=True, kw_only=True):
    """What an item holds."""

    type: str = "input_audio"
    transcript: None = None


class Item(Struct, frozen=True, kw_only=True):
    """An utterance, as a message of a conversation."""

    id: str
    status: str
    object: str = "realtime.item"
    type: str = "message"
    role: str = "user"
    content: tuple[Content, ...] = (Content(),)


class ItemCreated(Event, frozen=True, kw_only=True, tag="conversation.item.created"):
    """An utterance has become an item."""

    previous_item_id: str | None
    item: Item


class Reason(Struct, frozen=True, kw_only=True):
    """Why an utterance has no text."""

    type: str
    code: str
    message: str
    param: str | None = None


class Failed(Event, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.failed"):
    """An utterance has no text; the session goes on."""

    item_id: str
    content_index: int = 0
    error: Reason


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """``invalid_request_error``: the session goes on. Any other type: it does not."""

    type: str
    code: str
    message: str
    param: str | None = None
    event_id: str | None = None
    """That of the client's event that is to blame."""


class Error(Event, frozen=True, kw_only=True, tag="error"):
    """Something the client asked for was not done."""

    error: ErrorDetail


class Told(Struct, frozen=True, kw_only=True):
    """What clients of other servers do not find: who hears, and which hints it cannot use."""

    engine: str
    unused: tuple[str, ...]

"""The realtime session that DashScope's and OpenAI's dialects share: a state machine without I/O.

::

    OPEN ──session.finish──▶ FINISHING ──last event heard──▶ FINISHED ──10 s──▶ CLOSED
      └──────────── the session breaks, or its time is up ─────────────────────────▲

    per item   [speech_started]  partial*  [speech_stopped]  committed  created  partial*  completed | failed

What is in brackets is told where the server finds the ends of utterances, and only there. Where the client commits,
partials follow ``committed``, unless the dialect has them earlier. After ``session.finish`` nothing is answered any
more but what was said before: clients take any error for a failure of the whole session then.

A dialect (``faces/dashscope/realtime.py``, ``faces/openai/realtime.py``) knows what the frames look like and what they
mean; the order of events, ids, timers and what ends a session are here.
"""

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar, assert_never

import msgspec
from msgspec import UNSET, Struct

from qasr.catalogue import Model
from qasr.domain.audio import LiveFormat
from qasr.domain.errors import CapacityError, InvalidParameter, MediaError, QasrError, RequestError, TooLong
from qasr.domain.live import Failed, LiveEvent, LiveOptions, Partial, SpeechStarted, SpeechStopped
from qasr.domain.live import Final as Heard
from qasr.engines.base import Capabilities
from qasr.faces import realtime_events as events
from qasr.faces import sockets
from qasr.faces.http import LARGEST_CONTEXT
from qasr.faces.languages import parse_language
from qasr.pipeline.feasible import check_live

S = TypeVar("S", bound=Struct)

LONGEST_UTTERANCE_MS: Final = 30_000
"""An utterance that grows longer is cut at a pause; less where the engine takes less."""
FAREWELL_S: Final = 10.0
"""The client closes after ``session.finished``; if it does not, we do."""
LINGER_S: Final = 1.0
"""No session is closed for an error before its socket is that old: DashScope's SDK looks for an open connection every
100 ms, and takes one that is closed by then for one that was never opened, whatever it was told."""
_BYTES_PER_SAMPLE: Final = {"pcm": 2, "mulaw": 1, "alaw": 1}


class Refused(Exception):
    """A client's event cannot be obeyed; the session goes on."""

    def __init__(self, message: str, *, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


# ---- what a client asks for


@dataclass(frozen=True, slots=True)
class Setup:
    """What a session's configuration means."""

    options: LiveOptions
    format: LiveFormat
    model: str
    """Public name; that of the first set-up decides what hears the session."""


@dataclass(frozen=True, slots=True)
class Update:
    """The configuration has changed; *answer* tells all of it."""

    setup: Setup
    answer: events.Event


@dataclass(frozen=True, slots=True)
class Append:
    """Sound."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """The utterance ends here."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the sound that belongs to no complete utterance."""


@dataclass(frozen=True, slots=True)
class Finish:
    """No more sound will come."""


Command: TypeAlias = Update | Append | Commit | Clear | Finish


@dataclass(slots=True, kw_only=True)
class Utterance:
    """An item, from its first event to its last."""

    id: str
    announced: bool = False
    """``speech_started`` was told."""
    committed: bool = False
    told: tuple[str, str] = ("", "")
    """Of the text so far, what the client knows for sure, and what may change."""


class Dialect(Protocol):
    """What frames look like and what they mean."""

    @property
    def setup(self) -> Setup:
        """What the configuration means now."""
        ...

    @property
    def partials_before_commit(self) -> bool:
        """Whether partials may come while a client that commits itself is still speaking."""
        ...

    @property
    def least_commit_ms(self) -> int:
        """Less sound is no utterance."""
        ...

    def decode(self, frame: str) -> Command:
        """What the client asks for.

        Raises:
            Refused: it cannot be done, and nothing has changed.
        """
        ...

    def created(self) -> events.Event:
        """The first event of a session."""
        ...

    def item_created(self, utterance: Utterance, previous_id: str | None) -> Sequence[events.Event]:
        """The utterance becomes an item."""
        ...

    def partial(self, utterance: Utterance, partial: Partial) -> Sequence[events.Event]:
        """What is known of the text so far; nothing, if that is nothing new."""
        ...

    def completed(self, utterance: Utterance, heard: Heard) -> Sequence[events.Event]:
        """The whole text."""
        ...

    def code(self, error: QasrError) -> str:
        """Its name in the dialect."""
        ...

    def finished(self) -> Sequence[events.Event]:
        """All has been told, and the client asked to be told that."""
        ...


class State(enum.Enum):
    """See the module's picture."""

    OPEN = enum.auto()
    FINISHING = enum.auto()
    FINISHED = enum.auto()
    CLOSED = enum.auto()


class RealtimeDialogue:
    """One session on one socket.

    Args:
        dialect: what frames look like.
        session_s: longest session.
        idle_s: longest time without a frame while nothing is being worked on; None: no limit.
    """

    def __init__(self, dialect: Dialect, *, session_s: float, idle_s: float | None) -> None:
        self._dialect, self._session_s, self._idle_s = dialect, session_s, idle_s
        self._setup = dialect.setup
        self._state = State.OPEN
        self._utterances: dict[int, Utterance] = {}
        self._last_item_id: str | None = None
        self._buffered_ms = 0.0
        self._finished_at_s: float | None = None

    def open(self) -> list[sockets.Action]:
        """The session begins."""
        opening = sockets.Open(self._setup.options, self._setup.format, self._setup.model)
        return [opening, *_frames(self._dialect.created())]

    def receive(self, frame: str | bytes) -> list[sockets.Action]:
        """An event of the client."""
        if self._state is not State.OPEN:
            return []
        try:
            return self._obey(self._dialect.decode(_text(frame)))
        except Refused as refused:
            detail = events.ErrorDetail(
                type="invalid_request_error",
                code=refused.code,
                message=str(refused),
                param=refused.param,
                event_id=client_event_id(frame),
            )
            return _frames(events.Error(error=detail))

    def _obey(self, command: Command) -> list[sockets.Action]:
        match command:
            case Update(setup=setup, answer=answer):
                changes: list[sockets.Action] = []
                if setup.format != self._setup.format:
                    changes.append(sockets.Reformat(setup.format))
                if setup.options != self._setup.options:
                    if setup.options.endpointing != self._setup.options.endpointing:
                        self._buffered_ms = 0.0
                    changes.append(sockets.Configure(setup.options))
                self._setup = setup
                return [*_frames(answer), *changes]
            case Append(data=data):
                self._buffered_ms += length_ms(data, self._setup.format)
                return [sockets.Feed(data)] if data else []
            case Commit():
                self._check_commit()
                self._buffered_ms = 0.0
                return [sockets.Commit()]
            case Clear():
                self._buffered_ms = 0.0
                return [*_frames(events.Cleared()), sockets.Clear()]
            case Finish():
                self._state = State.FINISHING
                return [sockets.Finish()]
            case unreachable:
                assert_never(unreachable)

    def _check_commit(self) -> None:
        if self._setup.options.endpointing is not None:
            raise Refused("The server commits by itself while turn_detection is on; set it to null to commit yourself.")
        if not self._buffered_ms or self._buffered_ms < self._dialect.least_commit_ms:
            raise Refused(
                f"Error committing input audio buffer: buffer too small. Expected at least "
                f"{max(1, self._dialect.least_commit_ms)}ms of audio, but buffer only has {self._buffered_ms:.2f}ms.",
                code="input_audio_buffer_commit_empty",
            )

    def hear(self, event: LiveEvent) -> list[sockets.Action]:
        """The session tells of an utterance."""
        if self._state not in (State.OPEN, State.FINISHING):
            return []
        utterance = self._utterances.setdefault(event.utterance, Utterance(id=events.item_id()))
        match event:
            case SpeechStarted(at_ms=at_ms):
                utterance.announced = True
                return _frames(events.SpeechStarted(audio_start_ms=at_ms, item_id=utterance.id))
            case SpeechStopped(at_ms=at_ms):
                return _frames(*self._stopped(utterance, at_ms))
            case Partial():
                early = self._dialect.partials_before_commit
                known = utterance.announced or utterance.committed or early
                return _frames(*self._dialect.partial(utterance, event)) if known else []
            case Heard():
                del self._utterances[event.utterance]
                return _frames(*self._dialect.completed(utterance, event))
            case Failed(error=error):
                del self._utterances[event.utterance]
                reason = events.Reason(type=_type(error), code=self._dialect.code(error), message=str(error))
                return _frames(events.Failed(item_id=utterance.id, error=reason))
            case unreachable:
                assert_never(unreachable)

    def _stopped(self, utterance: Utterance, at_ms: int) -> Sequence[events.Event]:
        previous_id, self._last_item_id = self._last_item_id, utterance.id
        utterance.committed = True
        stopped = [events.SpeechStopped(audio_end_ms=at_ms, item_id=utterance.id)] if utterance.announced else []
        committed = events.Committed(previous_item_id=previous_id, item_id=utterance.id)
        return [*stopped, committed, *self._dialect.item_created(utterance, previous_id)]

    def heard(self) -> list[sockets.Action]:
        """All has been told."""
        if self._state is State.FINISHING:
            self._state = State.FINISHED
            return _frames(*self._dialect.finished())
        return self._end("invalid_request_error", "session_expired", "The session has reached its longest duration.")

    def fail(self, error: QasrError) -> list[sockets.Action]:
        """Sound that cannot be decoded is the client's to mend; anything else is the end."""
        if self._state in (State.FINISHED, State.CLOSED):
            return []
        if isinstance(error, TooLong):
            return self._end("invalid_request_error", "session_expired", str(error))
        if isinstance(error, MediaError):
            if self._state is State.FINISHING:
                return []
            detail = events.ErrorDetail(
                type="invalid_request_error", code=self._dialect.code(error), message=str(error), param="audio"
            )
            return _frames(events.Error(error=detail))
        close = sockets.TRY_AGAIN_LATER if isinstance(error, CapacityError) else sockets.INTERNAL_ERROR
        if isinstance(error, RequestError):
            close = sockets.POLICY_VIOLATION
        return self._end(_type(error), self._dialect.code(error), str(error), close)

    def tick(self, now_s: float, waiting_s: float) -> list[sockets.Action]:
        """Sessions have a longest duration, and a client that is silent is let go."""
        if self._state is State.FINISHED:
            if self._finished_at_s is None:
                self._finished_at_s = now_s
            return [sockets.Close()] if now_s - self._finished_at_s >= FAREWELL_S else []
        if self._state is State.CLOSED:
            return []
        if now_s >= self._session_s:
            message = f"The session has reached its longest duration of {self._session_s:g} s."
            return self._end("invalid_request_error", "session_expired", message)
        at_work = self._state is State.FINISHING or any(u.committed for u in self._utterances.values())
        if self._idle_s is not None and waiting_s >= self._idle_s and not at_work:
            message = f"Nothing was received for {self._idle_s:g} s."
            return self._end("invalid_request_error", "session_timeout", message)
        return []

    def _end(self, kind: str, code: str, message: str, close: int = sockets.NORMAL) -> list[sockets.Action]:
        if self._state in (State.FINISHED, State.CLOSED):
            return []
        self._state = State.CLOSED
        error = events.Error(error=events.ErrorDetail(type=kind, code=code, message=message))
        return [*_frames(error), sockets.Close(close, code, LINGER_S)]


class Turned:
    """A socket that is accepted only to be told why it is closed: some clients cannot show a refused upgrade."""

    def __init__(self, code: str, message: str) -> None:
        self._detail = events.ErrorDetail(type="invalid_request_error", code=code, message=message, param="model")

    def open(self) -> list[sockets.Action]:
        """All that there is to say."""
        close = sockets.Close(sockets.POLICY_VIOLATION, self._detail.code, LINGER_S)
        return [*_frames(events.Error(error=self._detail)), close]

    def tick(self, now_s: float, waiting_s: float) -> list[sockets.Action]:  # noqa: ARG002 - it is closed
        """Nothing."""
        return []

    def receive(self, frame: str | bytes) -> list[sockets.Action]:  # noqa: ARG002 - nothing is heard any more
        """Nothing."""
        return []

    def hear(self, event: LiveEvent) -> list[sockets.Action]:  # noqa: ARG002 - there is no session
        """Nothing."""
        return []

    def heard(self) -> list[sockets.Action]:
        """Nothing."""
        return []

    def fail(self, error: QasrError) -> list[sockets.Action]:  # noqa: ARG002 - it has been told why already
        """Nothing."""
        return []


def _text(frame: str | bytes) -> str:
    if isinstance(frame, bytes):
        raise Refused("Binary frames are not understood here; sound goes into input_audio_buffer.append.")
    return frame


def _frames(*told: events.Event) -> list[sockets.Action]:
    return [sockets.Send(msgspec.json.encode(event).decode()) for event in told]


def _type(error: QasrError) -> str:
    """Clients go on after the first of these, and close after the second."""
    return "invalid_request_error" if isinstance(error, RequestError | MediaError) else "server_error"


def length_ms(data: bytes, sound_format: LiveFormat) -> float:
    """How long *data* sounds; without decoding it, one second is the guess."""
    width = _BYTES_PER_SAMPLE.get(sound_format.codec)
    if width is None:
        return 1000.0 if data else 0.0
    return len(data) * 1000 / (width * sound_format.rate_hz)


# ---- reading what clients write


class _Envelope(Struct):
    event_id: str | None = None


def client_event_id(frame: str | bytes) -> str | None:
    """The id that the client gave the event in *frame*, if it can be read."""
    try:
        return msgspec.json.decode(frame, type=_Envelope).event_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class _Type(Struct):
    type: str


def read(frame: str, shapes: Mapping[str, type[Struct]], refused: Mapping[str, str]) -> tuple[str, Struct]:
    """The type of the event in *frame*, and the event in the shape that its type has.

    Args:
        frame: JSON.
        shapes: by type.
        refused: types that are known, but not served; with the reason.

    Raises:
        Refused: no JSON, an unknown type, or a field of the wrong type.
    """
    try:
        name = msgspec.json.decode(frame, type=_Type).type
        if name in refused:
            raise Refused(refused[name], param="type")
        if name not in shapes:
            raise Refused(one_of(name, shapes), param="type")
        return name, msgspec.json.decode(frame, type=shapes[name], strict=False)
    except msgspec.ValidationError as error:
        path = re.search(r"at `\$\.?(?P<path>.*)`$", str(error))
        raise Refused(f"{str(error)[:300]}.", param=path["path"] if path and path["path"] else None) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused("The frame is not valid JSON.", code="invalid_json") from error


def merged(old: S, new: S) -> S:
    """*old* with what *new* says; what it does not say stays."""
    changes: dict[str, Any] = {}
    for name in new.__struct_fields__:
        value, before = getattr(new, name), getattr(old, name)
        if value is not UNSET:
            changes[name] = (
                merged(before, value) if isinstance(value, Struct) and type(before) is type(value) else value
            )
    return msgspec.structs.replace(old, **changes)


def one_of(value: object, supported: Sequence[object] | Mapping[str, object]) -> str:
    """The documented words for a value that is none of those."""
    return f"Invalid value: {_quoted(value)}. Supported values are: {', '.join(map(_quoted, supported))}."


def within(value: float, least: float, most: float, param: str) -> None:
    """Refuse what is not.

    Raises:
        Refused: it is not.
    """
    if not least <= value <= most:
        raise Refused(f"Invalid value: {value:g}. Must lie within {least:g} and {most:g}.", param=param)


def _quoted(value: object) -> str:
    return f"'{str(value)[:50]}'"


def language(text: str | None, param: str) -> str | None:
    """The code that *text* means.

    Raises:
        Refused: none that we know.
    """
    try:
        return parse_language(text)
    except InvalidParameter as error:
        raise Refused(f"Invalid value: {_quoted(text)}. {error}", param=param) from error


def check(options: LiveOptions, model: Model, engine: Capabilities, params: Mapping[str, str]) -> None:
    """Refuse what the asked model or the loaded engine cannot do.

    Args:
        options: what is asked for.
        model: whose name the client gave.
        engine: what is loaded.
        params: where ``language``, ``context`` and ``vocabulary`` stand in the dialect.

    Raises:
        Refused: with the place of what is wrong.
    """
    hints = options.hints
    if hints.language is not None and hints.language not in model.languages:
        raise Refused(one_of(hints.language, sorted(model.languages)), param=params["language"])
    if len(hints.context) > LARGEST_CONTEXT:
        raise Refused(f"The context exceeds {LARGEST_CONTEXT} characters.", param=params["context"])
    try:
        check_live(options, engine)
    except InvalidParameter as error:
        raise Refused(str(error), param=params.get(error.parameter or "")) from error


def longest_ms(engine: Capabilities) -> int:
    """How long an utterance may grow."""
    return min(LONGEST_UTTERANCE_MS, int(engine.longest_s * 1000))


def told(options: LiveOptions, engine: Capabilities) -> events.Told:
    """Who hears, and which hints it cannot use."""
    unused = ("context",) if options.hints.context and not engine.context else ()
    return events.Told(engine=engine.name, unused=unused)

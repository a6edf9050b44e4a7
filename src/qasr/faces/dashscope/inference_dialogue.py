"""The task protocol of ``/api-ws/v1/inference``, as a state machine without I/O.

::

               run-task                         finish-task
    IDLE ──────────────────────▶ LISTENING ──────────────────────▶ FINISHING ──all is told──▶ IDLE
      │      ◀─ task-started      │  ◀─ result-generated …           │  ◀─ result-generated …   ◀─ task-finished
      │                           │                                  │
      └──────── 60 s idle ────────┴─ anything that fails a task: ◀─ task-failed ───────────────┴──▶ CLOSED

One task at a time: binary frames do not say whose they are. Each task that was started ends with exactly one
``task-finished`` or ``task-failed``, and nothing is told of it after that. ``task-failed`` ends the socket too, but for
frames that belong to no task of ours while the socket is otherwise sound: a second ``run-task`` beside a running task,
or a ``finish-task`` with the id of nobody. Source: docs/faces/dashscope.md#live-tasks.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from qasr.catalogue import Catalogue
from qasr.domain.errors import (
    BurstLimited,
    CapacityError,
    DeadlineExceeded,
    EngineFailed,
    InvalidParameter,
    MediaError,
    NoAudioTrack,
    NoSpeech,
    QasrError,
    QueueFull,
    TooLong,
    Undecodable,
)
from qasr.domain.live import Failed, LiveEvent
from qasr.faces.dashscope import inference_wire as wire
from qasr.faces.dashscope.errors import SHAPES
from qasr.faces.dashscope.inference_options import Asked, context_text, missing, parse, with_context
from qasr.faces.dashscope.inference_results import Results
from qasr.faces.dashscope.submission import Abilities
from qasr.faces.sockets import Action, Close, Configure, Feed, Finish, Open, Send

T = TypeVar("T")

CODES: Final[Mapping[type[QasrError], str]] = {
    **{kind: code for kind, (_, code) in SHAPES.items()},
    MediaError: "UNSUPPORTED_FORMAT",
    TooLong: "InvalidParameter",
    NoAudioTrack: "NO_VALID_AUDIO_ERROR",
    NoSpeech: "NO_VALID_AUDIO_ERROR",
    CapacityError: "Throttling.RateQuota",
    BurstLimited: "Throttling.RateQuota",
    QueueFull: "Throttling.AllocationQuota",
    DeadlineExceeded: "ResponseTimeout",
}
"""Where they differ from those of HTTP: the documented ones of this protocol."""

NOTHING: Final = wire.Nothing()
REMEMBERED_TASKS: Final = 1000
"""Ids of ended tasks that a socket remembers."""
LONGEST_TASK_ID: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long we wait for what. Source: documentation, but for ``heartbeat_s``, which is ours."""

    data_s: float = 23.0
    """For a frame, while a task is fed."""
    speech_s: float = 60.0
    """For speech, unless ``heartbeat`` is asked for."""
    heartbeat_s: float = 10.0
    """Between two heartbeats in silence."""
    task_s: float = 60.0
    """For a task, on a socket that has none."""


@dataclass(slots=True)
class _Task:
    """The task that is under way."""

    id: str
    asked: Asked
    results: Results
    fed: bool = False
    """Sound has come."""
    finishing: bool = False
    silent_since_s: float | None = None
    """Since when nobody speaks; None: since the next tick, or somebody does."""
    beats: int = 0
    """Heartbeats since then."""


class InferenceDialogue:
    """One socket.

    Args:
        catalogue: resolves names of models.
        able: from a model's public name to what would hear it; may raise QasrError.
        patience: how long we wait.
    """

    def __init__(
        self, catalogue: Catalogue, able: Callable[[str], Abilities], patience: Patience | None = None
    ) -> None:
        self._catalogue, self._able, self._patience = catalogue, able, patience or Patience()
        self._task: _Task | None = None
        self._ended: deque[str] = deque(maxlen=REMEMBERED_TASKS)
        self._closed = False
        self._idle_since_s: float | None = None

    def open(self) -> Sequence[Action]:
        """Nothing is said until the client begins."""
        return ()

    def receive(self, frame: str | bytes) -> Sequence[Action]:
        """A frame of the client."""
        if self._closed:
            return ()
        try:
            return self._sound(frame) if isinstance(frame, bytes) else self._control(frame)
        except QasrError as error:
            return self.fail(error)

    def hear(self, event: LiveEvent) -> Sequence[Action]:
        """The session tells something; an utterance that cannot be recognized fails the task, as nothing says less."""
        task = self._task
        if task is None:
            return ()
        if isinstance(event, Failed):
            return self.fail(event.error)
        sent = [_result(task.id, result) for result in task.results.hear(event)]
        task.silent_since_s, task.beats = None, 0
        return sent

    def heard(self) -> Sequence[Action]:
        """The session has told everything; the socket is free for the next task."""
        if self._task is None:
            return ()
        if not self._task.finishing:
            return self.fail(EngineFailed("The recognition ended early."))
        identity = self._end()
        return [_send(identity, "task-finished", wire.Result(NOTHING, None))]

    def fail(self, error: QasrError) -> Sequence[Action]:
        """The task fails, and the socket with it."""
        return self._fail(to_code(error), _message(error))

    def tick(self, now_s: float, waiting_s: float) -> Sequence[Action]:
        """Time passes."""
        if self._closed:
            return ()
        if self._task is None:
            self._idle_since_s = now_s if self._idle_since_s is None else self._idle_since_s
            if now_s - self._idle_since_s < self._patience.task_s:
                return ()
            self._closed = True
            return [Close(reason="no task was started in time")]
        if self._task.finishing or not waiting_s:  # nothing is to come, or we are busy with what has come
            return ()
        if waiting_s >= self._patience.data_s:
            return self._fail("CLIENT_ERROR", f"request timeout after {self._patience.data_s:g} seconds.")
        return self._silence(self._task, now_s)

    # ---- sound

    def _sound(self, data: bytes) -> Sequence[Action]:
        if self._task is None:
            raise InvalidParameter("Audio came before a task was started; send run-task first.")
        if self._task.finishing:
            raise InvalidParameter("Audio came after finish-task.")
        if not data:
            return ()
        self._task.fed = True
        return [Feed(data)]

    def _silence(self, task: _Task, now_s: float) -> Sequence[Action]:
        if not task.results.is_silent:
            task.silent_since_s, task.beats = None, 0
            return ()
        if task.silent_since_s is None:
            task.silent_since_s = now_s
        silent_s = now_s - task.silent_since_s
        if not task.asked.heartbeat:
            return self._fail("ResponseTimeout", "Response timeout!") if silent_s >= self._patience.speech_s else ()
        if silent_s < self._patience.heartbeat_s * (task.beats + 1):
            return ()
        task.beats = int(silent_s / self._patience.heartbeat_s)
        beat = task.results.heartbeat()
        return [_result(task.id, beat)] if beat is not None else ()

    # ---- control

    def _control(self, text: str) -> Sequence[Action]:
        frame = _decode(text.encode("utf-8", "replace"), wire.Frame)
        action, identity = frame.header.action, frame.header.task_id
        if not 0 < len(identity) <= LONGEST_TASK_ID:
            raise missing("header.task_id")
        match action:
            case "run-task":
                return self._run(identity, frame.payload)
            case "continue-task" | "finish-task":
                if self._task is None or identity != self._task.id:
                    return self._stray(identity)
                return self._continue(self._task, frame.payload) if action == "continue-task" else self._finish()
            case _:
                raise InvalidParameter(f"Unknown action {action[:50]!r} in header.action.", parameter="header.action")

    def _run(self, identity: str, payload: bytes) -> Sequence[Action]:
        if self._task is not None and identity != self._task.id:
            busy = InvalidParameter("Another task is running on this connection; one runs at a time.")
            return [_failed(identity, busy)]
        try:
            if self._task is not None or identity in self._ended:
                raise InvalidParameter("This task_id has been used on this connection.", parameter="header.task_id")
            asked = self._asked(_decode(payload, wire.Run))
        except QasrError as error:
            self._closed, self._task = True, None
            return [_failed(identity, error), Close()]
        self._task, self._idle_since_s = _Task(identity, asked, Results(asked)), None
        told = {"x-qasr-engine": asked.engine}
        if asked.unused:
            told["x-qasr-unused"] = ", ".join(asked.unused)
        return [Open(asked.options, asked.format, asked.model), _send(identity, "task-started", attributes=told)]

    def _asked(self, call: wire.Run) -> Asked:
        for name, value, right in (
            ("task_group", call.task_group, "audio"),
            ("task", call.task, "asr"),
            ("function", call.function, "recognition"),
        ):
            if value is None:
                raise missing(f"payload.{name}")
            if value != right:
                raise InvalidParameter(f"{name} must be '{right}' on this server.", parameter=name)
        if not call.model:
            raise missing("payload.model")
        model = self._catalogue.resolve(call.model)
        return parse(call, model, self._able(model.name))

    def _continue(self, task: _Task, payload: bytes) -> Sequence[Action]:
        context = context_text(_decode(payload, wire.Continue).input)
        if context and not task.asked.takes_context:
            raise InvalidParameter("input.context is not a parameter of this model.", parameter="input.context")
        return () if task.finishing else [Configure(with_context(task.asked.options, context))]

    def _finish(self) -> Sequence[Action]:
        assert self._task is not None
        if self._task.finishing:
            return ()
        if not self._task.fed:
            raise NoSpeech("NO_VALID_AUDIO_ERROR")
        self._task.finishing = True
        return [Finish()]

    def _stray(self, identity: str) -> Sequence[Action]:
        """A frame about a task that does not run: one that has ended was told so, and the others do not exist."""
        if identity in self._ended:
            return ()
        return [_failed(identity, InvalidParameter("There is no such task.", parameter="header.task_id"))]

    def _fail(self, code: str, message: str) -> Sequence[Action]:
        if self._closed:
            return ()
        self._closed = True
        return [_failure(self._end() if self._task is not None else "", code, message), Close()]

    def _end(self) -> str:
        assert self._task is not None
        identity, self._task = self._task.id, None
        self._ended.append(identity)
        self._idle_since_s = None
        return identity


def to_code(error: QasrError) -> str:
    """``error_code`` of *error*."""
    match error:
        case InvalidParameter(parameter="format"):
            return "UNSUPPORTED_FORMAT"
        case _:
            return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def _message(error: QasrError) -> str:
    return f"Failed to decode audio: {error}" if isinstance(error, Undecodable) else str(error)


def _failed(identity: str, error: QasrError) -> Send:
    return _failure(identity, to_code(error), _message(error))


def _failure(identity: str, code: str, message: str) -> Send:
    return _frame(wire.EventFrame(wire.EventHeader(identity, "task-failed", error_code=code, error_message=message)))


def _result(identity: str, result: wire.Result) -> Send:
    return _send(identity, "result-generated", result)


def _send(
    identity: str,
    event: wire.Event,
    payload: wire.Result | wire.Nothing = NOTHING,
    attributes: Mapping[str, str] | None = None,
) -> Send:
    return _frame(wire.EventFrame(wire.EventHeader(identity, event, attributes=dict(attributes or {})), payload))


def _frame(frame: wire.EventFrame) -> Send:
    return Send(msgspec.json.encode(frame).decode())


def _decode(data: bytes, type_: type[T]) -> T:
    """As upstream, numbers and switches may be texts.

    Raises:
        InvalidParameter: no JSON, or a field that is missing or of the wrong type.
    """
    try:
        return msgspec.json.decode(data, type=type_, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"The frame is invalid: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter("The frame is not valid JSON.") from error

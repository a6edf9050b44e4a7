"""DashScope's realtime events: what its frames look like and what they mean. No I/O here; the session itself is
``faces/realtime.py``. Source: docs/faces/dashscope-realtime.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from qasr.catalogue import Model
from qasr.domain.audio import LiveCodec, LiveFormat
from qasr.domain.errors import QasrError
from qasr.domain.live import Endpointing, LiveOptions, Partial
from qasr.domain.live import Final as Heard
from qasr.domain.options import Hints
from qasr.engines.base import Capabilities
from qasr.faces import realtime
from qasr.faces import realtime_events as events
from qasr.faces.dashscope.errors import SHAPES

RATES_HZ: Final = (8_000, 16_000, 24_000, 48_000)
CODECS: Final[Mapping[str, LiveCodec]] = {"pcm": "pcm", "pcm16": "pcm", "opus": "opus", "wav": "wav"}
"""``pcm16`` is what the SDK sends unless it is told otherwise; ``wav`` comes with the nested form."""
TURN_DETECTION: Final = ("server_vad", "semantic_vad")
"""The second asks for a model that hears whether a sentence is complete; here it is the first."""

Field: TypeAlias = str | UnsetType | None


# ---- wire


class Corpus(Struct, frozen=True):
    """Text that tells what is talked about."""

    text: Field = UNSET


class Transcription(Struct, frozen=True):
    """``model`` names a second model of Omni sessions; the SDK sends it as null to all."""

    language: Field = UNSET
    corpus: Corpus | UnsetType | None = UNSET
    model: Field = UNSET


class TurnDetection(Struct, frozen=True):
    """How the ends of utterances are found."""

    type: str | UnsetType = UNSET
    threshold: float | UnsetType = UNSET
    prefix_padding_ms: int | UnsetType = UNSET
    silence_duration_ms: int | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET


class Format(Struct, frozen=True):
    """The newer form of ``input_audio_format`` and ``sample_rate``."""

    type: str = "pcm"
    sample_rate: int = 16_000


class Input(Struct, frozen=True):
    """What comes in."""

    format: Format | UnsetType = UNSET


class Audio(Struct, frozen=True):
    """The newer form of ``input_audio_format`` and ``sample_rate``."""

    input: Input | UnsetType = UNSET


class Session(Struct, frozen=True, kw_only=True):
    """The configuration; in an update, what is not there stays as it is. Fields about output are shown as they were
    sent, and mean nothing: there is no output but text.
    """

    modalities: Sequence[str] | UnsetType = UNSET
    input_audio_format: str | UnsetType = UNSET
    sample_rate: int | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET
    instructions: Field = UNSET
    voice: Field = UNSET
    output_audio_format: Field = UNSET


class ShownSession(Session, frozen=True, kw_only=True):
    """The whole configuration, as it is in force."""

    id: str
    model: str
    object: str = "realtime.session"
    qasr: events.Told


class SessionCreated(events.Event, frozen=True, kw_only=True, tag="session.created"):
    """The first event."""

    session: ShownSession


class SessionUpdated(events.Event, frozen=True, kw_only=True, tag="session.updated"):
    """The answer to ``session.update``."""

    session: ShownSession


class Text(events.Event, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.text"):
    """The text so far is ``text + stash``; it replaces what was told before."""

    item_id: str
    content_index: int = 0
    language: str | None
    emotion: str | None = None
    text: str
    stash: str


class Completed(events.Event, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.completed"):
    """What was said."""

    item_id: str
    content_index: int = 0
    language: str | None
    emotion: str | None
    transcript: str


class SessionFinished(events.Event, frozen=True, kw_only=True, tag="session.finished"):
    """The last event."""


class UpdateEvent(Struct):
    """``session.update``."""

    session: Session


class AppendEvent(Struct):
    """``input_audio_buffer.append``; base64."""

    audio: bytes


class BareEvent(Struct):
    """An event that has nothing but its type."""


_SHAPES: Final[Mapping[str, type[Struct]]] = {
    "session.update": UpdateEvent,
    "input_audio_buffer.append": AppendEvent,
    "input_audio_buffer.commit": BareEvent,
    "input_audio_buffer.clear": BareEvent,
    "session.finish": BareEvent,
}
_COMMANDS: Final[Mapping[str, realtime.Command]] = {
    "input_audio_buffer.commit": realtime.Commit(),
    "input_audio_buffer.clear": realtime.Clear(),
    "session.finish": realtime.Finish(),
}
_NO_ANSWERS: Final = "This server transcribes and does not answer; there are no responses, items or images to handle."
_REFUSED: Final = dict.fromkeys(
    ("response.create", "response.cancel", "conversation.item.create", "input_image_buffer.append"), _NO_ANSWERS
)
_PARAMS: Final = {
    "language": "session.input_audio_transcription.language",
    "context": "session.input_audio_transcription.corpus.text",
}
_DEFAULT_TURNS: Final = TurnDetection(type="server_vad", threshold=0.2, prefix_padding_ms=300, silence_duration_ms=800)


# ---- meaning


def speech_probability(threshold: float) -> float:
    """Where speech begins, for a *threshold* within [-1, 1].

    The documented default, 0.2, is where our own default lies, 0.5; from there straight lines lead to 0.05 and 0.95, so
    that a higher threshold always means less sensitivity.
    """
    return 0.5 + (threshold - 0.2) * (0.45 / 0.8 if threshold > 0.2 else 0.45 / 1.2)


class Qwen:
    """The dialect of one session."""

    partials_before_commit: ClassVar = False
    least_commit_ms: ClassVar = 0

    def __init__(self, name: str, model: Model, engine: Capabilities) -> None:
        self._name, self._model, self._engine = name, model, engine
        self._id = events.session_id()
        self._session = Session(
            modalities=("text",),
            input_audio_format="pcm",
            sample_rate=16_000,
            input_audio_transcription=None,
            turn_detection=_DEFAULT_TURNS,
        )
        self.setup = self._settle(self._session)

    def decode(self, frame: str) -> realtime.Command:
        """What the client asks for.

        Raises:
            Refused: it cannot be done.
        """
        match realtime.read(frame, _SHAPES, _REFUSED):
            case kind, UpdateEvent(session=changes):
                return self._update(changes)
            case kind, AppendEvent(audio=audio):
                return realtime.Append(audio)
            case kind, _:
                return _COMMANDS[kind]

    def _update(self, changes: Session) -> realtime.Update:
        session = realtime.merged(self._session, changes)
        if _nested(changes) is not None:  # sent instead of the two others
            session = msgspec.structs.replace(session, input_audio_format=UNSET, sample_rate=UNSET)
        elif _nested(session) is None or (changes.input_audio_format, changes.sample_rate) != (UNSET, UNSET):
            session = msgspec.structs.replace(
                session,
                audio=UNSET,
                input_audio_format=session.input_audio_format or "pcm",
                sample_rate=session.sample_rate or 16_000,
            )
        if isinstance(session.turn_detection, TurnDetection):
            turns = realtime.merged(_DEFAULT_TURNS, session.turn_detection)
            session = msgspec.structs.replace(session, turn_detection=turns)
        setup = self._settle(session)
        self._session, self.setup = session, setup
        return realtime.Update(setup, SessionUpdated(session=self._shown()))

    def _settle(self, session: Session) -> realtime.Setup:
        """What *session* means."""
        transcription = session.input_audio_transcription or Transcription()
        corpus = transcription.corpus or Corpus()
        contexts = [text for text in (session.instructions, corpus.text) if isinstance(text, str) and text]
        options = LiveOptions(
            hints=Hints(
                language=realtime.language(transcription.language or None, _PARAMS["language"]),
                context="\n".join(contexts),
            ),
            endpointing=self._endpointing(session.turn_detection or None),
            emotion=self._engine.emotion,
        )
        realtime.check(options, self._model, self._engine, _PARAMS)
        return realtime.Setup(options, _format(session), self._model.name)

    def _endpointing(self, turns: TurnDetection | None) -> Endpointing | None:
        if turns is None:
            return None
        place = "session.turn_detection"
        assert isinstance(turns.threshold, float)
        assert isinstance(turns.silence_duration_ms, int)
        assert isinstance(turns.prefix_padding_ms, int)
        if turns.type not in TURN_DETECTION:
            raise realtime.Refused(realtime.one_of(turns.type, TURN_DETECTION), param=f"{place}.type")
        realtime.within(turns.threshold, -1, 1, f"{place}.threshold")
        realtime.within(turns.silence_duration_ms, 200, 6_000, f"{place}.silence_duration_ms")
        realtime.within(turns.prefix_padding_ms, 0, 2_000, f"{place}.prefix_padding_ms")
        return Endpointing(
            threshold=speech_probability(turns.threshold),
            silence_ms=turns.silence_duration_ms,
            prefix_ms=turns.prefix_padding_ms,
            longest_ms=realtime.longest_ms(self._engine),
        )

    def created(self) -> events.Event:
        """The first event."""
        return SessionCreated(session=self._shown())

    def _shown(self) -> ShownSession:
        known: dict[str, Any] = {name: getattr(self._session, name) for name in self._session.__struct_fields__}
        return ShownSession(
            id=self._id, model=self._name, qasr=realtime.told(self.setup.options, self._engine), **known
        )

    def item_created(self, utterance: realtime.Utterance, previous_id: str | None) -> Sequence[events.Event]:
        """One event."""
        item = events.Item(id=utterance.id, status="in_progress")
        return [events.ItemCreated(previous_item_id=previous_id, item=item)]

    def partial(self, utterance: realtime.Utterance, partial: Partial) -> Sequence[events.Event]:
        """The whole text so far."""
        now = partial.confirmed, partial.tentative
        if utterance.told == now:
            return []
        utterance.told = now
        return [Text(item_id=utterance.id, language=partial.language, text=now[0], stash=now[1])]

    def completed(self, utterance: realtime.Utterance, heard: Heard) -> Sequence[events.Event]:
        """The whole text."""
        return [Completed(item_id=utterance.id, language=heard.language, emotion=heard.emotion, transcript=heard.text)]

    def code(self, error: QasrError) -> str:
        """As the HTTP interface has it."""
        return next(SHAPES[kind][1] for kind in type(error).__mro__ if kind in SHAPES)

    def finished(self) -> Sequence[events.Event]:
        """The last event."""
        return [SessionFinished()]


def _nested(session: Session) -> Format | None:
    audio = session.audio or Audio()
    return (audio.input or Input()).format or None


def _format(session: Session) -> LiveFormat:
    """The nested form wins where there is one."""
    nested = _nested(session)
    if nested is not None:
        name, rate_hz, place = nested.type, nested.sample_rate, "session.audio.input.format"
        places = f"{place}.type", f"{place}.sample_rate"
    else:
        name, rate_hz = session.input_audio_format or "pcm", session.sample_rate or 16_000
        places = "session.input_audio_format", "session.sample_rate"
    if name not in CODECS:
        raise realtime.Refused(realtime.one_of(name, CODECS), param=places[0])
    if rate_hz not in RATES_HZ:
        raise realtime.Refused(realtime.one_of(rate_hz, RATES_HZ), param=places[1])
    return LiveFormat(codec=CODECS[name], rate_hz=rate_hz)

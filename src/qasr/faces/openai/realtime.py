"""OpenAI's realtime transcription sessions: what their frames look like and what they mean. No I/O here; the session
itself is ``faces/realtime.py``. Source: docs/faces/openai-realtime.md.

There are two schemas. The present one nests what concerns the sound (``audio.input.…``); the one of the beta is flat
(``input_audio_format``, …) and has other names for some events. Updates may use either; answers are in the schema that
the client speaks: that of the beta if it asked for it at the handshake, or by ``transcription_session.update``.
"""

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from qasr.catalogue import LIVE, Catalogue, Model
from qasr.domain.audio import LiveCodec, LiveFormat
from qasr.domain.errors import QasrError, UnknownModel
from qasr.domain.live import Endpointing, LiveOptions, Partial
from qasr.domain.live import Final as Heard
from qasr.domain.options import Hints, Hotword
from qasr.engines.base import Capabilities
from qasr.faces import realtime
from qasr.faces import realtime_events as events
from qasr.faces.openai import wire
from qasr.faces.openai.errors import SHAPES
from qasr.faces.openai.transcriptions import DEFAULT_HOTWORD_WEIGHT
from qasr.faces.usage import Usage, count_words

KINDS: Final = frozenset({"openai-audio", *LIVE})
"""Models that this interface serves."""
DEFAULT_MODEL: Final = "gpt-4o-transcribe"
"""Of a session that names none."""
STREAMING: Final = ("gpt-realtime-whisper", "gpt-live-transcribe")
"""Models whose clients commit themselves, and see text while they are still speaking."""
RATES_HZ: Final = (8_000, 16_000, 24_000, 48_000)
"""Documented is 24 kHz alone."""
CODECS: Final[Mapping[str, LiveCodec]] = {"audio/pcm": "pcm", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
FLAT_FORMATS: Final = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
TURN_DETECTION: Final = ("server_vad", "semantic_vad")
EAGERNESS_MS: Final = {"low": 2_000, "medium": 1_000, "auto": 1_000, "high": 500}
"""Silence that ends an utterance under ``semantic_vad``: how complete a sentence sounds is not judged here."""
_SEMANTIC_PREFIX_MS: Final = 300
DELAYS: Final = ("minimal", "low", "medium", "high", "xhigh")

Text: TypeAlias = str | UnsetType | None


# ---- wire


class Format(Struct, frozen=True):
    """``rate`` of PCM only."""

    type: str | UnsetType = UNSET
    rate: int | UnsetType = UNSET


class Transcription(Struct, frozen=True):
    """Who hears, and what helps."""

    model: Text = UNSET
    language: Text = UNSET
    languages: Sequence[str] | UnsetType | None = UNSET
    prompt: Text = UNSET
    keywords: Sequence[str] | UnsetType | None = UNSET
    delay: Text = UNSET


class TurnDetection(Struct, frozen=True):
    """How the ends of utterances are found. ``idle_timeout_ms`` and the two about responses mean nothing here."""

    type: str | UnsetType = UNSET
    threshold: float | UnsetType | None = UNSET
    prefix_padding_ms: int | UnsetType | None = UNSET
    silence_duration_ms: int | UnsetType | None = UNSET
    eagerness: str | UnsetType | None = UNSET
    create_response: bool | UnsetType | None = UNSET
    interrupt_response: bool | UnsetType | None = UNSET


class NoiseReduction(Struct, frozen=True):
    """Not done here; shown as null."""

    type: Text = UNSET


class Input(Struct, frozen=True):
    """All about the sound that comes in."""

    format: Format | UnsetType = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Audio(Struct, frozen=True):
    """There is no output."""

    input: Input | UnsetType = UNSET


class SessionChanges(Struct, frozen=True):
    """A session in an update, in either schema; what is not there stays as it is."""

    type: str | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    include: Sequence[str] | UnsetType | None = UNSET
    input_audio_format: str | UnsetType = UNSET
    input_audio_noise_reduction: NoiseReduction | UnsetType | None = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Session(Struct, frozen=True, kw_only=True):
    """The whole configuration, as it is in force."""

    id: str
    object: str = "realtime.transcription_session"
    type: str = "transcription"
    expires_at: int
    audio: Audio
    include: None = None
    qasr: events.Told


class FlatSession(Struct, frozen=True, kw_only=True):
    """The same in the beta's schema."""

    id: str
    object: str = "realtime.transcription_session"
    expires_at: int
    modalities: tuple[str, ...] = ("text",)
    input_audio_format: str
    input_audio_noise_reduction: None = None
    input_audio_transcription: Transcription
    turn_detection: TurnDetection | None
    include: None = None
    qasr: events.Told


class SessionCreated(events.Event, frozen=True, kw_only=True, tag="session.created"):
    """The first event."""

    session: Session


class SessionUpdated(events.Event, frozen=True, kw_only=True, tag="session.updated"):
    """The answer to ``session.update``."""

    session: Session


class FlatSessionCreated(events.Event, frozen=True, kw_only=True, tag="transcription_session.created"):
    """The first event, in the beta."""

    session: FlatSession


class FlatSessionUpdated(events.Event, frozen=True, kw_only=True, tag="transcription_session.updated"):
    """The answer to ``transcription_session.update``."""

    session: FlatSession


class ItemAdded(events.Event, frozen=True, kw_only=True, tag="conversation.item.added"):
    """An utterance has become an item."""

    previous_item_id: str | None
    item: events.Item


class ItemDone(events.Event, frozen=True, kw_only=True, tag="conversation.item.done"):
    """All of its sound is there."""

    previous_item_id: str | None
    item: events.Item


class Delta(events.Event, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.delta"):
    """More of the text; what was told before stays."""

    item_id: str
    content_index: int = 0
    delta: str


class Language(Struct, frozen=True):
    """One that was heard."""

    code: str


class Completed(events.Event, frozen=True, kw_only=True, tag="conversation.item.input_audio_transcription.completed"):
    """What was said."""

    item_id: str
    content_index: int = 0
    transcript: str
    languages: tuple[Language, ...] | UnsetType = UNSET
    usage: wire.TokenUsage | wire.DurationUsage


class UpdateEvent(Struct):
    """``session.update`` and ``transcription_session.update``."""

    session: SessionChanges


class AppendEvent(Struct):
    """``input_audio_buffer.append``; base64."""

    audio: bytes


class BareEvent(Struct):
    """An event that has nothing but its type."""


_BETA_UPDATE: Final = "transcription_session.update"
_SHAPES: Final[Mapping[str, type[Struct]]] = {
    "session.update": UpdateEvent,
    _BETA_UPDATE: UpdateEvent,
    "input_audio_buffer.append": AppendEvent,
    "input_audio_buffer.commit": BareEvent,
    "input_audio_buffer.clear": BareEvent,
}
_COMMANDS: Final[Mapping[str, realtime.Command]] = {
    "input_audio_buffer.commit": realtime.Commit(),
    "input_audio_buffer.clear": realtime.Clear(),
}
_REFUSED: Final = dict.fromkeys(
    (
        "response.create",
        "response.cancel",
        "conversation.item.create",
        "conversation.item.delete",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "output_audio_buffer.clear",
    ),
    "This server transcribes and does not answer; this is a transcription session.",
)


# ---- meaning


def speech_probability(threshold: float) -> float:
    """Where speech begins, for a *threshold* within [0, 1]; the documented default, 0.5, is ours."""
    return 0.05 + 0.9 * threshold


class Transcribing:
    """The dialect of one session.

    Args:
        name: the model that the address names; None: the session says it, or has the default.
        catalogue: models that it may name.
        engine: what hears.
        session_s: longest session.
        beta: answer in the beta's schema from the beginning.

    Raises:
        UnknownModel: there is no such model, or it is not served here.
    """

    least_commit_ms: ClassVar = 100
    """Documented."""

    def __init__(
        self, name: str | None, catalogue: Catalogue, engine: Capabilities, *, session_s: float, beta: bool
    ) -> None:
        self._catalogue, self._engine, self._beta = catalogue, engine, beta
        self._id, self._expires_at = events.session_id(), int(time.time() + session_s)
        self._model(name or DEFAULT_MODEL)
        self._input = Input(
            format=Format(type="audio/pcm", rate=24_000),
            noise_reduction=None,
            transcription=Transcription(model=name or DEFAULT_MODEL),
        )
        self.setup, self._shown_input = self._settle(self._input)

    @property
    def partials_before_commit(self) -> bool:
        """Of models that are made for it."""
        return self._name.startswith(STREAMING)

    @property
    def _name(self) -> str:
        assert isinstance(self._input.transcription, Transcription)
        return self._input.transcription.model or DEFAULT_MODEL

    def _model(self, name: str) -> Model:
        model = self._catalogue.resolve(name)
        if model.kind not in KINDS:
            raise UnknownModel(f"The model `{name[:100]}` is not supported in transcription sessions.")
        return model

    def decode(self, frame: str) -> realtime.Command:
        """What the client asks for.

        Raises:
            Refused: it cannot be done.
        """
        match realtime.read(frame, _SHAPES, _REFUSED):
            case kind, UpdateEvent(session=changes):
                return self._update(changes, beta=self._beta or kind == _BETA_UPDATE)
            case kind, AppendEvent(audio=audio):
                return realtime.Append(audio)
            case kind, _:
                return _COMMANDS[kind]

    def _update(self, changes: SessionChanges, *, beta: bool) -> realtime.Update:
        if changes.type not in (UNSET, "transcription"):
            raise realtime.Refused(realtime.one_of(changes.type, ("transcription",)), param="session.type")
        if changes.include:
            raise realtime.Refused("Log probabilities are not available in live sessions.", param="session.include")
        nested = (changes.audio or Audio()).input or Input()
        changed = realtime.merged(realtime.merged(self._input, _flat(changes)), nested)
        self._check_transcription(changed)
        setup, shown = self._settle(changed)
        self._input, self._shown_input, self.setup, self._beta = changed, shown, setup, beta
        if beta:
            return realtime.Update(setup, FlatSessionUpdated(session=self._flat_session()))
        return realtime.Update(setup, SessionUpdated(session=self._session()))

    def _check_transcription(self, changed: Input) -> None:
        if changed.transcription is None:
            raise realtime.Refused(
                "A transcription session cannot do without transcription.", param=self._place("transcription")
            )

    def _place(self, name: str) -> str:
        """Where *name* stands in the schema that the client speaks."""
        if not self._beta:
            return f"session.audio.input.{name}"
        flat = name if name.startswith("turn_detection") else f"input_audio_{name}"
        return f"session.{flat}"

    def _settle(self, given: Input) -> tuple[realtime.Setup, Input]:
        """What *given* means, and how it is shown: complete, with nothing in it that is not in force."""
        assert isinstance(given.transcription, Transcription)
        asked = given.transcription
        name = asked.model or DEFAULT_MODEL
        try:
            model = self._model(name)
        except UnknownModel as error:
            raise realtime.Refused(
                str(error), code="model_not_found", param=self._place("transcription.model")
            ) from error
        if asked.delay and asked.delay not in DELAYS:
            raise realtime.Refused(realtime.one_of(asked.delay, DELAYS), param=self._place("transcription.delay"))
        turns = self._turns(given.turn_detection, name)
        options = LiveOptions(hints=self._hints(asked), endpointing=self._endpointing(turns))
        params = {
            "language": self._place("transcription.language"),
            "context": self._place("transcription.prompt"),
            "vocabulary": self._place("transcription.keywords"),
        }
        realtime.check(options, model, self._engine, params)
        sound = self._format(given.format or Format())
        shown = Input(
            format=Format(type=_mime(sound), rate=sound.rate_hz if sound.codec == "pcm" else UNSET),
            noise_reduction=None,
            transcription=msgspec.structs.replace(asked, model=name),
            turn_detection=turns,
        )
        return realtime.Setup(options, sound, model.name), shown

    def _hints(self, asked: Transcription) -> Hints:
        """Of several languages none is favored: the engine is told one, or nothing."""
        place = self._place("transcription.language")
        several = [realtime.language(code, self._place("transcription.languages")) for code in asked.languages or ()]
        language = realtime.language(asked.language or None, place)
        return Hints(
            language=language or (several[0] if len(several) == 1 else None),
            context=asked.prompt or "",
            hotwords=tuple(Hotword(text=word, weight=DEFAULT_HOTWORD_WEIGHT) for word in asked.keywords or ()),
        )

    def _turns(self, asked: TurnDetection | UnsetType | None, name: str) -> TurnDetection | None:
        """Who says nothing gets server VAD, but for models whose clients commit themselves."""
        if asked is UNSET:
            asked = None if name.startswith(STREAMING) else TurnDetection()
        if asked is None:
            return None
        kind = asked.type or "server_vad"
        if kind not in TURN_DETECTION:
            raise realtime.Refused(realtime.one_of(kind, TURN_DETECTION), param=self._place("turn_detection.type"))
        answers = TurnDetection(
            type=kind, create_response=asked.create_response, interrupt_response=asked.interrupt_response
        )
        if kind == "semantic_vad":
            return msgspec.structs.replace(answers, eagerness=asked.eagerness or "auto")
        numbers = asked.threshold, asked.prefix_padding_ms, asked.silence_duration_ms
        threshold, prefix_ms, silence_ms = (
            default if number is None or number is UNSET else number
            for number, default in zip(numbers, (0.5, 300, 500), strict=True)
        )
        return msgspec.structs.replace(
            answers,
            threshold=float(threshold),
            prefix_padding_ms=int(prefix_ms),
            silence_duration_ms=int(silence_ms),
        )

    def _endpointing(self, turns: TurnDetection | None) -> Endpointing | None:
        if turns is None:
            return None
        longest_ms = realtime.longest_ms(self._engine)
        if turns.type == "semantic_vad":
            if turns.eagerness not in EAGERNESS_MS:
                raise realtime.Refused(
                    realtime.one_of(turns.eagerness, EAGERNESS_MS), param=self._place("turn_detection.eagerness")
                )
            silence_ms = EAGERNESS_MS[turns.eagerness]
            return Endpointing(
                threshold=0.5, silence_ms=silence_ms, prefix_ms=_SEMANTIC_PREFIX_MS, longest_ms=longest_ms
            )
        assert isinstance(turns.threshold, float)
        assert isinstance(turns.silence_duration_ms, int)
        assert isinstance(turns.prefix_padding_ms, int)
        realtime.within(turns.threshold, 0, 1, self._place("turn_detection.threshold"))
        realtime.within(turns.silence_duration_ms, 100, 10_000, self._place("turn_detection.silence_duration_ms"))
        realtime.within(turns.prefix_padding_ms, 0, 2_000, self._place("turn_detection.prefix_padding_ms"))
        return Endpointing(
            threshold=speech_probability(turns.threshold),
            silence_ms=turns.silence_duration_ms,
            prefix_ms=turns.prefix_padding_ms,
            longest_ms=longest_ms,
        )

    def _format(self, asked: Format) -> LiveFormat:
        kind = asked.type or "audio/pcm"
        if kind not in CODECS:
            supported = FLAT_FORMATS if self._beta else CODECS
            raise realtime.Refused(realtime.one_of(kind, supported), param=self._place("format"))
        if kind != "audio/pcm":
            return LiveFormat(codec=CODECS[kind], rate_hz=8_000)
        rate_hz = asked.rate or 24_000
        if rate_hz not in RATES_HZ:
            raise realtime.Refused(realtime.one_of(rate_hz, RATES_HZ), param=self._place("format"))
        return LiveFormat(codec="pcm", rate_hz=rate_hz)

    def created(self) -> events.Event:
        """The first event."""
        if self._beta:
            return FlatSessionCreated(session=self._flat_session())
        return SessionCreated(session=self._session())

    def _session(self) -> Session:
        return Session(
            id=self._id,
            expires_at=self._expires_at,
            audio=Audio(input=self._shown_input),
            qasr=realtime.told(self.setup.options, self._engine),
        )

    def _flat_session(self) -> FlatSession:
        shown = self._shown_input
        assert isinstance(shown.transcription, Transcription)
        names = {mime: name for name, mime in FLAT_FORMATS.items()}
        return FlatSession(
            id=self._id,
            expires_at=self._expires_at,
            input_audio_format=names[_mime(self.setup.format)],
            input_audio_transcription=shown.transcription,
            turn_detection=shown.turn_detection or None,
            qasr=realtime.told(self.setup.options, self._engine),
        )

    def item_created(self, utterance: realtime.Utterance, previous_id: str | None) -> Sequence[events.Event]:
        """One event in the beta, two in the present schema."""
        item = events.Item(id=utterance.id, status="completed")
        if self._beta:
            return [events.ItemCreated(previous_item_id=previous_id, item=item)]
        return [
            ItemAdded(previous_item_id=previous_id, item=item),
            ItemDone(previous_item_id=previous_id, item=item),
        ]

    def partial(self, utterance: realtime.Utterance, partial: Partial) -> Sequence[events.Event]:
        """What has been confirmed since the last time: a client appends, and what it has it keeps."""
        told, _ = utterance.told
        if len(partial.confirmed) <= len(told) or not partial.confirmed.startswith(told):
            return []
        utterance.told = partial.confirmed, ""
        return [Delta(item_id=utterance.id, delta=partial.confirmed[len(told) :])]

    def completed(self, utterance: realtime.Utterance, heard: Heard) -> Sequence[events.Event]:
        """The rest of the text, unless it is another text than the client has; and the whole."""
        told, _ = utterance.told
        rest = heard.text[len(told) :] if heard.text.startswith(told) else ""
        deltas = [Delta(item_id=utterance.id, delta=rest)] if rest else []
        completed = Completed(
            item_id=utterance.id,
            transcript=heard.text,
            languages=(Language(heard.language),) if heard.language else UNSET,
            usage=self._usage(heard),
        )
        return [*deltas, completed]

    def _usage(self, heard: Heard) -> wire.TokenUsage | wire.DurationUsage:
        """Models of tokens and models of seconds."""
        duration_ms = heard.end_ms - heard.begin_ms
        if self._name.startswith("whisper"):
            return wire.DurationUsage(seconds=-(-duration_ms // 1000))
        measured = Usage(duration_ms, count_words(heard.text))
        return wire.TokenUsage(
            input_tokens=measured.audio_tokens,
            output_tokens=measured.output_tokens,
            total_tokens=measured.audio_tokens + measured.output_tokens,
            input_token_details=wire.InputTokenDetails(audio_tokens=measured.audio_tokens),
        )

    def code(self, error: QasrError) -> str:
        """As the HTTP interface has it."""
        return next(SHAPES[kind][1] for kind in type(error).__mro__ if kind in SHAPES)

    def finished(self) -> Sequence[events.Event]:
        """There is no such event here: the client closes."""
        return []


def _flat(changes: SessionChanges) -> Input:
    """What the beta's names say, under the present ones."""
    name = changes.input_audio_format
    return Input(
        format=UNSET if name is UNSET else Format(type=FLAT_FORMATS.get(name, name), rate=24_000),
        noise_reduction=changes.input_audio_noise_reduction,
        transcription=changes.input_audio_transcription,
        turn_detection=changes.turn_detection,
    )


def _mime(sound: LiveFormat) -> str:
    return next(mime for mime, codec in CODECS.items() if codec == sound.codec)

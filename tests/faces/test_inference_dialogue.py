"""The task protocol without sockets: what is answered to which frames. Conversations are shortened recorded ones."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qasr.catalogue import built_in
from qasr.domain.audio import LiveFormat
from qasr.domain.errors import EngineFailed, QasrError, QueueFull, Undecodable
from qasr.domain.live import (
    Endpointing,
    Failed,
    LiveEvent,
    LiveOptions,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from qasr.domain.live import (
    Final as FinalText,
)
from qasr.domain.options import Hints, Hotword
from qasr.domain.transcript import Word
from qasr.engines.base import Capabilities
from qasr.faces.dashscope.inference_dialogue import InferenceDialogue, Patience, to_code
from qasr.faces.dashscope.inference_options import CONTEXT_ROUND_CHARS
from qasr.faces.dashscope.inference_results import bare
from qasr.faces.dashscope.submission import Abilities
from qasr.faces.sockets import Action, Close, Configure, Feed, Finish, Open, Send

ID: Final = "fe481f5dde824169aa7799d3df563f80"
OTHER: Final = "d0eff172f30641cca78e967222d63b20"
MODEL: Final = "fun-asr-realtime"
PCM: Final = {"sample_rate": 16_000, "format": "pcm"}

ENGLISH: Final = Abilities(
    engine=Capabilities(name="english", languages=frozenset({"en"}), longest_s=30), timed=frozenset({"en"})
)
ABLE: Final = Abilities(
    engine=Capabilities(name="able", languages=None, longest_s=30, itn=True, hotwords=True, context=True, emotion=True),
    timed=None,
)


def run(
    identity: str = ID,
    *,
    model: str | None = MODEL,
    parameters: dict[str, Any] | None = None,
    context: object = None,
    **payload: object,
) -> str:
    """A ``run-task`` as SDKs write it."""
    body = {
        "model": model,
        "parameters": PCM if parameters is None else parameters,
        "input": {} if context is None else {"context": context},
        "task": "asr",
        "task_group": "audio",
        "function": "recognition",
    } | payload
    body = {key: value for key, value in body.items() if value is not None}
    return json.dumps({"header": {"streaming": "duplex", "task_id": identity, "action": "run-task"}, "payload": body})


def say(action: str, identity: str = ID, **given: object) -> str:
    """Any other text frame."""
    return json.dumps({"header": {"action": action, "task_id": identity}, "payload": {"input": given}})


def finish(identity: str = ID) -> str:
    return say("finish-task", identity)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text}]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def frames(actions: Iterable[Action]) -> list[Any]:
    """What the client gets; other actions as they are."""
    return [json.loads(action.text) if isinstance(action, Send) else action for action in actions]


def events(actions: Iterable[Action]) -> list[str]:
    """Names of what the client gets, in order; ``close`` is one of them."""
    named = [
        "close" if isinstance(action, Close) else json.loads(action.text)["header"]["event"]
        for action in actions
        if isinstance(action, Send | Close)
    ]
    return [name.removeprefix("result-").removeprefix("task-") for name in named]


def sentence(actions: Iterable[Action]) -> Any:
    """The one sentence that is told."""
    (frame,) = frames(actions)

    assert "result-generated" == frame["header"]["event"]
    return frame["payload"]["output"]["sentence"]


def refusal(actions: Iterable[Action]) -> tuple[str, str]:
    """Code and message of a task that failed, and with it the socket."""
    failed, closed = frames(actions)

    assert "task-failed" == failed["header"]["event"]
    assert {} == failed["payload"]
    assert Close() == closed
    return failed["header"]["error_code"], failed["header"]["error_message"]


def dialogue(able: Abilities = ENGLISH, patience: Patience | None = None) -> InferenceDialogue:
    return InferenceDialogue(built_in(), lambda _: able, patience)


def started(able: Abilities = ENGLISH, **options: Any) -> InferenceDialogue:
    """A dialogue whose task runs."""
    talk = dialogue(able)

    assert ["started"] == events(talk.receive(run(**options)))
    return talk


def opened(able: Abilities = ENGLISH, **options: Any) -> LiveOptions:
    """Options of the session that a task gets."""
    action = dialogue(able).receive(run(**options))[0]

    assert isinstance(action, Open)
    return action.options


def partial(utterance: int, confirmed: str, tentative: str = "", begin_ms: int = 170) -> Partial:
    return Partial(utterance=utterance, begin_ms=begin_ms, confirmed=confirmed, tentative=tentative)


def final(utterance: int, text: str, begin_ms: int = 170, end_ms: int = 1900, **more: Any) -> FinalText:
    return FinalText(utterance=utterance, begin_ms=begin_ms, end_ms=end_ms, text=text, **more)


WORDS: Final = (
    Word(text="Hello", punctuation=",", begin_ms=170, end_ms=700),
    Word(text="world", punctuation=".", begin_ms=800, end_ms=1850),
)


# ---- recorded conversations


def test_recorded_task_from_beginning_to_end() -> None:
    """``Recognition.call(file)``: each frame of ours is what the SDK needs, to the key."""
    talk = dialogue()
    begun = talk.receive(run(parameters={"sample_rate": 16_000, "format": "wav"}))
    fed = talk.receive(b"RIFF")
    heard = [
        *talk.hear(SpeechStarted(utterance=1, at_ms=0)),
        *talk.hear(replace(partial(1, "", "Hello"), words=WORDS[:1])),
        *talk.receive(finish()),
        *talk.hear(SpeechStopped(utterance=1, at_ms=1900)),
        *talk.hear(final(1, "Hello, world.", words=WORDS)),
        *talk.heard(),
    ]

    opening, start = frames(begun)
    assert isinstance(opening, Open)
    assert LiveFormat(codec="wav", rate_hz=16_000) == opening.format
    assert {
        "header": {"task_id": ID, "event": "task-started", "attributes": {"x-qasr-engine": "english"}},
        "payload": {},
    } == start
    assert [Feed(b"RIFF")] == fed
    header = {"task_id": ID, "event": "result-generated", "attributes": {}}
    assert [
        {
            "header": header,
            "payload": {
                "output": {
                    "sentence": {
                        "sentence_id": 1,
                        "begin_time": 170,
                        "end_time": None,
                        "text": "Hello",
                        "heartbeat": False,
                        "sentence_begin": True,
                        "sentence_end": False,
                        "words": [
                            {"begin_time": 170, "end_time": 700, "text": "Hello", "punctuation": ",", "fixed": False}
                        ],
                    }
                },
                "usage": None,
            },
        },
        Finish(),
        {
            "header": header,
            "payload": {
                "output": {
                    "sentence": {
                        "sentence_id": 1,
                        "begin_time": 170,
                        "end_time": 1900,
                        "text": "Hello, world.",
                        "heartbeat": False,
                        "sentence_begin": False,
                        "sentence_end": True,
                        "words": [
                            {"begin_time": 170, "end_time": 700, "text": "Hello", "punctuation": ", ", "fixed": True},
                            {"begin_time": 800, "end_time": 1850, "text": "world", "punctuation": ".", "fixed": True},
                        ],
                    }
                },
                "usage": {"duration": 1},
            },
        },
        {
            "header": {"task_id": ID, "event": "task-finished", "attributes": {}},
            "payload": {"output": {}, "usage": None},
        },
    ] == frames(heard)


def test_recorded_defaults() -> None:
    """What a bare ``run-task`` means."""
    assert (
        LiveOptions(
            hints=Hints(),
            endpointing=Endpointing(threshold=0.5, silence_ms=1300, prefix_ms=300, longest_ms=30_000),
            word_times="words",
        )
        == opened()
    )


def test_recorded_context_while_streaming() -> None:
    """``update_context``: no answer; it counts for what comes next."""
    talk = started(ABLE)
    actions = talk.receive(say("continue-task", context=[user("Alibaba")]))

    (configure,) = actions
    assert isinstance(configure, Configure)
    assert Hints(context="Alibaba") == configure.options.hints
    assert opened(ABLE).endpointing == configure.options.endpointing


def test_recorded_empty_context_takes_it_back() -> None:
    """The new client sends an empty list."""
    talk = started(ABLE, context=[user("Alibaba")])
    (configure,) = talk.receive(say("continue-task", context=[]))

    assert isinstance(configure, Configure)
    assert "" == configure.options.hints.context


def test_recorded_run_task_with_every_keyword() -> None:
    """Each that the engine cannot honor is refused by its name; those of recordings change nothing."""
    given = {
        "sample_rate": 16_000,
        "format": "pcm",
        "disfluency_removal_enabled": True,
        "diarization_enabled": True,
        "speaker_count": 2,
        "vocabulary_id": "vocab-1",
        "language_hints": ["zh", "en"],
        "semantic_punctuation_enabled": True,
        "max_sentence_silence": 800,
        "multi_threshold_mode_enabled": True,
        "punctuation_prediction_enabled": True,
        "inverse_text_normalization_enabled": True,
        "heartbeat": True,
        "speech_noise_threshold": 0.1,
    }
    resources: Any = [{"resource_id": "vocab-phrase-1", "resource_type": "asr_phrase"}]
    named = []
    for key in ("vocabulary_id", "resources", "disfluency_removal_enabled", None):
        actions = dialogue(ABLE).receive(run(parameters=given, context=[user("Alibaba")], resources=resources))
        if key is None:
            break
        code, message = refusal(actions)
        named.append((code, message.split(":")[0].split(" ")[0]))
        given.pop(key, None)
        resources = None if key == "resources" else resources

    opening = actions[0]
    assert [("InvalidParameter", key) for key in ("vocabulary_id", "resources", "disfluency_removal_enabled")] == named
    assert isinstance(opening, Open)
    assert (
        LiveOptions(
            hints=Hints(language="zh", context="Alibaba"),
            endpointing=Endpointing(threshold=0.545, silence_ms=2000, prefix_ms=300, longest_ms=30_000),
            word_times="words",
            itn=True,
        )
        == opening.options
    )


def test_recorded_two_tasks_on_one_socket() -> None:
    """One after the other, each with its own sentences and its own id."""
    talk = dialogue()
    told = [
        action
        for identity in (ID, OTHER)
        for action in (
            *talk.receive(run(identity)),
            *talk.receive(b"\0\0"),
            *talk.receive(finish(identity)),
            *talk.hear(final(1, "Hello world.")),
            *talk.heard(),
        )
        if isinstance(action, Send)
    ]

    assert ["started", "generated", "finished"] * 2 == events(told)
    assert [ID] * 3 + [OTHER] * 3 == [frame["header"]["task_id"] for frame in frames(told)]
    assert [1, 1] == [
        frame["payload"]["output"]["sentence"]["sentence_id"]
        for frame in frames(told)
        if frame["header"]["event"] == "result-generated"
    ]


def gummy(model: str = "gummy-realtime-v1", **parameters: object) -> Any:
    recorded = {"source_language": "en", "transcription_enabled": True, "translation_enabled": False}
    return {"model": model, "parameters": PCM | recorded | parameters}


def test_recorded_gummy_task() -> None:
    """Its SDK indexes these keys, and dies of one that is missing."""
    talk = started(**gummy())
    interim, ended = (
        frames(talk.hear(event))[0]["payload"]
        for event in (replace(partial(1, "Hello"), words=WORDS[:1]), final(1, "Hello, world.", words=WORDS))
    )

    assert {
        "output": {
            "transcription": {
                "sentence_id": 1,
                "begin_time": 170,
                "current_time": 700,
                "text": "Hello",
                "words": [{"text": "Hello,", "begin_time": 170, "end_time": 700, "fixed": False}],
                "sentence_end": False,
            }
        },
        "usage": None,
    } == interim
    assert {
        "output": {
            "transcription": {
                "sentence_id": 1,
                "begin_time": 170,
                "end_time": 1900,
                "text": "Hello, world.",
                "words": [
                    {"text": "Hello, ", "begin_time": 170, "end_time": 700, "fixed": True},
                    {"text": "world.", "begin_time": 800, "end_time": 1850, "fixed": True},
                ],
                "sentence_end": True,
            }
        },
        "usage": {"duration": 1},
    } == ended


def test_gummy_does_not_translate() -> None:
    """Refused by name; a task that neither transcribes nor translates makes no sense."""
    code, message = refusal(dialogue().receive(run(**gummy(translation_enabled=True))))
    nothing, why = refusal(dialogue().receive(run(**gummy(transcription_enabled=False))))

    assert ("InvalidParameter", "InvalidParameter") == (code, nothing)
    assert message.startswith("translation_enabled: ")
    assert why.startswith("transcription_enabled ")


def test_gummy_chat_hears_one_sentence() -> None:
    """Its SDK skips what the user says after that."""
    talk = started(**gummy("gummy-chat-v1"))
    told = [
        *talk.hear(final(1, "Hello.")),
        *talk.hear(partial(2, "And")),
        *talk.hear(final(2, "And more.")),
        *talk.receive(b"\0\0"),
        *talk.receive(finish()),
        *talk.heard(),
    ]

    assert ["generated", "finished"] == events(told)


# ---- sentences


def test_sentences_are_told_one_after_the_other() -> None:
    """What is known of the next one waits until the one before has ended; then its latest interim result is shown."""
    talk = started()
    told = [
        talk.hear(event)
        for event in (
            SpeechStarted(utterance=1, at_ms=0),
            partial(1, "One"),
            SpeechStarted(utterance=2, at_ms=2000),
            partial(2, "Tw", begin_ms=2000),
            partial(2, "Two", begin_ms=2000),
            final(1, "One."),
            final(2, "Two.", 2000, 3100),
        )
    ]
    sentences = [
        (s["sentence_id"], s["text"], s["sentence_begin"], s["end_time"])
        for actions in told
        for s in (frame["payload"]["output"]["sentence"] for frame in frames(actions))
    ]

    assert [0, 1, 0, 0, 0, 2, 1] == [len(actions) for actions in told]
    assert [
        (1, "One", True, None),
        (1, "One.", False, 1900),
        (2, "Two", True, None),
        (2, "Two.", False, 3100),
    ] == sentences


def test_utterances_without_words_are_no_sentences() -> None:
    """They take no number; one that was shown is taken back."""
    talk = started()

    assert () == tuple(talk.hear(final(1, "")))
    assert () == tuple(talk.hear(partial(2, "")))
    assert () == tuple(talk.hear(final(2, " ")))
    assert 1 == sentence(talk.hear(partial(3, "Er")))["sentence_id"]
    taken = sentence(talk.hear(final(3, "", 170, 900)))
    assert (1, "", 900, True, []) == (
        taken["sentence_id"],
        taken["text"],
        taken["end_time"],
        taken["sentence_end"],
        taken["words"],
    )
    assert 2 == sentence(talk.hear(final(4, "Hello.", 1000)))["sentence_id"]


def test_semantic_punctuation_ends_sentences_at_punctuation() -> None:
    """Each with its own words; together they cover the utterance."""
    talk = started(parameters=PCM | {"semantic_punctuation_enabled": True, "max_sentence_silence": 300})
    words = (*WORDS, Word(text="Bye", punctuation=".", begin_ms=2500, end_ms=2900))
    shown = sentence(talk.hear(partial(1, "Hello, world. By")))
    ended = frames(talk.hear(final(1, "Hello, world. Bye.", 100, 3000, words=words)))
    told = [frame["payload"]["output"]["sentence"] for frame in ended]

    assert (1, "Hello, world. By") == (shown["sentence_id"], shown["text"])
    assert [
        (1, "Hello, world.", 100, 1850, ["Hello", "world"]),
        (2, "Bye.", 2500, 3000, ["Bye"]),
    ] == [(s["sentence_id"], s["text"], s["begin_time"], s["end_time"], [w["text"] for w in s["words"]]) for s in told]
    assert [1, 3] == [frame["payload"]["usage"]["duration"] for frame in ended]


def test_punctuation_can_be_left_out() -> None:
    """In the text and in the words; what stands inside of words stays."""
    talk = started(model="paraformer-realtime-v2", parameters=PCM | {"punctuation_prediction_enabled": False})
    told = sentence(talk.hear(final(1, "Hello, world.", words=WORDS)))

    assert "Hello world" == told["text"]
    assert [("Hello ", ""), ("world", "")] == [(w["text"], w["punctuation"]) for w in told["words"]]
    assert "你好世界" == bare("你好，世界。")
    assert "It's 3.5 o'clock he said" == bare("“It's 3.5 o'clock,” he said – .")


def test_hidden_words_are_not_shown() -> None:
    """Neither while a sentence goes on nor at its end; the filter is a JSON text inside JSON."""
    lists = {"filter_with_signed": {"word_list": ["world"]}, "filter_with_empty": {"word_list": ["hello"]}}
    talk = started(parameters=PCM | {"special_word_filter": json.dumps(lists)})

    assert "*****" == sentence(talk.hear(partial(1, "Hello, world")))["text"]
    assert "*****." == sentence(talk.hear(final(1, "Hello, world.", words=WORDS)))["text"]
    assert () == tuple(talk.hear(final(2, "Hello.")))


def test_emotion_is_told_by_the_8k_model_only_where_the_engine_has_it() -> None:
    """Three emotions, at the end of sentences; no confidence that nobody measured."""
    eight: dict[str, Any] = {"model": "paraformer-realtime-8k-v2", "parameters": {"sample_rate": 8000, "format": "pcm"}}
    angry = final(1, "你好。", emotion="angry")
    told = sentence(started(ABLE, **eight).hear(angry))

    assert opened(ABLE, **eight).emotion
    assert "negative" == told["emo_tag"]
    assert "emo_confidence" not in told
    assert "emo_tag" not in sentence(started(ABLE).hear(angry))
    assert "emo_tag" not in sentence(started(ABLE, **eight).hear(replace(angry, emotion=None)))


# ---- parameters


@pytest.mark.parametrize(
    ("model", "rate_hz", "silence_ms"),
    [
        ("fun-asr-realtime", 16_000, 1300),
        ("fun-asr-realtime-2025-11-07", 16_000, 1300),
        ("fun-asr-realtime-2026-02-28", 16_000, 1300),
        ("fun-asr-realtime-2025-09-15", 16_000, 1300),
        ("fun-asr-flash-8k-realtime", 8_000, 1300),
        ("fun-asr-flash-8k-realtime-2026-01-28", 8_000, 1300),
        ("paraformer-realtime-v2", 44_100, 800),
        ("paraformer-realtime-8k-v2", 8_000, 800),
        ("paraformer-realtime-v1", 16_000, 800),
        ("paraformer-realtime-8k-v1", 8_000, 800),
        ("qwen-audio-3.0-asr-flash-streaming", 24_000, 1300),
        ("qwen-audio-3.1-asr-flash-streaming", 8_000, 1300),
        ("qwen-audio-3.1-asr-flash-message", 8_000, 1300),
        ("gummy-realtime-v1", 48_000, 800),
        ("gummy-chat-v1", 16_000, 700),
    ],
)
def test_models(model: str, rate_hz: int, silence_ms: int) -> None:
    """All names that the documents have, with the sample rate that each of them takes."""
    endpointing = opened(ABLE, model=model, parameters={"format": "pcm", "sample_rate": rate_hz}).endpointing

    assert endpointing is not None
    assert silence_ms == endpointing.silence_ms


@pytest.mark.parametrize(
    ("model", "rate_hz"),
    [("fun-asr-realtime", 8_000), ("fun-asr-flash-8k-realtime", 16_000), ("paraformer-realtime-8k-v2", 16_000)],
)
def test_wrong_sample_rate_is_refused(model: str, rate_hz: int) -> None:
    """With the one that would do."""
    code, message = refusal(
        dialogue(ABLE).receive(run(model=model, parameters={"format": "pcm", "sample_rate": rate_hz}))
    )

    assert "InvalidParameter" == code
    assert f"{24_000 - rate_hz} Hz, not {rate_hz}" in message


def test_message_model_tells_finals_unless_asked() -> None:
    """And it has no words."""
    name = "qwen-audio-3.1-asr-flash-message"
    plain, asked = opened(model=name), opened(model=name, parameters=PCM | {"intermediate_result_enabled": True})

    assert (False, "none") == (plain.partials, plain.word_times)
    assert asked.partials
    assert opened().partials


@pytest.mark.parametrize("encoding", ["pcm", "wav", "mp3", "opus", "speex", "aac", "amr", "WAV"])
def test_formats(encoding: str) -> None:
    """All that are documented."""
    action = dialogue().receive(run(parameters={"format": encoding, "sample_rate": 16_000}))[0]

    assert isinstance(action, Open)
    assert encoding.lower() == action.format.codec


def test_sentence_ends() -> None:
    """How much silence, and how much sound at most."""

    def ends(**parameters: object) -> Endpointing:
        found = opened(parameters=PCM | parameters).endpointing
        assert found is not None
        return found

    assert 200 == ends(max_sentence_silence=200).silence_ms
    assert 6000 == ends(max_sentence_silence="6000").silence_ms
    assert 12_000 == ends(multi_threshold_mode_enabled=True).longest_ms
    assert (2000, 30_000) == (
        ends(semantic_punctuation_enabled=True, max_sentence_silence=300).silence_ms,
        ends(semantic_punctuation_enabled=True, multi_threshold_mode_enabled=True).longest_ms,
    )
    thresholds = [ends(speech_noise_threshold=value).threshold for value in (-1, -0.5, 0, 0.5, 1)]
    assert sorted(set(thresholds)) == thresholds
    assert 0 < thresholds[0] < thresholds[-1] < 1


@pytest.mark.parametrize(
    ("parameters", "code", "named"),
    [
        ({"max_sentence_silence": 199}, "InvalidParameter", "max_sentence_silence"),
        ({"max_sentence_silence": 6001}, "InvalidParameter", "max_sentence_silence"),
        ({"speech_noise_threshold": 1.01}, "InvalidParameter", "speech_noise_threshold"),
        ({"language_hints": ["klingon"]}, "InvalidParameter", "Language 'klingon'"),
        ({"language_hints": ["de"]}, "InvalidParameter", "Language 'de'"),
        ({"language_hints": ["zh"]}, "InvalidParameter", "The loaded engine 'english'"),
        ({"language_hints": "en"}, "InvalidParameter", "$.parameters.language_hints"),
        ({"format": "flac"}, "UNSUPPORTED_FORMAT", "flac"),
        ({"format": None}, "InvalidParameter", "'payload.parameters.format'"),
        ({"sample_rate": None}, "InvalidParameter", "'payload.parameters.sample_rate'"),
        ({"sample_rate": 10**12}, "InvalidParameter", "sample_rate"),
        ({"sample_rate": "fast"}, "InvalidParameter", "$.parameters.sample_rate"),
        ({"special_word_filter": "world"}, "InvalidParameter", "special_word_filter"),
        ({"vocabulary_id": "vocab-1"}, "InvalidParameter", "vocabulary_id"),
        ({"vocabulary": {"Alibaba": 4}}, "InvalidParameter", "vocabulary is not a parameter"),
        ({"inverse_text_normalization_enabled": True}, "InvalidParameter", "inverse_text_normalization_enabled"),
        ({"disfluency_removal_enabled": True}, "InvalidParameter", "disfluency_removal_enabled"),
        ({"translation_enabled": True}, "InvalidParameter", "translation_enabled is not a parameter"),
    ],
)
def test_wrong_parameter_is_refused_by_name(parameters: dict[str, object], code: str, named: str) -> None:
    """The task fails before it has started, and the socket is closed."""
    given = {key: value for key, value in (PCM | parameters).items() if value is not None}
    told, message = refusal(dialogue().receive(run(parameters=given)))

    assert code == told
    assert named in message


@pytest.mark.parametrize(
    "parameters",
    [
        {"diarization_enabled": True, "speaker_count": 2},
        {"timestamp_alignment_enabled": True, "audio_event_detection_enabled": True},
        {"disfluency_removal_enabled": False, "vocabulary_id": "", "translation_enabled": False},
        {"inverse_text_normalization_enabled": False, "unheard_of": {"a": 1}},
    ],
)
def test_parameters_without_effect(parameters: dict[str, object]) -> None:
    """Those of recordings, those that ask for nothing, and those that nobody knows."""
    assert opened() == opened(parameters=PCM | parameters)


def test_language_hints() -> None:
    """Fun-ASR uses the first one; of several, the others leave it open."""
    assert "zh" == opened(ABLE, parameters=PCM | {"language_hints": ["zh", "en"]}).hints.language
    several: dict[str, Any] = {"model": "paraformer-realtime-v2", "parameters": PCM | {"language_hints": ["zh", "en"]}}
    assert opened(ABLE, **several).hints.language is None
    assert (
        "zh" == opened(ABLE, model="fun-asr-flash-8k-realtime", parameters=PCM | {"sample_rate": 8000}).hints.language
    )
    assert "en" == opened(**gummy()).hints.language
    assert opened(**gummy(source_language="auto")).hints.language is None
    many: dict[str, Any] = {
        "model": "qwen-audio-3.0-asr-flash-streaming",
        "parameters": PCM | {"language_hints": ["zh"] * 5},
    }
    assert "At most 4 language_hints." == refusal(dialogue(ABLE).receive(run(**many)))[1]


def test_instant_hotwords() -> None:
    """Of the models that take them, where the engine has them."""
    asked: dict[str, Any] = {
        "model": "qwen-audio-3.1-asr-flash-streaming",
        "parameters": PCM | {"vocabulary": {"Alibaba": 4}},
    }

    assert (Hotword(text="Alibaba", weight=4),) == opened(ABLE, **asked).hints.hotwords
    assert "no hotwords" in refusal(dialogue().receive(run(**asked)))[1]
    for words, why in (
        ({f"w{i}": 1 for i in range(2001)}, "more than 2000 words"),
        ({f"w{i}": 50 for i in range(51)}, "more than 50 words of weight 50"),
        ({"w": 6}, "weights"),
    ):
        assert (
            why in refusal(dialogue(ABLE).receive(run(model=asked["model"], parameters=PCM | {"vocabulary": words})))[1]
        )


def test_context() -> None:
    """The latest five messages of each role; a round is cut at its 400 characters."""
    turns = [turn for i in range(7) for turn in (user(f"question {i}"), assistant(f"answer {i}"))]
    expected = "\n".join(f"question {i}\nanswer {i}" for i in range(2, 7))
    long = opened(ABLE, context=[user("a" * 300), assistant("b" * 300), user("c")]).hints.context

    assert expected == opened(ABLE, context=turns).hints.context
    assert "a" * 300 + "\n" + "b" * (CONTEXT_ROUND_CHARS - 301) + "\nc" == long
    assert "plain" == opened(ABLE, context=[{"role": "user", "content": "plain"}]).hints.context


def test_context_that_the_engine_cannot_use_is_told() -> None:
    """The text is as good as without it."""
    _, start = frames(dialogue().receive(run(context=[user("Alibaba")])))

    assert {"x-qasr-engine": "english", "x-qasr-unused": "context"} == start["header"]["attributes"]


@pytest.mark.parametrize("context", ["text", [{"role": "system", "content": "text"}], [{"role": "user"}], {}])
def test_wrong_context_is_refused(context: object) -> None:
    """By its place, at the start and later."""
    talk = started(ABLE)

    assert "context" in refusal(dialogue(ABLE).receive(run(context=context)))[1]
    assert "context" in refusal(talk.receive(say("continue-task", context=context)))[1]


def test_context_of_models_that_take_none_is_refused() -> None:
    """Paraformer has no such parameter."""
    talk = started(ABLE, model="paraformer-realtime-v2")
    _, message = refusal(talk.receive(say("continue-task", context=[user("Alibaba")])))

    assert "input.context is not a parameter" in message
    assert (
        "input.context"
        in refusal(dialogue(ABLE).receive(run(model="paraformer-realtime-v2", context=[user("Alibaba")])))[1]
    )


# ---- what may go wrong


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (
            {"model": None},
            "InvalidParameter",
            "Missing required parameter 'payload.model'! Please follow the protocol!",
        ),
        ({"task_group": None}, "InvalidParameter", "Missing required parameter 'payload.task_group'!"),
        ({"task": "tts"}, "InvalidParameter", "task must be 'asr'"),
        ({"function": "SpeechSynthesizer"}, "InvalidParameter", "function must be 'recognition'"),
        ({"model": "fun-asr-turbo"}, "ModelNotFound", "`fun-asr-turbo` does not exist"),
        ({"model": "qwen3-asr-flash"}, "InvalidParameter", "`qwen3-asr-flash` is not served on this interface"),
        ({"model": "qwen3-asr-flash-realtime"}, "InvalidParameter", "is not served on this interface"),
    ],
)
def test_wrong_task_is_refused(changes: dict[str, Any], code: str, message: str) -> None:
    """In place of ``task-started``; then the socket is closed."""
    told, why = refusal(dialogue().receive(run(**changes)))

    assert code == told
    assert message in why


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"header": 1}',
        '{"header": {"action": "run-task"}}',
        '{"header": {"action": "run-task", "task_id": 7}}',
        '{"header": {"action": "run-task", "task_id": ""}}',
        '{"header": {"action": "run-task", "task_id": "' + "x" * 129 + '"}}',
        '{"header": {"action": "dance", "task_id": "a"}}',
        "[" * 10_000,
        "\ud800",
    ],
)
def test_frame_that_cannot_be_understood(frame: str) -> None:
    """It fails the task that runs, or none; either way the socket is closed."""
    talk = started()
    beside = talk.receive(frame)

    assert "InvalidParameter" == refusal(dialogue().receive(frame))[0]
    assert "InvalidParameter" == refusal(beside)[0]
    assert ID == frames(beside)[0]["header"]["task_id"]


@pytest.mark.parametrize("payload", ["null", "[]", '{"parameters": []}', '{"input": "sound"}', '{"model": {}}'])
def test_payload_that_cannot_be_understood(payload: str) -> None:
    """It is told with the task's id."""
    actions = dialogue().receive('{"header": {"action": "run-task", "task_id": "a"}, "payload": ' + payload + "}")

    assert "InvalidParameter" == refusal(actions)[0]
    assert "a" == frames(actions)[0]["header"]["task_id"]


def test_sound_before_a_task_and_after_it() -> None:
    """There is nobody to hear it."""
    early, late, between = dialogue(), started(), started()
    late.receive(b"\0\0")
    late.receive(finish())
    between.receive(b"\0\0")
    between.receive(finish())
    between.heard()

    assert "before a task" in refusal(early.receive(b"\0\0"))[1]
    assert "after finish-task" in refusal(late.receive(b"\0\0"))[1]
    assert "before a task" in refusal(between.receive(b"\0\0"))[1]


def test_empty_frames_are_nothing() -> None:
    """No sound, no error."""
    assert () == tuple(started().receive(b""))


def test_task_without_sound_fails() -> None:
    """Nothing was sent."""
    talk = started()

    assert "NO_VALID_AUDIO_ERROR" == refusal(talk.receive(finish()))[0]


def test_second_task_beside_a_running_one_is_refused_without_closing() -> None:
    """Binary frames could not be told apart; the first one goes on."""
    talk = started()
    (failed,) = frames(talk.receive(run(OTHER)))

    assert ("task-failed", OTHER, "InvalidParameter") == (
        failed["header"]["event"],
        failed["header"]["task_id"],
        failed["header"]["error_code"],
    )
    assert [Feed(b"\0\0")] == talk.receive(b"\0\0")
    assert [Finish()] == talk.receive(finish())
    assert ["failed"] == events(talk.receive(run(OTHER)))
    assert ["finished"] == events(talk.heard())
    assert ["started"] == events(talk.receive(run(OTHER)))


@pytest.mark.parametrize("running", [True, False])
def test_an_id_is_good_for_one_task(running: bool) -> None:
    """Used again, it fails: while its task runs, that task; later, the new one."""
    talk = started()
    if not running:
        talk.receive(b"\0\0")
        talk.receive(finish())
        talk.heard()
    actions = talk.receive(run())

    assert "This task_id has been used on this connection." == refusal(actions)[1]
    assert ID == frames(actions)[0]["header"]["task_id"]
    assert () == tuple(talk.heard())


@pytest.mark.parametrize("action", ["continue-task", "finish-task"])
def test_frame_for_another_task(action: str) -> None:
    """It is refused under its own id; the task that runs does not notice. Those for ended tasks come too late."""
    talk = started()
    (failed,) = frames(talk.receive(say(action, OTHER)))
    talk.receive(b"\0\0")

    assert ("task-failed", OTHER) == (failed["header"]["event"], failed["header"]["task_id"])
    assert [Finish()] == talk.receive(finish())
    assert () == tuple(talk.receive(say(action)))
    assert ["finished"] == events(talk.heard())
    assert () == tuple(talk.receive(say(action)))
    assert ["failed"] == events(talk.receive(say(action, OTHER)))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (QueueFull("Too many sessions."), "Throttling.AllocationQuota", "Too many sessions."),
        (EngineFailed("It broke."), "InternalError", "It broke."),
        (Undecodable("not mp3"), "UNSUPPORTED_FORMAT", "Failed to decode audio: not mp3"),
    ],
)
def test_failure_of_ours(error: QasrError, code: str, message: str) -> None:
    """No session, no decoder, no engine: told once, and nothing after it."""
    talk = started()

    assert (code, message) == refusal(talk.fail(error))
    assert () == tuple(talk.fail(error))
    assert () == tuple(talk.hear(final(1, "Hello.")))
    assert () == tuple(talk.heard())
    assert () == tuple(talk.receive(finish()))
    assert () == tuple(talk.tick(1000, 1000))


def test_utterance_that_fails_fails_the_task() -> None:
    """The protocol has no way to say that a sentence is missing, and a result without it would look whole."""
    assert "InternalError" == refusal(started().hear(Failed(utterance=1, error=EngineFailed("It broke."))))[0]


def test_session_that_ends_early_fails_the_task() -> None:
    """Before the client has finished."""
    assert "InternalError" == refusal(started().heard())[0]


# ---- time


def test_client_that_sends_nothing() -> None:
    """23 seconds, while a task is fed; not while it is finished."""
    talk, finishing = started(), started()
    finishing.receive(b"\0\0")
    finishing.receive(finish())

    assert () == tuple(talk.tick(22.9, 22.9))
    assert ("CLIENT_ERROR", "request timeout after 23 seconds.") == refusal(talk.tick(23, 23))
    assert () == tuple(finishing.tick(1000, 1000))


def test_silence() -> None:
    """60 seconds without speech, unless a heartbeat was asked for; somebody who speaks resets it."""
    talk = started()
    talk.tick(5, 0.1)
    talk.hear(SpeechStarted(utterance=1, at_ms=0))
    during = [talk.tick(5 + s, 0.1) for s in range(100)]
    talk.hear(final(1, "Hello."))
    after = [talk.tick(200 + s, 0.1) for s in range(60)]

    assert not any(during)
    assert not any(after)
    assert ("ResponseTimeout", "Response timeout!") == refusal(talk.tick(260, 0.1))


def test_heartbeat() -> None:
    """An empty result each ten seconds of silence, which the SDK swallows; the task goes on."""
    talk = started(parameters=PCM | {"heartbeat": True})
    talk.hear(final(1, "Hello."))
    told = [frame for s in range(66) for frame in frames(talk.tick(100 + s, 0.1))]

    assert 6 == len(told)
    assert {
        "output": {
            "sentence": {
                "sentence_id": 2,
                "begin_time": 1900,
                "end_time": None,
                "text": "",
                "heartbeat": True,
                "sentence_begin": False,
                "sentence_end": False,
                "words": [],
            }
        },
        "usage": None,
    } == told[-1]["payload"]
    assert not talk.tick(300, 0)
    assert 1 == len(talk.tick(300, 0.1))
    assert not talk.tick(301, 0.1)


def test_heartbeat_of_gummy_has_no_results() -> None:
    """Its SDK would take them for sentences; the task goes on nevertheless."""
    talk = started(**gummy(heartbeat=True))

    assert not any(talk.tick(s, 0.1) for s in range(500))


def test_socket_without_a_task_is_closed() -> None:
    """After 60 seconds, at the beginning and after a task."""
    talk = dialogue()
    before = [talk.tick(s, s) for s in range(60)]
    talk.receive(run())
    during = talk.tick(100, 0.1)
    talk.receive(b"\0\0")
    talk.receive(finish())
    talk.heard()
    after = [talk.tick(200 + s, s) for s in range(60)]
    (closed,) = talk.tick(260, 60)

    assert not any(before)
    assert not during
    assert not any(after)
    assert isinstance(closed, Close)
    assert 1000 == closed.code


def test_patience_can_be_set() -> None:
    """For those who wait longer, and for tests."""
    talk = dialogue(patience=Patience(task_s=1, data_s=2, speech_s=3))
    talk.receive(run())

    assert "request timeout after 2 seconds." == refusal(talk.tick(2, 2))[1]


# ---- laws

STEPS = st.one_of(
    st.sampled_from([run(), run(OTHER), finish(), finish(OTHER), "{", b"", b"\0\0", b"\0", run("c", model="x")]),
    st.builds(say, st.sampled_from(["continue-task", "finish-task", "dance"]), st.sampled_from([ID, OTHER, "c"])),
    st.builds(lambda text: say("continue-task", context=[user(text)]), st.text(max_size=5)),
    st.text(max_size=20),
    st.binary(max_size=4),
    st.sampled_from(["speak", "part", "end", "drain", "fail", "tick", "wait"]).map(lambda name: (name,)),
)


class Room:
    """A session and its clock, driven at random; it speaks only while it is open."""

    def __init__(self) -> None:
        self.talk = dialogue(ABLE)
        self.told: list[Any] = []
        self.open, self.finished, self.closed = False, False, False
        self.utterance, self.speaking, self.now_s = 0, False, 0.0

    def do(self, step: str | bytes | tuple[str]) -> None:
        if self.closed:
            return
        if not isinstance(step, tuple):
            self.take(self.talk.receive(step))
            return
        match step[0]:
            case "tick" | "wait":
                self.now_s += 1 if step[0] == "tick" else 30
                self.take(self.talk.tick(self.now_s, 0.5 if step[0] == "tick" else 30))
            case "fail" if self.open:
                self.open = False
                self.take(self.talk.fail(EngineFailed("It broke.")))
            case "speak" if self.open and not self.speaking:
                self.utterance, self.speaking = self.utterance + 1, True
                self.hear(SpeechStarted(utterance=self.utterance, at_ms=self.utterance * 1000))
            case "part" if self.speaking:
                self.hear(partial(self.utterance, "Hello", " wor", self.utterance * 1000))
            case "end" if self.speaking:
                self.end()
            case "drain" if self.open and self.finished:
                if self.speaking:
                    self.end()
                if self.open:
                    self.open = False
                    self.take(self.talk.heard())

    def end(self) -> None:
        self.speaking = False
        begin_ms = self.utterance * 1000
        self.hear(final(self.utterance, "Hello, world." * (self.utterance % 3), begin_ms, begin_ms + 900))

    def hear(self, event: LiveEvent) -> None:
        self.take(self.talk.hear(event))

    def take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            assert not self.closed
            match action:
                case Open():
                    assert not self.open
                    self.open, self.finished, self.speaking, self.utterance = True, False, False, 0
                case Feed() | Configure():
                    assert self.open
                    assert not self.finished
                case Finish():
                    assert self.open
                    self.finished = True
                case Send(text=text):
                    self.told.append(json.loads(text))
                case Close():
                    self.closed, self.open = True, False


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_whatever_comes(steps: list[str | bytes | tuple[str]], begun: bool) -> None:
    """Nothing raises; each started task ends once, with nothing after its end; ends and beginnings alternate; numbers
    of sentences count up by one; and what is told of a sentence after its end is of the next one.
    """
    room = Room()
    for step in [run(), b"\0\0", *steps] if begun else steps:
        room.do(step)
    running: str | None = None
    next_id, ended_ms = 1, 0
    for frame in room.told:
        header = frame["header"]
        match header["event"]:
            case "task-started":
                assert running is None
                running, next_id, ended_ms = header["task_id"], 1, 0
            case "result-generated":
                assert running == header["task_id"]
                told = frame["payload"]["output"]["sentence"]
                assert next_id == told["sentence_id"]
                assert told["begin_time"] >= ended_ms
                assert "usage" in frame["payload"]
                if told["end_time"] is not None:
                    next_id, ended_ms = next_id + 1, told["end_time"]
            case "task-finished":
                assert running == header["task_id"]
                assert {"output": {}, "usage": None} == frame["payload"]
                running = None
            case "task-failed":
                assert header["error_code"]
                assert header["error_message"]
                running = None if header["task_id"] == running else running
    if room.closed:
        assert running is None


def test_every_error_has_a_code() -> None:
    """The upgrade is refused, or a task fails: either way by a name."""

    def kinds(root: type[QasrError]) -> Iterable[type[QasrError]]:
        for kind in root.__subclasses__():
            yield kind
            yield from kinds(kind)

    assert all(to_code(kind("why")) for kind in kinds(QasrError))

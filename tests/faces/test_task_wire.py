"""Tasks as the DashScope dialect tells them: submissions, answers, lists, result documents. No sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qasr.catalogue import built_in
from qasr.domain import errors as tree
from qasr.domain.errors import (
    AccessDenied,
    InvalidParameter,
    ModelNotServed,
    QasrError,
    UnsupportedLanguage,
    UnsupportedOption,
)
from qasr.domain.options import HiddenWords, Hints, Hotword, RecognitionOptions
from qasr.domain.task import Failure, Subtask, Task, TaskId, TaskOrder, TaskState
from qasr.domain.transcript import Sentence, Word, join
from qasr.engines.base import Capabilities
from qasr.faces.dashscope import documents, results, task_wire, tasks
from qasr.faces.dashscope.results import ResultLinks
from qasr.faces.dashscope.spelling import spell
from qasr.faces.dashscope.submission import FUN, MOST_URLS, QWEN, Abilities, check_header, parse
from qasr.pipeline.words import split_words
from qasr.storage.transcripts import TranscriptHeader

URL: Final = "https://files.example.com/a.wav"
QWEN_MODEL: Final = "qwen3-asr-flash-filetrans"

ENGLISH: Final = Abilities(
    engine=Capabilities(name="english", languages=frozenset({"en"}), longest_s=30), timed=frozenset({"en"})
)
ABLE: Final = Abilities(
    engine=Capabilities(
        name="able", languages=None, longest_s=30, itn=True, hotwords=True, context=True, word_times=True
    ),
    timed=None,
)


def submit(
    model: str = "fun-asr",
    source: dict[str, Any] | None = None,
    *,
    able: Abilities = ENGLISH,
    resources: object = None,
    header: str | None = None,
    **parameters: object,
) -> TaskOrder:
    """What becomes of a body."""
    body: dict[str, Any] = {"model": model, "input": source or {"file_urls": [URL]}, "parameters": parameters}
    if resources is not None:
        body["resources"] = resources
    call = msgspec.json.decode(json.dumps(body).encode(), type=task_wire.TaskRequest, strict=False)
    return parse(call, built_in().resolve(model), "owner", able, webhook=header)


# ---- submission


def test_recorded_submission_of_family_q() -> None:
    """The SDK's own bytes; words are wanted, so sentences end at punctuation too."""
    order = submit(QWEN_MODEL, {"file_url": URL}, language="en", enable_itn=False, enable_words=True, channel_id=[0])

    assert (
        TaskOrder(
            owner="owner",
            model=QWEN_MODEL,
            dialect=QWEN,
            urls=(URL,),
            options=RecognitionOptions(hints=Hints(language="en"), word_times="words", channels=(0,)),
            limits=built_in().resolve(QWEN_MODEL).limits,
        )
        == order
    )


def test_family_q_without_words_cuts_at_pauses() -> None:
    """Documented: without ``enable_words`` sentences are cut by voice activity only."""
    options = submit(QWEN_MODEL, {"file_url": URL}).options

    assert ("none", "pauses", (0,)) == (options.word_times, options.sentence_ends, options.channels)


def test_family_f_always_has_words() -> None:
    """And several recordings, tracks in order."""
    order = submit(source={"file_urls": [URL, "oss://x/y.wav"]}, channel_id=[1, 0, 1])

    assert (FUN, (URL, "oss://x/y.wav"), (0, 1)) == (order.dialect, order.urls, order.options.channels)
    assert ("words", "punctuation") == (order.options.word_times, order.options.sentence_ends)


@pytest.mark.parametrize(
    ("model", "source"), [(QWEN_MODEL, {"file_urls": [URL]}), ("paraformer-v2", {"file_url": URL})]
)
def test_either_field_is_taken_by_either_family(model: str, source: dict[str, Any]) -> None:
    """The output's shape follows the model."""
    order = submit(model, source)

    assert ((URL,), QWEN if model == QWEN_MODEL else FUN) == (order.urls, order.dialect)


@pytest.mark.parametrize(
    "url", ["", "not an address", "ftp://example.com/a.wav", "file:///etc/passwd", "https://例え.jp/声 1.wav"]
)
def test_what_is_wrong_with_an_address_is_told_with_its_recording(url: str) -> None:
    """One bad address does not spoil the others; blanks and non-ASCII are no fault."""
    assert (URL, url) == submit(source={"file_urls": [URL, url]}).urls


def test_parameters_may_be_missing_or_null() -> None:
    """Classic hosts do not need them."""
    for body in ({"model": "fun-asr", "input": {"file_urls": [URL]}}, {"parameters": None, "resources": None}):
        whole = {"model": "fun-asr", "input": {"file_urls": [URL]}} | body
        call = msgspec.json.decode(json.dumps(whole).encode(), type=task_wire.TaskRequest)

        assert (URL,) == parse(call, built_in().resolve("fun-asr"), "o", ENGLISH).urls


OFF: Final[dict[str, Any]] = {
    "enable_itn": False,
    "diarization_enabled": False,
    "disfluency_removal_enabled": False,
    "timestamp_alignment_enabled": False,
    "audio_event_detection_enabled": False,
    "vocabulary_id": "",
    "vocabulary": {},
    "text": "",
    "special_word_filter": "",
    "language_hints": [],
    "speaker_count": 2,
    "unheard_of": 1,
}


@pytest.mark.parametrize("model", [QWEN_MODEL, "fun-asr", "paraformer-v2", "sensevoice-v1"])
def test_false_asks_for_nothing(model: str) -> None:
    """Clients send what they do not want, too; unknown parameters are tolerated."""
    assert (URL,) == submit(model, resources=[], **OFF).urls


@pytest.mark.parametrize(
    ("model", "parameters", "named"),
    [
        ("fun-asr", {"vocabulary_id": "vocab-x"}, "vocabulary_id"),
        ("paraformer-v2", {"diarization_enabled": True}, "diarization_enabled"),
        ("sensevoice-v1", {"audio_event_detection_enabled": True}, "audio_event_detection_enabled"),
        ("qwen-audio-3.1-asr-flash-filetrans", {"vocabulary": {"Qwen": 4}}, "vocabulary"),
        ("paraformer-v1", {"resources": [{"resource_id": "p-1", "resource_type": "asr_phrase"}]}, "resources"),
    ],
)
def test_what_nothing_loaded_can_do_is_refused_by_name(model: str, parameters: dict[str, Any], named: str) -> None:
    """With the remedy: nothing that changes the result is silently left out."""
    with pytest.raises(UnsupportedOption, match=named) as caught:
        submit(model, **parameters)

    assert named == caught.value.parameter
    assert "leave the parameter out" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "parameters", "named"),
    [
        ("fun-asr", {"disfluency_removal_enabled": True}, "disfluency_removal_enabled"),
        ("paraformer-v1", {"vocabulary_id": "vocab-x"}, "vocabulary_id"),
        ("fun-asr", {"text": "context"}, "text"),
        (QWEN_MODEL, {"special_word_filter": '{"filter_with_signed":{"word_list":["a"]}}'}, "special_word_filter"),
        ("fun-asr", {"special_word_filter": "no json"}, "special_word_filter"),
        ("fun-asr", {"special_word_filter": '{"filter_with_signed":["a"]}'}, "special_word_filter"),
        ("fun-asr", {"channel_id": [-1]}, "channel_id"),
        ("fun-asr", {"channel_id": [100_000]}, "channel_id"),
        ("fun-asr", {"language_hints": ["klingon"]}, "language"),
        ("paraformer-v2", {"language_hints": ["it"]}, "language_hints"),
        ("fun-asr", {"webhook": "ftp://example.com"}, "webhook"),
        ("fun-asr", {"webhook": "http://"}, "webhook"),
    ],
)
def test_what_the_model_does_not_take_is_refused_by_name(model: str, parameters: dict[str, Any], named: str) -> None:
    """And values out of their range, whatever is loaded."""
    with pytest.raises(InvalidParameter) as caught:
        submit(model, able=ABLE, **parameters)

    assert named == caught.value.parameter


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ({}, "fun-asr"),
        ({"file_urls": []}, "fun-asr"),
        ({"file_urls": [URL] * (MOST_URLS + 1)}, "fun-asr"),
        ({"file_urls": [URL, URL]}, QWEN_MODEL),
        ({"file_url": URL, "file_urls": [URL]}, "fun-asr"),
        ({"file_urls": ["data:audio/wav;base64," + "A" * 10_000]}, "fun-asr"),
        ({"file_urls": ["http://a/\0"]}, "fun-asr"),
    ],
)
def test_wrong_counts_of_addresses_are_refused(source: dict[str, Any], model: str) -> None:
    """One for family Q, one to a hundred for family F."""
    with pytest.raises(InvalidParameter):
        submit(model, {"none": 1} | source)


def test_a_hundred_addresses_are_taken() -> None:
    """The documented number."""
    assert 100 == len(submit(source={"file_urls": [URL] * 100}).urls)


def test_what_an_able_engine_can_do_is_asked_of_it() -> None:
    """Context, hotwords, inverse text normalization."""
    audio = submit(
        "qwen-audio-3.1-asr-flash-filetrans",
        {"file_urls": [URL], "context": ["one", {"text": "two"}]},
        able=ABLE,
        vocabulary={"Qwen": 50},
        enable_itn=True,
    ).options
    qwen = submit(QWEN_MODEL, able=ABLE, text="names", corpus={"text": "terms"}).options

    assert Hints(context="one\ntwo", hotwords=(Hotword(text="Qwen", weight=50),)) == audio.hints
    assert audio.itn
    assert "names\nterms" == qwen.hints.context


@pytest.mark.parametrize(
    ("model", "codes", "able", "language"),
    [
        ("fun-asr", ["en"], ENGLISH, "en"),
        ("fun-asr", ["en-US"], ENGLISH, "en"),
        ("fun-asr", [], ENGLISH, None),
        ("fun-asr", ["ja", "en"], ABLE, "ja"),  # only the first one is used, as documented
        ("fun-asr", ["zh", "en"], ENGLISH, None),
        ("paraformer-v2", ["zh", "en"], ABLE, None),
        ("paraformer-v2", ["zh", "en"], ENGLISH, None),
        ("paraformer-8k-v2", [], ABLE, "zh"),
    ],
)
def test_language(model: str, codes: list[str], able: Abilities, language: str | None) -> None:
    """The one that it can be in, if there is one; else it is left to the engine."""
    assert language == submit(model, able=able, language_hints=codes).options.hints.language


@pytest.mark.parametrize(("model", "codes"), [("fun-asr", ["zh"]), ("paraformer-8k-v2", []), (QWEN_MODEL, ["fr"])])
def test_languages_that_nobody_hears_are_refused(model: str, codes: list[str]) -> None:
    """At submission, with the remedy."""
    with pytest.raises(UnsupportedLanguage, match="load another engine"):
        submit(model, language_hints=codes)


def test_word_alignment_needs_an_aligner() -> None:
    """Where there is one, words have measured times anyway."""
    deaf = Abilities(engine=ENGLISH.engine, timed=frozenset())

    assert submit("paraformer-v2", timestamp_alignment_enabled=True).urls
    with pytest.raises(UnsupportedOption, match="timestamp_alignment_enabled"):
        submit("paraformer-v2", able=deaf, timestamp_alignment_enabled=True)


def test_how_the_text_is_written() -> None:
    """Fillers and numbers are heard as asked; the live interface's names mean the same here."""
    plain = submit("paraformer-v2").options
    asked: dict[str, Any] = {
        "disfluency_removal_enabled": True,
        "inverse_text_normalization_enabled": True,
        "punctuation_prediction_enabled": False,
    }
    options = submit("paraformer-v2", **asked).options

    assert (False, False, True) == (plain.drop_fillers, plain.itn, plain.punctuation)
    assert (True, True, False) == (options.drop_fillers, options.itn, options.punctuation)
    assert submit("fun-asr", enable_itn=True).options.itn


def test_a_document_without_punctuation() -> None:
    """Neither in the text nor behind the words."""
    found = document(FUN, HELLO, punctuation=False)["transcripts"][0]

    assert "Hello world" == found["text"]
    assert {""} == {word["punctuation"] for word in found["sentences"][0]["words"]}


def test_both_user_lists_of_the_word_filter_are_taken() -> None:
    """A JSON text in JSON, as the SDK sends it; there is no reserved list here."""
    text = json.dumps(
        {
            "filter_with_signed": {"word_list": ["a", " "]},
            "filter_with_empty": {"word_list": ["b"]},
            "system_reserved_filter": True,
        }
    )

    assert HiddenWords(starred=("a",), removed=("b",)) == submit(special_word_filter=text).options.hidden
    assert HiddenWords() == submit(special_word_filter='{"system_reserved_filter":true}').options.hidden


def test_webhook_comes_by_header_or_parameter() -> None:
    """The header wins."""
    assert "https://a/b" == submit(header="https://a/b", webhook="https://c/d").webhook
    assert "https://c/d" == submit(webhook="https://c/d").webhook
    assert submit().webhook is None


@pytest.mark.parametrize("model", ["qwen3-asr-flash", "fun-asr-realtime", "whisper-1", "fun-asr-flash-2026-06-15"])
def test_other_models_are_not_served_here(model: str) -> None:
    """They exist, but not as tasks."""
    with pytest.raises(ModelNotServed):
        submit(model)


def test_async_header() -> None:
    """Needed, and its value too."""
    check_header("enable")
    with pytest.raises(AccessDenied, match="does not support synchronous calls"):
        check_header(None)
    with pytest.raises(InvalidParameter):
        check_header("disable")


# ---- answers


def task(model: str, state: TaskState, *subtasks: Subtask, **times: int) -> Task:
    """A task of the documentation's samples."""
    order = submit(model, {"file_urls": [URL]})
    moments: dict[str, Any] = {"submitted_ms": SUBMITTED, "scheduled_ms": SCHEDULED, "ended_ms": ENDED} | times
    return Task(id=TaskId("8fab"), order=order, state=state, subtasks=subtasks, **moments)


SUBMITTED: Final = 1_760_495_323_207
SCHEDULED: Final = 1_760_495_323_233
ENDED: Final = 1_760_495_331_412
GOOD: Final = Subtask(number=0, url=URL, state=TaskState.SUCCEEDED, duration_ms=2680, speech_ms=8360)
MISSING: Final = "https://files.example.com/missing.wav"
BAD: Final = Subtask(
    number=1,
    url=MISSING,
    state=TaskState.FAILED,
    failure=Failure(kind="FetchFailed", message="The audio file cannot be downloaded."),
)


def told(found: Task) -> dict[str, Any]:
    """The JSON of an answer."""
    answer = tasks.answer(found, "r", lambda subtask: f"https://asr.example.com/{subtask.number}")
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return decoded


TIMES: Final = {"submit_time": "2025-10-15 10:28:43.207", "scheduled_time": "2025-10-15 10:28:43.233"}


def test_submission_and_unknown_ids_have_both_fields_that_sdks_need() -> None:
    """Nothing more."""
    submitted, unknown = tasks.submitted("t", "r"), tasks.unknown("nope", "r")

    assert {"request_id": "r", "output": {"task_id": "t", "task_status": "PENDING"}} == msgspec.to_builtins(submitted)
    assert {"request_id": "r", "output": {"task_id": "nope", "task_status": "UNKNOWN"}} == msgspec.to_builtins(unknown)


@pytest.mark.parametrize("model", [QWEN_MODEL, "fun-asr"])
def test_running_task(model: str) -> None:
    """Both families alike."""
    waiting = Subtask(number=0, url=URL, state=TaskState.RUNNING)
    found = Task(
        id=TaskId("8fab"),
        order=submit(model),
        state=TaskState.RUNNING,
        submitted_ms=SUBMITTED,
        scheduled_ms=SCHEDULED,
        subtasks=(waiting,),
    )

    assert {
        "request_id": "r",
        "output": {
            "task_id": "8fab",
            "task_status": "RUNNING",
            **TIMES,
            "task_metrics": {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 0},
        },
    } == told(found)


def test_progress_of_a_running_task() -> None:
    """Speech that is recognized, of all that was found; a recording that failed half way counts as done."""
    running = TaskState.RUNNING
    found = Task(
        id=TaskId("8fab"),
        order=submit("fun-asr", {"file_urls": [URL, MISSING, URL]}),
        state=running,
        submitted_ms=SUBMITTED,
        subtasks=(
            Subtask(number=0, url=URL, state=running, duration_ms=9000, speech_ms=5000, done_ms=2000),
            Subtask(number=1, url=MISSING, state=TaskState.FAILED, duration_ms=9000, speech_ms=4000, done_ms=1000),
            Subtask(number=2, url=URL, state=TaskState.PENDING),
        ),
    )

    assert {"done_ms": 6000, "total_ms": 9000} == told(found)["output"]["progress"]


def test_family_q_success() -> None:
    """``result``; neither ``results`` nor metrics."""
    assert {
        "request_id": "r",
        "output": {
            "task_id": "8fab",
            "task_status": "SUCCEEDED",
            **TIMES,
            "end_time": "2025-10-15 10:28:51.412",
            "result": {"transcription_url": "https://asr.example.com/0"},
        },
        "usage": {"seconds": 2},
    } == told(task(QWEN_MODEL, TaskState.SUCCEEDED, GOOD))


def test_family_q_failure() -> None:
    """Code and message inside of ``output``, and no usage."""
    failure = Failure(kind="FetchStatus", message="FILE_403_FORBIDDEN", status=403)
    failed = Subtask(number=0, url=URL, state=TaskState.FAILED, failure=failure)

    assert {
        "request_id": "r",
        "output": {
            "task_id": "8fab",
            "task_status": "FAILED",
            **TIMES,
            "end_time": "2025-10-15 10:28:51.412",
            "code": "FILE_403_FORBIDDEN",
            "message": "FILE_403_FORBIDDEN",
        },
    } == told(task(QWEN_MODEL, TaskState.FAILED, failed))


def test_family_f_partial_success() -> None:
    """Results in the order of the input."""
    assert {
        "request_id": "r",
        "output": {
            "task_id": "8fab",
            "task_status": "SUCCEEDED",
            **TIMES,
            "end_time": "2025-10-15 10:28:51.412",
            "results": [
                {
                    "file_url": URL,
                    "subtask_status": "SUCCEEDED",
                    "transcription_url": "https://asr.example.com/0",
                },
                {
                    "file_url": MISSING,
                    "subtask_status": "FAILED",
                    "code": "InvalidFile.DownloadFailed",
                    "message": "The audio file cannot be downloaded.",
                },
            ],
            "task_metrics": {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1},
        },
        "usage": {"duration": 9},
    } == told(task("fun-asr", TaskState.SUCCEEDED, GOOD, BAD))


def test_family_f_where_all_failed() -> None:
    """FAILED, with the first reason at the top and all of them in ``results``."""
    output = told(task("fun-asr", TaskState.FAILED, BAD))["output"]

    assert ("FAILED", "InvalidFile.DownloadFailed") == (output["task_status"], output["code"])
    assert ["FAILED"] == [result["subtask_status"] for result in output["results"]]
    assert {"TOTAL": 1, "SUCCEEDED": 0, "FAILED": 1} == output["task_metrics"]


@pytest.mark.parametrize(
    ("kind", "status", "speech_ms", "code"),
    [
        ("FetchStatus", 403, 0, "FILE_403_FORBIDDEN"),
        ("FetchStatus", 404, 0, "FILE_404_NOT_FOUND"),
        ("FetchStatus", 502, 0, "FILE_SERVER_ERROR"),
        ("FetchStatus", 410, 0, "InvalidFile.DownloadFailed"),
        ("FetchTimeout", None, 0, "InvalidFile.DownloadFailed"),
        ("FetchIncomplete", None, 0, "CONTENT_LENGTH_CHECK_FAILED"),
        ("FetchRefused", None, 0, "REQUEST_INVALID_FILE_URL_VALUE"),
        ("TooLarge", None, 0, "FILE_TOO_LARGE"),
        ("TooLong", None, 0, "AUDIO_DURATION_TOO_LONG"),
        ("NoAudioTrack", None, 0, "NO_VALID_AUDIO_ERROR"),
        ("Undecodable", None, 0, "FILE_PARSE_FAILED"),
        ("Empty", None, 0, "NO_INPUT_AUDIO_ERROR"),
        ("QueueFull", None, 900, "FILE_TRANS_TASK_EXPIRED"),
        ("NoSpeech", None, 0, "SUCCESS_WITH_NO_VALID_FRAGMENT"),
        ("NoSpeech", None, 900, "ASR_RESPONSE_HAVE_NO_WORDS"),
        ("UnsupportedLanguage", None, 900, "InvalidParameter"),
        ("DeadlineExceeded", None, 0, "InternalError.Timeout"),
        ("EngineFailed", None, 0, "SystemError"),
        ("annotations", None, 0, "SystemError"),
    ],
)
def test_codes_of_failures(kind: str, status: int | None, speech_ms: int, code: str) -> None:
    """The documented table."""
    assert code == tasks.failure_code(Failure(kind=kind, message="", status=status), speech_ms=speech_ms)


def test_every_error_has_a_code() -> None:
    """No failure is nameless."""
    kinds = [name for name, value in vars(tree).items() if isinstance(value, type) and issubclass(value, QasrError)]

    assert all(tasks.failure_code(Failure(kind=kind, message="")) for kind in kinds)


# ---- lists

NOW: Final = 1_763_700_000_000


def test_list_query_as_recorded() -> None:
    """The SDK's own parameters; moments are China's."""
    query = {"page_no": "2", "page_size": "5", "start_time": "20261120000000", "end_time": "20261121000000"}
    query |= {"model_name": "fun-asr", "status": "SUCCEEDED", "api_key_id": "1", "region": "cn-beijing", "task_id": ""}
    wanted, number, size = tasks.parse_list(query, "owner", NOW)

    assert (2, 5) == (number, size)
    assert (1_795_104_000_000, 1_795_190_400_000) == (wanted.from_ms, wanted.to_ms)
    assert ("owner", "fun-asr", TaskState.SUCCEEDED, None) == (wanted.owner, wanted.model, wanted.state, wanted.task_id)


def test_list_defaults() -> None:
    """The last 24 hours, ten tasks; at most a hundred."""
    wanted, number, size = tasks.parse_list({}, "owner", NOW)
    largest = tasks.parse_list({"page_size": "999"}, "owner", NOW)[2]
    since = tasks.parse_list({"start_time": str(NOW - 1000)}, "owner", NOW)[0]

    assert (NOW - 86_400_000, NOW, 1, 10, 100) == (wanted.from_ms, wanted.to_ms, number, size, largest)
    assert (NOW - 1000, NOW - 1000 + 86_400_000) == (since.from_ms, since.to_ms)


@pytest.mark.parametrize(
    "query",
    [
        {"start_time": "yesterday"},
        {"start_time": "20261399000000"},
        {"start_time": "²" * 14},
        {"start_time": "20261120000000", "end_time": "20261122000000"},
        {"start_time": "20261121000000", "end_time": "20261120000000"},
        {"status": "DONE"},
        {"page_no": "0"},
        {"page_size": "-1"},
        {"page_no": "9" * 30},
    ],
)
def test_wrong_list_queries_are_refused(query: dict[str, str]) -> None:
    """By name."""
    with pytest.raises(InvalidParameter) as caught:
        tasks.parse_list(query, "owner", NOW)

    assert caught.value.parameter in query


def test_list_answer_is_flat() -> None:
    """Unix milliseconds; what has not happened is missing."""
    running = Task(
        id=TaskId("8fab"), order=submit(), state=TaskState.RUNNING, submitted_ms=SUBMITTED, scheduled_ms=SCHEDULED
    )
    found = msgspec.to_builtins(tasks.page(11, [running], 2, 10, "r"))

    assert {
        "request_id": "r",
        "data": [
            {
                "api_key_id": "owner",
                "caller_parent_id": "owner",
                "caller_uid": "owner",
                "gmt_create": SUBMITTED,
                "start_time": SCHEDULED,
                "region": "cn-beijing",
                "request_id": "8fab",
                "status": "RUNNING",
                "task_id": "8fab",
                "user_api_unique_key": "apikey:v1:audio:asr:transcription:fun-asr",
                "model_name": "fun-asr",
            }
        ],
        "total": 11,
        "total_page": 2,
        "page_no": 2,
        "page_size": 10,
    } == found


# ---- links


def test_links_open_one_document_for_a_day() -> None:
    """And no other, and not longer, and not with another server's secret."""
    now = ENDED / 1000
    links = ResultLinks(lambda: b"secret", clock=lambda: now)
    link = links.link("https://asr.example.com", "8fab", 0, ended_ms=ENDED)
    path, _, query = link.partition("?")
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    signature = signature.replace("%3D", "=")

    assert "https://asr.example.com/results/8fab/0.json" == path
    links.check("8fab", 0, expires, signature)
    for wrong in (("8fab", 1, expires), ("8fac", 0, expires), ("8fab", 0, str(int(expires) + 1)), ("8fab", 0, "")):
        with pytest.raises(AccessDenied, match="signature"):
            links.check(*wrong, signature)
    for forged in ("", "é", signature.lower(), results.ResultLinks(lambda: b"other")._sign("8fab", 0, expires)):
        with pytest.raises(AccessDenied, match="signature"):
            links.check("8fab", 0, expires, forged)
    now += 24 * 3600 + 2
    with pytest.raises(AccessDenied, match="expired"):
        links.check("8fab", 0, expires, signature)


def test_a_refused_link_is_told_as_oss_does() -> None:
    """XML with a status."""
    status, body = results.to_wire(AccessDenied("a < b"), "r")

    assert 403 == status
    assert b"<Code>AccessDenied</Code><Message>a &lt; b</Message><RequestId>r</RequestId>" in body
    assert 404 == results.to_wire(tree.NotFound("gone"), "r")[0]


# ---- documents

HELLO: Final = Sentence(
    text="Hello world.",
    begin_ms=120,
    end_ms=1480,
    language="en",
    words=(
        Word(text="Hello", begin_ms=120, end_ms=700),
        Word(text="world", punctuation=".", begin_ms=760, end_ms=1480),
    ),
)
HEADER: Final = TranscriptHeader(
    url=URL,
    container="wav",
    codec="pcm_s16le",
    rate_hz=16000,
    channels=(0,),
    duration_ms=1680,
    speech_ms=(1360,),
    damaged_packets=0,
    engine="english",
    language="en",
)
WORDS: Final = [
    {"begin_time": 120, "end_time": 700, "text": "Hello ", "punctuation": ""},
    {"begin_time": 760, "end_time": 1480, "text": "world", "punctuation": "."},
]


def chunks(
    header: TranscriptHeader, sentences: list[Sentence], dialect: str, options: RecognitionOptions
) -> list[bytes]:
    """A document as it is sent."""

    async def read() -> AsyncIterator[Sentence]:
        for sentence in sentences:
            yield sentence

    async def gather() -> list[bytes]:
        return [chunk async for chunk in documents.document(header, read, dialect, options)]

    return asyncio.run(gather())


def document(dialect: str, *sentences: Sentence, header: TranscriptHeader = HEADER, **options: Any) -> dict[str, Any]:
    """A document as it is read."""
    found: dict[str, Any] = json.loads(
        b"".join(chunks(header, list(sentences), dialect, RecognitionOptions(word_times="words", **options)))
    )
    return found


def test_document_of_family_q() -> None:
    """Sentences count from 0; the emotion is null where no engine tells it."""
    assert {
        "file_url": URL,
        "audio_info": {"format": "wav", "sample_rate": 16000},
        "transcripts": [
            {
                "channel_id": 0,
                "text": "Hello world.",
                "sentences": [
                    {
                        "sentence_id": 0,
                        "begin_time": 120,
                        "end_time": 1480,
                        "language": "en",
                        "emotion": None,
                        "text": "Hello world.",
                        "words": WORDS,
                    }
                ],
            }
        ],
    } == document(QWEN, HELLO)


def test_document_of_family_q_without_words() -> None:
    """They come only with ``enable_words``."""
    found = json.loads(b"".join(chunks(HEADER, [HELLO], QWEN, RecognitionOptions())))

    assert "words" not in found["transcripts"][0]["sentences"][0]


def test_document_of_family_f() -> None:
    """Sentences count from 1, and words are always there."""
    assert {
        "file_url": URL,
        "properties": {
            "audio_format": "pcm_s16le",
            "channels": [0],
            "original_sampling_rate": 16000,
            "original_duration_in_milliseconds": 1680,
        },
        "transcripts": [
            {
                "channel_id": 0,
                "content_duration_in_milliseconds": 1360,
                "text": "Hello world.",
                "sentences": [
                    {
                        "begin_time": 120,
                        "end_time": 1480,
                        "text": "Hello world.",
                        "sentence_id": 1,
                        "words": WORDS,
                    }
                ],
            }
        ],
    } == document(FUN, HELLO)


def test_each_track_has_a_transcript() -> None:
    """Numbers begin anew, and a silent track has an empty one."""
    tracks = TranscriptHeader(
        url="https://x/a.m4a?sig=1",
        container="mov,mp4,m4a,3gp,3g2,mj2",
        codec="aac",
        rate_hz=44100,
        channels=(0, 1, 3),
        duration_ms=9000,
        speech_ms=(1360, 0, 700),
        damaged_packets=0,
        engine="english",
        language="en",
    )
    last = Sentence(text="Yes.", begin_ms=0, end_ms=700, channel=3, language="en")
    found = document(FUN, HELLO, HELLO, last, header=tracks)

    assert [(0, 1360, "Hello world. Hello world.", [1, 2]), (1, 0, "", []), (3, 700, "Yes.", [1])] == [
        (
            track["channel_id"],
            track["content_duration_in_milliseconds"],
            track["text"],
            [sentence["sentence_id"] for sentence in track["sentences"]],
        )
        for track in found["transcripts"]
    ]
    assert "m4a" == document(QWEN, header=tracks)["audio_info"]["format"]


def word(text: str, punctuation: str = "") -> Word:
    return Word(text=text, punctuation=punctuation, begin_ms=0, end_ms=1)


@pytest.mark.parametrize(
    ("text", "words", "spelled"),
    [
        (
            "Hello world, 这里。",
            [("Hello", ""), ("world", ","), ("这", ""), ("里", "。")],
            [("Hello ", ""), ("world", ", "), ("这", ""), ("里", "。")],
        ),
        ("你好world吗", [("你", ""), ("好", ""), ("world", ""), ("吗", "")], None),
        ('He said "yes."', [("He", ""), ("said", ""), ("yes", '."')], [("He ", ""), ("said ", ""), ("yes", '."')]),
        ("otherwise spelled", [("other", ""), ("words", "")], [("other ", ""), ("words", "")]),
        ("a  a a", [("a", ""), ("a", ""), ("a", "")], [("a ", ""), ("a ", ""), ("a", "")]),
    ],
)
def test_blanks_stand_where_the_text_has_them(
    text: str, words: list[tuple[str, str]], spelled: list[tuple[str, str]] | None
) -> None:
    """Behind the word, or behind its punctuation, as in the published sample; none behind the last."""
    sentence = Sentence(text=text, begin_ms=0, end_ms=1, language="en", words=tuple(word(*pair) for pair in words))

    assert (spelled or words) == [(w.text, w.punctuation) for w in spell(sentence, HiddenWords())[1]]


STARRED: Final = HiddenWords(starred=("BAD", "good day", "a+b", "糟糕"))
REMOVED: Final = HiddenWords(removed=("bad", "damn"))


@pytest.mark.parametrize(
    ("words", "hidden", "text", "spelled"),
    [
        ("A bad day.", STARRED, "A *** day.", ["A ", "*** ", "day."]),
        ("A badge.", STARRED, "A badge.", ["A ", "badge."]),
        ("Very good day", STARRED, "Very **** ***", ["Very ", "**** ", "***"]),
        ("a+b c", STARRED, "*** c", ["*** ", "c"]),
        ("今天很糟糕。", STARRED, "今天很**。", ["今", "天", "很", "*", "*。"]),
        ("It is so bad.", REMOVED, "It is so.", ["It ", "is ", "so."]),
        ("Damn, it works.", REMOVED, "It works.", ["It ", "works."]),
        ("Damn.", REMOVED, "", []),
    ],
)
def test_hidden_words(words: str, hidden: HiddenWords, text: str, spelled: list[str]) -> None:
    """In the text and in the words; phrases too; not inside of longer words."""
    sentence = Sentence(
        text=words, begin_ms=0, end_ms=1, language="en", words=tuple(word(*pair) for pair in split_words(words))
    )
    found, found_words = spell(sentence, hidden)

    assert text == found
    assert spelled == [w.text + w.punctuation for w in found_words]


def test_a_sentence_with_nothing_left_is_left_out() -> None:
    """Numbers have no gaps."""
    found = document(FUN, HELLO, HELLO, hidden=HiddenWords(removed=("hello", "world")))

    assert ("", []) == (found["transcripts"][0]["text"], found["transcripts"][0]["sentences"])


@st.composite
def transcripts(draw: st.DrawFn) -> list[Sentence]:
    """Sentences of one track whose texts are made of their words."""
    found, now = [], 0
    for _ in range(draw(st.integers(0, 12))):
        words = []
        for text in draw(st.lists(st.text("abcé", min_size=1, max_size=8), min_size=1, max_size=9)):
            begin = now + draw(st.integers(0, 50))
            now = begin + draw(st.integers(0, 400))
            punctuation = draw(st.sampled_from(["", ",", ".", "?!"]))
            words.append(Word(text=text, punctuation=punctuation, begin_ms=begin, end_ms=now))
        text = " ".join(w.text + w.punctuation for w in words)
        found.append(Sentence(text=text, begin_ms=words[0].begin_ms, end_ms=now, language="en", words=tuple(words)))
    return found


@settings(deadline=None)
@given(sentences=transcripts(), dialect=st.sampled_from([QWEN, FUN]), header_url=st.text(max_size=20))
def test_documents_are_json_and_tell_all(sentences: list[Sentence], dialect: str, header_url: str) -> None:
    """They parse, times never go back, words and marks make the sentence, sentences make the text."""
    header = TranscriptHeader(
        url=header_url,
        container="wav",
        codec="pcm_s16le",
        rate_hz=8000,
        channels=(0,),
        duration_ms=1,
        speech_ms=(1,),
        damaged_packets=0,
        engine="e",
        language=None,
    )
    found = document(dialect, *sentences, header=header)
    (track,) = found["transcripts"]
    times = [time for s in track["sentences"] for w in s["words"] for time in (w["begin_time"], w["end_time"])]

    assert header_url == found["file_url"]
    assert join(tuple(sentences)) == track["text"]
    assert times == sorted(times)
    for sentence in track["sentences"]:
        assert sentence["text"] == "".join(w["text"] + w["punctuation"] for w in sentence["words"])
        assert sentence["begin_time"] == sentence["words"][0]["begin_time"]
        assert sentence["end_time"] == sentence["words"][-1]["end_time"]


def test_long_documents_come_in_pieces_of_bounded_size() -> None:
    """Whatever their length, and the pieces make one document."""
    sentences = [HELLO] * 5000
    pieces = chunks(HEADER, sentences, FUN, RecognitionOptions(word_times="words"))

    assert 5000 == len(json.loads(b"".join(pieces))["transcripts"][0]["sentences"])
    assert len(pieces) > 10
    assert all(documents.CHUNK <= len(piece) < 2 * documents.CHUNK for piece in pieces[:-1])

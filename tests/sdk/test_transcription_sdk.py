"""The official ``dashscope`` package, as it is, transcribes files: classic ``Transcription`` and ``QwenTranscription``,
and the new client's ``audio.asr.jobs``.
"""

import json
import threading
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import dashscope
import numpy as np
import pytest
from dashscope.audio.asr import Transcription
from dashscope.audio.qwen_asr import QwenTranscription
from dashscope.utils.oss_utils import OssUtils
from dashscope.v2 import errors
from tests.conftest import Speech
from tests.media import video_only
from tests.server import JFK, KEY, KEYS, LOOPBACK, OTHER_KEY, SCRIPTED, Origin, Server, serving

from qasr.domain.audio import SAMPLE_RATE

FUN: Final = "fun-asr"
QWEN: Final = "qwen3-asr-flash-filetrans"
SUBMIT: Final = "/api/v1/services/audio/asr/transcription"
SAID: Final = "ask not what your country can do for you"
WAIT_S: Final = 90
ASYNC: Final = {"X-DashScope-Async": "enable"}


@contextmanager
def pointed_at(server: Server, key: str) -> Iterator[None]:
    """The SDK, told where to go in the way that users tell it."""
    before = dashscope.base_http_api_url, dashscope.api_key
    dashscope.base_http_api_url, dashscope.api_key = server.native, key
    yield
    dashscope.base_http_api_url, dashscope.api_key = before


@pytest.fixture
def english(server: Server) -> Iterator[Server]:
    """The embedded engine."""
    with pointed_at(server, "any"):
        yield server


@pytest.fixture
def keyed(scripted: Server) -> Iterator[Server]:
    """An engine that answers at once; a key is needed."""
    with pointed_at(scripted, KEY):
        yield scripted


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Server]:
    """One task at a time, and a slow engine."""
    pace = {"SCRIPTED__LATENCY_MS": "2000", "JOBS__CONCURRENCY": "1"}
    with serving(tmp_path, SCRIPTED | KEYS | LOOPBACK | pace) as server, pointed_at(server, KEY):
        yield server


def ended(task: Any, sdk: Any = Transcription) -> Any:
    """The answer about *task* when it has ended."""
    assert HTTPStatus.OK == task.status_code, task.message
    answer = sdk.wait(task, wait_timeout=WAIT_S)
    assert HTTPStatus.OK == answer.status_code, answer.message
    return answer


def download(url: str) -> Any:
    """A result document, as users get it: without any header of ours."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("application/json")
        return json.load(answer)


def test_files_are_transcribed(english: Server, origin: Origin) -> None:
    """Submit, fetch, wait, download: sentences from 1, words with times that never go back."""
    urls = [origin.url("/files/jfk.flac"), origin.url("/files/LJ001-0001.flac")]

    task = Transcription.async_call(model=FUN, file_urls=urls, language_hints=["en"])
    assert "PENDING" == task.output.task_status
    assert Transcription.fetch(task).output.task_status in ("PENDING", "RUNNING", "SUCCEEDED")
    answer = ended(task)

    assert "SUCCEEDED" == answer.output.task_status
    assert {"TOTAL": 2, "SUCCEEDED": 2, "FAILED": 0} == answer.output.task_metrics
    assert urls == [result["file_url"] for result in answer.output.results]
    assert 15 <= answer.usage["duration"] <= 22
    assert answer.output.submit_time <= answer.output.scheduled_time <= answer.output.end_time
    first, second = (download(result["transcription_url"]) for result in answer.output.results)
    (track,) = first["transcripts"]
    assert SAID in track["text"].lower()
    assert "printing" in second["transcripts"][0]["text"].lower()
    assert (urls[0], "flac", [0], 11000) == (
        first["file_url"],
        first["properties"]["audio_format"],
        first["properties"]["channels"],
        first["properties"]["original_duration_in_milliseconds"],
    )
    assert list(range(1, len(track["sentences"]) + 1)) == [s["sentence_id"] for s in track["sentences"]]
    times = [t for s in track["sentences"] for w in s["words"] for t in (w["begin_time"], w["end_time"])]
    assert times == sorted(times)
    for sentence in track["sentences"]:
        assert sentence["text"] == "".join(w["text"] + w["punctuation"] for w in sentence["words"])


def test_one_call_does_it_all(english: Server, origin: Origin) -> None:
    """``Transcription.call`` submits and waits; without hints the language is found."""
    answer = Transcription.call(model="paraformer-v2", file_urls=[origin.url("/files/jfk.flac")])

    assert SAID in download(answer.output.results[0]["transcription_url"])["transcripts"][0]["text"].lower()


@pytest.mark.parametrize("words", [True, False])
def test_qwen_transcription(english: Server, origin: Origin, *, words: bool) -> None:
    """One file, ``result`` and not ``results``; words where they were asked for, and else sentences cut at pauses."""
    url = origin.url("/files/austen-0870.flac")
    task = QwenTranscription.async_call(
        model=QWEN, file_url=url, language="en", enable_itn=False, enable_words=words, channel_id=[0]
    )
    answer = ended(task, QwenTranscription)
    found = download(answer.output.result["transcription_url"])
    (track,) = found["transcripts"]
    sentences = track["sentences"]

    assert "SUCCEEDED" == answer.output.task_status
    assert "results" not in answer.output
    assert 7 == answer.usage["seconds"]
    assert (url, {"format": "flac", "sample_rate": 16000}) == (found["file_url"], found["audio_info"])
    assert list(range(len(sentences))) == [sentence["sentence_id"] for sentence in sentences]
    assert {("en", None, words)} == {(s["language"], s["emotion"], "words" in s) for s in sentences}
    assert track["text"] == " ".join(sentence["text"] for sentence in sentences)


@pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API is a preview:FutureWarning")
def test_new_client_transcribes(server: Server, origin: Origin) -> None:
    """``jobs.create``, ``fetch``, ``wait``, and ``transcribe`` with its default model."""
    client = dashscope.Client(api_key="any", base_url=server.native, max_retries=0)
    urls = [origin.url("/files/jfk.flac")]
    try:
        job = client.audio.asr.jobs.create(model=FUN, file_urls=urls, parameters={"language_hints": ["en"]})
        known = client.audio.asr.jobs.fetch(job.task_id)
        done = client.audio.asr.jobs.wait(job, timeout=WAIT_S)
        whole = client.audio.asr.transcribe(file_urls=urls)
        failing = client.audio.asr.jobs.create(model=FUN, file_urls=[origin.url("/missing")])
        with pytest.raises(errors.DashScopeError, match="404"):
            client.audio.asr.jobs.wait(failing, timeout=WAIT_S)
        unknown = client.audio.asr.jobs.fetch("00000000-0000-0000-0000-000000000000")
        with pytest.raises(errors.DashScopeError, match="resources"):
            client.audio.asr.jobs.create(model="paraformer-v1", file_urls=urls, phrase_id="phrases")
    finally:
        client.close()

    assert known.task_id == job.task_id
    for ready in (done, whole):
        assert "SUCCEEDED" == ready.status
        result = ready.output["results"][0]
        assert SAID in download(result["transcription_url"])["transcripts"][0]["text"].lower()
    assert "UNKNOWN" == unknown.status


# ---- what is wrong with a recording is told with it


@pytest.fixture
def forbidding() -> Iterator[str]:
    """The address of a server that lets nobody in."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/a.wav"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_good_and_bad_recordings_in_one_task(
    english: Server, origin: Origin, forbidding: str, silence: Path, tmp_path: Path
) -> None:
    """The good ones are transcribed, the bad ones are told apart by the documented codes, in the order of the input."""
    film = origin.serve(video_only(tmp_path / "film.mp4"))
    expected = {
        origin.url("/files/jfk.flac"): None,
        "http://127.0.0.1:1/a.wav": "InvalidFile.DownloadFailed",
        forbidding: "FILE_403_FORBIDDEN",
        origin.url("/missing.wav"): "FILE_404_NOT_FOUND",
        origin.url("/page"): "FILE_PARSE_FAILED",
        film: "NO_VALID_AUDIO_ERROR",
        origin.serve(silence): "SUCCESS_WITH_NO_VALID_FRAGMENT",
        "not an address": "REQUEST_INVALID_FILE_URL_VALUE",
        "file:///etc/passwd": "REQUEST_INVALID_FILE_URL_VALUE",
        "http://10.0.0.1/a.wav": "REQUEST_INVALID_FILE_URL_VALUE",
        "oss://dashscope-instant/nobody/a.wav": "FILE_404_NOT_FOUND",
    }

    answer = ended(Transcription.async_call(model=FUN, file_urls=list(expected)))

    assert "SUCCEEDED" == answer.output.task_status
    found = {result["file_url"]: result.get("code") for result in answer.output.results}
    assert expected == found
    assert list(expected) == list(found)
    assert {"TOTAL": 11, "SUCCEEDED": 1, "FAILED": 10} == answer.output.task_metrics
    assert all(("transcription_url" in result) == ("code" not in result) for result in answer.output.results)


def test_task_fails_where_all_recordings_do(english: Server, origin: Origin) -> None:
    """With the first reason at the top; in both families."""
    fun = ended(Transcription.async_call(model=FUN, file_urls=[origin.url("/missing"), "ftp://a/b"]))
    qwen = ended(QwenTranscription.async_call(model=QWEN, file_url=origin.url("/page")), QwenTranscription)

    assert ("FAILED", "FILE_404_NOT_FOUND") == (fun.output.task_status, fun.output.code)
    assert ["FAILED", "FAILED"] == [result["subtask_status"] for result in fun.output.results]
    assert ("FAILED", "FILE_PARSE_FAILED") == (qwen.output.task_status, qwen.output.code)
    assert "result" not in qwen.output
    assert "task_metrics" not in qwen.output


def test_each_track_is_transcribed_and_wrong_ones_are_told(
    english: Server, origin: Origin, tmp_path: Path, speech: Speech
) -> None:
    """Two people on two tracks; a third track does not exist."""
    left, right = speech("jfk.flac"), speech("LJ001-0001.flac")
    n_samples = max(len(left), len(right))
    both = np.stack([np.pad(track, (0, n_samples - len(track))) for track in (left, right)], axis=1)
    path = tmp_path / "two.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((both * 32767).astype("<i2").tobytes())
    url = origin.serve(path)

    answer = ended(Transcription.async_call(model=FUN, file_urls=[url], channel_id=[0, 1]))
    wrong = ended(Transcription.async_call(model=FUN, file_urls=[url], channel_id=[0, 2]))

    found = download(answer.output.results[0]["transcription_url"])
    assert [0, 1] == found["properties"]["channels"] == [track["channel_id"] for track in found["transcripts"]]
    assert SAID in found["transcripts"][0]["text"].lower()
    assert "printing" in found["transcripts"][1]["text"].lower()
    assert ("InvalidParameter", "channel_id 2") == (wrong.output.code, wrong.output.message[:12])


def test_blanks_and_other_letters_in_addresses(english: Server, origin: Origin) -> None:
    """They are encoded for the wire, and echoed as they came."""
    origin.files["%E4%BB%8A%E5%A4%A9%201.flac"] = JFK
    url = origin.url("/files/今天 1.flac")

    answer = ended(Transcription.async_call(model=FUN, file_urls=[url]))

    assert "SUCCEEDED" == answer.output.task_status
    assert url == download(answer.output.results[0]["transcription_url"])["file_url"]


def test_uploaded_file_is_transcribed(english: Server) -> None:
    """By ``oss://``, with the header that callers pass themselves."""
    url = OssUtils.upload(model=FUN, file_path=str(JFK), api_key="any")
    url = url[0] if isinstance(url, tuple) else url

    answer = ended(
        Transcription.async_call(model=FUN, file_urls=[url], headers={"X-DashScope-OssResourceResolve": "enable"})
    )

    assert SAID in download(answer.output.results[0]["transcription_url"])["transcripts"][0]["text"].lower()


# ---- submissions that are refused


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        (FUN, {"vocabulary_id": "vocab-x"}, "vocabulary_id"),
        (FUN, {"language_hints": ["zh"]}, "zh"),
        (FUN, {"disfluency_removal_enabled": True}, "disfluency_removal_enabled is not a parameter"),
        ("paraformer-v1", {"phrase_id": "p"}, "resources"),
        ("paraformer-8k-v2", {}, "zh"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(
    english: Server, origin: Origin, model: str, options: dict[str, Any], named: str
) -> None:
    """At submission, before anything is fetched."""
    answer = Transcription.async_call(model=model, file_urls=[origin.url("/files/jfk.flac")], **options)

    assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (answer.status_code, answer.code)
    assert named in answer.message


def test_numbers_of_files(keyed: Server) -> None:
    """None and 101 are refused."""
    for urls in ([], ["https://example.com/a.wav"] * 101):
        answer = Transcription.async_call(model=FUN, file_urls=urls)

        assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (answer.status_code, answer.code)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("no-such-model", 404, "ModelNotFound"), ("qwen3-asr-flash", 400, "InvalidParameter")],
)
def test_other_models_are_refused(keyed: Server, model: str, status: int, code: str) -> None:
    """Unknown ones, and those of other interfaces."""
    answer = Transcription.async_call(model=model, file_urls=["https://example.com/a.wav"])

    assert (status, code) == (answer.status_code, answer.code)


def test_header_and_key_are_needed(scripted: Server) -> None:
    """Missing header: 403; another value: 400; wrong key: 401; each in the shape that the SDK reads."""
    body = {"model": FUN, "input": {"file_urls": ["https://example.com/a.wav"]}}
    bare = scripted.post(SUBMIT, body)
    other = scripted.post(SUBMIT, body, headers={"X-DashScope-Async": "disable"})
    stranger = scripted.post(SUBMIT, body, headers=ASYNC, key="sk-wrong")

    assert (403, "AccessDenied") == (bare.status_code, bare.json()["code"])
    assert "does not support synchronous calls" in bare.json()["message"]
    assert (400, "InvalidParameter") == (other.status_code, other.json()["code"])
    assert (401, "InvalidApiKey") == (stranger.status_code, stranger.json()["code"])


def test_a_context_that_the_engine_cannot_use_is_told(scripted: Server, origin: Origin) -> None:
    """As the synchronous interface tells it: the text is as good as without it."""
    body = {"model": QWEN, "input": {"file_url": origin.url("/files/jfk.flac")}, "parameters": {"text": "Americans"}}
    answer = scripted.post(SUBMIT, body, headers=ASYNC)

    assert ("scripted", "context") == (answer.headers["x-qasr-engine"], answer.headers["x-qasr-unused"])


def test_bodies_of_strangers_are_refused(scripted: Server) -> None:
    """Nothing but 400 for what is no request."""
    bodies: list[object] = [
        [],
        {},
        {"model": FUN},
        {"model": FUN, "input": {}},
        {"model": FUN, "input": {"file_urls": "https://a/b"}},
        {"model": FUN, "input": {"file_urls": [1]}},
        {"model": FUN, "input": {"file_urls": ["https://a/b"]}, "parameters": {"channel_id": "x"}},
        {"model": FUN, "input": {"file_urls": ["https://a/b"]}, "parameters": {"special_word_filter": "{"}},
        {"model": FUN, "input": {"file_urls": ["https://a/b"]}, "resources": {}},
    ]
    answers = [scripted.post(SUBMIT, body, headers=ASYNC) for body in bodies]

    assert {(400, "InvalidParameter")} == {(answer.status_code, answer.json()["code"]) for answer in answers}


# ---- queries, lists, cancels, links


def test_unknown_and_foreign_tasks(keyed: Server, origin: Origin) -> None:
    """UNKNOWN with 200, so that the SDK stops waiting; another key's tasks are nobody's."""
    task = ended(Transcription.async_call(model=FUN, file_urls=[origin.url("/files/jfk.flac")]))
    mine = keyed.post(f"/api/v1/tasks/{task.output.task_id}")
    foreign = Transcription.fetch(task.output.task_id, api_key=OTHER_KEY)
    unknown = Transcription.wait("00000000-0000-0000-0000-000000000000", wait_timeout=WAIT_S)
    nobody = keyed.get(f"/api/v1/tasks/{task.output.task_id}", key=None)

    assert "SUCCEEDED" == mine.json()["output"]["task_status"]  # old samples query by POST
    assert [(200, "UNKNOWN")] * 2 == [(a.status_code, a.output.task_status) for a in (foreign, unknown)]
    assert 401 == nobody.status_code
    assert keyed.get(f"/api/v1/tasks/{'x' * 5000}").json()["output"]["task_status"] == "UNKNOWN"


def test_list_of_tasks(keyed: Server, origin: Origin) -> None:
    """Filters and pages, newest first; never another key's."""
    ids = []
    for model in ("fun-asr-mtl", "fun-asr-mtl", "sensevoice-v1"):
        answer = ended(Transcription.async_call(model=model, file_urls=[origin.url("/files/jfk.flac")]))
        ids.append(answer.output.task_id)

    both = Transcription.list(model_name="fun-asr-mtl", status="SUCCEEDED").output
    second = Transcription.list(model_name="fun-asr-mtl", page_no=2, page_size=1).output
    now_ms = int(time.time() * 1000)
    recent = keyed.get(f"/api/v1/tasks/?start_time={now_ms - 60_000}&end_time={now_ms}&task_id={ids[2]}").json()
    past = Transcription.list(start_time="20200101000000", end_time="20200102000000").output
    foreign = Transcription.list(api_key=OTHER_KEY).output
    wrong = Transcription.list(status="DONE")

    assert [ids[1], ids[0]] == [entry["task_id"] for entry in both["data"]]
    assert (2, 1, 1, 10) == tuple(both[name] for name in ("total", "total_page", "page_no", "page_size"))
    assert ([ids[0]], 2) == ([entry["task_id"] for entry in second["data"]], second["total_page"])
    assert [ids[2]] == [entry["task_id"] for entry in recent["data"]]
    assert 0 == past["total"] == foreign["total"]
    assert (400, "InvalidParameter") == (wrong.status_code, wrong.code)


def test_only_pending_tasks_are_canceled(busy: Server, origin: Origin) -> None:
    """The others are told why not; a canceled task stays one, and the SDK stops waiting for it."""
    urls = [origin.url("/files/jfk.flac")]
    tasks = [Transcription.async_call(model=FUN, file_urls=urls) for _ in range(3)]
    foreign = Transcription.cancel(tasks[-1], api_key=OTHER_KEY)
    canceled = Transcription.cancel(tasks[-1])
    after = Transcription.wait(tasks[-1], wait_timeout=WAIT_S)
    again = Transcription.cancel(tasks[-1])
    unknown = Transcription.cancel("nobody's")
    others = [ended(task) for task in tasks[:-1]]

    assert 200 == canceled.status_code
    assert "CANCELED" == after.output.task_status
    assert ["SUCCEEDED"] * 2 == [other.output.task_status for other in others]
    for refused in (foreign, again, unknown):
        assert (400, "UnsupportedOperation") == (refused.status_code, refused.code)
        assert "please confirm if the task is in PENDING status" in refused.message


def test_links_need_their_signature_and_nothing_else(keyed: Server, origin: Origin) -> None:
    """A changed one opens nothing, and says so as OSS does."""
    answer = ended(Transcription.async_call(model=FUN, file_urls=[origin.url("/files/jfk.flac")]))
    url = answer.output.results[0]["transcription_url"]
    again = Transcription.fetch(answer.output.task_id).output.results[0]["transcription_url"]

    assert url == again
    assert download(url)["transcripts"]
    for wrong in (url.replace("/0.json", "/1.json"), url.replace("Signature=", "Signature=x"), url.partition("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as caught:
            download(wrong)
        with caught.value as refused:
            assert HTTPStatus.FORBIDDEN == refused.code
            assert b"<Code>AccessDenied</Code>" in refused.read()


def test_hidden_words_are_not_in_the_result(english: Server, origin: Origin) -> None:
    """Both lists of the client's own; also in the words."""
    hidden = {"filter_with_signed": {"word_list": ["country"]}, "filter_with_empty": {"word_list": ["fellow"]}}
    answer = ended(
        Transcription.async_call(
            model="paraformer-v2",
            file_urls=[origin.url("/files/jfk.flac")],
            special_word_filter=json.dumps(hidden),
        )
    )
    document = json.dumps(download(answer.output.results[0]["transcription_url"])).lower()

    assert "country" not in document
    assert "fellow" not in document
    assert "your *******" in document

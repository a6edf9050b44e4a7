"""Stored and instant hotwords change what is heard, on every interface, by the official ``dashscope`` package as it is.

The recording says "block books", which the embedded engine hears as "blockbooks" unless it is told.
"""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import dashscope
import pytest
from dashscope.audio.asr import AsrPhraseManager, Recognition, Transcription, VocabularyService
from tests.conftest import Speech
from tests.engines.upstream.vllm import vllm
from tests.faces.dialects import CHAT_DIALECT, FUN, QWEN, TRANSCRIPTIONS, data_url, refusal
from tests.sdk.test_inference_sdk import MODEL as LIVE
from tests.sdk.test_inference_sdk import address, write_wav
from tests.sdk.test_transcription_sdk import download, ended, pointed_at
from tests.server import DATA, Origin, Server, serving

FILE: Final = "fun-asr"
V1: Final = "paraformer-v1"
V1_LIVE: Final = "paraformer-realtime-v1"
LJ4: Final = DATA / "LJ001-0004.flac"
AUSTEN: Final = DATA / "austen-0870.flac"
WORDS: Final = [{"text": "block books", "weight": 4}, {"text": "Gutenberg", "weight": 4}]
HEARD: Final = "block books"
KEY: Final = "sk-hotwords"


@pytest.fixture
def english(server: Server) -> Iterator[Server]:
    """The embedded engine; a key with no lists."""
    before, dashscope.base_websocket_api_url = dashscope.base_websocket_api_url, address(server)
    with pointed_at(server, KEY):
        yield server
        service = VocabularyService()
        for entry in service.list_vocabularies(page_size=100):
            service.delete_vocabulary(entry["vocabulary_id"])
        for phrases in AsrPhraseManager.list_phrases(page_size=100).output.jobs:
            AsrPhraseManager.delete_phrases(phrases.finetuned_output)
    dashscope.base_websocket_api_url = before


@pytest.fixture(scope="session")
def wav(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("hotwords") / "lj4.wav", speech(LJ4.name))


def made(model: str) -> str:
    """The id of a new vocabulary for *model*."""
    return str(VocabularyService().create_vocabulary(model, "books", WORDS))


def text_of(answer: Any) -> str:
    """What a task heard in its only recording."""
    return str(download(answer.output.results[0]["transcription_url"])["transcripts"][0]["text"])


def recognize(wav: Path, model: str = LIVE, **parameters: Any) -> Any:
    """A live recognition of a whole file."""
    return Recognition(model=model, callback=None, format="wav", sample_rate=16_000).call(str(wav), **parameters)


@pytest.mark.usefixtures("english")
def test_task_hears_with_the_vocabulary_that_it_names(origin: Origin) -> None:
    """Also when that is deleted in the meantime: the task keeps the words it was submitted with."""
    identity, urls = made(FILE), [origin.serve(LJ4)]
    plain = Transcription.async_call(model=FILE, file_urls=urls)
    task = Transcription.async_call(model=FILE, file_urls=urls, vocabulary_id=identity)
    VocabularyService().delete_vocabulary(identity)

    assert HEARD not in text_of(ended(plain))
    assert HEARD in text_of(ended(task))


@pytest.mark.usefixtures("english")
def test_task_hears_with_the_phrase_list_that_it_names(origin: Origin) -> None:
    """For the first generation of models; weights are whatever clients of those have."""
    phrases = AsrPhraseManager.create_phrases(model=V1, phrases={"block books": 90}).output.finetuned_output
    task = Transcription.async_call(model=V1, file_urls=[origin.serve(LJ4)], phrase_id=phrases)

    assert HEARD in text_of(ended(task))


@pytest.mark.usefixtures("english")
def test_live_session_hears_with_the_vocabulary_that_it_names(wav: Path) -> None:
    """Named as a vocabulary, or among the resources, as samples have it."""
    identity = made(LIVE)
    texts = [
        "".join(sentence["text"] for sentence in recognize(wav, **parameters).get_sentence())
        for parameters in ({}, {"vocabulary_id": identity}, {"phrase_id": identity})
    ]

    assert [False, True, True] == [HEARD in text for text in texts]


def test_short_recording_is_heard_with_stored_and_instant_words(english: Server) -> None:
    """The synchronous interface of Fun-ASR; the request's own words win."""
    audio = data_url(LJ4)

    assert HEARD not in FUN.text(FUN.ask_as(english, KEY, audio))
    assert HEARD in FUN.text(FUN.ask_as(english, KEY, audio, vocabulary={"block books": 4}))
    assert HEARD in FUN.text(FUN.ask_as(english, KEY, audio, vocabulary_id=made(FUN.model)))
    own = FUN.ask_as(english, KEY, audio, vocabulary_id=made(FUN.model), vocabulary={"block books": 1})
    assert own.status_code == HTTPStatus.OK


def test_keywords_of_openai_are_hotwords(english: Server) -> None:
    """Where they were refused when no engine had any."""
    with LJ4.open("rb") as file:
        fields = {"model": "whisper-1", "keywords[]": "block books"}
        answer = english.post(TRANSCRIPTIONS, data=fields, files={"file": file})

    assert HEARD in answer.json()["text"]


@pytest.mark.parametrize("dialect", [CHAT_DIALECT, QWEN], ids=str)
def test_names_of_a_system_message_are_heard(english: Server, dialect: Any) -> None:
    """The engine takes no prompt; it takes the rare words out of it, and does not say that it could not use it."""
    body = dialect.body(data_url(AUSTEN))
    messages = body["messages"] if dialect is CHAT_DIALECT else body["input"]["messages"]
    messages.insert(0, {"role": "system", "content": [{"text": "A letter from mister DashWood of Norland."}]})
    answer = english.post(dialect.path, body)

    assert "DashWood" in dialect.text(answer)
    assert "X-Qasr-Unused" not in answer.headers


@pytest.mark.usefixtures("english")
def test_vocabularies_of_others_and_for_other_models_are_refused(server: Server, origin: Origin, wav: Path) -> None:
    """By name, before anything is heard, in the shape of each interface."""
    urls, strange = [origin.serve(LJ4)], made(LIVE)
    with pointed_at(server, "sk-somebody-else"):
        theirs = made(FILE)
    for identity, why in ((theirs, "no vocabulary"), ("vocab-x", "no vocabulary"), (strange, "is for the model")):
        task = Transcription.async_call(model=FILE, file_urls=urls, vocabulary_id=identity)
        assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (task.status_code, task.code)
        assert "vocabulary_id" in task.message
        assert why in task.message
        refused = refusal(FUN.ask_as(server, KEY, data_url(LJ4), vocabulary_id=identity))
        assert (400, "InvalidParameter") == (refused.status, refused.code)
        assert why in refused.message
    failed = recognize(wav, vocabulary_id=theirs)
    assert failed.status_code != HTTPStatus.OK
    assert "no vocabulary" in failed.message
    other = recognize(wav, vocabulary_id=made(FILE))
    assert "is for the model" in other.message
    with pointed_at(server, "sk-somebody-else"):
        VocabularyService().delete_vocabulary(theirs)


def test_new_client_hears_with_a_vocabulary(english: Server, origin: Origin) -> None:
    """Made and named by the same client."""
    client = dashscope.Client(api_key=KEY, base_url=english.native, max_retries=0)
    try:
        with pytest.warns(FutureWarning, match="preview"):
            audio = client.audio
        identity = audio.vocabularies.create(target_model=FILE, prefix="new", vocabulary=WORDS).vocabulary_id
        job = audio.asr.jobs.create(model=FILE, file_urls=[origin.serve(LJ4)], parameters={"vocabulary_id": identity})
        done = audio.asr.jobs.wait(job, timeout=90)
    finally:
        client.close()

    assert HEARD in download(done.output["results"][0]["transcription_url"])["transcripts"][0]["text"]


def test_engine_that_takes_a_prompt_is_told_of_hotwords(
    origin: Origin, wav: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In tasks and in live sessions; a phrase to suppress is refused by name, as no prompt can do that."""
    settings = {"ENGINES__DEFAULT": "upstream", "FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "UPSTREAM__HEALTH_S": "60"}
    before = dashscope.base_websocket_api_url
    with vllm() as gpu, serving(tmp_path_factory.mktemp("front"), settings | {"UPSTREAM__URLS": gpu.url}) as front:
        dashscope.base_websocket_api_url = address(front)
        with pointed_at(front, KEY):
            live = recognize(wav, vocabulary_id=made(LIVE), language_hints=["en"])
            told_live = {call.fields.get("prompt") for call in gpu.calls}
            gpu.calls.clear()
            named = [
                AsrPhraseManager.create_phrases(model=V1, phrases=phrases).output.finetuned_output
                for phrases in ({"Zephyr": 90, "um": 1}, {"Zephyr": 90, "um": -3})
            ]
            task, refused = (
                Transcription.async_call(model=V1, file_urls=[origin.serve(LJ4)], phrase_id=one) for one in named
            )
            heard = text_of(ended(task))
            feared = AsrPhraseManager.create_phrases(model=V1_LIVE, phrases={"um": -3}).output.finetuned_output
            refused_live = recognize(wav, V1_LIVE, phrase_id=feared)
            told = {str(call.fields) for call in gpu.calls}
    dashscope.base_websocket_api_url = before

    assert "loud samples" in live.get_sentence()[0]["text"]
    assert "block books, Gutenberg" in told_live
    assert "loud samples" in heard
    assert any("Zephyr, um" in fields for fields in told)
    assert (HTTPStatus.BAD_REQUEST, "InvalidParameter") == (refused.status_code, refused.code)
    assert "resources" in refused.message
    assert "suppresses none" in refused.message
    assert "resources: the loaded engine 'upstream' favors hotwords and suppresses none" in refused_live.message

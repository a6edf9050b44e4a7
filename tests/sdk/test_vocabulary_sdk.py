"""The official ``dashscope`` package, as it is, keeps hotwords: ``VocabularyService``, ``AsrPhraseManager``, and
``audio.vocabularies`` and ``audio.phrases`` of the new client.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import dashscope
import pytest
from dashscope.audio.asr import AsrPhraseManager, VocabularyService
from dashscope.audio.asr.vocabulary import VocabularyServiceException
from dashscope.v2 import errors
from tests.server import KEY, OTHER_KEY, Server

pytestmark = pytest.mark.filterwarnings("ignore:dashscope 2.0 audio API is a preview:FutureWarning")

CUSTOMIZATION: Final = "/api/v1/services/audio/asr/customization"
FUN: Final = "fun-asr"
V1: Final = "paraformer-v1"
WORDS: Final = [{"text": "Bailian", "weight": 4, "lang": "en"}, {"text": "通义千问", "weight": 5}]
MOST_LISTS: Final = 10


@pytest.fixture
def keyed(scripted: Server) -> Iterator[Server]:
    """Nothing is left behind."""
    before = dashscope.base_http_api_url, dashscope.api_key
    dashscope.base_http_api_url, dashscope.api_key = scripted.native, KEY
    yield scripted
    service = VocabularyService()
    for entry in service.list_vocabularies(page_size=100):
        service.delete_vocabulary(entry["vocabulary_id"])
    for phrases in AsrPhraseManager.list_phrases(page_size=100).output.jobs:
        AsrPhraseManager.delete_phrases(phrases.finetuned_output)
    dashscope.base_http_api_url, dashscope.api_key = before


@pytest.fixture
def client(keyed: Server) -> Iterator[Any]:
    made = dashscope.Client(api_key=KEY, base_url=keyed.native, max_retries=0)
    yield made
    made.close()


def refusal(error: VocabularyServiceException) -> tuple[int, str]:
    """Status and code."""
    return error._status_code, error._code


@pytest.mark.usefixtures("keyed")
def test_vocabulary_lives_from_its_creation_to_its_deletion() -> None:
    """All five actions, in the order in which they are documented."""
    service = VocabularyService()

    identity = service.create_vocabulary(target_model=FUN, prefix="demo", vocabulary=WORDS)
    assert re.fullmatch("vocab-demo-[0-9a-f]{32}", identity)
    (entry,) = service.list_vocabularies(prefix="demo")
    assert (identity, "OK") == (entry["vocabulary_id"], entry["status"])
    for name in ("gmt_create", "gmt_modified"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", entry[name])
    content = service.query_vocabulary(identity)
    assert (WORDS, FUN, "OK") == (content["vocabulary"], content["target_model"], content["status"])
    service.update_vocabulary(identity, WORDS[:1])
    assert WORDS[:1] == service.query_vocabulary(identity)["vocabulary"]
    service.delete_vocabulary(identity)
    with pytest.raises(VocabularyServiceException) as gone:
        service.query_vocabulary(identity)
    assert (400, "BadRequest.ResourceNotExist") == refusal(gone.value)


@pytest.mark.usefixtures("keyed")
def test_lists_have_pages_and_prefixes() -> None:
    """Pages count from 0."""
    service = VocabularyService()
    made = [service.create_vocabulary(FUN, prefix, WORDS) for prefix in ("a1", "b2", "a1")]

    pages = [service.list_vocabularies(page_index=index, page_size=2) for index in range(3)]
    assert [2, 1, 0] == [len(page) for page in pages]
    assert set(made) == {entry["vocabulary_id"] for page in pages for entry in page}
    assert {made[0], made[2]} == {entry["vocabulary_id"] for entry in service.list_vocabularies(prefix="a1")}
    assert [] == service.list_vocabularies(prefix="c3")


@pytest.mark.usefixtures("keyed")
def test_each_key_has_lists_of_its_own() -> None:
    """A stranger's list is one that is not there."""
    identity = VocabularyService().create_vocabulary(FUN, "mine", WORDS)
    stranger = VocabularyService(api_key=OTHER_KEY)

    assert [] == stranger.list_vocabularies()
    for touch in (
        stranger.query_vocabulary,
        stranger.delete_vocabulary,
        lambda identity: stranger.update_vocabulary(identity, WORDS),
    ):
        with pytest.raises(VocabularyServiceException) as refused:
            touch(identity)
        assert (400, "BadRequest.ResourceNotExist") == refusal(refused.value)
    assert WORDS == VocabularyService().query_vocabulary(identity)["vocabulary"]


@pytest.mark.usefixtures("keyed")
def test_the_eleventh_list_is_refused() -> None:
    """With the documented code, which has the status of a bad request."""
    service = VocabularyService()
    for _ in range(MOST_LISTS):
        service.create_vocabulary(FUN, "many", WORDS)

    with pytest.raises(VocabularyServiceException) as refused:
        service.create_vocabulary(FUN, "many", WORDS)
    assert (400, "Throttling.AllocationQuota") == refusal(refused.value)


ASCII: Final = "a b c d e f g"
WRONG: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"prefix": "elevenchars"}, "not be longer than 10"),
    ({"prefix": "Upper"}, "english letter and number"),
    ({"prefix": ""}, "prefix"),
    ({"prefix": None}, "prefix"),
    ({"target_model": None}, "target_model"),
    ({"target_model": "qwen3-asr-flash"}, "takes no vocabularies"),
    ({"vocabulary": None}, "vocabulary"),
    ({"vocabulary": []}, "vocabulary"),
    ({"vocabulary": [{"text": f"word{i}", "weight": 4} for i in range(501)]}, "vocabulary is too large"),
    ({"vocabulary": [{"text": "x", "weight": 0}]}, "weight"),
    ({"vocabulary": [{"text": "x", "weight": 6}]}, "weight"),
    ({"vocabulary": [{"text": "x", "weight": -1}]}, "weight"),
    ({"vocabulary": [{"text": "x", "weight": 50}]}, "weight"),
    ({"vocabulary": [{"text": "x"}]}, "weight"),
    ({"vocabulary": [{"weight": 4}]}, "text"),
    ({"vocabulary": [{"text": " ", "weight": 4}]}, "printable"),
    ({"vocabulary": [{"text": "a\0b", "weight": 4}]}, "printable"),
    ({"vocabulary": [{"text": "字" * 16, "weight": 4}]}, "15 characters"),
    ({"vocabulary": [{"text": ASCII + " h", "weight": 4}]}, "7 words"),
    ({"vocabulary": [{"text": "x" * 201, "weight": 4}]}, "200 letters"),
    ({"vocabulary": [{"text": "x", "weight": 4, "lang": "klingon"}]}, "klingon"),
    ({"vocabulary": "x"}, "vocabulary"),
    ({"action": "rename_vocabulary"}, "rename_vocabulary"),
    ({"action": None}, "action"),
    ({"action": "query_vocabulary"}, "vocabulary_id"),
    ({"action": "list_vocabulary", "page_index": -1}, "page_index"),
    ({"action": "list_vocabulary", "page_size": 0}, "page_size"),
    ({"action": "list_vocabulary", "page_size": 10**9}, "page_size"),
)


@pytest.mark.parametrize(("fields", "named"), WRONG, ids=str)
def test_what_breaks_a_limit_is_refused_by_name(scripted: Server, fields: dict[str, Any], named: str) -> None:
    """And nothing is stored."""
    right = {"action": "create_vocabulary", "target_model": FUN, "prefix": "demo", "vocabulary": WORDS}
    answer = scripted.post(CUSTOMIZATION, {"model": "speech-biasing", "input": right | fields})

    told = answer.json()
    assert (400, "InvalidParameter") == (answer.status_code, told["code"])
    assert named in told["message"]
    listing = {"model": "speech-biasing", "input": {"action": "list_vocabulary", "prefix": None}}
    assert {"vocabulary_list": []} == scripted.post(CUSTOMIZATION, listing).json()["output"]


def test_other_models_unknown_targets_and_missing_keys_are_refused(scripted: Server) -> None:
    """The model of this interface is ``speech-biasing``."""
    create = {"action": "create_vocabulary", "target_model": "fun-nonsense", "prefix": "demo", "vocabulary": WORDS}
    unknown = scripted.post(CUSTOMIZATION, {"model": "speech-biasing", "input": create})
    other = scripted.post(CUSTOMIZATION, {"model": FUN, "input": create})
    keyless = scripted.post(CUSTOMIZATION, {"model": "speech-biasing", "input": create}, key=None)

    assert (404, "ModelNotFound") == (unknown.status_code, unknown.json()["code"])
    assert (400, "InvalidParameter") == (other.status_code, other.json()["code"])
    assert (401, "InvalidApiKey") == (keyless.status_code, keyless.json()["code"])


@pytest.mark.usefixtures("keyed")
def test_limits_themselves_are_allowed() -> None:
    """500 words, 15 characters, 7 words, a prefix of 10."""
    words = [{"text": f"word{i}", "weight": 1} for i in range(498)]
    words += [{"text": "字" * 15, "weight": 5}, {"text": ASCII, "weight": 3}]
    service = VocabularyService()

    identity = service.create_vocabulary(FUN, "abcdefgh10", words)
    assert words == service.query_vocabulary(identity)["vocabulary"]


def test_new_client_keeps_vocabularies(client: Any) -> None:
    """The same wire."""
    made = client.audio.vocabularies.create(target_model=FUN, prefix="new", vocabulary=WORDS)
    identity = made.vocabulary_id

    assert identity in str(client.audio.vocabularies.list(prefix="new"))
    assert "通义千问" in str(client.audio.vocabularies.get(identity))
    client.audio.vocabularies.update(identity, vocabulary=WORDS[:1])
    assert "通义千问" not in str(client.audio.vocabularies.get(identity))
    client.audio.vocabularies.delete(identity)
    with pytest.raises(errors.DashScopeError):
        client.audio.vocabularies.get(identity)


@pytest.mark.usefixtures("keyed")
def test_phrase_list_lives_from_its_creation_to_its_deletion() -> None:
    """It looks like a training that has succeeded."""
    made = AsrPhraseManager.create_phrases(model=V1, phrases={"Qwen": 90, "quin": -6})
    assert (200, "SUCCEEDED", V1) == (made.status_code, made.output.status, made.output.model)
    identity = made.output.finetuned_output
    changed = AsrPhraseManager.update_phrases(model=V1, phrase_id=identity, phrases={"Qwen": 5})
    assert identity == changed.output.finetuned_output
    assert identity == AsrPhraseManager.query_phrases(identity).output.finetuned_output
    page = AsrPhraseManager.list_phrases(page=1, page_size=10).output
    assert ([identity], 1, 1, 10) == (
        [job.finetuned_output for job in page.jobs],
        page.total,
        page.page_no,
        page.page_size,
    )
    assert 200 == AsrPhraseManager.delete_phrases(identity).status_code
    gone = AsrPhraseManager.query_phrases(identity)
    assert (400, "BadRequest.ResourceNotExist") == (gone.status_code, gone.code)


def test_new_client_keeps_phrases(client: Any) -> None:
    """The same wire."""
    made = client.audio.phrases.create(model=V1, phrases={"Qwen": 90})

    assert made.phrase_id in str(client.audio.phrases.list())
    assert made.phrase_id == client.audio.phrases.get(made.phrase_id).phrase_id
    client.audio.phrases.delete(made.phrase_id)
    with pytest.raises(errors.DashScopeError):
        client.audio.phrases.get(made.phrase_id)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"training_type": "sft"}, "training_type"),
        ({"hyper_parameters": None}, "phrase_list"),
        ({"hyper_parameters": {"phrase_list": {}}}, "phrase_list"),
        ({"hyper_parameters": {"phrase_list": {"x": 10**9}}}, "weight"),
        ({"hyper_parameters": {"phrase_list": {str(i): 1 for i in range(501)}}}, "too large"),
        ({"model": FUN}, "takes no phrase lists"),
    ],
    ids=str,
)
def test_wrong_phrase_lists_are_refused_by_name(scripted: Server, fields: dict[str, Any], named: str) -> None:
    """As vocabularies are."""
    right = {"model": V1, "training_type": "compile_asr_phrase", "hyper_parameters": {"phrase_list": {"Qwen": 90}}}
    answer = scripted.post("/api/v1/fine-tunes", right | fields)

    assert (400, "InvalidParameter") == (answer.status_code, answer.json()["code"])
    assert named in answer.json()["message"]

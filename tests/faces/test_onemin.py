"""The 1min.ai interface, by plain ``requests`` and as its public page shows it."""

import re
import sqlite3
import uuid
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import requests
from tests.faces.dialects import CHAT_DIALECT, data_url
from tests.faces.test_errors import leaves
from tests.media import FORMATS, Media
from tests.server import JFK, KEY, OTHER_KEY, SLOW_S, Origin, Server

from qasr.domain.errors import CapacityError, EngineError, QasrError
from qasr.faces.onemin.errors import to_wire
from qasr.storage.database import FILE

RECORD: Final = {
    "uuid", "userId", "teamId", "model", "type", "metadata", "rating", "feedback", "conversationId", "status",
    "createdAt", "aiRecordDetail", "additionalData", "temporaryUrl",
}  # fmt: skip
ASSET: Final = {
    "fieldname", "originalname", "encoding", "mimetype", "size", "bucket", "key", "acl", "contentType",
    "contentDisposition", "contentEncoding", "storageClass", "serverSideEncryption", "metadata", "location", "etag",
}  # fmt: skip
PATH: Final = r"development/audios/\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d_\d{3}_"
MODEL: Final = "qwen3-asr-flash"


def upload(server: Server, file: Path, mime: str = "audio/flac", *, key: str = KEY) -> requests.Response:
    """As the page of the Asset API shows it."""
    with file.open("rb") as opened:
        return requests.post(
            f"{server.base}/api/assets",
            headers={"API-KEY": key},
            files={"asset": (file.name, opened, mime)},
            timeout=60,
        )


def ask(server: Server, body: object, *, key: str | None = KEY) -> requests.Response:
    """As the page of the feature shows it."""
    headers = {"Content-Type": "application/json"} | ({"API-KEY": key} if key is not None else {})
    return requests.post(f"{server.base}/api/features", headers=headers, json=body, timeout=60)


def feature(audio_url: str, *, model: str = MODEL, **prompt: Any) -> dict[str, Any]:
    return {"type": "SPEECH_TO_TEXT", "model": model, "promptObject": {"audioUrl": audio_url, **prompt}}


def refusal(answer: requests.Response) -> tuple[int, str]:
    """Status and message of an error, whose shape is always the same."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {"message", "statusCode", "error"}
    assert (body["statusCode"], body["error"]) == (answer.status_code, HTTPStatus(answer.status_code).phrase)
    assert body["message"].strip()
    assert ("retry-after" in answer.headers) == (answer.status_code in (429, 503))
    return answer.status_code, str(body["message"])


@pytest.fixture(scope="module")
def path(scripted: Server) -> str:
    """Of an asset of the first key."""
    return str(upload(scripted, JFK).json()["fileContent"]["path"])


def test_speech_is_uploaded_and_heard(server: Server) -> None:
    """The two calls of the public page, with the embedded engine: the text is what was said."""
    asset = upload(server, JFK).json()
    answer = ask(server, feature(asset["fileContent"]["path"], language="en", enable_itn=False))

    record = answer.json()["aiRecord"]
    assert HTTPStatus.OK == answer.status_code, answer.text
    assert "ask not what your country can do for you" in record["aiRecordDetail"]["resultObject"][0].lower()
    assert "moonshine" == answer.headers["X-Qasr-Engine"]


def test_asset_answer_is_complete(scripted: Server) -> None:
    """Every documented key, and the path twice."""
    answer = upload(scripted, JFK)

    body = answer.json()
    asset, content = body["asset"], body["fileContent"]
    assert (200, {"asset", "fileContent"}) == (answer.status_code, set(body))
    assert ASSET == set(asset)
    assert re.fullmatch(PATH + re.escape(JFK.name), content["path"])
    assert ("asset", JFK.name, "audio/flac", JFK.stat().st_size) == (
        asset["fieldname"], asset["originalname"], asset["mimetype"], asset["size"],
    )  # fmt: skip
    assert asset["key"] == content["path"]
    assert {"team-id", "user-id"} == set(asset["metadata"])
    assert asset["location"].startswith(scripted.base)
    assert ("AUDIO", JFK.name) == (content["type"], content["name"])
    assert uuid.UUID(content["uuid"])


def test_record_is_complete_and_can_be_read_again(scripted: Server, path: str) -> None:
    """Every documented key; the record is the answer, byte for byte."""
    answer = ask(scripted, feature(path, language="en", enable_itn=False))
    record = answer.json()["aiRecord"]
    again = requests.get(f"{scripted.base}/api/features/{record['uuid']}", headers={"API-KEY": KEY}, timeout=60)

    detail = record["aiRecordDetail"]
    assert RECORD == set(record)
    assert {"promptObject", "resultObject", "responseObject"} == set(detail)
    assert {"audioUrl": path, "language": "en", "enable_itn": False} == detail["promptObject"]
    assert (1, {}) == (len(detail["resultObject"]), detail["responseObject"])
    assert (MODEL, "SPEECH_TO_TEXT", "SUCCESS", "") == (
        record["model"], record["type"], record["status"], record["temporaryUrl"],
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["createdAt"])
    assert (200, answer.content) == (again.status_code, again.content)


def test_user_stays_and_tells_nothing(scripted: Server, path: str) -> None:
    """The same key is the same user each time; another is another."""
    first, again = (ask(scripted, feature(path)).json()["aiRecord"] for _ in range(2))
    other = upload(scripted, JFK, key=OTHER_KEY).json()["asset"]["metadata"]

    assert (first["userId"], first["teamId"]) == (again["userId"], again["teamId"])
    assert first["userId"] != other["user-id"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_heard(scripted: Server, media: Media, name: str, tmp_path: Path) -> None:
    """The sixteen of the page, whatever the client calls them."""
    file = tmp_path / f"a.{name}"
    file.write_bytes(media.bytes(name))
    uploaded = upload(scripted, file, "application/octet-stream").json()["fileContent"]["path"]

    answer = ask(scripted, feature(uploaded))

    assert "lasting" in answer.json()["aiRecord"]["aiRecordDetail"]["resultObject"][0], answer.text


def test_recording_may_lie_elsewhere(scripted: Server, origin: Origin) -> None:
    """An address in place of a path."""
    answer = ask(scripted, feature(origin.url("/files/jfk.flac")))

    assert (200, "lasting" in answer.text) == (answer.status_code, True)


LANGUAGES: Final = (
    "zh", "yue", "en", "ja", "de", "ko", "ru", "fr", "pt", "ar", "it", "es", "hi", "id", "th", "tr", "uk", "vi", "cs",
    "da", "fil", "fi", "is", "ms", "no", "pl", "sv",
)  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_of_the_page_is_taken(scripted: Server, path: str, language: str) -> None:
    """All 27 codes, told again as they were sent."""
    answer = ask(scripted, feature(path, language=language))

    assert HTTPStatus.OK == answer.status_code, answer.text
    assert language == answer.json()["aiRecord"]["aiRecordDetail"]["promptObject"]["language"]


@pytest.mark.parametrize("language", ["", None, "auto"])
def test_language_may_be_left_to_us(scripted: Server, path: str, language: str | None) -> None:
    """The page's own form leaves it blank."""
    assert HTTPStatus.OK == ask(scripted, feature(path, language=language)).status_code


@pytest.mark.parametrize("language", ["en", "de"])
def test_language_that_the_engine_does_not_hear_is_refused(server: Server, language: str) -> None:
    """By the embedded engine, which hears English; as in every other interface."""
    path = upload(server, JFK).json()["fileContent"]["path"]
    told = ask(server, feature(path, language=language)).status_code

    assert (HTTPStatus.OK if language == "en" else HTTPStatus.BAD_REQUEST) == told


def test_itn_is_done_or_refused_as_elsewhere(server: Server) -> None:
    """Never ignored: what the service can do does not depend on who asks."""
    path = upload(server, JFK).json()["fileContent"]["path"]
    ours = ask(server, feature(path, language="en", enable_itn=True))
    theirs = CHAT_DIALECT.ask(server, data_url(JFK), language="en", enable_itn=True)

    assert theirs.status_code == ours.status_code
    if ours.status_code == HTTPStatus.OK:
        heard = ours.json()["aiRecord"]["aiRecordDetail"]
        assert (True, [CHAT_DIALECT.text(theirs)]) == (heard["promptObject"]["enable_itn"], heard["resultObject"])
    else:
        assert theirs.json()["error"]["message"] == refusal(ours)[1]


def test_client_that_leaves_makes_no_record(slow: Server) -> None:
    """It is noticed at once; the next request is heard, and its record is the only one."""
    path = upload(slow, JFK).json()["fileContent"]["path"]
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{slow.base}/api/features", headers={"API-KEY": KEY}, json=feature(path), timeout=(60, SLOW_S / 4)
        )
    answer = ask(slow, feature(path))
    with closing(sqlite3.connect(slow.data_dir / FILE)) as database:
        records = database.execute("SELECT id FROM records").fetchall()

    assert [(answer.json()["aiRecord"]["uuid"],)] == records, answer.text
    assert [] == slow.spooled


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/ü.wav", "..", "x" * 300 + ".wav", "\\\\host\\a.wav"])
def test_name_of_a_file_leads_nowhere(scripted: Server, tmp_path: Path, name: str) -> None:
    """A path has three parts, made by us, whatever the file is called; and it is heard."""
    answer = requests.post(
        f"{scripted.base}/api/assets", headers={"API-KEY": KEY}, files={"asset": (name, JFK.read_bytes())}, timeout=60
    )
    found = answer.json()["fileContent"]["path"]

    assert re.fullmatch(PATH + r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", found), found
    assert 200 == ask(scripted, feature(found)).status_code


@pytest.mark.parametrize("key", [None, "", "sk-wrong", "Bearer sk-right"])
def test_wrong_key_is_401(scripted: Server, path: str, key: str | None) -> None:
    """The key stands in ``API-KEY``, and nowhere else."""
    headers = {"Authorization": f"Bearer {KEY}"} | ({"API-KEY": key} if key is not None else {})

    answers = [
        requests.post(f"{scripted.base}/api/assets", headers=headers, files={"asset": b"x"}, timeout=60),
        requests.post(f"{scripted.base}/api/features", headers=headers, json=feature(path), timeout=60),
        requests.get(f"{scripted.base}/api/features/{uuid.uuid4()}", headers=headers, timeout=60),
    ]

    assert [401] * 3 == [refusal(answer)[0] for answer in answers]


def test_assets_and_records_are_their_owners(scripted: Server, path: str) -> None:
    """Another key sees neither."""
    record = ask(scripted, feature(path)).json()["aiRecord"]["uuid"]

    stolen = requests.get(f"{scripted.base}/api/features/{record}", headers={"API-KEY": OTHER_KEY}, timeout=60)

    assert 404 == refusal(ask(scripted, feature(path), key=OTHER_KEY))[0]
    assert 404 == refusal(stolen)[0]


GOOD: Final = "development/audios/2026_01_12_16_27_19_160_a.wav"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "type"),
        ([], 400, "object"),
        (feature(GOOD) | {"type": "IMAGE_GENERATOR"}, 400, "type"),
        (feature(GOOD) | {"model": ""}, 400, "model"),
        (feature(GOOD, model="latest_long"), 400, "latest_long"),
        (feature(GOOD, model="fun-asr"), 400, "fun-asr"),
        (feature(GOOD, model="qwen3-asr-flash-realtime"), 400, "realtime"),
        (feature(GOOD) | {"promptObject": None}, 400, "audioUrl"),
        (feature(GOOD) | {"promptObject": {}}, 400, "audioUrl"),
        (feature(""), 400, "audioUrl"),
        (feature("a" * 9000), 400, "audioUrl"),
        (feature(GOOD, language="klingon"), 400, "klingon"),
        (feature(GOOD, language=7), 400, "language"),
        (feature(GOOD, enable_itn="perhaps"), 400, "enable_itn"),
        (feature(GOOD, model="whisper-1", response_format="srt"), 400, "response_format"),
        (feature(GOOD), 404, "asset"),
        (feature("../../../etc/passwd"), 404, "asset"),
        (feature("file:///etc/passwd"), 404, "asset"),
        (feature("oss://dashscope-instant/a/b/c/d"), 404, "asset"),
        (feature("http://169.254.169.254/latest"), 400, ""),
    ],
)
def test_bad_request_is_told(scripted: Server, body: object, status: int, words: str) -> None:
    """What is wrong is named."""
    told, message = refusal(ask(scripted, body))

    assert status == told, message
    assert words in message


def test_body_that_is_no_json_is_told(scripted: Server) -> None:
    """In the dialect's own shape, as are paths and methods that there are not."""
    headers = {"API-KEY": KEY}
    broken = requests.post(f"{scripted.base}/api/features", headers=headers, data=b"{", timeout=60)
    method = requests.get(f"{scripted.base}/api/assets", headers=headers, timeout=60)
    missing = requests.get(f"{scripted.base}/api/features/a/b", headers=headers, timeout=60)

    assert [400, 405, 404] == [refusal(answer)[0] for answer in (broken, method, missing)]


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"asset": "text"}},
        {"json": {"asset": "x"}},
        {"files": {"file": b"x"}},
        {"files": [("asset", b"x"), ("asset", b"y")]},
    ],
    ids=["none", "json", "other", "two"],
)
def test_upload_needs_one_part_of_that_name(scripted: Server, sent: dict[str, Any]) -> None:
    """``asset``, once."""
    answer = requests.post(f"{scripted.base}/api/assets", headers={"API-KEY": KEY}, timeout=60, **sent)

    assert 400 == refusal(answer)[0]


def test_what_is_no_sound_is_told(scripted: Server, tmp_path: Path) -> None:
    """A file may be uploaded whatever it is; it is looked into when it is asked for."""
    (tmp_path / "a.wav").write_bytes(b"no sound at all" * 100)
    path = upload(scripted, tmp_path / "a.wav").json()["fileContent"]["path"]

    assert 400 == refusal(ask(scripted, feature(path)))[0]


def test_model_bounds_what_is_heard(scripted: Server, tmp_path: Path) -> None:
    """10 MB; a larger asset may be kept, and is refused by this model."""
    (tmp_path / "a.wav").write_bytes(bytes(10 * 1024**2 + 1))
    path = upload(scripted, tmp_path / "a.wav").json()["fileContent"]["path"]

    assert (413, "The audio exceeds the limit of 10 MB.") == refusal(ask(scripted, feature(path)))


def test_upload_is_bounded(scripted: Server) -> None:
    """By ``onemin.max_asset_bytes``; the client sees why."""
    answer = requests.post(
        f"{scripted.base}/api/assets", headers={"API-KEY": KEY}, files={"asset": bytes(16_000_000)}, timeout=60
    )

    assert 413 == refusal(answer)[0]


@pytest.mark.parametrize("kind", sorted(set(leaves(QasrError)) - {QasrError}, key=str))
def test_every_domain_error_has_a_shape(kind: type[QasrError]) -> None:
    """No failure reaches a client as a nameless 500."""
    status, body = to_wire(kind("why"), "req-1")

    told = msgspec.json.decode(body)
    expected = 5 if issubclass(kind, EngineError) else 4
    assert {"message": "why", "statusCode": status, "error": HTTPStatus(status).phrase} == told
    assert expected == status // 100
    assert issubclass(kind, CapacityError) == (status == 429)

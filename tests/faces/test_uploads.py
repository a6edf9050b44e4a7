"""Uploads: a signed permit, one form, one file; and nothing for those who bend any of the three."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.faces.dialects import DIALECTS, QWEN, Dialect, refusal
from tests.server import JFK, KEY, OTHER_KEY, Server

Policy = Mapping[str, Any]


def policy(server: Server, key: str = KEY) -> Policy:
    """Permission for one upload."""
    answer = server.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", key=key)
    assert answer.status_code == httpx2.codes.OK, answer.text
    found: Policy = answer.json()["data"]
    return found


def send(permit: Policy, *, name: str = "a.flac", data: bytes | None = None, **changes: str) -> httpx2.Response:
    """The form, as the SDK sends it, with *changes* to its fields."""
    fields = {
        "OSSAccessKeyId": permit["oss_access_key_id"],
        "Signature": permit["signature"],
        "policy": permit["policy"],
        "key": f"{permit['upload_dir']}/{name}",
        "x-oss-object-acl": permit["x_oss_object_acl"],
        "x-oss-forbid-overwrite": permit["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    } | changes
    content = JFK.read_bytes() if data is None else data
    return httpx2.post(permit["upload_host"], data=fields, files={"file": (name, content)}, timeout=30)


def assert_refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert (status, "application/xml") == (answer.status_code, answer.headers["content-type"]), answer.text
    assert f"<Code>{code}</Code>" in answer.text


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize("name", ["a.flac", "今天 天气.flac", "a b'c.flac", "x" * 200 + ".flac"])
def test_uploaded_file_is_heard(scripted: Server, dialect: Dialect, name: str) -> None:
    """``oss://`` and the key name the file from then on, in every dialect, with or without the resolve header."""
    permit = policy(scripted)

    sent = send(permit, name=name)
    answer = dialect.ask(scripted, f"oss://{permit['upload_dir']}/{name}")

    assert 200 == sent.status_code, sent.text
    assert "lasting 10.6" in dialect.text(answer)


def test_policy_has_what_the_sdk_reads(scripted: Server) -> None:
    """The address belongs to this server, the size is the configured one, the policy is JSON in base64."""
    permit = policy(scripted)

    document = json.loads(base64.b64decode(permit["policy"]))
    assert permit["upload_host"].startswith(scripted.base + "/oss/")
    assert 2_000_000 == document["max_bytes"]
    assert "true" == permit["x_oss_forbid_overwrite"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "InvalidParameter"),
        ("?action=getPolicy", 400, "InvalidParameter"),
        ("?action=drop&model=qwen3-asr-flash", 400, "InvalidParameter"),
        ("?action=getPolicy&model=nothing", 404, "ModelNotFound"),
    ],
)
def test_malformed_request_for_a_policy_is_refused(scripted: Server, query: str, status: int, code: str) -> None:
    """The action and a known model are needed."""
    refused = refusal(scripted.get("/api/v1/uploads" + query))

    assert (status, code) == (refused.status, refused.code)


def test_policy_needs_a_key(scripted: Server) -> None:
    """Strangers get no permit."""
    refused = refusal(scripted.get("/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", key=None))

    assert (401, "InvalidApiKey") == (refused.status, refused.code)


def tampered(permit: Policy) -> Policy:
    """The same permit for a larger file."""
    document = json.loads(base64.b64decode(permit["policy"])) | {"max_bytes": 10**12}
    return {**permit, "policy": base64.b64encode(json.dumps(document).encode()).decode()}


def test_tampered_policy_is_403(scripted: Server) -> None:
    """Nobody widens his own permit: the signature covers all of it."""
    assert_refused(send(tampered(policy(scripted))), 403, "AccessDenied")


@pytest.mark.parametrize("signature", ["", "c2lnbmF0dXJl", "ü", "A" * 10_000], ids=["empty", "other", "umlaut", "long"])
def test_wrong_signature_is_403(scripted: Server, signature: str) -> None:
    """No signature but ours will do."""
    assert_refused(send(policy(scripted), Signature=signature), 403, "AccessDenied")


@pytest.mark.parametrize(
    "key",
    [
        "a.flac",
        "{dir}",
        "{dir}/",
        "{dir}/../a.flac",
        "{dir}/b/a.flac",
        "{other}/a.flac",
        "/{dir}/a.flac",
        "../../etc/x",
    ],
)
def test_key_outside_of_the_policy_is_403(scripted: Server, key: str) -> None:
    """A permit is for one folder: no other, none above, none below."""
    permit = policy(scripted)
    names = {"dir": permit["upload_dir"], "other": policy(scripted, OTHER_KEY)["upload_dir"]}

    assert_refused(send(permit, key=key.format(**names)), 403, "AccessDenied")


@pytest.mark.parametrize(
    "name", ["..", "...", ".", "%2e%2e%2fsecret", "..\\..\\secret", "a\x00b", "\n", "🎤"], ids=repr
)
def test_file_name_never_becomes_a_path(scripted: Server, name: str) -> None:
    """Whatever a client calls its file: one object is written, in the policy's folder, under a name of ours."""
    before = _files(scripted.data_dir)
    permit = policy(scripted)

    send(permit, name="a.flac", key=f"{permit['upload_dir']}/{name}")

    new = _files(scripted.data_dir) - before
    folder = scripted.data_dir / "objects" / permit["upload_dir"]
    assert all(path.parent == folder and path.name.isalnum() for path in new)
    assert len(new) <= 1


def _files(folder: Path) -> set[Path]:
    """All but those of databases, which come when they come."""
    return {path for path in folder.rglob("*") if path.is_file() and ".db" not in path.name}


def test_second_upload_to_the_same_key_is_refused(scripted: Server) -> None:
    """A file that was named in a request does not change behind it."""
    permit = policy(scripted)

    first, second = send(permit), send(permit, data=b"other")

    assert 200 == first.status_code
    assert_refused(second, 403, "AccessDenied")


def test_too_large_file_is_refused(scripted: Server) -> None:
    """The limit of the policy holds, in the file and for the body as a whole."""
    assert_refused(send(policy(scripted), data=bytes(2_000_001)), 400, "EntityTooLarge")
    assert_refused(send(policy(scripted), data=bytes(4_000_000)), 400, "EntityTooLarge")


def test_expired_policy_is_403(strict: Server) -> None:
    """A permit ends."""
    permit = policy(strict)
    time.sleep(2.1)

    answer = send(permit, data=b"small")

    assert_refused(answer, 403, "AccessDenied")
    assert "Policy expired" in answer.text


@pytest.mark.parametrize("door", ["x", "x-1-y", "0000-99999999999-" + "0" * 32, "é-1-2", "-", "a-b-c"])
def test_form_at_a_door_of_its_own_making_is_403(scripted: Server, door: str) -> None:
    """The form has no key, so its address is signed: nothing is read from those who were given none."""
    permit = policy(scripted)

    assert_refused(send({**permit, "upload_host": f"{scripted.base}/oss/{door}"}), 403, "AccessDenied")


@pytest.mark.parametrize("missing", ["policy", "Signature", "key"])
def test_form_without_a_field_is_refused(scripted: Server, missing: str) -> None:
    """The answer names what is missing."""
    permit = policy(scripted)
    fields = {"policy": permit["policy"], "Signature": permit["signature"], "key": f"{permit['upload_dir']}/a"}
    del fields[missing]

    answer = httpx2.post(permit["upload_host"], data=fields, files={"file": ("a", b"a")}, timeout=30)

    assert_refused(answer, 400, "InvalidArgument")
    assert missing in answer.text


def test_form_without_a_file_is_refused(scripted: Server) -> None:
    """The part must be called ``file``."""
    permit = policy(scripted)
    fields = {"policy": permit["policy"], "Signature": permit["signature"], "key": f"{permit['upload_dir']}/a"}

    answer = httpx2.post(permit["upload_host"], data=fields, files={"other": ("a", b"a")}, timeout=30)

    assert_refused(answer, 400, "InvalidArgument")


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_file_of_another_key_does_not_exist(scripted: Server, dialect: Dialect) -> None:
    """Who guesses an address of somebody else is told what he would be told if there were nothing."""
    permit = policy(scripted, OTHER_KEY)
    sent = send(permit)
    url = f"oss://{permit['upload_dir']}/a.flac"

    stranger = refusal(dialect.ask(scripted, url))
    absent = refusal(dialect.ask(scripted, f"oss://{policy(scripted)['upload_dir']}/a.flac"))
    owner = scripted.post(dialect.path, dialect.body(url), key=OTHER_KEY)

    assert 200 == sent.status_code
    assert (absent.status, absent.code, absent.message) == (stranger.status, stranger.code, stranger.message)
    assert 200 == owner.status_code


@pytest.mark.parametrize(
    "url",
    [
        "oss://",
        "oss://a",
        "oss://../../secret",
        "oss:///etc/passwd",
        "oss://dashscope-instant/{owner}/../../../secret",
        "oss://dashscope-instant/{owner}/2026-01-01/../../../../secret",
        "oss://dashscope-instant/{owner}/2026-01-01//a",
        "oss://dashscope-instant/{owner}/2026-01-01/é/a",
        "oss://dashscope-instant/{owner}/2026-01-01/x/" + "a" * 2000,
    ],
)
def test_tricks_in_an_address_lead_nowhere(scripted: Server, url: str) -> None:
    """The address of an upload is a name and never a path."""
    owner = policy(scripted)["upload_dir"].split("/")[1]

    refused = refusal(QWEN.ask(scripted, url.format(owner=owner)))

    assert (400, "InvalidParameter") == (refused.status, refused.code)

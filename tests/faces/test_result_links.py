"""Links to result documents, as servers that share a secret give and take them."""

import re
import time
from pathlib import Path

import httpx2
from tests.jobs.program import submit, wait_all
from tests.server import LOOPBACK, SCRIPTED, Origin, serving

from qasr.faces.dashscope.results import ResultLinks

SECRET = "the same text everywhere"


def test_servers_with_one_secret_give_the_same_links_and_take_each_others(tmp_path: Path, origin: Origin) -> None:
    """What is in a server's data directory makes no difference: any of them may be asked, and answers alike."""
    other = ResultLinks(SECRET.encode)
    with serving(tmp_path, SCRIPTED | LOOPBACK | {"SERVER__SECRET": SECRET}) as server:
        task_id = submit(server.base, [origin.url("/files/jfk.flac")])
        (output,) = wait_all(server.base, [task_id], timeout_s=60)
        link = output["results"][0]["transcription_url"]
        (expires,) = map(int, re.findall(r"Expires=(\d+)", link))
        ended_ms = (expires - 24 * 3600) * 1000
        elsewhere = other.link(server.base, "8fab", 0, ended_ms=int(time.time() * 1000))
        forged = ResultLinks(lambda: b"another").link(server.base, task_id, 0, ended_ms=ended_ms)

        assert other.link(server.base, task_id, 0, ended_ms=ended_ms) == link
        assert [200, 404, 403] == [httpx2.get(url, timeout=20).status_code for url in (link, elsewhere, forged)]
        assert not (server.data_dir / "secret").exists()


def test_a_link_is_good_for_its_object_its_method_and_its_time(tmp_path: Path, origin: Origin) -> None:
    """One signature opens one document, for reading, until it ends; with anything else it is 403 or 405."""
    key = {"Authorization": "Bearer any"}
    with serving(tmp_path, SCRIPTED | LOOPBACK | {"SERVER__SECRET": SECRET}) as server:
        ids = [submit(server.base, [origin.url("/files/jfk.flac")]) for _ in range(2)]
        link, other = (o["results"][0]["transcription_url"] for o in wait_all(server.base, ids, timeout_s=60))
        late = re.sub(r"Expires=\d+", lambda found: f"Expires={int(found[0][8:]) + 1}", link)
        old = ResultLinks(SECRET.encode).link(server.base, ids[0], 0, ended_ms=1000)
        path, _, signed = link.partition("?")

        assert 200 == httpx2.get(link).status_code
        assert 200 == httpx2.head(link).status_code
        for changed in (path.replace(ids[0], ids[1]), path.replace("/0.json", "/1.json")):
            assert 403 == httpx2.get(f"{changed}?{signed}").status_code
        assert [403] * 4 == [httpx2.get(url).status_code for url in (late, old, path, f"{other[:-2]}AA")]
        assert {405} == {httpx2.request(method, link).status_code for method in ("POST", "PUT", "PATCH", "DELETE")}
        door = httpx2.get(f"{server.base}/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash", headers=key).json()
        host = door["data"]["upload_host"]
        assert {405} == {httpx2.request(method, host).status_code for method in ("GET", "PUT", "DELETE")}

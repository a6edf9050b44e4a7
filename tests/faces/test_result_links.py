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

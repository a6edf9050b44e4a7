"""Whoever asked to be told of a task's end is told: signed, again where it failed, never where it may not be."""

import hashlib
import hmac
import ipaddress
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import pytest
from tests.conftest import Speech
from tests.jobs.program import origin, start, submit, wait_all, write_wav

from qasr.domain.options import RecognitionOptions
from qasr.domain.task import TaskId, TaskOrder
from qasr.jobs.desk import Desk
from qasr.jobs.webhook import Courier
from qasr.pipeline.fetch import Fetcher, FetchPolicy
from qasr.storage.callbacks import Callbacks
from qasr.storage.database import Database
from qasr.storage.tasks import PartEnd, Tasks

ID: Final = TaskId("11111111-2222-3333-4444-555555555555")
SECRET: Final = b"a secret of sixteen bytes"
LOCAL: Final = FetchPolicy(allow_networks=(ipaddress.ip_network("127.0.0.0/8"),))


@dataclass
class Receiver:
    """Takes calls; answers with the statuses it was given, then with 204."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?for=me"

    def verified(self, secret: bytes) -> list[dict[str, object]]:
        """The bodies, as a receiver that trusts nobody reads them."""
        for headers, body in self.calls:
            moment, _, signature = headers["x-qasr-signature"].partition(",")
            expected = hmac.new(secret, moment.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()
            assert hmac.compare_digest(f"v1={expected}", signature)
        return [json.loads(body) for _, body in self.calls]


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(statuses=list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_760_000_000_000

    def __call__(self) -> int:
        return self.ms

    def seconds(self) -> float:
        return self.ms / 1000


@dataclass
class House:
    """What a server has of webhooks."""

    tasks: Tasks
    callbacks: Callbacks
    courier: Courier
    clock: Clock

    async def ended(self, webhook: str | None) -> None:
        order = TaskOrder(
            owner="me", model="m", dialect="d", urls=("a", "b"), options=RecognitionOptions(), webhook=webhook
        )
        await self.tasks.add(ID, order)
        await self.tasks.begin(ID)
        await self.tasks.end_subtask(ID, PartEnd(number=0, failure=None))
        await self.tasks.finish(ID)

    async def later(self, seconds: float = 0) -> int:
        """Time passes; how many calls are made then."""
        self.clock.ms += int(seconds * 1000)
        due = await self.callbacks.claim(limit=10, lease_ms=60_000)
        for callback in due:
            await self.courier.call(callback)
        return len(due)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'tasks.db'}")
    database.migrate()
    clock = Clock()
    tasks, callbacks = Tasks(database, clock=clock), Callbacks(database, clock=clock)
    async with Fetcher(LOCAL) as poster:
        yield House(tasks, callbacks, Courier(callbacks, tasks, poster, secret=SECRET, clock=clock.seconds), clock)
    database.close()


@pytest.mark.anyio
async def test_a_receiver_that_fails_twice_gets_the_same_news_again(house: House) -> None:
    """With one idempotency key, a signature that holds, and pauses between; then never again."""
    with receiving(503, 429) as receiver:
        await house.ended(receiver.url)
        made = [await house.later(seconds) for seconds in (0, 4, 1, 14, 1, 7200)]

        bodies = receiver.verified(SECRET)
    assert [1, 0, 1, 0, 1, 0] == made
    assert {ID} == {headers["idempotency-key"] for headers, _ in receiver.calls}
    assert ["application/json"] * 3 == [headers["content-type"] for headers, _ in receiver.calls]
    assert [bodies[0]] * 3 == bodies
    assert {
        "task_id": ID,
        "task_status": "SUCCEEDED",
        "model": "m",
        "submit_time": "2025-10-09T08:53:20.000Z",
        "end_time": "2025-10-09T08:53:20.000Z",
        "task_metrics": {"TOTAL": 2, "SUCCEEDED": 1, "FAILED": 1},
    } == bodies[0]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 404, 410, 301, 307])
async def test_a_refusal_or_a_redirect_ends_it(house: House, status: int) -> None:
    with receiving(status) as receiver:
        await house.ended(receiver.url)

        assert [1, 0] == [await house.later(), await house.later(7200)]
        assert 1 == len(receiver.calls)


@pytest.mark.anyio
async def test_nobody_there_is_tried_eight_times_within_an_hour(house: House) -> None:
    await house.ended("http://127.0.0.1:1/")
    began = house.clock.seconds()
    calls = 0
    last = began
    for _ in range(2 * 3600):
        if made := await house.later(1):
            calls, last = calls + made, house.clock.seconds()
        if calls == 8:
            break

    assert 8 == calls
    assert 3000 < last - began <= 3600
    assert 0 == await house.later(7200)


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "ftp://a/"])
async def test_private_addresses_are_not_called(house: House, url: str) -> None:
    await house.ended(url)

    assert [1, 0] == [await house.later(), await house.later(7200)]


@pytest.mark.anyio
async def test_a_claim_whose_holder_died_is_made_by_the_next(house: House) -> None:
    with receiving() as receiver:
        await house.ended(receiver.url)
        (claimed,) = await house.callbacks.claim(limit=10, lease_ms=60_000)

        assert 0 == claimed.calls
        assert [0, 1] == [await house.later(59), await house.later(1)]
        assert 1 == len(receiver.calls)


@pytest.mark.anyio
async def test_claims_that_nobody_comes_back_from_end_too(house: House) -> None:
    """A call that ends its server each time, say."""
    with receiving() as receiver:
        await house.ended(receiver.url)
        for _ in range(8):
            assert 1 == len(await house.callbacks.claim(limit=10, lease_ms=1))
            house.clock.ms += 1

        assert [1, 0] == [await house.later(), await house.later(7200)]
        assert not receiver.calls


@pytest.mark.anyio
async def test_canceled_tasks_are_told_of_and_unfinished_ones_not(house: House) -> None:
    with receiving() as receiver:
        order = TaskOrder(
            owner="me", model="m", dialect="d", urls=("a",), options=RecognitionOptions(), webhook=receiver.url
        )
        await house.tasks.add(ID, order)
        before = await house.later()
        await house.tasks.cancel_pending(ID, "me")

        assert [0, 1] == [before, await house.later()]
        assert ["CANCELED"] == [body["task_status"] for body in receiver.verified(SECRET)]


@pytest.mark.anyio
async def test_tasks_without_a_webhook_get_the_servers(house: House) -> None:
    """Those that name one keep theirs, and without either nobody is called."""
    order = TaskOrder(owner="me", model="m", dialect="d", urls=("a",), options=RecognitionOptions())
    desk = Desk(house.tasks, most_unfinished=9, webhook="https://everybody")
    task = await house.tasks.get(await desk.submit(order))
    await house.ended(None)

    assert task is not None
    assert "https://everybody" == task.order.webhook
    assert 0 == await house.later()


@pytest.mark.anyio
async def test_one_that_does_not_answer_keeps_nobody_waiting(house: House) -> None:
    """Calls are made beside each other."""
    silent = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = silent.extra(anyio.abc.SocketAttribute.local_port)
    with receiving() as receiver:
        for number, url in enumerate([f"http://127.0.0.1:{port}/", receiver.url]):
            order = TaskOrder(
                owner="me", model="m", dialect="d", urls=("a",), options=RecognitionOptions(), webhook=url
            )
            await house.tasks.add(TaskId(str(number)), order)
            await house.tasks.cancel_pending(str(number), "me")
        async with anyio.create_task_group() as group:
            group.start_soon(house.courier.work)
            with anyio.fail_after(10):
                while not receiver.calls:  # noqa: ASYNC110 - a thread appends to it
                    await anyio.sleep(0.02)
            group.cancel_scope.cancel()
    await silent.aclose()

    assert ["1"] == [body["task_id"] for body in receiver.verified(SECRET)]


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_tells_across_its_own_death(tmp_path: Path, speech: Speech) -> None:
    """It is killed between the first call, which fails, and the second: the next life makes that."""
    write_wav(tmp_path / "a.wav", speech("jfk.flac"))
    log, data_dir = tmp_path / "log", tmp_path / "data"
    with receiving(500) as receiver, origin(tmp_path) as files:
        variables = {
            "QASR_ENGINES__DEFAULT": "scripted",
            "QASR_WEBHOOK__URL": receiver.url,
            "QASR_WEBHOOK__SECRET": SECRET.decode(),
        }
        life = start(data_dir, log, variables)
        base = life.wait_ready()
        task_id = submit(base, [f"{files}/a.wav"])
        wait_all(base, [task_id], timeout_s=60)
        _until(lambda: len(receiver.calls) == 1)
        _until(lambda: b"webhook_postponed" in log.read_bytes())
        life.kill()
        life = start(data_dir, log, variables)
        life.wait_ready()
        _until(lambda: len(receiver.calls) == 2)
        _until(lambda: b"webhook_delivered" in log.read_bytes())
        code, _ = life.stop()

        assert 0 == code
        assert [task_id, task_id] == [body["task_id"] for body in receiver.verified(SECRET)]
        assert [task_id, task_id] == [headers["idempotency-key"] for headers, _ in receiver.calls]
        assert b"for=me" not in log.read_bytes()

"""Keys of the database at a running server: what they open, for how long, and who makes them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import anyio
import httpx2
import pytest
import websockets.sync.client as websocket
from tests.access import Admin, make_admin
from tests.faces.dialects import CHAT, CHAT_DIALECT, GENERATION, data_url
from tests.server import JFK, KEY, LOOPBACK, OTHER_KEY, SCRIPTED, Server, serving
from websockets.exceptions import InvalidStatus

from qasr.domain.access import INTERFACES, Allowance, Scope
from qasr.domain.errors import AccessDenied, EngineUnavailable, Unauthorized
from qasr.faces.keys import KNOWN_S, Keys
from qasr.storage.database import Database
from qasr.storage.keys import Key, KeyRing

GONE_S: Final = 30.0
"""Generously more than the seconds within which a key is gone."""
ROUTES: Final = {
    Scope.OPENAI: (("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/audio/transcriptions")),
    Scope.DASHSCOPE: (("GET", "/api/v1/models"), ("POST", GENERATION), ("GET", "/api/v1/tasks")),
    Scope.ONEMIN: (("POST", "/api/assets"), ("POST", "/api/features"), ("GET", "/api/features/x")),
    Scope.ADMIN: (("GET", "/admin/v1/keys"), ("POST", "/admin/v1/keys"), ("GET", "/admin/v1/usage")),
}
SOCKETS: Final = {
    Scope.OPENAI: "/v1/realtime?model=gpt-4o-transcribe",
    Scope.DASHSCOPE: "/api-ws/v1/realtime?model=qwen3-asr-flash-realtime",
}


def status(server: Server, method: str, path: str, key: str) -> int:
    """Of a request that carries *key* in all the ways there are."""
    headers = {"Authorization": f"Bearer {key}", "API-KEY": key}
    return httpx2.request(method, server.base + path, headers=headers, timeout=60).status_code


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + GONE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def heard(server: Server, key: str) -> int:
    return server.post(CHAT, CHAT_DIALECT.body(data_url(JFK)), key=key).status_code


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_opens_its_interface_alone(scripted: Server, admin: Admin, scope: Scope) -> None:
    """Everywhere else the key is known and refused: 403, in the dialect's shape."""
    _, key = admin.make(scopes=[scope])

    for other, routes in ROUTES.items():
        found = {status(scripted, method, path, key) for method, path in routes}
        assert (found == {403}) == (other is not scope), (other, found)
        assert not found & {401, 500}


@pytest.mark.parametrize("scope", SOCKETS)
def test_a_scope_opens_its_sockets_alone(scripted: Server, admin: Admin, scope: Scope) -> None:
    """The upgrade is refused."""
    _, right = admin.make(scopes=[scope])
    _, wrong = admin.make(scopes=[Scope.ONEMIN])
    url = scripted.base.replace("http", "ws") + SOCKETS[scope]

    with websocket.connect(url, additional_headers={"Authorization": f"Bearer {right}"}) as open_one:
        assert "session.created" in str(open_one.recv(timeout=60))
    with (
        pytest.raises(InvalidStatus) as refused,
        websocket.connect(url, additional_headers={"Authorization": f"Bearer {wrong}"}),
    ):
        pass
    assert 403 == refused.value.response.status_code


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_keys_of_the_settings_do_not_administer(scripted: Server, key: str) -> None:
    """They open the interfaces, as they always did."""
    assert {403} == {status(scripted, method, path, key) for method, path in ROUTES[Scope.ADMIN]}


def test_a_revoked_key_is_gone_within_seconds(scripted: Server, admin: Admin) -> None:
    """Also one that the server has just seen."""
    key_id, key = admin.make()
    assert 200 == status(scripted, "GET", "/v1/models", key)

    told = admin.ask("DELETE", f"/keys/{key_id}").json()["key"]

    assert "revoked" == told["state"]
    until(lambda: status(scripted, "GET", "/v1/models", key) == 401)
    assert 400 == admin.ask("POST", f"/keys/{key_id}/rotate", {}).status_code


def test_a_rotated_key_keeps_what_it_has(scripted: Server, admin: Admin) -> None:
    """Tasks and records are the key's, and not its text's; the old text goes on for the time of grace."""
    key_id, old = admin.make(scopes=["onemin", "dashscope"])
    task = scripted.post(
        "/api/v1/services/audio/asr/transcription",
        {"model": "fun-asr", "input": {"file_urls": ["http://127.0.0.1:9/a.wav"]}},
        key=old,
        headers={"X-DashScope-Async": "enable"},
    ).json()["output"]["task_id"]

    answer = admin.ask("POST", f"/keys/{key_id}/rotate", {"grace_s": 600})
    new = answer.json()["secret"]

    states = [scripted.get(f"/api/v1/tasks/{task}", key=key).json()["output"]["task_status"] for key in (old, new, KEY)]
    assert new != old
    assert "UNKNOWN" not in states[:2]
    assert "UNKNOWN" == states[2]
    admin.ask("POST", f"/keys/{key_id}/rotate")
    until(lambda: status(scripted, "GET", "/api/v1/models", old) == 401)


def test_administration_tells_all_but_the_text(admin: Admin) -> None:
    """The text is told once; a key is shown with everything that was said of it."""
    expires_at = int(time.time()) + 3600
    key_id, text = admin.make(
        "team a",
        scopes=["openai"],
        expires_at=expires_at,
        limits={"live_sessions": 2},
        model_limits={"qwen3-asr-flash-2026-02-10": {"requests_per_minute": 7}},
    )

    one = admin.ask("GET", f"/keys/{key_id}").json()
    listed = admin.ask("GET", "/keys")

    assert {"key"} == set(one)
    assert text not in listed.text
    assert one["key"] in listed.json()["keys"]
    assert one["key"] == {
        "id": key_id,
        "name": "team a",
        "state": "valid",
        "scopes": ["openai"],
        "limits": {"live_sessions": 2},
        "model_limits": {"qwen3-asr-flash": {"requests_per_minute": 7}},
        "created_at": one["key"]["created_at"],
        "expires_at": expires_at,
        "revoked_at": None,
    }


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "invalid_parameter"),
        ({"name": ""}, "invalid_parameter"),
        ({"name": "a", "scopes": []}, "invalid_parameter"),
        ({"name": "a", "scopes": ["root"]}, "invalid_parameter"),
        ({"name": "a", "expires_at": 1}, "invalid_parameter"),
        ({"name": "a", "expires_at": 10**18}, "invalid_parameter"),
        ({"name": "a", "limits": {"requests_per_hour": 1}}, "invalid_parameter"),
        ({"name": "a", "limits": {"requests_per_minute": -1}}, "invalid_parameter"),
        ({"name": "a", "model_limits": {"nothing": {}}}, "invalid_parameter"),
        ({"name": "a", "colour": "red"}, "invalid_parameter"),
        ([], "invalid_parameter"),
    ],
)
def test_senseless_keys_are_refused(admin: Admin, value: object, code: str) -> None:
    """A limit that is misspelled is not one that is set."""
    answer = admin.ask("POST", "/keys", value)

    body = answer.json()
    assert (400, code, answer.headers["x-request-id"]) == (
        answer.status_code, body["error"]["code"], body["request_id"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/keys/x"), ("DELETE", "/keys/x"), ("POST", "/keys/x/rotate"), ("GET", "/nothing")]
)
def test_what_there_is_not_is_404(admin: Admin, method: str, path: str) -> None:
    """Keys and paths."""
    assert 404 == admin.ask(method, path).status_code


@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-13-01"])
def test_days_of_usage_are_checked(admin: Admin, query: str) -> None:
    """400, and not everything."""
    assert 400 == admin.ask("GET", f"/usage?{query}").status_code


@pytest.mark.parametrize("grace_s", [-1, 10**9, "long"])
def test_grace_is_bounded(admin: Admin, grace_s: object) -> None:
    """An old text does not go on for ever."""
    key_id, _ = admin.make()

    assert 400 == admin.ask("POST", f"/keys/{key_id}/rotate", {"grace_s": grace_s}).status_code


def test_the_first_key_shuts_the_door(tmp_path: Path) -> None:
    """A server without keys takes everybody's; once there is one, it takes that one, and revoking it opens nothing."""
    with serving(tmp_path, SCRIPTED | LOOPBACK) as server:
        assert 200 == status(server, "GET", "/v1/models", "any")
        assert {401, 403} >= {status(server, method, path, "any") for method, path in ROUTES[Scope.ADMIN]}

        admin = make_admin(server)
        key_id, key = admin.make()

        assert 200 == heard(server, key)
        until(lambda: status(server, "GET", "/v1/models", "any") == 401)
        admin.ask("DELETE", f"/keys/{key_id}")
        until(lambda: status(server, "GET", "/v1/models", key) == 401)
        assert 401 == status(server, "GET", "/v1/models", "any")


# ---- what is remembered


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'keys.db'}")
    database.migrate()
    yield database
    database.close()


async def opens(keys: Keys, text: str | None) -> bool:
    try:
        await keys.caller(text)
    except Unauthorized:
        return False
    return True


@pytest.mark.anyio
async def test_a_good_key_is_believed_for_a_moment(database: Database) -> None:
    """So that not every request asks the database; then it is asked again. New keys need not wait."""
    ring, clock = KeyRing(database), Clock()
    keys = Keys(("sk-set",), lambda: ring, clock=clock)
    key, text = await ring.create("k", INTERFACES, allowance=Allowance())

    assert [True, True, False, False] == [await opens(keys, one) for one in (text, "sk-set", text[:-1] + "!", None)]
    await ring.revoke(key.id)
    clock.now_s += KNOWN_S / 2 - 0.01
    assert await opens(keys, text)
    clock.now_s += 0.02
    assert not await opens(keys, text)


class Slow(KeyRing):
    """Answers when it may, unless it is away."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.may, self.is_away, self.n_asked = anyio.Event(), False, 0

    async def find(self, text: str) -> Key | None:
        self.n_asked += 1
        await self.may.wait()
        if self.is_away:
            raise EngineUnavailable("away")
        return await super().find(text)


async def known(ring: Slow, clock: Clock) -> tuple[Keys, str]:
    """Keys, and the text of one that they have just seen."""
    keys = Keys(("sk-set",), lambda: ring, clock=clock)
    _, text = await ring.create("k", INTERFACES, allowance=Allowance())
    ring.may.set()
    assert await opens(keys, text)
    return keys, text


@pytest.mark.anyio
async def test_one_request_asks_again_for_all(database: Database) -> None:
    """The others are let in meanwhile, but no longer than what was found may be believed."""
    ring, clock = Slow(database), Clock()
    keys, text = await known(ring, clock)
    ring.may = anyio.Event()
    clock.now_s += KNOWN_S / 2

    async with anyio.create_task_group() as group:
        group.start_soon(opens, keys, text)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(GONE_S):
            assert [True] * 3 == [await opens(keys, text) for _ in range(3)]
        asked = ring.n_asked
        clock.now_s += KNOWN_S / 2
        group.start_soon(opens, keys, text)
        await anyio.wait_all_tasks_blocked()
        ring.may.set()

    assert (2, 3) == (asked, ring.n_asked)


@pytest.mark.anyio
async def test_a_known_key_outlasts_a_moment_without_the_database(database: Database) -> None:
    """And no more than that."""
    ring, clock = Slow(database), Clock()
    keys, text = await known(ring, clock)
    ring.is_away = True
    clock.now_s += KNOWN_S - 0.01
    assert await opens(keys, text)
    clock.now_s += 0.01
    with pytest.raises(EngineUnavailable):
        await keys.caller(text)
    ring.is_away = False
    assert await opens(keys, text)


@pytest.mark.anyio
async def test_doors_share_what_is_remembered(database: Database) -> None:
    """And each has its own scope."""
    ring = KeyRing(database)
    keys = Keys((), lambda: ring)
    _, text = await ring.create("k", frozenset({Scope.OPENAI}), allowance=Allowance())

    caller = await keys.within(Scope.OPENAI).caller(text)
    with pytest.raises(AccessDenied):
        await keys.within(Scope.ADMIN).caller(text)
    assert caller == await keys.caller(text)


@pytest.mark.anyio
@pytest.mark.parametrize("is_open", [True, False])
async def test_a_door_to_the_world_is_never_open(database: Database, is_open: bool) -> None:
    """Only where nobody else comes by, any key will do; and only until there is one."""
    ring, clock = KeyRing(database), Clock()
    keys = Keys((), lambda: ring, is_open=is_open, clock=clock)

    assert is_open == await opens(keys, "any")
    assert not await opens(keys, None)
    assert not await opens(keys, "a" * 1001)
    key, text = await ring.create("k", INTERFACES, allowance=Allowance())
    assert await opens(keys, text)
    clock.now_s += KNOWN_S
    assert not await opens(keys, "any")
    await ring.revoke(key.id)
    clock.now_s += KNOWN_S
    assert not await opens(keys, "any")

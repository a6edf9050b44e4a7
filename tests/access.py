"""Keys of the scripted server, made as an operator makes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import anyio
import httpx2
import pytest
from tests.server import Server

from qasr.domain.access import Allowance, Scope
from qasr.storage.database import FILE, Database
from qasr.storage.keys import KeyRing


@dataclass(frozen=True)
class Admin:
    """The administration of a running server."""

    server: Server
    key: str

    def ask(self, method: str, path: str, value: object = None) -> httpx2.Response:
        """One request."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.request(method, f"{self.server.base}/admin/v1{path}", json=value, headers=headers, timeout=60)

    def make(self, name: str = "test", **values: Any) -> tuple[str, str]:
        """Id and text of a new key."""
        answer = self.ask("POST", "/keys", {"name": name, **values})
        assert answer.status_code == httpx2.codes.OK, answer.text
        return answer.json()["key"]["id"], answer.json()["secret"]

    def usage(self, key_id: str) -> list[dict[str, Any]]:
        """Lines of one key."""
        found: list[dict[str, Any]] = self.ask("GET", f"/usage?key={key_id}").json()["usage"]
        return found


def make_admin(server: Server) -> Admin:
    """A key with the scope ``admin``, by way of the database, as ``qasr keys create`` makes it."""
    database = Database(f"sqlite:///{server.data_dir / FILE}")

    async def create() -> str:
        return (await KeyRing(database).create("admin", frozenset({Scope.ADMIN}), allowance=Allowance()))[1]

    try:
        return Admin(server, anyio.run(create))
    finally:
        database.close()


MakeKey: TypeAlias = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def admin(scripted: Server) -> Admin:
    """Of the scripted server."""
    return make_admin(scripted)

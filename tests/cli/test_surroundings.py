"""What ``qasr doctor`` finds around the program, each good and bad."""

import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.jobs import postgres

from qasr.cli import surroundings
from qasr.config import Settings, load
from qasr.storage.checkup import Checkup
from qasr.storage.database import HEAD, Database, url_in

pytestmark = pytest.mark.anyio


def settings(folder: Path, **sections: Any) -> Settings:
    return load({"data_dir": folder, **sections})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A data directory with the tables of this version."""
    database = Database(url_in(tmp_path, None))
    database.migrate()
    database.close()
    return tmp_path


def test_tables_are_looked_at_and_left_alone(kept: Path) -> None:
    """The finding names what keeps them, and their version."""
    before = (kept / "qasr.db").read_bytes()

    found = surroundings.database(settings(kept))

    assert found.ok
    assert f"SQLite {sqlite3.sqlite_version}, tables of version {HEAD}" == found.text
    assert before == (kept / "qasr.db").read_bytes()


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A server would make it."""
    found = surroundings.database(settings(tmp_path / "none"))

    assert (True, "SQLite: qasr.db will be made") == (found.ok, found.text)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["qasr.db", "workflows.db"])
def test_what_is_no_database_is_found(kept: Path, name: str) -> None:
    """Of either file."""
    (kept / name).write_bytes(b"not a database, whatever its name says" * 100)

    found = surroundings.database(settings(kept))

    assert not found.ok
    assert f"{name} cannot be read: DatabaseError: file is not a database" in found.text


def test_damage_is_found(kept: Path) -> None:
    """A file that opens may be broken inside."""
    path = kept / "qasr.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks_by_state'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)

    found = surroundings.database(settings(kept))

    assert not found.ok
    assert "qasr.db" in found.text


def test_tables_of_a_later_version_are_refused(kept: Path) -> None:
    """An older program would not understand them."""
    with closing(sqlite3.connect(kept / "qasr.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    found = surroundings.database(settings(kept))

    assert not found.ok
    assert "made by a later qasr" in found.text


def test_a_database_on_a_network_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not work there; PostgreSQL does, wherever the directory lies."""
    assert surroundings.file_system(tmp_path) not in {None, *surroundings.REMOTE}
    monkeypatch.setattr(surroundings, "file_system", lambda _: "nfs4")

    found = surroundings.database(settings(tmp_path))

    assert not found.ok
    assert "is on nfs4" in found.text


def test_a_server_that_is_away_is_found_without_its_password(tmp_path: Path) -> None:
    """The reason is the driver's, in one line."""
    found = surroundings.database(settings(tmp_path, database={"url": "postgresql://me:hidden@127.0.0.1:9/qasr"}))

    assert not found.ok
    assert found.text.startswith("database.url cannot be used: OperationalError:")
    assert "hidden" not in found.text
    assert "\n" not in found.text


@pytest.mark.parametrize("url", ["nonsense", "nonesuch://host/name"])
def test_an_address_that_is_none_is_found(tmp_path: Path, url: str) -> None:
    """Before a server fails to start."""
    assert not surroundings.database(settings(tmp_path, database={"url": url})).ok


@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
def test_a_server_is_looked_at() -> None:
    """Its version, its tables, its clock; and what several servers need to share it."""
    with postgres.postgres() as running:
        bare = surroundings.database(settings(Path("data"), database={"url": running.url}))
        database = Database(running.url)
        database.migrate()
        database.close()
        secret = {"secret": "a secret of sixteen"}
        found = surroundings.database(settings(Path("data"), database={"url": running.url}, server=secret))

    assert bare.ok
    assert "no tables yet" in bare.text
    assert "server.secret is not set" in bare.text
    assert found.ok
    assert found.text.startswith("PostgreSQL ")
    assert found.text.endswith(f"tables of version {HEAD}")


def test_clocks_that_differ_are_found() -> None:
    """By more than a server takes between two signs of life."""
    late = Checkup(product="PostgreSQL 16", version=HEAD, clock_s=-61.2)

    found = surroundings._told(late)

    assert not found.ok
    assert "its clock is -61 s from ours" in found.text


async def test_an_object_store_is_asked(tmp_path: Path) -> None:
    """One that answers, and one whose reason may hold keys."""
    assert await surroundings.store(settings(tmp_path)) is None
    good = await surroundings.store(settings(tmp_path, store={"url": f"file://{tmp_path}"}))
    bad = await surroundings.store(settings(tmp_path, store={"url": "nonesuch://me:hidden@host/path?secret=hidden"}))

    assert good is not None
    assert bad is not None
    assert (True, f"file://{tmp_path} answers") == (good.ok, good.text)
    assert not bad.ok
    assert bad.text.startswith("nonesuch://host/path cannot be used:")
    assert "hidden" not in bad.text


def test_limits_of_the_system_are_told() -> None:
    """Memory, the clock and open files never break a server; who asks for more sessions than files is told."""
    many = surroundings.open_files(10**9)

    assert many.ok
    assert "raise the limit" in many.text or many.text == "as many as may be"
    assert surroundings.open_files(0).ok
    assert surroundings.memory().text.partition(" ")[2].startswith("GiB available")
    assert "synchronized" in surroundings.clock().text


def test_formats_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """This build has all; another may not."""
    assert surroundings.ffmpeg().ok
    monkeypatch.setattr(surroundings, "DECODERS", ("flac", "nonesuch"))

    found = surroundings.ffmpeg()

    assert not found.ok
    assert "lacks nonesuch" in found.text


def test_observers_are_told(tmp_path: Path) -> None:
    """Who may read metrics, and whether a collector listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/traces"
        there = list(surroundings.observers(settings(tmp_path, tracing={"url": url})))
    away = list(surroundings.observers(settings(tmp_path, tracing={"url": url}, metrics={"access": "off"})))
    broken = list(surroundings.observers(settings(tmp_path, metrics={"access": "token"})))

    assert ["at /metrics, for this machine", "at /metrics, for nobody: they are off"] == [there[0].text, away[0].text]
    assert there[1].text.endswith("which answers")
    assert "does not answer" in away[1].text
    assert [False] == [finding.ok for finding in broken]

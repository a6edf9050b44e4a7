"""Secret and name of a server are made at its first start, whole, and stay."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qasr.storage.executors import stable_id
from qasr.storage.once import made_once
from qasr.storage.uploads import server_secret


def test_the_secret_stays_and_only_we_may_read_it(tmp_path: Path) -> None:
    """No other file is left beside it; a configured one needs no file at all."""
    first = server_secret(tmp_path / "a")

    assert 32 == len(first)
    assert first == server_secret(tmp_path / "a") != server_secret(tmp_path / "b")
    assert [("secret", 0o600)] == [(path.name, path.stat().st_mode & 0o777) for path in (tmp_path / "a").iterdir()]
    assert b"configured" == server_secret(tmp_path / "c", "configured")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("torn", [b"", b"0123456"])
def test_a_file_that_a_crash_cut_off_is_made_anew(tmp_path: Path, torn: bytes) -> None:
    """An empty secret would let anybody sign; an empty name would be every server's."""
    for name in ("secret", "executor", ".secret.new"):
        (tmp_path / name).write_bytes(torn)
    (tmp_path / "secret").chmod(0o644)

    secret, name = server_secret(tmp_path), stable_id(tmp_path)

    assert 32 == len(secret)
    assert 16 == len(name)
    assert (secret, name) == (server_secret(tmp_path), stable_id(tmp_path))
    assert 0o600 == (tmp_path / "secret").stat().st_mode & 0o777


def test_a_secret_of_an_operator_stays(tmp_path: Path) -> None:
    """Such as a text of his own in the file."""
    (tmp_path / "secret").write_bytes(b"sixteen letters!")

    assert b"sixteen letters!" == server_secret(tmp_path)


def test_first_starts_at_the_same_moment_agree(tmp_path: Path) -> None:
    """Each makes another one, and all get the same."""
    numbers = iter(range(1000))

    def start(_: int) -> bytes:
        return made_once(tmp_path / "data" / "file", lambda: b"number %d" % next(numbers), least_bytes=1)

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(start, range(64)))

    assert {b"number 0"} == found

"""Downloads of checkpoints: they go on where they broke off, and nothing wrong is ever taken for right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import hub as hubs
from tests.hub import Hub

from qasr.catalogue import checkpoints
from qasr.catalogue.download import download
from qasr.catalogue.hubs import HubFailed, Remote, modelscope
from qasr.catalogue.store import Installed, Store

CHECKPOINT = checkpoints.built_in().find("qwen3-asr-0.6b")
REPOSITORY = "Qwen/Qwen3-ASR-0.6B"
WEIGHTS = bytes(range(256)) * 4000
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "vocab.json": b"[]", "README.md": b"Not wanted."}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hubs.running() as found:
        found.repositories[REPOSITORY] = dict(FILES)
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def remote(hub: Hub) -> Remote:
    return modelscope(CHECKPOINT, REPOSITORY, None, hub.base)


def pull(hub: Hub, store: Store) -> tuple[Installed, int]:
    """The record, and how many bytes the progress told."""
    told: list[int] = []
    record = download(store, CHECKPOINT, remote(hub), got=told.append)
    return record, sum(told)


def test_connection_that_breaks_is_taken_up_again(hub: Hub, store: Store) -> None:
    """Each time from where it broke off; progress counts every byte once."""
    hub.break_after["model.safetensors"] = [100_000, 1, 500_000]

    record, told = pull(hub, store)

    assert ["bytes=100000-", "bytes=100001-", "bytes=600001-"] == hub.ranges
    assert WEIGHTS == (store.folder(record) / "model.safetensors").read_bytes()
    assert told == record.n_bytes == sum(len(FILES[name]) for name in FILES if name != "README.md")


def test_download_that_was_given_up_goes_on_at_the_next_try(hub: Hub, store: Store) -> None:
    """What had arrived is kept, and is not installed before it is whole."""
    hub.break_after["model.safetensors"] = [300_000, 0, 0, 0, 0, 0]
    with pytest.raises(HubFailed, match="try again"):
        pull(hub, store)
    assert store.find(CHECKPOINT.name) is None
    hub.ranges.clear()
    hub.fetched.clear()

    record, told = pull(hub, store)

    assert ["bytes=300000-"] == hub.ranges
    assert "config.json" not in hub.fetched
    assert told == record.n_bytes
    assert [] == list(store.check(record))


@pytest.mark.parametrize(
    ("sent", "why"),
    [(b"?" * len(WEIGHTS), "SHA-256"), (WEIGHTS + b"?", "more than")],
    ids=["other bytes", "too many"],
)
def test_wrong_bytes_are_not_taken(hub: Hub, store: Store, sent: bytes, why: str) -> None:
    """The file is told; once the hub is right again, so is the checkpoint."""
    hub.lies["model.safetensors"] = sent
    with pytest.raises(HubFailed, match=rf"model\.safetensors.*{why}"):
        pull(hub, store)
    assert store.find(CHECKPOINT.name) is None
    hub.lies.clear()

    assert [] == list(store.check(pull(hub, store)[0]))


def test_new_revision_takes_the_place_of_the_old_one_at_once(hub: Hub, store: Store) -> None:
    """Its files lie beside the old ones until all are there; then the old ones go."""
    old, _ = pull(hub, store)
    hub.repositories[REPOSITORY]["model.safetensors"] = b"new"
    fresh = Remote(**{name: getattr(remote(hub), name) for name in Remote.__slots__} | {"revision": "other"})
    hub.break_after["model.safetensors"] = [1, 0, 0, 0, 0, 0]
    with pytest.raises(HubFailed):
        download(store, CHECKPOINT, fresh, got=lambda _: None)
    assert old == store.find(CHECKPOINT.name)
    assert [] == list(store.check(old))

    new = download(store, CHECKPOINT, fresh, got=lambda _: None)

    assert b"new" == (store.folder(new) / "model.safetensors").read_bytes()
    assert not store.folder(old).exists()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"config.json": b"{}"}, "there is no .*safetensors"),
        ({"config.json": b"{}", "../../x.safetensors": b"1"}, "lie elsewhere"),
        ({"config.json": b"{}", "/x.safetensors": b"1"}, "lie elsewhere"),
    ],
)
def test_repository_with_something_else_is_refused(hub: Hub, files: dict[str, bytes], why: str) -> None:
    """Nothing is fetched from it."""
    hub.repositories[REPOSITORY] = files

    with pytest.raises(HubFailed, match=why):
        remote(hub)


def test_hub_that_answers_nonsense_is_told() -> None:
    """Nobody listens there."""
    with pytest.raises(HubFailed, match="cannot be read"):
        modelscope(CHECKPOINT, REPOSITORY, None, "http://127.0.0.1:1")

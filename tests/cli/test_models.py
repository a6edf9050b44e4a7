"""``qasr models``: checkpoints come from a hub or a folder, are checked, and serve what they should."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import hub as hubs
from tests.cli.program import Qasr
from tests.hub import COMMIT, Hub

REPOSITORY = "Systran/faster-whisper-tiny"
FILES = {
    "model.bin": bytes(range(256)) * 4000,
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "vocabulary.txt": b"a\nb\n",
    "README.md": b"Not wanted.",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hubs.running() as found:
        found.repositories[REPOSITORY] = dict(FILES)
        yield found


@pytest.fixture
def models(qasr: Qasr, hub: Hub, tmp_path: Path) -> Qasr:
    """``qasr models`` over one data directory, with the hub on this machine."""

    def run(*arguments: str | Path, **variables: str):  # type: ignore[no-untyped-def]
        mirrors = {"HF_ENDPOINT": hub.base, "QASR_MODELS__MODELSCOPE_URL": hub.base, "HF_HOME": str(tmp_path / "hf")}
        return qasr("models", *arguments, QASR_DATA_DIR=str(tmp_path / "data"), **mirrors, **variables)

    return run


def test_checkpoint_is_pulled_checked_and_removed(models: Qasr, hub: Hub, tmp_path: Path) -> None:
    """Its files and no others, with licence and revision told; a damaged file is found; nothing is left behind."""
    pulled = models("pull", "whisper-tiny")

    assert 0 == pulled.code, pulled.err
    assert "whisper-tiny installed: 4 files" in pulled.out
    assert all(word in pulled.err for word in (REPOSITORY, COMMIT[:12], "apache-2.0", "1 MB")), pulled.err
    (folder,) = [path for path in (tmp_path / "data/models/whisper-tiny").iterdir() if path.is_dir()]
    assert {name: data for name, data in FILES.items() if name != "README.md"} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }

    hub.fetched.clear()
    assert 0 == models("pull", "Systran/faster-whisper-tiny").code
    assert [] == hub.fetched

    assert (0, "whisper-tiny: 4 files are as they were recorded\n") == ((ran := models("check")).code, ran.out)
    (folder / "model.bin").write_bytes(FILES["model.bin"][:-1] + b"?")
    assert (1, "whisper-tiny: model.bin has another SHA-256\n") == ((ran := models("check")).code, ran.out)
    (folder / "config.json").unlink()
    assert "config.json No such file" in models("check", "whisper-tiny").out

    assert (0, "whisper-tiny removed\n") == ((ran := models("rm", "whisper-tiny")).code, ran.out)
    assert [] == list((tmp_path / "data/models").iterdir())
    assert 1 == models("rm", "whisper-tiny").code
    assert 1 == models("check", "whisper-tiny").code


def test_what_cannot_be_pulled_is_told(models: Qasr, hub: Hub) -> None:
    """One line with the reason; nothing counts as installed."""
    hub.gated = True
    gated = models("pull", "whisper-tiny")
    hub.gated = False
    absent = models("pull", "whisper-base")
    offline = models("pull", "whisper-tiny", QASR_MODELS__OFFLINE="true")
    theirs = models("pull", "whisper-tiny", HF_HUB_OFFLINE="1")
    by_hand = models("pull", "fun-asr-nano")
    nonsense = models("pull", "nonesuch")

    assert [1, 1, 2, 1, 2, 2] == [ran.code for ran in (gated, absent, offline, theirs, by_hand, nonsense)]
    assert "HF_TOKEN" in gated.err
    assert "Systran/faster-whisper-base cannot be read" in absent.err
    assert "models.offline" in offline.err
    assert "HF_HUB_OFFLINE" in theirs.err
    assert "qasr models add fun-asr-nano DIR" in by_hand.err
    assert "qasr models list" in nonsense.err
    assert not any("Traceback" in ran.err for ran in (gated, absent, offline, theirs, by_hand, nonsense))


def test_other_hub_is_asked_where_the_first_has_nothing(models: Qasr, hub: Hub) -> None:
    """``auto`` goes from Hugging Face to ModelScope; a name of a model means the best checkpoint for it."""
    hub.repositories = {"Qwen/Qwen3-ASR-0.6B": {"config.json": b"{}", "a.safetensors": b"1", "b.safetensors": b"2"}}

    refused = models("pull", "whisper-tiny", "--source", "modelscope")
    pulled = models("pull", "qwen3-asr-0.6b", "--source", "modelscope")

    assert (1, 0) == (refused.code, pulled.code), pulled.err
    assert "modelscope is not known to have whisper-tiny" in refused.err
    assert "(modelscope)" in pulled.err
    assert "qasr[qwen3]" in pulled.err or "without" not in models("list").out
    assert "Qwen/Qwen3-ASR-1.7B cannot be read" in models("pull", "qwen3-asr-flash").err


def test_folder_is_added_and_stays(models: Qasr, tmp_path: Path) -> None:
    """Under the name of a checkpoint, or of a model that it may serve; another kind of folder is refused."""
    own = tmp_path / "own"
    own.mkdir()
    refused = models("add", "whisper-tiny", own)
    for name, data in FILES.items():
        (own / name).write_bytes(data)
    added = models("add", "whisper-1", own)
    shown = json.loads(models("show", "whisper-large-v3", "--json").out)
    removed = models("rm", "whisper-large-v3")

    assert (2, 0, 0) == (refused.code, added.code, removed.code), added.err
    assert "holds no whisper-tiny" in refused.err
    assert "model.bin" in refused.err
    assert "whisper-large-v3 installed" in added.out
    assert (str(own), "local") == (shown["folder"], shown["source"])
    assert sorted(FILES) == sorted(path.name for path in own.iterdir())


def test_lists_tell_what_serves_and_what_could(models: Qasr) -> None:
    """Without anything installed the embedded engine serves all names; what is printed fits a terminal."""
    listing = json.loads(models("list", "--json").out)
    shown, checkpoint = models("show", "whisper-1"), models("show", "qwen3-asr-0.6b")
    forced = json.loads(models("list", "--json", QASR_ENGINES__DEFAULT="scripted").out)

    assert {"moonshine"} == {model["engine"] for model in listing["models"]}
    assert {"scripted"} == {model["engine"] for model in forced["models"]}
    assert "qwen3-asr-flash" in {model["name"] for model in listing["models"]}
    assert {"not installed"} == {one["state"] for one in listing["checkpoints"]}
    assert "whisper-1 is served by moonshine" in shown.out
    assert "qasr models pull whisper-large-v3" in shown.out
    assert "Qwen/Qwen3-ASR-0.6B" in checkpoint.out
    assert max(map(len, (shown.out + checkpoint.out).splitlines())) <= 80

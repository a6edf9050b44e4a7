"""Which checkpoints may serve a name, and what would have to be installed for it."""

from pathlib import Path

import pytest

from qasr import catalogue, selection
from qasr.catalogue import checkpoints
from qasr.catalogue.checkpoints import Checkpoint
from qasr.catalogue.store import Store
from qasr.domain.errors import InvalidParameter, UnknownModel
from qasr.engines import registry
from qasr.engines.base import Capabilities
from qasr.selection import Selection

KNOWN = checkpoints.built_in()


def test_every_name_may_be_served_by_every_recognizer() -> None:
    """In an order of its own; whatever is installed serves rather than the embedded engine."""
    recognizers = {one.name for one in KNOWN.all if one.engine != "qwen3_aligner"}
    for model in catalogue.built_in().models:
        serving = [one.name for one in KNOWN.serving(model.name)]

        assert len(serving) == len(set(serving))
        assert recognizers == set(serving), model.name


@pytest.mark.parametrize(
    ("model", "best"),
    [
        ("qwen3-asr-flash", "qwen3-asr-1.7b"),
        ("qwen3-asr-flash-realtime", "qwen3-asr-1.7b"),
        ("fun-asr-realtime", "fun-asr-nano"),
        ("fun-asr-mtl", "qwen3-asr-1.7b"),
        ("paraformer-realtime-8k-v2", "paraformer-zh"),
        ("sensevoice-v1", "sense-voice-small"),
        ("whisper-1", "whisper-large-v3"),
        ("gpt-4o-transcribe", "qwen3-asr-1.7b"),
        ("", "qwen3-asr-1.7b"),
    ],
)
def test_each_family_has_its_own_best(model: str, best: str) -> None:
    """The open weights of the very family, where there are any."""
    assert best == KNOWN.serving(model)[0].name


def test_facts_are_of_known_kinds() -> None:
    """Abilities are fields of what engines say of themselves; engines are told with what they need."""
    for one in KNOWN.all:
        assert one.gives <= set(Capabilities.__dataclass_fields__), one.name
        assert one.engine in KNOWN.needs
        assert one.hugging_face or one.modelscope or one.page
        assert one.missing(set()) == list(one.files)


@pytest.mark.parametrize("name", ["qwen3-asr-0.6b", "Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-0.6B"])
def test_checkpoint_is_found_by_its_names(name: str) -> None:
    """Ours, and that of its repository."""
    assert "qwen3-asr-0.6b" == KNOWN.find(name).name


def test_unknown_checkpoint_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UnknownModel, match=r"whisper-tiny"):
        KNOWN.find("nonesuch")


def test_remedy_is_a_command_that_helps() -> None:
    """Of what would be preferred to the engine at hand; nothing where nothing known would do."""
    assert str(KNOWN.remedy("qwen3-asr-flash", "moonshine", language="zh")).endswith("qasr models pull qwen3-asr-1.7b")
    assert str(KNOWN.remedy("whisper-1", "moonshine", gives="emotion")).endswith("qasr models pull sense-voice-small")
    assert "qasr[sherpa]" in KNOWN.needs["sherpa"].remedy
    assert KNOWN.remedy("paraformer-v2", "sherpa", gives="itn") is None
    assert KNOWN.remedy("qwen3-asr-flash", "moonshine", language="xx") is None


def folder_of(checkpoint: Checkpoint, folder: Path) -> Path:
    """Files with the right names."""
    folder.mkdir(parents=True)
    for pattern in checkpoint.files:
        (folder / pattern.replace("*", "x")).write_bytes(b"1")
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two checkpoints of Whisper are there, and the engine is, too."""
    monkeypatch.setattr(registry, "installed_names", lambda: frozenset({"moonshine", "scripted", "whisper"}))
    monkeypatch.setattr(selection, "_has_packages", lambda engine: engine == "whisper")
    found = Store(tmp_path / "models")
    for name in ("whisper-tiny", "whisper-small"):
        found.add(KNOWN.find(name), folder_of(KNOWN.find(name), tmp_path / name))
    return found


def test_best_installed_checkpoint_serves(store: Store, tmp_path: Path) -> None:
    """With the settings of its engine; the embedded engine comes last."""
    chosen = Selection("auto", {"whisper": {"beam": "1", "folder": "elsewhere"}}, store)("whisper-1")

    assert ["whisper-small", "whisper-tiny", "moonshine"] == [choice.name for choice in chosen]
    assert {"beam": "1", "folder": str(tmp_path / "whisper-small")} == dict(chosen[0].settings)
    assert 4 == chosen[0].n_bytes


def test_checkpoint_without_its_engine_does_not_serve(store: Store, tmp_path: Path) -> None:
    """Its state says what is missing."""
    checkpoint = KNOWN.find("sense-voice-small")
    store.add(checkpoint, folder_of(checkpoint, tmp_path / "sense"))
    chosen = Selection("auto", {}, store)

    assert "whisper-small" == chosen("sensevoice-v1")[0].name
    assert "without its engine" == chosen.state(checkpoint)
    assert "installed" == chosen.state(KNOWN.find("whisper-tiny"))
    assert "not installed" == chosen.state(KNOWN.find("whisper-base"))


@pytest.mark.parametrize(
    ("default", "serves"),
    [("scripted", "scripted"), ("whisper", "whisper-small"), ("whisper-tiny", "whisper-tiny")],
)
def test_operator_may_have_one_serve_all(store: Store, default: str, serves: str) -> None:
    """An engine (which takes the best checkpoint of its own), or a checkpoint."""
    chosen = Selection(default, {}, store)
    chosen.check()

    assert {serves} == {chosen(model.name)[0].name for model in catalogue.built_in().models}


def test_folder_in_the_settings_wins_for_an_engine_that_is_forced(store: Store) -> None:
    """As it always did."""
    (choice,) = Selection("whisper", {"whisper": {"folder": "mine"}}, store)("whisper-1")

    assert {"folder": "mine"} == dict(choice.settings)
    assert choice.checkpoint is None


@pytest.mark.parametrize(
    ("default", "why"), [("nonesuch", "qasr models list"), ("whisper-base", "qasr models pull whisper-base")]
)
def test_default_that_cannot_be_is_refused_at_the_start(store: Store, default: str, why: str) -> None:
    """With what to do."""
    with pytest.raises(InvalidParameter, match=why):
        Selection(default, {}, store).check()


def test_damaged_record_counts_for_nothing(store: Store) -> None:
    """The next best serves, and installing the checkpoint again mends it."""
    (store.root / "whisper-small" / "checkpoint.json").write_text("{")

    assert store.find("whisper-small") is None
    assert "whisper-tiny" == Selection("auto", {}, store)("whisper-1")[0].name

"""Qwen3-ASR without its extra: what is said where torch or a model is missing, and that settings arrive."""

import importlib.util
from importlib.machinery import ModuleSpec

import msgspec
import pytest

from qasr.config import Qwen3Aligner, Qwen3Asr, Settings
from qasr.domain.errors import EngineUnavailable
from qasr.engines import qwen3
from qasr.engines.qwen3 import setup as setups
from qasr.engines.qwen3.aligner import AlignerSetup, aligner
from qasr.selection import engine_settings

pytestmark = pytest.mark.anyio


async def test_a_missing_extra_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to know that the model needs torch."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(EngineUnavailable, match=r"torch and transformers; install 'qasr\[qwen3\]'"):
        async with qwen3.factory({"folder": "/models/any"}):
            pass
    with pytest.raises(EngineUnavailable, match=r"install 'qasr\[qwen3\]'"):
        async with aligner({"folder": "/models/any"}):
            pass


async def test_a_missing_model_is_told_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra brings no weights."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))

    with pytest.raises(EngineUnavailable, match="QASR_QWEN3_ASR__FOLDER"):
        async with qwen3.factory({}):
            pass


async def test_wrong_settings_are_told() -> None:
    """By their name."""
    for settings, told in (({"rows": "0"}, "rows"), ({"precision": "int4"}, "precision"), ({"color": "red"}, "color")):
        with pytest.raises(ValueError, match=told):
            async with qwen3.factory(settings):
                pass
    with pytest.raises(ValueError, match="precision"):
        async with aligner({"folder": "any", "precision": "int8"}):
            pass


def test_settings_and_set_up_have_the_same_fields_and_defaults() -> None:
    """What is documented is what the engine does if nothing is set."""
    for section, structure in ((Qwen3Asr(), setups.Setup()), (Qwen3Aligner(), AlignerSetup(folder=""))):
        assert section.model_dump() == msgspec.to_builtins(structure)


def test_a_zero_that_is_set_arrives() -> None:
    """It is not taken for something that was not set."""
    settings = Settings(qwen3_asr=Qwen3Asr(spare_rows=0, context_tokens=0, folder="/m", rows=8))

    assert {"spare_rows": "0", "context_tokens": "0", "folder": "/m"} == engine_settings(settings)["qwen3_asr"]


def test_a_row_has_room_for_what_it_may_hold() -> None:
    """The longest segment with the longest context and the longest answer."""
    setup = setups.Setup(longest_s=30, context_tokens=100)

    assert 100 + 13 * 30 + (16 * 30 + 32) <= setup.places < 100 + 13 * 30 + (16 * 30 + 32) + 100

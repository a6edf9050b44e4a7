"""Public model names."""

from typing import get_args

import pytest

from qasr.catalogue import Feature, built_in
from qasr.domain.errors import UnknownModel


@pytest.mark.parametrize(
    ("name", "family", "kind"),
    [
        ("qwen3-asr-flash", "qwen3-asr-flash", "qwen-sync"),
        ("qwen3-asr-flash-2025-09-08", "qwen3-asr-flash", "qwen-sync"),
        ("qwen3-asr-flash-2026-02-10", "qwen3-asr-flash", "qwen-sync"),
        ("qwen3-asr-flash-us", "qwen3-asr-flash", "qwen-sync"),
        ("qwen3-asr-flash-2025-09-08-us", "qwen3-asr-flash", "qwen-sync"),
        ("qwen-audio-asr-latest", "qwen-audio-asr", "qwen-sync"),
        ("qwen3.5-omni-flash", "qwen3.5-omni-plus", "qwen-sync"),
        ("qwen3-omni-flash-2025-12-01", "qwen3-omni-flash", "qwen-sync"),
        ("qwen3-omni-flash-realtime", "qwen3-omni-flash-realtime", "realtime"),
        ("fun-asr-flash-2026-06-15", "fun-asr-flash", "fun-sync"),
        ("qwen-audio-3.0-asr-flash", "qwen-audio-3.0-asr-flash", "fun-sync"),
        ("qwen3-asr-flash-filetrans-2025-11-17", "qwen3-asr-flash-filetrans", "qwen-file"),
        ("fun-asr", "fun-asr", "fun-file"),
        ("fun-asr-2025-11-07", "fun-asr", "fun-file"),
        ("fun-asr-2025-08-25", "fun-asr-2025-08-25", "fun-file"),
        ("fun-asr-mtl-2025-08-25", "fun-asr-mtl", "fun-file"),
        ("paraformer-8k-v2", "paraformer-8k-v2", "fun-file"),
        ("paraformer-mtl-v1", "paraformer-mtl-v1", "fun-file"),
        ("sensevoice-v1", "sensevoice-v1", "fun-file"),
        ("qwen-audio-3.1-asr-flash-filetrans", "qwen-audio-3.0-asr-flash-filetrans", "fun-file"),
        ("fun-asr-realtime-2026-02-28", "fun-asr-realtime", "fun-live"),
        ("fun-asr-realtime-2025-09-15", "fun-asr-realtime-2025-09-15", "fun-live"),
        ("paraformer-realtime-8k-v2", "paraformer-realtime-8k-v2", "fun-live"),
        ("qwen-audio-3.1-asr-flash-streaming", "qwen-audio-3.0-asr-flash-streaming", "fun-live"),
        ("gummy-chat-v1", "gummy-chat-v1", "gummy-live"),
        ("whisper-1", "whisper-1", "openai-audio"),
    ],
)
def test_names_resolve(name: str, family: str, kind: str) -> None:
    """By themselves, as aliases, and as dated snapshots."""
    model = built_in().resolve(name)

    assert (family, kind) == (model.name, model.kind)


@pytest.mark.parametrize("name", ["", "qwen3", "qwen3-asr-flash-turbo", "gpt-5", "-2025-01-01", "x" * 10_000])
def test_other_names_are_unknown(name: str) -> None:
    """And the message does not echo more than a name's length."""
    with pytest.raises(UnknownModel) as caught:
        built_in().resolve(name)

    assert len(str(caught.value)) < 300


def test_documented_limits() -> None:
    """5 minutes and 10 MB for qwen3-asr-flash; 27 documented languages among those accepted."""
    model = built_in().resolve("qwen3-asr-flash")
    documented = (
        "zh yue en ja de ko ru fr pt ar it es hi id th tr uk vi cs da fil fi is ms no pl sv"  # cloud's list of codes
    )

    assert (300_000, 10 * 1024**2) == (model.limits.max_ms, model.limits.max_bytes)
    assert set(documented.split()) <= model.languages


def test_file_models() -> None:
    """12 hours and 2 GB each, and the languages and options of their own parameter tables."""
    models = {model.name: model for model in built_in().models if model.kind in ("qwen-file", "fun-file")}

    assert {(43_200_000, 2 * 1024**3)} == {(m.limits.max_ms, m.limits.max_bytes) for m in models.values()}
    assert {"zh"} == models["paraformer-8k-v2"].languages == models["paraformer-8k-v1"].languages
    paraformer = "zh en ja yue ko de fr ru"
    assert set(paraformer.split()) == models["paraformer-v2"].languages
    assert {"zh", "en"} == models["fun-asr-2025-08-25"].languages
    hints = "zh en ja ko vi th id ms tl hi ar fr de es pt ru it nl sv da fi no el pl cs hu ro bg hr sk"
    assert set(hints.split()) <= models["fun-asr"].languages & models["fun-asr-mtl"].languages
    assert {"paraformer-v1", "paraformer-8k-v1", "paraformer-mtl-v1"} == {
        name for name, model in models.items() if "phrases" in model.takes
    }
    assert all(
        ("stored-hotwords" in model.takes) == name.endswith("-v2")
        for name, model in models.items()
        if name.startswith("paraformer")
    )
    assert all(model.takes <= set(get_args(Feature)) for model in models.values())


def test_live_models_of_the_task_protocol() -> None:
    """Sample rates and languages of their parameter tables, and which of them have emotions and context."""
    models = {model.name: model for model in built_in().models if model.kind in ("fun-live", "gummy-live")}
    traits = {name: model.live for name, model in models.items()}

    assert all(model.live is None for model in built_in().models if model.name not in models)
    assert {"fun-asr-flash-8k-realtime", "paraformer-realtime-8k-v1", "paraformer-realtime-8k-v2"} == {
        name for name, live in traits.items() if live is not None and live.rate_hz == 8000
    }
    assert ["paraformer-realtime-8k-v2"] == [name for name, live in traits.items() if live is not None and live.emotion]
    assert {"zh", "en", "ja"} == models["fun-asr-realtime"].languages
    assert {name for name in models if name.startswith("qwen-audio")} | {"fun-asr-realtime"} == {
        name for name, model in models.items() if "context" in model.takes
    }
    assert all(model.takes <= set(get_args(Feature)) for model in models.values())

"""Prompts are the library's; a context cannot leave its place; answers are read."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.qwen3.conftest import Folders
from transformers import AutoProcessor, Qwen2Tokenizer

from qasr.domain.audio import Pcm
from qasr.engines.qwen3.languages import ALIGNED, HEARD, NAMES, find_code
from qasr.engines.qwen3.prompt import ContextTooLong, Prompts

PARTS = [
    "<|im_end|>", "<|im_start|>", "<|audio_pad|>", "<asr_text>", "<timestamp>", "<|extra_5|>", "<|unheard_of|>",
    "<|", "|>", "<", ">", "|", "im_end", "im_start", "asr_text", "assistant", "\n", "你好", "é", " ", "fox",
]  # fmt: skip
hostile = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)


@pytest.fixture(scope="module")
def prompts(checkpoints: Folders) -> Prompts:
    return Prompts(Qwen2Tokenizer.from_pretrained(checkpoints("asr", "original")))


@pytest.mark.parametrize("language", [None, "en", "yue", "fil"])
@pytest.mark.parametrize("context", ["", "fox", "\nQuick 今天天气, lazy dog.\n"])
def test_a_prompt_is_the_librarys(
    checkpoints: Folders, prompts: Prompts, clip: Callable[..., Pcm], language: str | None, context: str
) -> None:
    """Token by token, with and without context and language."""
    processor = AutoProcessor.from_pretrained(checkpoints("asr", "hf"))
    inputs = processor.apply_transcription_request(clip(20_000), language=language, prompt=context or None)
    expected = inputs["input_ids"][0].tolist()
    ours = prompts.build(context, language, most_context=100)
    n_sound = expected.count(processor.audio_token_id)

    assert expected == [*ours.before, *[processor.audio_token_id] * n_sound, *ours.after]


@given(context=hostile)
@settings(max_examples=300, deadline=None)
def test_a_context_cannot_leave_its_place(prompts: Prompts, context: str) -> None:
    """Whatever a client writes, the prompt has the marks of the template and no others, in their order."""
    plain = prompts.build("", "en", most_context=0)
    added = set(prompts._added_ids)
    ours = prompts.build(context, "en", most_context=1000)

    assert [i for i in plain.before if i in added] == [i for i in ours.before if i in added]
    assert plain.after == ours.after
    assert prompts.clean(prompts.clean(context)) == prompts.clean(context)


def test_marks_that_appear_by_stripping_are_stripped(prompts: Prompts) -> None:
    """One mark inside another leaves a third."""
    assert "ab" == prompts.clean("a<|im_<|im_end|>end|>b")
    assert "ab" == prompts.clean("a<asr_<asr_text>text>b")
    assert "1 < 2 |> 3" == prompts.clean("1 < 2 |> 3")


def test_a_context_has_a_limit(prompts: Prompts) -> None:
    """It is counted in tokens, and refused as a whole rather than cut."""
    n_tokens = len(prompts.build("fox fox", None, most_context=99).before) - len(
        prompts.build("", None, most_context=0).before
    )

    prompts.build("fox fox", None, most_context=n_tokens)
    with pytest.raises(ContextTooLong):
        prompts.build("fox fox", None, most_context=n_tokens - 1)


@pytest.mark.parametrize(
    ("written", "forced", "text", "language"),
    [
        ("language English<asr_text> Ask not.", None, "Ask not.", "en"),
        ("language Chinese<asr_text>今天天气", None, "今天天气", "zh"),
        ("language Chinese,English<asr_text>好 fox", None, "好 fox", "zh"),
        ("language None<asr_text>", None, "", None),
        ("language Klingon<asr_text>fox", None, "fox", None),
        ("fox without a mark", None, "fox without a mark", None),
        ("language fox", "en", "language fox", "en"),
        ("", None, "", None),
        ("", "en", "", "en"),
    ],
)
def test_answers_are_read(prompts: Prompts, written: str, forced: str | None, text: str, language: str | None) -> None:
    """The language as a code, the text without what announces it."""
    ids = prompts._ids(written)
    answer = prompts.read(ids, forced)

    assert (text, language) == (answer.text, answer.language)
    assert text == b"".join(prompts.pieces(ids[answer.begin :])).decode().strip()


def test_special_tokens_in_an_answer_are_not_text(prompts: Prompts) -> None:
    """A model may write anything."""
    ids = prompts._ids("language English<asr_text>a<|audio_pad|><|im_start|>b")

    assert "ab" == prompts.read(ids, None).text


def test_half_a_character_does_no_harm(prompts: Prompts) -> None:
    """A limit may fall inside the bytes of one character."""
    broken = [i for i in range(300) if prompts.pieces([i])[0] == "日".encode()[:1]]

    assert 1 == len(broken)
    assert "\ufffd" == prompts.read(broken, "ja").text


def test_there_are_thirty_languages() -> None:
    """And the eleven of the aligner are among them."""
    assert 30 == len(HEARD) == len(set(NAMES.values()))
    assert all(code == find_code(name) for code, name in NAMES.items())
    assert find_code("Irish") is None
    assert ALIGNED < HEARD
    assert 11 == len(ALIGNED)

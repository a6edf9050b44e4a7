"""The language of a text, where the engine that wrote it did not tell."""

from functools import partial
from typing import Final

import anyio
import pytest
from tests.pipeline.sentences import SENTENCES

from qasr import catalogue
from qasr.domain.transcript import Hypothesis
from qasr.pipeline.text_language import identify, with_language

UNDECIDED: Final = frozenset({"Ви не скажете, котра зараз година?", "Можете ли да ми кажете колку е часот?"})
"""No letter of them is Ukrainian or Macedonian alone, and the statistics are not sure."""


def test_the_sentences_are_of_all_languages_that_any_model_takes() -> None:
    """A language that comes to the catalogue comes to this table."""
    known = {code for model in catalogue.built_in().models for code in model.languages}

    assert known - {"tl"} == SENTENCES.keys()


@pytest.mark.parametrize("code", SENTENCES)
def test_sentences_are_told_apart(code: str) -> None:
    """Among all languages of the catalogue, without a hint."""
    expected = [None if sentence in UNDECIDED else code for sentence in SENTENCES[code]]

    assert expected == [identify(sentence) for sentence in SENTENCES[code]]


@pytest.mark.parametrize("model", ["qwen3-asr-flash", "fun-asr", "paraformer-v2", "paraformer-mtl-v1"])
def test_sentences_are_told_apart_among_the_languages_of_a_model(model: str) -> None:
    """Fewer languages leave fewer doubts; what is in doubt is left open here, too."""
    known = catalogue.built_in().resolve(model).languages
    sentences = [(code, sentence) for code in SENTENCES.keys() & known for sentence in SENTENCES[code]]

    found = [(identify(sentence, known) or (sentence in UNDECIDED and code), sentence) for code, sentence in sentences]

    assert sentences == found


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "…", "1234", "👍", "OK.", "Hello.", "No.", "Ja.", "Da.", "Stop!", "Taxi.", "Guten Morgen.",
        "Mange tak.", "Terima kasih.", "Да.", "Привет.", "سلام", "日本", "OK 好", "שלום לכולם",
    ],
)  # fmt: skip
def test_what_several_languages_could_be_is_left_open(text: str) -> None:
    """A wrong language misleads more than none."""
    assert identify(text) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("네.", "ko"),
        ("はい。", "ja"),
        ("東京タワー", "ja"),
        ("สวัสดี", "th"),
        ("Γεια!", "el"),
        ("नमस्ते", "hi"),
        ("Ещё.", "ru"),
        ("Ні, дякую, її немає.", "uk"),
        ("Љубов.", "mk"),
        ("چطورید؟", "fa"),
        ("How are you?", "en"),
    ],
)
def test_short_texts_are_told_by_their_letters(text: str, code: str) -> None:
    """Where a script or a letter belongs to one language, a word is enough."""
    assert code == identify(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("我们用 PyTorch 训练这个 model。", "zh"),
        ("Please open 微信 and send it to me.", "en"),
        ("この API を使って JSON を返します。", "ja"),
        ("Der Chef hat das Meeting gecancelt, weil das Team im Home Office ist.", "de"),
    ],
)
def test_of_mixed_languages_the_one_with_most_words_is_told(text: str, code: str) -> None:
    """Borrowed words do not change the language of a sentence."""
    assert code == identify(text)


def test_only_languages_that_the_engine_hears_are_told() -> None:
    """One possible language is not guessed at; none at all is None."""
    assert "en" == identify("Guten Morgen.", frozenset({"en", "zh"}))
    assert "fil" == identify(SENTENCES["fil"][0], frozenset({"en", "fil", "tl"}))
    assert "tl" == identify(SENTENCES["fil"][0], frozenset({"en", "tl"}))
    assert identify(SENTENCES["ja"][0], frozenset({"en", "zh"})) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("hypothesis", "asked", "language"),
    [
        (Hypothesis(text="How are you?", language="de"), "fr", "de"),
        (Hypothesis(text="How are you?"), "fr", "fr"),
        (Hypothesis(text="How are you?"), None, "en"),
        (Hypothesis(text="Hello."), None, None),
        (Hypothesis(text=" "), "fr", None),
    ],
)
async def test_the_engine_knows_best_then_the_client(
    hypothesis: Hypothesis, asked: str | None, language: str | None
) -> None:
    """The text is asked last; where there is none, nothing was said in any language."""
    assert language == (await with_language(hypothesis, asked, None)).language


@pytest.mark.anyio
async def test_many_may_ask_at_once() -> None:
    """From several threads."""
    found: list[str | None] = []

    async def ask(code: str) -> None:
        found.append((await with_language(Hypothesis(text=SENTENCES[code][0]), None, None)).language)

    async with anyio.create_task_group() as group:
        for code in SENTENCES:
            group.start_soon(partial(ask, code))

    assert sorted(SENTENCES) == sorted(map(str, found))

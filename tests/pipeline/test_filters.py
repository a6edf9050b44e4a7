"""Fillers, hidden words and punctuation left out of sentences; words keep their times."""

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pipeline.test_itn import CHINESE, ENGLISH, soup
from tests.pipeline.test_normalize import spoken, timed

from qasr.domain.options import HiddenWords
from qasr.domain.transcript import Sentence, Word
from qasr.pipeline.filters import bare, hide, without_fillers, without_marks
from qasr.pipeline.filters.removal import Span, without
from qasr.pipeline.rewriting import Rewriting, rewritten
from qasr.pipeline.words import split_words

FILLERS: Final = (
    *("嗯", "呃", "啊", "哦", "额", "哎", "嗯？", "我", "觉得", "好", "，", "。", "？"),
    *(" um ", "Um, ", "uh", "er ", "ah,", " mm ", "uh-huh", "- ", "I ", "think ", ", ", ". ", "... ", "UM "),
)
ANY: Final = soup(FILLERS, "") | soup(CHINESE, "") | soup(ENGLISH.split(), " ") | st.text(min_size=1)


# ---- fillers


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Um, so we went.", "So we went."),
        ("We came, um, and left.", "We came, and left."),
        ("I came um, you left.", "I came, you left."),
        ("I, um, think so, uh.", "I think so."),
        ("I um think so", "I think so"),
        ("Um. So we went. Uh.", "So we went."),
        ("In the year, uhm, twenty twenty", "In the year, twenty twenty"),
        ("hmm let me see", "let me see"),
        ("Erm... well, er, no.", "Well, no."),
        ("Um, iPhone sales grew.", "iPhone sales grew."),
        ('She said, uh, "no".', 'She said, "no".'),
        ("So I um- mean it", "So I mean it"),
        ("Ah, I see.", "I see."),
        ("AND SO UH MY FELLOW", "AND SO MY FELLOW"),
        ("um um uh", ""),
    ],
)
def test_english_fillers(text: str, left: str) -> None:
    """They go with their commas and blanks; what comes next takes their capital."""
    assert left == without_fillers(text, "en").text


@pytest.mark.parametrize(
    "text",
    [
        *("Uh-huh, that's right.", "Uh huh.", "Mm-hmm.", "Uh-oh!", "Hm?", "To err is human.", "the ER is closed"),
        *(
            "Ah Q is a novella.",
            "an umbrella",
            "5 mm wide",
            "five mm wide",
            "I like it, you know.",
            "hum along",
            "oh no",
        ),
        *("It is, is it not?", "er's", "co-er", "the thermal"),
    ],
)
def test_english_words_that_are_none(text: str) -> None:
    """Answers, questions, abbreviations, units; and what is a filler by its place only."""
    assert text == without_fillers(text, "en").text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("嗯，好的。", "好的。"),
        ("嗯嗯嗯，我知道了。", "我知道了。"),
        ("我，呃，觉得可以。", "我觉得可以。"),
        ("我来了，嗯，你呢？", "我来了，你呢？"),
        ("呃我觉得嗯这个不错", "我觉得这个不错"),
        ("啊，我忘了。", "我忘了。"),
        ("额头很烫，额，要去医院。", "额头很烫，要去医院。"),
        ("他说，唉，算了吧", "他说，算了吧"),
        ("我们用 um GPU 训练，嗯。", "我们用 GPU 训练。"),
        ("嗯。", ""),
        ("我呃think", "我think"),
        ("I呃think", "I think"),
    ],
)
def test_chinese_fillers(text: str, left: str) -> None:
    """The documented 语气词; English ones among Chinese go too."""
    assert left == without_fillers(text, "zh").text


@pytest.mark.parametrize(
    "text",
    [
        "好啊，走吧。",
        "嗯？",
        "啊！",
        "金额很大",
        "呃逆",
        "嗯哼",
        "那个，我想问一下",
        "谢谢谢谢",
        "看看",
        "是吗",
        "啊Q正传",
    ],
)
def test_chinese_words_that_are_none(text: str) -> None:
    """Particles of a sentence, questions, cries, and words that only look alike."""
    assert text == without_fillers(text, "zh").text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("um er ist da", "de"),
        ("um er ist da", None),
        ("um dia", "pt"),
        ("嗯、そうですね", "ja"),
        ("嗯、そうですね", None),
    ],
)
def test_other_languages_stay(text: str, language: str | None) -> None:
    """*Um* and *er* are words elsewhere; where only the script is known, nobody can tell."""
    assert text == without_fillers(text, language).text


def test_fillers_that_are_words_nowhere() -> None:
    """These go without a language, too."""
    assert "so" == without_fillers("uh, so").text
    assert "好" == without_fillers("嗯，好").text


@given(ANY, st.sampled_from(["en", "zh", None]))
def test_nothing_is_left_to_leave_out(text: str, language: str | None) -> None:
    """Once more changes nothing; nothing but capitals and blanks is ever written, and what stays keeps its order."""
    rewriting = without_fillers(text, language)

    assert rewriting.text == without_fillers(rewriting.text, language).text
    assert len(rewriting.text) <= len(text)
    for edit in rewriting.edits:
        assert edit.text in ("", " ", text[edit.begin].upper())


@given(ANY)
def test_blanks_around_stay_away(text: str) -> None:
    """A sentence has none around it, whatever goes."""
    left = without_fillers(text.strip(), "en").text

    assert left == left.strip()


@given(
    soup(["um", "Um,", "uh.", "I", "think,", "so.", "no...", "ah,", "嗯", "好，", "uh-huh", "ER"], " ")
    | soup(["嗯", "嗯，", "呃。", "啊，", "我", "觉，", "得。", "好！", "一"], ""),
    st.integers(1, 500),
)
def test_words_that_stay_keep_their_times(text: str, step_ms: int) -> None:
    """They are those of the text, in order; a sentence begins and ends with them."""
    before = spoken(text.strip(), "en", step_ms)
    found = rewritten(before, without_fillers(before.text, "en"))
    known = {(word.text.lower(), word.begin_ms, word.end_ms) for word in before.words}

    if found is not None and found is not before and found.words:
        assert split_words(found.text) == [(word.text, word.punctuation) for word in found.words]
        assert all(one.end_ms <= other.begin_ms for one, other in pairwise(found.words))
        assert before.begin_ms <= found.begin_ms <= found.words[0].begin_ms
        assert found.words[-1].end_ms <= found.end_ms <= before.end_ms
        assert {(word.text.lower(), word.begin_ms, word.end_ms) for word in found.words} <= known


def test_a_sentence_begins_with_its_first_word() -> None:
    """What was left out is not shown, neither in a subtitle."""
    found = rewritten(before := spoken("Um, so we went, uh."), without_fillers("Um, so we went, uh.", "en"))

    assert found is not None
    assert [("So", "", 100, 200), ("we", "", 200, 300), ("went", ".", 300, 400)] == timed(found.words)
    assert (100, 400) == (found.begin_ms, found.end_ms)
    assert (0, 500) == (before.begin_ms, before.end_ms)


def test_a_sentence_of_nothing_else_goes() -> None:
    """There is no empty sentence."""
    assert rewritten(spoken("Um, uh."), without_fillers("Um, uh.", "en")) is None


@pytest.mark.parametrize("part", ["um ", "嗯", "，啊 um", "uh-", "m", "I, um, ", "啊。", "h"])
def test_long_nonsense_is_read(part: str) -> None:
    """An engine that repeats itself for ever breaks nothing."""
    assert len(without_fillers(part * 5000, "zh").text) <= len(part) * 5000


# ---- hidden words


@pytest.mark.parametrize(
    ("text", "hidden", "left"),
    [
        ("Well, damn, it works.", HiddenWords(removed=("damn",)), "Well, it works."),
        ("Damn, it works.", HiddenWords(removed=("damn",)), "It works."),
        ("It works, damn!", HiddenWords(removed=("damn",)), "It works!"),
        ("It damn well works", HiddenWords(removed=("DAMN well",)), "It works"),
        ("It damn well works", HiddenWords(starred=("damn well",)), "It **** **** works"),
        ("The damned dam", HiddenWords(starred=("dam",)), "The damned ***"),
        ("你这个笨蛋，走开。", HiddenWords(starred=("笨蛋",)), "你这个**，走开。"),
        ("你这个笨蛋，走开。", HiddenWords(removed=("笨蛋",)), "你这个，走开。"),
        ("它值3.5%", HiddenWords(starred=("3.5%",)), "它值****"),
        ("a b a", HiddenWords(starred=("b",), removed=("a",)), "*"),
    ],
)
def test_hidden_words(text: str, hidden: HiddenWords, left: str) -> None:
    """Text and words tell the same."""
    found = hide(spoken(text), hidden)

    assert found is not None
    assert left == found.text
    assert "".join(found.text.split()) == "".join(word.text + word.punctuation for word in found.words)


def test_a_thousand_long_words_are_found_at_once() -> None:
    """As many as clients may send; the longest counts, and each blank of a phrase may be several."""
    words = tuple("a" * length + tail for length in range(1, 201) for tail in ("", "b", " c", "笨", "d e"))
    hidden = HiddenWords(starred=words)
    found = [hide(spoken(text), hidden) for text in ("aaa x aab", "aa   c", "aa笨蛋", "aaad", "A" * 5000)]

    assert ["*** x ***", "**   *", "***蛋", "aaad", "A" * 5000] == [one.text if one else None for one in found]


def test_covered_words_keep_their_places() -> None:
    """As many asterisks as letters, at the same time."""
    found = hide(spoken("It damn works."), HiddenWords(starred=("damn",)))

    assert found is not None
    assert [("It", "", 0, 100), ("****", "", 100, 200), ("works", ".", 200, 300)] == timed(found.words)


def test_phrases_are_hidden_in_words_that_are_cut_otherwise() -> None:
    """An engine's own words may be anything; none of them shows what is hidden."""
    own = Sentence(
        text="It damn well works",
        begin_ms=0,
        end_ms=900,
        words=(Word(text="It damn", begin_ms=0, end_ms=300), Word(text="well works", begin_ms=300, end_ms=900)),
    )
    found = hide(own, HiddenWords(starred=("damn well",)))

    assert found is not None
    assert ["It", "****", "****", "works"] == [word.text for word in found.words]
    assert hide(own, HiddenWords(removed=("it damn well works",))) is None


@given(ANY, st.lists(st.sampled_from([*FILLERS, "点", "two", "。", "a b"]), min_size=1, max_size=4), st.booleans())
def test_what_is_hidden_is_not_there(text: str, words: list[str], cover: bool) -> None:
    """Neither in the text nor in the words, however they are spelled."""
    hidden = tuple(word.strip() for word in words)
    found = hide(spoken(text), HiddenWords(starred=hidden) if cover else HiddenWords(removed=hidden))

    if cover:
        assert found is not None
        assert len(found.text) == len(text)
    if found is not None and not cover:
        assert found == hide(found, HiddenWords(removed=hidden))


# ---- removal, punctuation


def test_leaving_out_goes_on_until_nothing_is_found() -> None:
    """What is found only in what is left goes too, and each character still knows its place."""

    def find(text: str) -> list[Span]:
        place = text.find("你我")
        return [] if place < 0 else [(place, place + 2)]

    rewriting = without("x 你你我我 y", find)

    assert "x y" == rewriting.text
    assert (7, 8) == rewriting.origin(2, 3)


def test_nothing_found_is_nothing_changed() -> None:
    """The sentence is the same, not a copy."""
    sentence = spoken("Nothing to see.")

    assert sentence is hide(sentence, HiddenWords(removed=("all",), starred=("none",)))
    assert sentence is rewritten(sentence, Rewriting(sentence.text, ()))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Well, it's 3.5% more.", "Well it's 3.5% more"),
        ("今天好，明天呢？", "今天好明天呢"),
        ("Wait... what?!", "Wait what"),
        ("...", ""),
        ("“It's 3.5 o'clock,” he said – .", "It's 3.5 o'clock he said"),
    ],
)
def test_punctuation_left_out(text: str, left: str) -> None:
    """That between words; that inside of words is spelling."""
    found = without_marks(spoken(text))

    assert left == bare(text) == found.text
    assert not any(word.punctuation for word in found.words)

"""What is certain of an utterance that is still being spoken."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qasr.pipeline.agreement import Agreement


def heard(*texts: str, language: str | None = "en") -> tuple[str, str]:
    """Confirmed and tentative text after *texts*."""
    agreement = Agreement()
    for text in texts:
        agreement.hear(text, language)
    return agreement.confirmed, agreement.tentative


def test_one_decode_confirms_nothing() -> None:
    """It takes two to agree."""
    assert ("", "And so my") == heard("And so my")


def test_two_decodes_confirm_what_they_share() -> None:
    """From the beginning, up to the first difference."""
    assert ("And so my fellow", " Americans ask") == heard("And so my fellow a", "And so my fellow Americans ask")


def test_case_and_punctuation_are_no_difference() -> None:
    """The newer spelling is taken; a full stop that the next word turns into a comma was never confirmed."""
    assert ("And so, my fellow", " Americans ask") == heard("and so my fellow.", "And so, my fellow Americans ask")


def test_a_full_stop_at_the_end_waits() -> None:
    """Engines like to end with one, wherever the sound ends."""
    assert ("And so my fellow Americans", ".") == heard("And so my fellow Americans.", "And so my fellow Americans.")


def test_a_contradiction_changes_only_what_is_not_confirmed() -> None:
    """What was told stays; what comes behind it goes on from the place that fits best."""
    before = ("and so my fellow", "and so my fellow Americans")

    assert ("and so my fellow", " citizens, ask") == heard(*before, "and though my fellow citizens, ask")
    assert ("and so my fellow", " citizens") == heard(*before, "so my fellow citizens")
    assert ("and so my fellow", " citizens") == heard(*before, "and so it is my fellow citizens")
    assert ("and so my fellow", "") == heard(*before, "")


def test_after_a_contradiction_agreement_goes_on() -> None:
    """The next decode that agrees confirms more."""
    texts = (
        "and so my fellow",
        "and so my fellow Americans",
        "though my fellow Americans ask",
        "Though my fellow Americans ask not",
    )

    assert ("and so my fellow Americans ask", " not") == heard(*texts)


def test_languages_without_blanks_agree_by_characters() -> None:
    """今天天气 is four units, not one word."""
    assert ("今天天气", "不错。") == heard("今天天气很", "今天天气不错。", language="zh")
    assert ("สวัสดี", "ครับ") == heard("สวัสดีค่", "สวัสดีครับ", language="th")


def test_a_settled_piece_is_certain_whole() -> None:
    """What follows is joined to it as its language joins sentences."""
    agreement = Agreement()
    agreement.hear("And so my fell")
    agreement.settle("And so, my fellow Americans.", "en")
    agreement.hear("Ask not", "en")

    assert ("And so, my fellow Americans.", " Ask not") == (agreement.confirmed, agreement.tentative)

    agreement = Agreement()
    agreement.settle("今天。", "zh")
    agreement.hear("天气", "zh")

    assert ("今天。", "天气") == (agreement.confirmed, agreement.tentative)


def test_a_piece_without_words_adds_nothing() -> None:
    """Not even a blank."""
    agreement = Agreement()
    agreement.settle("One.", "en")
    agreement.settle("", "en")
    agreement.settle("Two.", "en")

    assert "One. Two." == agreement.confirmed


def test_an_engine_that_knows_is_believed() -> None:
    """Engines with streams of their own say themselves what is stable."""
    agreement = Agreement()
    agreement.take("and so", " my")
    agreement.take("and so my", " fellow")

    assert ("and so my", " fellow") == (agreement.confirmed, agreement.tentative)


words = st.lists(st.sampled_from(["so", "my", "My,", "fellow", "fellow.", "ask", "a", "—", "天", "气。"]), max_size=7)
languages = st.sampled_from(["en", "zh", None])
Step = tuple[str, str, str]
steps = st.tuples(
    st.sampled_from(["hear", "take", "settle"]), words.map(" ".join), words.map(lambda tail: " " + " ".join(tail))
)


@given(st.lists(steps, max_size=12), languages)
def test_confirmed_text_is_never_taken_back(script: list[Step], language: str | None) -> None:
    """Whatever is decoded: what was confirmed is a prefix of all that is told later."""
    agreement, confirmed = Agreement(), ""
    for kind, text, tail in script:
        if kind == "take":
            agreement.take(text, tail, language)
        else:
            act: Callable[..., None] = agreement.hear if kind == "hear" else agreement.settle
            act(text, language)

        assert (agreement.confirmed + agreement.tentative).startswith(confirmed)
        assert agreement.confirmed.startswith(confirmed)
        confirmed = agreement.confirmed


@given(words.map(" ".join), languages)
def test_what_is_heard_three_times_is_told_as_it_is(text: str, language: str | None) -> None:
    """Nothing is lost and nothing is added by agreeing."""
    agreement = Agreement()
    for _ in range(3):
        agreement.hear(text, language)

    assert text.strip() == agreement.confirmed + agreement.tentative


@pytest.mark.parametrize("n_words", [200])
def test_contradictions_of_a_whole_segment_are_cheap(n_words: int) -> None:
    """The comparison is of words of one segment, never of the whole utterance."""
    text = " ".join(f"w{i}" for i in range(n_words))
    confirmed, tentative = heard(text, text, "x " + text)

    assert text == confirmed + tentative

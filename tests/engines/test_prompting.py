"""Hotwords in words."""

from qasr.domain.options import Hints, Hotword
from qasr.engines.prompting import favored, prompt

LISTED = (
    Hotword(text="light", weight=1),
    Hotword(text="heavy", weight=5, language="en"),
    Hotword(text="zero", weight=0),
    Hotword(text="unwanted", weight=-3),
    Hotword(text="schwer", weight=50, language="de"),
)


def test_the_heaviest_come_first() -> None:
    """Nothing that changes nothing or is to be suppressed; another language's only where none is named."""
    english = favored(Hints(language="en", hotwords=LISTED))
    unnamed = favored(Hints(hotwords=LISTED))

    assert ["heavy", "light"] == [hotword.text for hotword in english]
    assert ["schwer", "heavy", "light"] == [hotword.text for hotword in unnamed]


def test_hotwords_stand_on_a_line_before_the_context() -> None:
    """Line breaks inside are none; a phrase that does not fit is left out, what comes after it may still fit."""
    words = (Hotword(text="x" * 20, weight=4), Hotword(text="Bulge\nBracket", weight=3), Hotword(text="fox", weight=2))

    assert "Bulge Bracket, fox\nBanks." == prompt(Hints(context="Banks.", hotwords=words), most_hotwords=18)
    assert "Bulge Bracket" == prompt(Hints(hotwords=words), most_hotwords=17)
    assert "Banks." == prompt(Hints(context="Banks."), most_hotwords=10)

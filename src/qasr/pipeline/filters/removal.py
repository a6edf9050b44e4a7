"""Leaving words out of a text, with what goes with them::

Um, so we went.          So we went.           the next word takes the capital
We came, um, and left.   We came, and left.    one of two commas stays: a clause may end there
I, um, think so, um.     I think so.           no clause ends behind "I"; none begins before a full stop
Um. So we went.          So we went.           a sentence of nothing else goes whole
我，呃，觉得。               我觉得。
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from qasr.pipeline.rewriting import Edit, Rewriting

Span: TypeAlias = tuple[int, int]
"""Begin and end of what is left out."""

_WEAK: Final = ",，、;；:：—–…"
MOST_ROUNDS: Final = 20
"""Nobody speaks so that it takes more than two."""
STRONG: Final = ".。!！?？"
MARKS: Final = _WEAK + STRONG
_WEAK_MARKS: Final = re.compile(rf"\s*(?:\.{{2,}}|[{_WEAK}])++")
_STRONG_MARKS: Final = re.compile(rf"\s*[{STRONG}]++")
_BETWEEN: Final = re.compile(rf"(?:\s|\.{{2,}}|[{_WEAK}])*+")
"""What may stand between two words that are left out as one."""
_LEANING: Final = re.compile(
    r"(?:\b(?:i|we|you|he|she|it|they|a|an|the|this|that|my|our|your|his|her|its|their|and|but|or|so|if|because|to|of|"
    r"in|on|at|by|for|with|from|is|are|was|were|be|have|has|had|do|don't|can|could|will|would|should|not|like)"
    r"|[我你您他她它们們的地得在和跟与與或就是把被对對从從向给給让讓要想这這那很也都还還])\Z",
    re.IGNORECASE,
)
"""Behind these no clause ends: a comma there belongs to the word that is left out."""
_BEHIND: Final = 12
"""Characters that are enough to know the last word by."""


def without(text: str, find: Callable[[str], Sequence[Span]]) -> Rewriting:
    """*text* without what *find* finds in it, and in what is left then, for at most ``MOST_ROUNDS``.

    *find* tells spans in order that do not overlap and hold more than blanks.
    """
    current, places = text, [*range(len(text))]
    for _ in range(MOST_ROUNDS):
        if not (spans := find(current)):
            break
        step = Rewriting(current, _apart(edit for span in _joined(current, spans) for edit in _edits(current, *span)))
        places = [places[step.origin(place, place + 1)[0]] for place in range(len(step.text))]
        current = step.text
    begin, end = 0, len(current)  # blanks that stood inside, and are at the outside now, go too
    while begin < end and current[begin].isspace() and not text[0].isspace():
        begin += 1
    while begin < end and current[end - 1].isspace() and not text[-1].isspace():
        end -= 1
    return Rewriting(text, _differences(text, current[begin:end], places[begin:end]))


def _apart(edits: Iterable[Edit]) -> Iterator[Edit]:
    """*edits*, where two may leave out the same blanks."""
    end = 0
    for edit in edits:
        if edit.end > end:
            yield replace(edit, begin=max(edit.begin, end))
        end = max(edit.end, end)


def _differences(text: str, left: str, places: Sequence[int]) -> Iterator[Edit]:
    """What makes *left* of *text*; each of its characters stood at one of *places*, or replaces what did."""
    end = 0
    for place, char in zip([*places, len(text)], [*left, ""], strict=True):
        if place > end:
            yield Edit(end, place, "")
        if char and char != text[place]:
            yield Edit(place, place + 1, char)
        end = place + 1


def _joined(text: str, spans: Sequence[Span]) -> Iterator[Span]:
    """Neighbors, with nothing but blanks and commas between them, as one."""
    begin, end = spans[0]
    for next_begin, next_end in spans[1:]:
        if _BETWEEN.fullmatch(text, end, next_begin) is None:
            yield begin, end
            begin = next_begin
        end = next_end
    yield begin, end


def _edits(text: str, begin: int, end: int) -> list[Edit]:
    """What becomes of *text* without the words from *begin* up to *end*."""
    head = _before_blanks(text, begin)
    opens = head == 0 or text[head - 1] in STRONG
    weak = _WEAK_MARKS.match(text, end)
    behind = weak.end() if weak else end
    strong = _STRONG_MARKS.match(text, behind)
    if strong or not text[behind:].strip():
        if not opens:  # the end of a sentence that goes on being one
            return [Edit(_before_marks(text, head), strong.start() if strong else len(text), "")]
        stop = _behind_blanks(text, strong.end() if strong else len(text))
        return [Edit(begin if stop < len(text) else head, stop, "")]
    after_comma = head > 0 and text[head - 1] in _WEAK
    tail = _before_marks(text, head)
    leaning = _LEANING.search(text, max(0, tail - _BEHIND), tail) is not None
    if opens:
        stop = _behind_blanks(text, behind)
        return [Edit(begin, stop, ""), *_capital(text, begin, stop)]
    if after_comma and leaning:
        begin = tail
    elif weak and not after_comma and not leaning:
        return [Edit(head, end, "")]
    stop = behind if not text[begin - 1].isspace() else _behind_blanks(text, behind)
    return [Edit(begin, stop, " " if _run_together(text[begin - 1], text[stop]) else "")]


def _capital(text: str, begin: int, stop: int) -> Iterator[Edit]:
    """The word that begins the sentence now; names like *iPhone* stay as they are."""
    word = re.compile(r"[^\W\d_]++").match(text, stop)
    if text[begin].isupper() and word and word[0].islower() and len(text[stop].upper()) == 1:
        yield Edit(stop, stop + 1, text[stop].upper())


def _run_together(left: str, right: str) -> bool:
    """Whether two characters would make one word of two."""
    return all(char.isalnum() and char < "\u2e80" for char in (left, right))


def _before_blanks(text: str, place: int) -> int:
    while place and text[place - 1].isspace():
        place -= 1
    return place


def _behind_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _before_marks(text: str, place: int) -> int:
    """Before the commas, and the blanks among them, that end at *place*."""
    while place and (text[place - 1] in _WEAK or text[place - 1].isspace()):
        place -= 1
    return place

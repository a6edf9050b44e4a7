"""What is left out of a text that was heard, or covered: pure functions over sentences, whose words keep their times.

::

    fillers   um, 嗯            left out, if asked          recognition: normalize.py
    marks     , . ，。           left out, if asked       ┐
    hidden    a client's own     covered by * or left out ┴ where results are written out: the faces
                 └──▶ removal: what goes with a word that goes: blanks, commas, a capital

What counts as what: docs/text.md.
"""

from qasr.pipeline.filters.fillers import without_fillers
from qasr.pipeline.filters.hidden import hide
from qasr.pipeline.filters.marks import bare, without_marks

__all__ = ["bare", "hide", "without_fillers", "without_marks"]

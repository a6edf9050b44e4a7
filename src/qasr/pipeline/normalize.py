"""What was heard, as clients want it written: without fillers, and numbers in digits. Words keep their times.

::

    sentences ─▶ filters/fillers ─▶ itn ─▶ sentences

Fillers go first: "twenty, um, five" is 25. Hidden words and missing punctuation belong to how a result is written out
(``filters/``), and so they come after this.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Final

from qasr.domain.live import Partial
from qasr.domain.transcript import Sentence, Word
from qasr.engines.base import Capabilities
from qasr.pipeline.filters import without_fillers
from qasr.pipeline.itn import normalize
from qasr.pipeline.rewriting import rewritten
from qasr.pipeline.words import split_words

_CERTAIN: Final = re.compile(r"[。！？]|[.!?](?=\s)")
"""Behind these, nothing that is written later changes what stands before."""


def written(
    sentences: Iterable[Sentence], engine: Capabilities, *, itn: bool, drop_fillers: bool
) -> tuple[Sentence, ...]:
    """*sentences* as a client wants them; those of fillers alone are left out.

    Numbers become digits if *itn* says so and *engine* does not see to it.
    """
    itn = itn and not engine.itn
    found = (_one(sentence, itn=itn, drop_fillers=drop_fillers) for sentence in sentences)
    return tuple(sentence for sentence in found if sentence is not None)


def drafted(partial: Partial, engine: Capabilities, *, itn: bool, drop_fillers: bool) -> Partial:
    """The same for what is not complete: *partial* as it would be written if no more came.

    What is confirmed is written sentence by sentence, and the rest may still change with what comes, as numbers do:
    "twenty" is 20 until "five" follows. So here, too, what is confirmed only ever grows.
    """
    if not drop_fillers and (engine.itn or not itn):
        return partial
    whole = partial.confirmed + partial.tentative
    cuts = [0, *(mark.end() for mark in _CERTAIN.finditer(partial.confirmed)), len(whole)]
    texts: list[str] = []
    words: list[Word] = []
    n_words = 0
    for text in (whole[begin:end] for begin, end in pairwise(cuts)):
        share = partial.words[n_words : n_words + len(split_words(text))] if partial.words else ()
        n_words += len(share)
        said = Sentence(
            text=text.strip(),
            begin_ms=partial.begin_ms,
            end_ms=partial.begin_ms,
            language=partial.language,
            words=share,
        )
        found = written((said,), engine, itn=itn, drop_fillers=drop_fillers)
        blank = text[: len(text) - len(text.lstrip())] if any(texts) else ""
        texts.append("".join(blank + sentence.text for sentence in found))
        words += [word for sentence in found for word in sentence.words]
    return replace(partial, confirmed="".join(texts[:-1]), tentative=texts[-1], words=tuple(words))


def _one(sentence: Sentence, *, itn: bool, drop_fillers: bool) -> Sentence | None:
    found: Sentence | None = sentence
    if drop_fillers:
        found = rewritten(sentence, without_fillers(sentence.text, sentence.language))
    if itn and found is not None:
        found = rewritten(found, normalize(found.text, found.language))
    return found

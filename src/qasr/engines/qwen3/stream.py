"""A segment that is still being spoken: each partial costs what is new, not what was heard before.

::

    prompt │ sound, finished windows │ sound, last window │ answer so far, but for its end │ ▒▒▒▒▒ written anew
    ───────────── in the slot ───────┼──────────────────── prefilled ─────────────────────┼──── decoded ───

* Encoder: windows of eight seconds that are finished are kept (``encoder.py``).
* Decoder: keys and values up to the end of the finished windows stay in the row's slot (``loop.py``), if no other row
  took it meanwhile; else they are computed again.
* Text: what was written before stands, except its last ``ROLLED_BACK`` tokens, which may change with what follows, and
  is given to the decoder as the beginning of its answer. While the sound is short, nothing stands: what a model makes
  of half a word would never be mended.

What stands never changes again in this stream. The final text is not made here: it is the answer for the whole segment,
heard without any of this.
"""

import codecs
from typing import Final

import numpy as np

from qasr.domain.audio import Pcm
from qasr.engines.qwen3.features import Sound
from qasr.engines.qwen3.loop import Job, Kept, Written
from qasr.engines.qwen3.messages import Partial
from qasr.engines.qwen3.prompt import Prompt, Prompts
from qasr.engines.qwen3.setup import most_tokens
from qasr.workers.child import Cancelled

ROLLED_BACK: Final = 5
"""Tokens at the end of an answer that may still change; the value of the model's authors."""
UNSETTLED_S: Final = 4.0
"""Shorter sound has no text that stands; the authors leave two pieces of 2 s free."""


class Stream:
    """One growing segment. Calls come one after the other."""

    def __init__(self, prompts: Prompts, prompt: Prompt, language: str | None) -> None:
        self._prompts, self._prompt, self._forced = prompts, prompt, language
        self._sound, self._kept = Sound(), Kept()
        self._standing: list[int] = []
        self._written: list[int] = []

    @property
    def duration_s(self) -> float:
        """Of what was heard so far."""
        return self._sound.duration_s

    def next_job(self, pcm: Pcm, cancelled: Cancelled) -> Job | None:
        """Take *pcm*; what to write now, or None: there is no sound yet."""
        self._sound.add(np.asarray(pcm, np.float32))
        if self._sound.is_silent:
            return None
        if self._sound.duration_s >= UNSETTLED_S:
            self._standing = self._settled()
        room = most_tokens(self._sound.duration_s) - len(self._standing)
        return Job(
            sound=self._sound,
            prompt=self._prompt,
            most_tokens=max(1, room),
            prefix=tuple(self._standing),
            cancelled=cancelled,
            kept=self._kept,
            is_urgent=True,
        )

    def _settled(self) -> list[int]:
        """What of the last answer stands: never less than before, never half a character, and never before it is known
        where the text begins.
        """
        end = max(len(self._standing), len(self._written) - ROLLED_BACK)
        if self._forced is None and not 0 < self._prompts.read(self._written, None).begin <= end:
            return []
        while end > len(self._standing) and not _is_whole(self._prompts.pieces(self._written[:end])):
            end -= 1
        return self._written[:end]

    def take(self, written: Written) -> Partial:
        """What was written for the last job."""
        self._written = [*self._standing, *written.ids]
        answer = self._prompts.read(self._written, self._forced)
        pieces = self._prompts.pieces(self._written)
        cut = max(answer.begin, len(self._standing))
        stable = _text(pieces[answer.begin : cut]).lstrip()
        tail = _text(pieces[cut:]).rstrip()
        return Partial(stable, tail if stable else tail.lstrip(), answer.language)


def _is_whole(pieces: list[bytes]) -> bool:
    """Whether no character is begun at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(b"".join(pieces))
    return not decoder.getstate()[0]


def _text(pieces: list[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace")

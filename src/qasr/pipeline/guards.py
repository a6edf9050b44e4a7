"""Guards against what models do when they fail: they say a phrase over and over, write down their prompt or what they
learned from subtitles where nobody spoke, describe noises, or stop in the middle.

Pure functions from an engine's answer to what is kept of it. They stand behind every engine; one that guards itself
(``engines/moonshine/model.py`` cuts loops between tokens) is not in their way. Each guard that acts is named, so that
it can be counted (``recognize.py``)::

    hypothesis ── loop ──▶ cut ── noise ──▶ dropped ── echo ──▶ dropped ──▶ kept
    truncated  ── split ─▶ the segment's halves are heard by themselves

What is cut or dropped loses its tokens and word times as well, where these can be told apart.
"""

import re
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Segment, to_ms
from qasr.domain.options import Hints
from qasr.domain.transcript import Hypothesis
from qasr.pipeline.words import Piece, letters_of, pieces, split_words

Guard: TypeAlias = Literal["loop", "noise", "echo", "split"]

LONGEST_PERIOD: Final = 30
"""Words; a longer passage that comes twice is a refrain."""
COPIES: Final = 4
"""A phrase said so often without a break is a loop ..."""
LOOP_WORDS: Final = 16
"""... if all copies together have at least so many words: "no, no, no, no" is speech."""
DOUBTFUL: Final = 0.65
"""Mean speech probability below which a segment may be no speech. About a dozen clips that were looked at, from reading
to far-field meetings, in English and Mandarin, have 0.72 to 0.96."""
SILENT_DBFS: Final = -60.0
"""Loudness (root mean square) below which nobody speaks; the quietest of the same clips has -45."""
FASTEST_WORDS_PER_S: Final = 9.0
"""Nobody speaks faster; a prompt that is written down for a short noise is."""
LEAST_PART_S: Final = 2.0
"""A truncated segment is split while its parts are not shorter."""
MOST_SPLITS: Final = 2
"""How often a part is split again: a segment becomes at most four."""

_ANNOTATION: Final = re.compile(r"<\|[^|<>]*\|>|[(\[{（【〔*♪♫][^()\[\]{}（）【】〔〕*♪♫\d]*[)\]}）】〕*♪♫]|[♪♫]+")
"""``[Music]``, ``(applause)``, ``*laughs*``, ``♪ … ♪``, ``<|nospeech|>``."""

STOCK: Final = frozenset(
    [
        "thank you for watching",
        "thanks for watching",
        "thank you so much for watching",
        "please subscribe to my channel",
        "subtitles by the amara org community",
        "transcription by castingwords",
        "you",
        "bye",
        "字幕由amara org社区提供",
        "请不吝点赞订阅转发打赏支持明镜与点点栏目",
        "谢谢观看",
        "感谢观看",
        "ご視聴ありがとうございました",
        "시청해주셔서 감사합니다",
        "untertitel der amara org community",
        "untertitelung des zdf 2020",
        "sous titres réalisés par la communauté d amara org",
        "subtítulos realizados por la comunidad de amara org",
        "продолжение следует",
    ]
)
"""What models write where they hear nothing, learned from subtitles; in real speech it stays."""


def kept(segment: Segment, hypothesis: Hypothesis, hints: Hints) -> tuple[Hypothesis, tuple[Guard, ...]]:
    """What is kept of *hypothesis*, and the guards that acted on it."""
    acted: list[Guard] = []
    cut = without_loops(hypothesis.text)
    if cut != hypothesis.text:
        acted.append("loop")
        hypothesis = _with_text(hypothesis, cut)
    if hypothesis.text.strip():
        if is_noise(hypothesis.text, doubtful=is_doubtful(segment)):
            acted.append("noise")
        elif is_echo(segment, hypothesis.text, hints):
            acted.append("echo")
    if {"noise", "echo"}.intersection(acted):
        hypothesis = replace(hypothesis, text="", tokens=(), words=() if hypothesis.words is not None else None)
    return hypothesis, tuple(acted)


def without_loops(text: str) -> str:
    """*text* with one copy of each phrase that is repeated over and over; what follows the copies stays."""
    found = pieces(text)
    words = [piece.word for piece in found]
    start = 0
    while start < len(words):
        period, n_copies = _loop_at(words, start)
        if period:
            first, last = found[start : start + period], found[start + period * n_copies - 1]
            text = _cut(text, first, last)
            found = pieces(text)
            words = [piece.word for piece in found]
            start += period
        else:
            start += 1
    return text


def _loop_at(words: list[str], start: int) -> tuple[int, int]:
    """Length of the phrase that is repeated from *start* on, and how often it stands there; (0, 0): none is."""
    for period in range(1, min(LONGEST_PERIOD, (len(words) - start) // COPIES) + 1):
        end = start + period
        while end < len(words) and words[end] == words[end - period]:
            end += 1
        n_copies = (end - start) // period
        if n_copies >= COPIES and n_copies * period >= LOOP_WORDS:
            return period, n_copies
    return 0, 0


def _cut(text: str, first: list[Piece], last: Piece) -> str:
    """*text* without what stands behind the words *first*, up to the end of *last*; that one's punctuation closes."""
    closing = text[last.begin : last.end].removeprefix(text[last.begin : last.word_end])
    head = text[: first[-1].word_end] + closing
    rest = text[last.end :]
    return head + rest if rest.strip() else head


def is_noise(text: str, *, doubtful: bool) -> bool:
    """Whether *text* is no speech: annotations, signs without a word, and where that is *doubtful*, stock phrases."""
    spoken = split_words(_ANNOTATION.sub(" ", text))
    if not spoken:
        return True
    return doubtful and " ".join(_plain(text)) in _STOCK_PLAIN


def is_echo(segment: Segment, text: str, hints: Hints) -> bool:
    """Whether *text* was copied from the prompt where nobody said it.

    It stands in the context or the hotwords word for word, and the sound does not bear it: doubtful, or too short for
    so many words. Whoever really says a hotword is heard.
    """
    words = _plain(text)
    prompts = [_plain(hints.context), [w for hotword in hints.hotwords for w in _plain(hotword.text)]]
    if not any(_contains(prompt, words) for prompt in prompts):
        return False
    return is_doubtful(segment) or len(words) > max(3.0, segment.duration_s * FASTEST_WORDS_PER_S)


def is_doubtful(segment: Segment) -> bool:
    """Whether *segment* may hold no speech at all."""
    return segment.speech_probability < DOUBTFUL or _loudness_dbfs(segment) < SILENT_DBFS


def halves(segment: Segment) -> tuple[Segment, Segment] | None:
    """*segment* cut where its middle half is quietest; None where the parts would be too short."""
    n_samples = len(segment.pcm)
    if n_samples < 2 * LEAST_PART_S * SAMPLE_RATE:
        return None
    frame = SAMPLE_RATE // 100
    begin = max(n_samples // 4, int(LEAST_PART_S * SAMPLE_RATE))
    middle = segment.pcm[begin : max(begin + frame, n_samples - begin)]
    n_frames = len(middle) // frame
    energy = np.square(middle[: n_frames * frame].reshape(n_frames, frame)).mean(axis=1)
    smooth = np.convolve(energy, np.ones(5) / 5, mode="same")
    cut = begin + int(np.argmin(smooth)) * frame + frame // 2
    return (
        replace(segment, pcm=segment.pcm[:cut]),
        replace(segment, pcm=segment.pcm[cut:], begin_ms=segment.begin_ms + to_ms(cut)),
    )


def _loudness_dbfs(segment: Segment) -> float:
    power = float(np.square(segment.pcm, dtype=np.float64).mean()) if len(segment.pcm) else 0.0
    return float(10 * np.log10(power + 1e-12))


def _plain(text: str) -> list[str]:
    """The words of *text* as they are compared: no case, no punctuation."""
    return [word for piece in pieces(text) for word in re.sub(r"[^\w]+", " ", piece.word).split()]


_STOCK_PLAIN: Final = frozenset(" ".join(_plain(phrase)) for phrase in STOCK)


def _contains(prompt: list[str], words: list[str]) -> bool:
    n_words = len(words)
    return any(prompt[i : i + n_words] == words for i in range(len(prompt) - n_words + 1)) and n_words > 0


def _with_text(hypothesis: Hypothesis, text: str) -> Hypothesis:
    """*hypothesis* with a shorter text and the words that still stand in it; tokens cannot be told apart any more."""
    words = hypothesis.words
    if words is not None:
        left, standing = letters_of(text), []
        for word in words:  # the first copy stands, the others come later
            own = letters_of(word.text)
            if left[: len(own)] == own:
                standing.append(word)
                left = left[len(own) :]
        words = None if left else tuple(standing)
    return replace(hypothesis, text=text, tokens=(), words=words)

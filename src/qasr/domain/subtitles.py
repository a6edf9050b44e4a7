"""Transcripts as subtitles: SubRip (srt) and WebVTT. What stands on the screen when: ``cues.py``."""

from collections.abc import Callable, Iterable

from qasr.domain.cues import Cue, cues
from qasr.domain.transcript import Sentence


def srt(sentences: Iterable[Sentence]) -> str:
    """SubRip: numbered cues with ``00:00:01,500``."""
    return "".join(
        f"{number}\n{_span(cue, _srt_time)}\n{_text(cue)}\n\n" for number, cue in enumerate(cues(sentences), start=1)
    )


def vtt(sentences: Iterable[Sentence]) -> str:
    """WebVTT: cues with ``00:00:01.500``."""
    return "WEBVTT\n\n" + "".join(f"{_span(cue, _vtt_time)}\n{_escaped(_text(cue))}\n\n" for cue in cues(sentences))


def _span(cue: Cue, form: Callable[[int], str]) -> str:
    return f"{form(cue.begin_ms)} --> {form(cue.end_ms)}"


def _text(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("-->", "--&gt;")


def _vtt_time(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _srt_time(ms: int) -> str:
    return _vtt_time(ms).replace(".", ",")

"""Transcripts as subtitles: SubRip (srt) and WebVTT."""

from collections.abc import Callable, Iterable, Iterator

from qasr.domain.transcript import Sentence


def srt(sentences: Iterable[Sentence]) -> str:
    """SubRip: numbered cues with ``00:00:01,500``."""
    return "".join(
        f"{number}\n{_span(sentence, _srt_time)}\n{_cue_text(sentence)}\n\n"
        for number, sentence in enumerate(_spoken(sentences), start=1)
    )


def vtt(sentences: Iterable[Sentence]) -> str:
    """WebVTT: cues with ``00:00:01.500``."""
    cues = (f"{_span(sentence, _vtt_time)}\n{_escaped(_cue_text(sentence))}\n\n" for sentence in _spoken(sentences))
    return "WEBVTT\n\n" + "".join(cues)


def _spoken(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    return (sentence for sentence in sentences if sentence.text)


def _span(sentence: Sentence, form: Callable[[int], str]) -> str:
    return f"{form(sentence.begin_ms)} --> {form(sentence.end_ms)}"


def _cue_text(sentence: Sentence) -> str:
    """A blank line would end the cue."""
    return " ".join(sentence.text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("-->", "--&gt;")


def _vtt_time(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"


def _srt_time(ms: int) -> str:
    return _vtt_time(ms).replace(".", ",")

"""Whisper's language codes and ours: the same but for two."""

from typing import Final

_THEIRS: Final = {"jv": "jw", "fil": "tl"}
"""Javanese has had the code ``jv`` since 2001; Filipino is Tagalog, as far as the model knows."""
_OURS: Final = {"jw": "jv"}


def theirs(code: str | None) -> str | None:
    """Whisper's code for one of ours."""
    return None if code is None else _THEIRS.get(code, code)


def ours(code: str) -> str:
    """Our code for one of Whisper's."""
    return _OURS.get(code, code)


def spellings(code: str) -> frozenset[str]:
    """All of our codes that Whisper's *code* stands for."""
    return frozenset({ours(code), *(mine for mine, their in _THEIRS.items() if their == code)})

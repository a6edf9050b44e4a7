"""The languages of Qwen3-ASR, and the names that the model was trained with.

Source: the model's card; Chinese dialects are heard, but have no names of their own.
"""

from typing import Final

from qasr.domain import languages

HEARD: Final = frozenset(
    {
        "ar", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr", "hi", "hu", "id", "it", "ja", "ko", "mk",
        "ms", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "vi", "yue", "zh",
    }
)  # fmt: skip

ALIGNED: Final = frozenset({"de", "en", "es", "fr", "it", "ja", "ko", "pt", "ru", "yue", "zh"})
"""What the forced aligner was trained on."""

NAMES: Final = {code: languages.NAMES[code].title() for code in sorted(HEARD)} | {"fil": "Filipino"}
"""As the model writes them."""


def find_code(name: str) -> str | None:
    """The code of a language as the model names it; None for any that it was not trained with."""
    code = languages.find_code(name)
    return code if code in HEARD else None

"""Language codes as clients write them: ``en``, ``en-US``, ``EN``, ``english``; and names as OpenAI reports them."""

from typing import Final

from qasr.domain.errors import InvalidParameter

NAMES: Final = {
    "ar": "arabic", "bg": "bulgarian", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "fa": "persian", "fi": "finnish", "fil": "tagalog", "fr": "french",
    "ga": "irish", "hi": "hindi", "hr": "croatian", "hu": "hungarian", "id": "indonesian", "is": "icelandic",
    "it": "italian", "ja": "japanese", "ko": "korean", "lt": "lithuanian", "lv": "latvian", "mk": "macedonian",
    "ms": "malay", "mt": "maltese", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sk": "slovak", "sl": "slovenian", "sv": "swedish", "th": "thai",
    "tl": "tagalog", "tr": "turkish", "uk": "ukrainian", "vi": "vietnamese", "yue": "cantonese", "zh": "chinese",
}  # fmt: skip

_CODES: Final = {name: code for code, name in NAMES.items() if code != "tl"} | {"mandarin": "zh", "filipino": "fil"}


def parse_language(text: str | None) -> str | None:
    """The code that *text* means; None for none, empty or ``auto``.

    Raises:
        InvalidParameter: no code and no name that we know.
    """
    if text is None or text.strip().lower() in ("", "auto"):
        return None
    known = text.strip().lower()
    code = known.replace("_", "-").split("-")[0]
    if code in NAMES:
        return code
    if known in _CODES:
        return _CODES[known]
    raise InvalidParameter(f"Language {text[:50]!r} is not supported.", parameter="language")


def language_name(code: str | None) -> str | None:
    """English name in lower case; the code itself where we know none."""
    return None if code is None else NAMES.get(code, code)

"""Languages: the codes that this program speaks in, and the English names that others use for them."""

from typing import Final

NAMES: Final = {
    "ar": "arabic", "bg": "bulgarian", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "fa": "persian", "fi": "finnish", "fil": "tagalog", "fr": "french",
    "ga": "irish", "hi": "hindi", "hr": "croatian", "hu": "hungarian", "id": "indonesian", "is": "icelandic",
    "it": "italian", "ja": "japanese", "ko": "korean", "lt": "lithuanian", "lv": "latvian", "mk": "macedonian",
    "ms": "malay", "mt": "maltese", "nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sk": "slovak", "sl": "slovenian", "sv": "swedish", "th": "thai",
    "tl": "tagalog", "tr": "turkish", "uk": "ukrainian", "vi": "vietnamese", "yue": "cantonese", "zh": "chinese",
}  # fmt: skip
"""By code; in lower case, as OpenAI reports them."""

_CODES: Final = {name: code for code, name in NAMES.items() if code != "tl"} | {"mandarin": "zh", "filipino": "fil"}


def find_code(text: str) -> str | None:
    """The code that *text* means: ``en``, ``en-US``, ``EN``, ``English``; None for a language that we do not know."""
    known = text.strip().lower()
    code = known.replace("_", "-").split("-")[0]
    return code if code in NAMES else _CODES.get(known)

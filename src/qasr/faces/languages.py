"""Language codes as clients write them: ``en``, ``en-US``, ``EN``, ``english``; and names as OpenAI reports them."""

from qasr.domain.errors import InvalidParameter
from qasr.domain.languages import NAMES, find_code


def parse_language(text: str | None) -> str | None:
    """The code that *text* means; None for none, empty or ``auto``.

    Raises:
        InvalidParameter: no code and no name that we know.
    """
    if text is None or text.strip().lower() in ("", "auto"):
        return None
    if (code := find_code(text)) is not None:
        return code
    raise InvalidParameter(f"Language {text[:50]!r} is not supported.", parameter="language")


def language_name(code: str | None) -> str | None:
    """English name in lower case; the code itself where we know none."""
    return None if code is None else NAMES.get(code, code)

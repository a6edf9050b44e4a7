"""The sixteen promised formats, each through a running server by a client that knows no formats."""

from typing import Final

import pytest
from tests.faces.dialects import CHAT_DIALECT, QWEN, Dialect, data_url
from tests.media import FORMATS, ODD, Media
from tests.server import Origin, Server

KEY_WORDS: Final = ("ask", "your country", "do for")
"""Heard even through the narrowest codec."""


@pytest.mark.parametrize("name", FORMATS)
def test_format_is_heard_in_a_data_url(server: Server, media: Media, name: str) -> None:
    """Every format says the same, whatever its label says."""
    heard = CHAT_DIALECT.text(CHAT_DIALECT.ask(server, data_url(media.bytes(name), "audio/wav"))).lower()

    assert [] == [words for words in KEY_WORDS if words not in heard], heard


@pytest.mark.parametrize("name", ["amr", "mp3", "wmv"])
def test_format_is_heard_by_address(server: Server, origin: Origin, media: Media, name: str) -> None:
    """The name in an address decides nothing either."""
    heard = QWEN.text(QWEN.ask(server, origin.serve(media.format(name)))).lower()

    assert [] == [words for words in KEY_WORDS if words not in heard], heard


@pytest.mark.parametrize("dialect", [CHAT_DIALECT], ids=str)
@pytest.mark.parametrize("name", sorted(ODD))
def test_unusual_encoding_is_accepted(scripted: Server, dialect: Dialect, media: Media, name: str) -> None:
    """Valid files of rarer kinds are decoded to their full length."""
    answer = dialect.ask(scripted, data_url(media.odd(name)))

    assert "lasting" in dialect.text(answer)
    assert answer.json()["usage"]["seconds"] in (10, 11)

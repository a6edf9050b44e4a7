"""Settings and where they come from."""

from pathlib import Path

import pytest

from qasr import config
from qasr.app import check_exposure
from qasr.domain.errors import InvalidParameter


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a settings file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_win_over_environment_over_file_over_default(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer to the user's fingers, the stronger."""
    (nowhere / "qasr.toml").write_text("[server]\nport = 1\nhost = '127.0.0.2'\nanswer_s = 7\n")
    monkeypatch.setenv("QASR_SERVER__PORT", "2")
    monkeypatch.setenv("QASR_SERVER__HOST", "127.0.0.3")
    flags = {"server": {"port": 3}}

    settings = config.load(flags)

    assert (3, "127.0.0.3", 7.0) == (settings.server.port, settings.server.host, settings.server.answer_s)
    origins = config.origins(settings, flags, None)
    assert ["flag", "environment", "file", "default"] == [
        origins[f"server.{name}"] for name in ("port", "host", "answer_s", "external_url")
    ]


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """As people write them in an environment variable."""
    monkeypatch.setenv("QASR_AUTH__KEYS", "sk-a, sk-b")
    monkeypatch.setenv("QASR_FETCH__ALLOW_NETWORKS", "127.0.0.0/8,10.0.0.0/8")

    settings = config.load()

    assert ("sk-a", "sk-b") == settings.auth.keys
    assert ["127.0.0.0/8", "10.0.0.0/8"] == [str(network) for network in settings.fetch.allow_networks]


@pytest.mark.parametrize(
    "text", ["[server]\nprot = 1\n", "[sever]\nport = 1\n", "[server]\nport = 'x'\n", "[fetch]\nallow_networks='1.2'\n"]
)
def test_a_wrong_file_names_what_is_wrong(nowhere: Path, text: str) -> None:
    """A misspelled limit must not pass for a set one."""
    (nowhere / "qasr.toml").write_text(text)

    with pytest.raises(InvalidParameter, match="settings: "):
        config.load()


def test_a_file_that_is_not_there_is_an_error() -> None:
    """Who names a settings file wants it read."""
    with pytest.raises(InvalidParameter, match="no settings file"):
        config.load(config_file=Path("missing.toml"))


def test_misspelled_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cannot be refused (others may use the prefix), so they are told."""
    monkeypatch.setenv("QASR_SERVER__PROT", "1")

    assert ["QASR_SERVER__PROT"] == config.unknown_environment()


@pytest.mark.parametrize(
    ("host", "keys", "allowed"),
    [
        ("127.0.0.1", (), True),
        ("localhost", (), True),
        ("::1", (), True),
        ("0.0.0.0", (), False),
        ("10.0.0.5", (), False),
        ("example.org", (), False),
        ("0.0.0.0", ("sk-a",), True),
    ],
)
def test_nobody_is_let_in_by_accident(host: str, keys: tuple[str, ...], allowed: bool) -> None:
    """Binding where strangers are needs a key."""
    settings = config.load({"server": {"host": host}, "auth": {"keys": keys}})

    if allowed:
        check_exposure(settings)
    else:
        with pytest.raises(InvalidParameter, match="QASR_AUTH__KEYS"):
            check_exposure(settings)

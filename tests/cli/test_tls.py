"""HTTPS by the files of a certificate, made here for a day."""

import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Final

import httpx2
import pytest
from tests.cli.program import Qasr, Serve
from websockets.sync.client import connect

from qasr.cli.server import check_certificate
from qasr.config import Settings
from qasr.domain.errors import InvalidParameter

KEY: Final = {"Authorization": "Bearer any"}
SOON_S: Final = 30.0
"""Generously more than the patience of the server here, and less than the minute that an event loop waits."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cert.pem`` and ``key.pem`` for 127.0.0.1, and a key with a passphrase."""
    folder = tmp_path_factory.mktemp("tls")
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    for key, words in (("key.pem", ("-nodes",)), ("locked.pem", ("-passout", "pass:secret"))):
        command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "1", "-keyout", key, "-out")
        cert = "cert.pem" if key == "key.pem" else "locked-cert.pem"
        subprocess.run((*command, cert, *words, *name), cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def test_https_and_wss_are_spoken_with_a_certificate(serve: Serve, certificate: Path) -> None:
    """The address that is printed has the right scheme; requests and live sessions go through, plain HTTP does not."""
    serving = serve(
        QASR_ENGINES__DEFAULT="scripted",
        QASR_SERVER__TLS_CERTIFICATE=str(certificate / "cert.pem"),
        QASR_SERVER__TLS_KEY=str(certificate / "key.pem"),
    )
    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    client = httpx2.Client(verify=trusting, headers=KEY)

    assert serving.base.startswith("https://127.0.0.1:")
    assert 200 == client.get(f"{serving.base}/v1/models").status_code
    policy = client.get(f"{serving.base}/api/v1/uploads?action=getPolicy&model=qwen3-asr-flash").json()
    assert policy["data"]["upload_host"].startswith(serving.base)
    live = serving.base.replace("https", "wss") + "/v1/realtime?intent=transcription"
    with connect(live, ssl=trusting, additional_headers=KEY) as session:
        assert json.loads(session.recv(60))["type"].endswith("session.created")
    with pytest.raises(httpx2.TransportError):
        httpx2.get(serving.base.replace("https", "http") + "/livez", timeout=30)
    client.close()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["nothing", "a beginning"])
def test_a_handshake_that_does_not_come_is_not_waited_for(serve: Serve, certificate: Path, sent: bytes) -> None:
    """Longer than for anything else of a client."""
    serving = serve(
        QASR_ENGINES__DEFAULT="scripted",
        QASR_SERVER__PATIENCE_S="1",
        QASR_SERVER__TLS_CERTIFICATE=str(certificate / "cert.pem"),
        QASR_SERVER__TLS_KEY=str(certificate / "key.pem"),
    )
    host, port = serving.base.removeprefix("https://").split(":")

    with socket.create_connection((host, int(port)), timeout=SOON_S) as silent:
        silent.sendall(sent)
        assert b"" == silent.recv(1)


def test_old_versions_of_tls_are_refused(serve: Serve, certificate: Path) -> None:
    """TLS 1.2 at least."""
    serving = serve(
        QASR_ENGINES__DEFAULT="scripted",
        QASR_SERVER__TLS_CERTIFICATE=str(certificate / "cert.pem"),
        QASR_SERVER__TLS_KEY=str(certificate / "key.pem"),
    )
    host, port = serving.base.removeprefix("https://").split(":")
    asked = ("openssl", "s_client", "-connect", f"{host}:{port}", "-cipher", "ALL:@SECLEVEL=0")

    said = {
        version: subprocess.run((*asked, version), input=b"", capture_output=True, timeout=60, check=False).returncode
        for version in ("-tls1_1", "-tls1_2")
    }

    assert 0 == said["-tls1_2"]
    assert 0 != said["-tls1_1"]


@pytest.mark.parametrize(
    ("cert", "key", "told"),
    [
        ("none.pem", "key.pem", "No such file"),
        ("cert.pem", "none.pem", "No such file"),
        ("cert.pem", "locked-cert.pem", "tls_certificate"),
        ("locked-cert.pem", "locked.pem", "tls_certificate"),
        ("cert.pem", "locked.pem", "tls_certificate"),
        ("cert.pem", None, "tls_certificate"),
        (None, "key.pem", "server.tls_key is set"),
    ],
)
def test_files_that_cannot_be_used_are_told(certificate: Path, cert: str | None, key: str | None, told: str) -> None:
    """Before anything is started; nobody is asked for a passphrase."""
    files = {"tls_certificate": cert and certificate / cert, "tls_key": key and certificate / key}

    with pytest.raises(InvalidParameter, match=told):
        check_certificate(Settings.model_validate({"server": files}))


def test_a_certificate_that_is_not_there_is_told_in_one_line(qasr: Qasr, certificate: Path, tmp_path: Path) -> None:
    """As other settings that cannot be; nothing is left behind."""
    path = str(certificate / "none.pem")

    ran = qasr("serve", "--port", "0", "--data-dir", tmp_path / "data", QASR_SERVER__TLS_CERTIFICATE=path)

    assert (2, "", 1) == (ran.code, ran.out, ran.err.count("\n")), ran.err
    assert path in ran.err
    assert not (tmp_path / "data").exists()

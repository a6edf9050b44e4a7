"""The model's files inside the ``moonshine-voice`` wheel: where they are, and whether they are the ones we know.

The package itself is never imported: it pulls in sound cards, downloads and a 42 MB library, none of which we use.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final, NamedTuple

from qasr.domain.errors import EngineUnavailable

REMEDY: Final = "install moonshine-voice==0.0.73, the last release that carries the English model"


class _Asset(NamedTuple):
    n_bytes: int
    sha256: str


ENCODER: Final = "encoder_model.ort"
DECODER: Final = "decoder_model_merged.ort"
TOKENIZER: Final = "tokenizer.bin"

ASSETS: Final = {
    ENCODER: _Asset(13_281_600, "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221"),
    DECODER: _Asset(30_412_256, "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0"),
    TOKENIZER: _Asset(249_974, "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d"),
}
"""Computed from the wheel moonshine_voice-0.0.73-py3-none-manylinux_2_34_x86_64."""


def locate() -> Path:
    """The folder of the English model.

    Raises:
        EngineUnavailable: the package is not installed, or it carries no model.
    """
    spec = importlib.util.find_spec("moonshine_voice")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "assets" / "tiny-en"
        if folder.is_dir():
            return folder
    raise EngineUnavailable(f"the embedded English model is not installed; {REMEDY}")


def check(folder: Path) -> None:
    """Make sure that *folder* holds exactly the files that our decode loop was written for.

    Raises:
        EngineUnavailable: one is missing or different.
    """
    for name, asset in ASSETS.items():
        path = folder / name
        try:
            same = path.stat().st_size == asset.n_bytes and _sha256(path) == asset.sha256
        except OSError as error:
            raise EngineUnavailable(f"the embedded English model lacks {name}; {REMEDY}") from error
        if not same:
            raise EngineUnavailable(f"{name} of the embedded English model is not the known one; {REMEDY}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The embedded models: those of pyannote's *community-1* pipeline, which the library of ``moonshine-voice`` carries.

The wheel's shared library holds two models for onnxruntime as plain arrays. They are found by the mark that such models
bear and known by their checksums; the library is only read, never run.
"""

import hashlib
import importlib.util
import mmap
from pathlib import Path
from typing import Final, NamedTuple

from qasr.domain.errors import EngineUnavailable

REMEDY: Final = "install moonshine-voice==0.0.73, whose library carries them"
MARK: Final = b"ORTM"
"""Of models in onnxruntime's own format, from their fifth byte on."""


class _Model(NamedTuple):
    n_bytes: int
    sha256: str


SEGMENTATION: Final = _Model(1_594_080, "9715e3996ef181252aa1cc0c9398060f42b2c984c2fb65e3604262555e2efb1a")
EMBEDDING: Final = _Model(6_975_920, "6e4af7d49562e6e7042672e444d6394935cb2c23c3a7dd4919da45922b91735b")
"""Computed from the wheel moonshine_voice-0.0.73-py3-none-manylinux_2_34_x86_64."""


def locate() -> Path | None:
    """The library; None: it is not installed. Whether it carries the models shows when they are loaded."""
    spec = importlib.util.find_spec("moonshine_voice")
    places = (spec.submodule_search_locations or ()) if spec is not None else ()
    found = (path for place in places for path in sorted(Path(place).glob("libmoonshine.*")))
    return next(found, None)


def load(library: Path) -> tuple[bytes, bytes]:
    """The models for segmentation and for embeddings.

    Raises:
        EngineUnavailable: one is not there.
    """
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _find(data, SEGMENTATION), _find(data, EMBEDDING)
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"the embedded models that tell speakers apart cannot be read; {REMEDY}") from error


def _find(data: mmap.mmap, model: _Model) -> bytes:
    place = -1
    while (place := data.find(MARK, place + 1)) >= 0:
        found = data[max(0, place - 4) : place - 4 + model.n_bytes]
        if hashlib.sha256(found).hexdigest() == model.sha256:
            return found
    raise EngineUnavailable(f"the embedded models that tell speakers apart are not the known ones; {REMEDY}")

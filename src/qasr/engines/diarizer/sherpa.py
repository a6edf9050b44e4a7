"""Models of an operator's folder: a segmentation model of pyannote and an embedding model, as sherpa-onnx has them.

::

    segmentation*.onnx   x [n, 1, samples] → y [n, frames, classes]; properties tell windows, frames and people
    embedding*.onnx      any that sherpa-onnx loads: 3D-Speaker, WeSpeaker, NeMo

sherpa-onnx tells speakers of a whole recording apart in one call. Here its parts are used, so that memory is bounded
and a task that was cut off goes on where it stopped. The package ends the process on a file that it cannot read, so
what can be told before is told before.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.engines.diarizer.models import session
from qasr.engines.diarizer.windows import Activity, Shape
from qasr.engines.sherpa import header
from qasr.workers.child import Refusal

_SEGMENTATION: Final = (
    "window_size", "receptive_field_size", "receptive_field_shift", "num_speakers", "powerset_max_classes",
    "sample_rate",
)  # fmt: skip
_EMBEDDING: Final = ("framework", "sample_rate", "output_dim")
"""Properties without which the package ends its process."""


class SherpaEars:
    """Segmentation by onnxruntime, embeddings by sherpa-onnx.

    Args:
        segmentation: of its file: a session and its properties.
        extractor: of sherpa-onnx.
        threshold: mean cosine from which on voices are one speaker's.
    """

    def __init__(
        self, segmentation: Any, properties: Mapping[str, str], extractor: Any, *, name: str, threshold: float
    ) -> None:
        self.name = name
        size, step = int(properties["receptive_field_size"]), int(properties["receptive_field_shift"])
        self.shape = Shape(window=int(properties["window_size"]), first=size // 2, step=step)
        self.threshold = threshold
        self._segmentation, self._extractor = segmentation, extractor
        self._input = segmentation.get_inputs()[0].name
        self._sets = _sets(int(properties["num_speakers"]), int(properties["powerset_max_classes"]))

    def active(self, window: Pcm) -> Activity:
        """Who speaks, when."""
        (found,) = self._segmentation.run(None, {self._input: window[None, None].astype(np.float32)})
        return np.asarray(self._sets[found[0].argmax(axis=1)])

    def embedding(self, sound: Pcm, speaks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Of what is said, with what others say cut out."""
        chosen = np.repeat(speaks, SAMPLE_RATE // 100)[: len(sound)]
        said = sound[: len(chosen)][chosen]
        least = SAMPLE_RATE // 2
        stream = self._extractor.create_stream()
        stream.accept_waveform(SAMPLE_RATE, np.resize(said if len(said) else sound, max(least, len(said))))
        stream.input_finished()
        return np.asarray(self._extractor.compute(stream), np.float32)


def _sets(n_people: int, at_once: int) -> Activity:
    """Who speaks in each class of the model, ``[n_classes, n_people]``: nobody, each alone, pairs, …"""
    groups = [who for size in range(max(1, at_once) + 1) for who in combinations(range(n_people), size)]
    return np.array([[person in who for person in range(n_people)] for who in groups])


def load(folder: Path, *, threshold: float) -> SherpaEars:
    """The models in *folder*.

    Raises:
        Refusal: they are not there, or lack something.
    """
    try:
        import sherpa_onnx  # noqa: PLC0415 - an extra, and for the child process only
    except ImportError as error:
        raise Refusal("package", "sherpa-onnx is not installed; install qasr[sherpa]") from error
    segmentation, embedding = (_file(folder, name) for name in ("segmentation", "embedding"))
    properties = _properties(segmentation, _SEGMENTATION)
    _properties(embedding, _EMBEDDING)
    if properties["sample_rate"] != str(SAMPLE_RATE):
        raise Refusal("model", f"QASR_DIARIZER__FOLDER: {segmentation.name} is not for {SAMPLE_RATE} Hz")
    ears = session(str(segmentation))
    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(embedding), num_threads=1, provider="cpu")
    extractor, name = sherpa_onnx.SpeakerEmbeddingExtractor(config), f"{segmentation.name} {embedding.name}"
    return SherpaEars(ears, properties, extractor, name=name, threshold=threshold)


def _file(folder: Path, name: str) -> Path:
    found = sorted(folder.glob(f"{name}*.onnx"), key=lambda path: ("int8" not in path.name, path.name))
    if not found:
        raise Refusal("model", f"QASR_DIARIZER__FOLDER holds no {name}*.onnx")
    return found[0]


def _properties(path: Path, needed: tuple[str, ...]) -> Mapping[str, str]:
    try:
        properties = header.read(path).properties
    except (OSError, ValueError) as error:
        raise Refusal("model", f"QASR_DIARIZER__FOLDER: {path.name} is damaged or no ONNX model") from error
    if missing := [name for name in needed if name not in properties]:
        raise Refusal("model", f"QASR_DIARIZER__FOLDER: {path.name} lacks the properties {', '.join(missing)}")
    return properties

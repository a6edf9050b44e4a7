"""The models that hear voices: embedded ones, or those of an operator's folder."""

from typing import Any

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import Pcm
from qasr.engines.diarizer.fbank import count, fbank
from qasr.engines.diarizer.windows import FEWEST, Activity, Shape


def session(model: bytes | str) -> Any:
    """An onnxruntime session on the caller's thread alone."""
    import onnxruntime  # noqa: PLC0415 - heavy, and for the child process only

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # it keeps a chunk for every shape
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class CommunityEars:
    """The embedded models: pyannote's segmentation and a ResNet of WeSpeaker."""

    name = "community-1"
    shape = Shape()
    threshold = 0.38
    """From 0.35 to 0.45 the development part of ``benchmarks/diarization.py`` comes out the same."""

    def __init__(self, segmentation: bytes, embedding: bytes) -> None:
        self._segmentation, self._embedding = session(segmentation), session(embedding)

    def active(self, window: Pcm) -> Activity:
        """Who speaks, when."""
        (found,) = self._segmentation.run(None, {"waveforms": window[None, None].astype(np.float32)})
        return np.asarray(found[0] > 0.5)

    def embedding(self, sound: Pcm, speaks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """``[256]``"""
        features = fbank(np.pad(sound, (0, max(0, FEWEST * 160 + 400 - len(sound)))))
        weights = np.zeros(len(features), np.float32)
        n_known = min(len(weights), len(speaks), max(1, count(len(sound))))
        weights[:n_known] = speaks[:n_known]
        places = np.flatnonzero(weights)
        first, last = (places[0], places[-1] + 1) if len(places) else (0, len(weights))
        first = max(0, min(first, len(weights) - FEWEST))
        last = max(last, first + FEWEST)
        chosen = weights[first:last] if len(places) else np.ones(last - first, np.float32)
        answer = self._embedding.run(None, {"fbank": features[None, first:last], "weights": chosen[None]})[0]
        return np.asarray(answer[0], np.float32)

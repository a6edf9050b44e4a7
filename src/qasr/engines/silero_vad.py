"""Voice activity by the Silero v6 model on onnxruntime: how probable speech is in each window of 32 ms.

The model file comes inside the ``faster-whisper`` package, in an export that takes a whole sequence of windows in one
call. Its convolutions run over one axis, for which the runtime has no fast kernels; as convolutions over two axes, one
of them of length 1, they are the same and 1.7 times as fast (measured on one core, 7 s of sound: 7.1 ms instead of
12.4, 1 000 times real time). The LSTM state is carried from block to block, so cutting a recording into blocks changes
nothing.
"""

import importlib.util
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineUnavailable

WINDOW: Final = 512
"""Samples per probability (32 ms)."""
CONTEXT: Final = 64
"""Samples of the window before that the model also sees."""
WINDOW_MS: Final = WINDOW * 1000 // SAMPLE_RATE

QUIET_PEAK: Final = 0.25
"""Blocks whose peak stays below are raised to it before detection: the model misses quiet speech (measured on far
talkers), and does not mind loud noise."""
MOST_GAIN: Final = 300.0
"""About 50 dB; more would only raise the noise of the converter."""

Probabilities: TypeAlias = npt.NDArray[np.float32]


class SileroVad:
    """The loaded model; shared by all recordings, safe to call from several threads."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - heavy, and only where it is used

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a window is too small to share
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # costs nothing here, and block lengths vary
        model = widened(_model_path())
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def start(self) -> "VadState":
        """A fresh state, for the first block of a channel."""
        return VadState(self._session)


class VadState:
    """Detection along one channel; feed its blocks in order."""

    def __init__(self, session: object) -> None:
        self._session = session
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._rest = np.zeros(CONTEXT, np.float32)  # context, then samples short of a window

    def feed(self, pcm: Pcm) -> Probabilities:
        """Probabilities of the windows that *pcm* completes, ``[n_windows]`` within [0, 1]."""
        samples = np.concatenate([self._rest, pcm * np.float32(_gain(pcm))])
        n_windows = (len(samples) - CONTEXT) // WINDOW
        self._rest = samples[n_windows * WINDOW :]
        if n_windows == 0:
            return np.zeros(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(samples, CONTEXT + WINDOW)[::WINDOW][:n_windows]
        return self._run(np.ascontiguousarray(windows))

    def finish(self) -> Probabilities:
        """The last window, filled up with silence; nothing if none is open."""
        missing = CONTEXT + WINDOW - len(self._rest)
        return self.feed(np.zeros(missing, np.float32)) if len(self._rest) > CONTEXT else np.zeros(0, np.float32)

    def _run(self, windows: npt.NDArray[np.float32]) -> Probabilities:
        outputs = self._session.run(None, {"input": windows, "h": self._h, "c": self._c})  # type: ignore[attr-defined]
        probabilities, self._h, self._c = outputs
        result: Probabilities = probabilities
        return result


def widened(path: Path) -> bytes:
    """The model at *path* with each convolution over one axis written as one over two, the first of length 1."""
    import onnx  # noqa: PLC0415 - heavy, and needed once
    from onnx import helper, numpy_helper  # noqa: PLC0415

    model = onnx.load(path)
    graph = model.graph
    weights = {initializer.name: initializer for initializer in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "height"))
    nodes = []
    for node in graph.node:
        if node.op_type != "Conv":
            nodes.append(node)
            continue
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weight = weights[node.input[1]]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, None, :], weight.name))
        before, after = options["pads"]
        flat, wide, answer = node.input[0], f"{node.output[0]}_wide", f"{node.output[0]}_answer"
        nodes += [
            helper.make_node("Unsqueeze", [flat, "height"], [wide]),
            helper.make_node(
                "Conv",
                [wide, *node.input[1:]],
                [answer],
                kernel_shape=[1, *options["kernel_shape"]],
                strides=[1, *options["strides"]],
                dilations=[1, *options["dilations"]],
                group=options["group"],
                pads=[0, before, 0, after],
            ),
            helper.make_node("Squeeze", [answer, "height"], [node.output[0]]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    serialized: bytes = model.SerializeToString()
    return serialized


def _gain(pcm: Pcm) -> float:
    peak = float(np.max(np.abs(pcm), initial=0.0))
    return min(QUIET_PEAK / peak, MOST_GAIN) if 0 < peak < QUIET_PEAK else 1.0


def _model_path() -> Path:
    """Found without importing the package, which would load its own engine."""
    spec = importlib.util.find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "assets" / "silero_vad_v6.onnx"
        if path.is_file():
            return path
    raise EngineUnavailable("the voice activity model is missing: the installed faster-whisper does not carry it")

"""Voice activity by the Silero v6 model on onnxruntime: how probable speech is in each window of 32 ms.

The model file comes inside the ``faster-whisper`` package, in an export that takes a whole sequence of windows of one
track in one call. We lay it out otherwise before it is loaded, without changing what it computes::

    export     input [windows, samples] ─▶ convolutions over time, window by window  ─▶ LSTM along the windows
    ours       input [samples, windows] ─▶ convolutions over one image for all       ─▶ LSTM along each track
                                            windows: time down, windows across

The runtime has no fast kernels for convolutions over one axis, and an image keeps its fast ones busy. Parting the
tracks before the LSTM lets one call serve many live sessions, each with as many windows as it has.
``python -m benchmarks vad`` measures both.

The LSTM state is carried from call to call, so cutting a recording into blocks changes nothing.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.domain.errors import EngineUnavailable

WINDOW: Final = 512
"""Samples per probability (32 ms)."""
CONTEXT: Final = 64
"""Samples of the window before that the model also sees."""
HIDDEN: Final = 128
"""Size of each of the two states of the LSTM."""
SPECTRUM_PAD: Final = 64
"""Samples that the model mirrors behind each window, so that four spectra of 256 samples fit."""
WINDOW_MS: Final = WINDOW * 1000 // SAMPLE_RATE

QUIET_PEAK: Final = 0.25
"""Blocks whose peak stays below are raised to it before detection: the model misses quiet speech (measured on far
talkers), and does not mind loud noise."""
MOST_GAIN: Final = 300.0
"""About 50 dB; more would only raise the noise of the converter."""

Probabilities: TypeAlias = npt.NDArray[np.float32]


Windows: TypeAlias = npt.NDArray[np.float32]
"""``[n_windows, CONTEXT + WINDOW]``, successive windows of one track."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the model keeps of a track between two calls; each ``[HIDDEN]``."""

    h: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(HIDDEN, np.float32))
    c: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(HIDDEN, np.float32))


class SileroVad:
    """The loaded model; shared by all recordings, safe to call from several threads."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - heavy, and only where it is used

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a window is too small to share
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # costs nothing here, and block lengths vary
        model = relaid(_model_path())
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def start(self) -> "VadState":
        """A fresh state, for the first block of a channel."""
        return VadState(self)

    def hear(self, tracks: Sequence[tuple[Windows, Memory]]) -> list[tuple[Probabilities, Memory]]:
        """One call of the model for all *tracks*, each with one window or more and the memory of those before.

        Returns:
            for each track the probabilities ``[n_windows]`` within [0, 1], and its memory for the next call.
        """
        lengths = np.array([len(windows) for windows, _ in tracks], np.int32)
        steps = np.arange(lengths.max())[:, None]
        places = np.minimum(steps, lengths - 1) + np.cumsum(lengths) - lengths  # [n_steps, n_tracks]
        probabilities, h, c = self._session.run(
            None,
            {
                "input": np.concatenate([windows for windows, _ in tracks]),
                "places": places,
                "lengths": lengths,
                "h": np.stack([memory.h for _, memory in tracks])[None],
                "c": np.stack([memory.c for _, memory in tracks])[None],
            },
        )
        return [
            (probabilities[track, :n], Memory(h[0, track].copy(), c[0, track].copy()))  # a view would keep all of them
            for track, n in enumerate(lengths)
        ]


class VadState:
    """Detection along one channel of a recording; feed its blocks in order."""

    def __init__(self, vad: SileroVad) -> None:
        self._vad = vad
        self._memory = Memory()
        self._rest = np.zeros(CONTEXT, np.float32)  # context, then samples short of a window

    def feed(self, pcm: Pcm) -> Probabilities:
        """Probabilities of the windows that *pcm* completes, ``[n_windows]`` within [0, 1]."""
        windows, self._rest = cut(np.concatenate([self._rest, pcm * np.float32(_gain(pcm))]))
        if not len(windows):
            return np.zeros(0, np.float32)
        [(probabilities, self._memory)] = self._vad.hear([(windows, self._memory)])
        return probabilities

    def finish(self) -> Probabilities:
        """The last window, filled up with silence; nothing if none is open."""
        return self.feed(missing(self._rest))


def cut(samples: Pcm) -> tuple[Windows, Pcm]:
    """The whole windows in *samples*, which begin with ``CONTEXT`` samples of the window before, and what is left."""
    n_windows = max(0, len(samples) - CONTEXT) // WINDOW
    overlapping: Windows = np.ndarray(
        (n_windows, CONTEXT + WINDOW), np.float32, np.ascontiguousarray(samples), strides=(4 * WINDOW, 4)
    )
    return overlapping.copy(), samples[n_windows * WINDOW :].copy()


def missing(rest: Pcm) -> Pcm:
    """The silence that makes *rest*, as ``cut`` left it, a whole window; none if no window is open."""
    return np.zeros(CONTEXT + WINDOW - len(rest) if len(rest) > CONTEXT else 0, np.float32)


def relaid(path: Path) -> bytes:
    """The model at *path*, laid out as ``SileroVad`` calls it."""
    import onnx  # noqa: PLC0415 - heavy, and needed once

    model = onnx.load(path)
    _paint(model.graph)
    _part(model.graph)
    del model.graph.value_info[:]  # shapes that hold no longer
    serialized: bytes = model.SerializeToString()
    return serialized


def _paint(graph: Any) -> None:
    """Run the convolutions of all windows as convolutions over one image ``[1, channels, time, windows]``.

    And do not compute the spectrum before the window's begin, which the export computes and throws away.
    """
    from onnx import helper, numpy_helper  # noqa: PLC0415 - heavy, and needed once

    weights = {weight.name: weight for weight in graph.initializer}

    def constant(name: str, value: npt.NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(value, name)
        if name in weights:
            weights[name].CopyFrom(tensor)
        else:
            graph.initializer.append(tensor)
        return name

    def integers(name: str, *values: int) -> str:
        return constant(name, np.array(values, np.int64))

    nodes = []
    for node in graph.node:
        if node.op_type == "Pad":  # [windows, samples]
            integers(node.input[1], 0, 0, 0, SPECTRUM_PAD)
        if node.op_type == "Slice":  # axes 1 and 2: half of the channels, and the times from the second on
            channel, _ = numpy_helper.to_array(weights[node.input[1]])
            integers(node.input[1], channel, 0)
        if node.op_type == "Unsqueeze":
            nodes += [
                helper.make_node("Transpose", [node.input[0]], ["samples"], perm=[1, 0]),
                helper.make_node("Unsqueeze", ["samples", integers("first two", 0, 1)], [node.output[0]]),
            ]
        elif node.op_type == "Conv" and node.name.startswith("/encoder/"):
            options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            before, after = options["pads"]
            constant(node.input[1], numpy_helper.to_array(weights[node.input[1]])[:, :, :, None])
            nodes.append(
                helper.make_node(
                    "Conv",
                    list(node.input),
                    list(node.output),
                    kernel_shape=[*options["kernel_shape"], 1],
                    strides=[*options["strides"], 1],
                    pads=[before, 0, after, 0],
                )
            )
        elif node.op_type == "Transpose" and node.input[0].startswith("/encoder/"):  # time is of length 1 by now
            nodes += [
                helper.make_node("Squeeze", [node.input[0], integers("first and third", 0, 2)], ["columns"]),
                helper.make_node("Transpose", ["columns"], ["features"], perm=[1, 0]),
            ]
        else:
            nodes.append(node)
    _replace(graph.node, nodes)


def _part(graph: Any) -> None:
    """Let the LSTM run along several tracks at once, over the ``features`` ``[n_windows, HIDDEN]`` of their windows.

    New inputs: ``places`` ``[n_steps, n_tracks]`` says which window each track hears at each step, ``lengths``
    ``[n_tracks]`` how many of its steps count. ``h`` and ``c`` become ``[1, n_tracks, HIDDEN]``, the probabilities
    ``[n_tracks, n_steps]``.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - heavy, and needed once

    def tensor(name: str, kind: int, *shape: int | str) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "middle"))
    nodes = []
    for node in graph.node:
        if node.op_type == "LSTM":
            _, *weights, _, h, c = node.input
            nodes.append(helper.make_node("Gather", ["features", "places"], ["parted"], axis=0))
            _replace(node.input, ["parted", *weights, "lengths", h, c])
        if node.output[0] == graph.output[0].name:  # the export flattens [n_tracks, 1, n_steps]
            nodes.append(helper.make_node("Squeeze", [node.input[0], "middle"], [node.output[0]]))
        else:
            nodes.append(node)
    _replace(graph.node, nodes)
    used = {name for node in graph.node for name in node.input}
    _replace(graph.initializer, [weight for weight in graph.initializer if weight.name in used])
    _replace(
        graph.input,
        [
            tensor("input", TensorProto.FLOAT, "n_windows", CONTEXT + WINDOW),
            tensor("places", TensorProto.INT64, "n_steps", "n_tracks"),
            tensor("lengths", TensorProto.INT32, "n_tracks"),
            tensor("h", TensorProto.FLOAT, 1, "n_tracks", HIDDEN),
            tensor("c", TensorProto.FLOAT, 1, "n_tracks", HIDDEN),
        ],
    )
    probabilities, h_after, c_after = (output.name for output in graph.output)
    _replace(
        graph.output,
        [
            tensor(probabilities, TensorProto.FLOAT, "n_tracks", "n_steps"),
            tensor(h_after, TensorProto.FLOAT, 1, "n_tracks", HIDDEN),
            tensor(c_after, TensorProto.FLOAT, 1, "n_tracks", HIDDEN),
        ],
    )


def _replace(repeated: Any, values: Sequence[Any]) -> None:
    """Give a repeated field of a protobuf message other *values*."""
    kept = list(values)
    del repeated[:]
    repeated.extend(kept)


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

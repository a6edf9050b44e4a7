"""Frames of one shape in, samples at 16 kHz out, by FFmpeg's filter.

PyAV's own ``AudioResampler`` builds the same graph, with a thread per processor: of what is only resampled these have
nothing to do, and a server has as many graphs as live sessions.
"""

from collections.abc import Iterator
from typing import Any

import av.error
import av.filter
import numpy as np
import numpy.typing as npt

from qasr.domain.audio import SAMPLE_RATE


class Resampler:
    """Keeps its state from frame to frame.

    Args:
        frame: the first one, or one like it.
        layout: of what comes out.
    """

    def __init__(self, frame: Any, *, layout: str) -> None:
        self._shape = _shape(frame)
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout.name, time_base=frame.time_base
            ),
            # packed at the end: PyAV 18 reads a ninth plane of planar frames with eight, and crashes;
            # float inside is faster than s16; and without a limit on the matrix two equal tracks would add up to 1.41
            graph.add("aresample", f"{SAMPLE_RATE}:internal_sample_fmt=fltp:rematrix_maxval=1"),
            graph.add("aformat", f"sample_fmts=flt:sample_rates={SAMPLE_RATE}:channel_layouts={layout}"),
            graph.add("abuffersink"),
        ).configure()
        self._graph = graph

    def takes(self, frame: Any) -> bool:
        """Whether *frame* is of its shape."""
        return self._shape == _shape(frame)

    def push(self, frame: Any | None) -> Iterator[npt.NDArray[np.float32]]:
        """*frame* resampled, or at the end what the filter still holds; ``[n_channels, n_samples]``."""
        if frame is not None:
            frame.pts = None  # gaps and jumps of the clock are not our matter
        self._graph.push(frame)
        while True:
            try:
                frame = self._graph.pull()
                yield frame.to_ndarray().reshape(frame.samples, -1).T
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _shape(frame: Any) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name

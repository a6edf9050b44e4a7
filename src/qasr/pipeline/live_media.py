"""The child that decodes strangers' compressed live sound with PyAV; our end of it is ``live_decode.py``.

It serves many streams, one piece of one stream at a time. No demuxer of FFmpeg is used: ``framing.py`` cuts packets,
and of the decoders only the five below see them. What ``media.py`` takes from its process is taken from this one too.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import av
import av.logging
import msgspec
import numpy as np

from qasr.domain.audio import SAMPLE_RATE, Pcm
from qasr.pipeline.framing import NotThisFormat, Packet, splitter
from qasr.pipeline.live_decode import Piece
from qasr.pipeline.live_pcm import FAILED
from qasr.pipeline.media import FAULTS, Sound, confine, grant_cpu
from qasr.workers.child import Answer, Cancelled, Refusal

DECODERS: Final = {
    "mp3": "mp3float",
    "aac": "aac",
    "amr": "libopencore_amrnb",
    "opus": "libopus",
    "speex": "speex",
}
"""By the format that the client named."""
CPU_S: Final = 10.0
"""CPU seconds that one piece may use; it needs milliseconds."""
MOST_DAMAGED: Final = 200
"""Packets in a row that may fail, some 4 s; then it is not what it was said to be."""
SAMPLES_PER_BYTE: Final = 400
"""How much a byte may decode to, at 16 kHz, 25 ms: the most that an encoder makes of silence is 20 ms (AMR)."""
SAMPLES_FREE: Final = 10 * SAMPLE_RATE


def factory(_config: Mapping[str, object]) -> "_LiveMedia":
    """Lock this process up, and then decode."""
    os.environ.clear()
    sys.dont_write_bytecode = True
    av.logging.set_level(None)
    confine()
    return _LiveMedia()


_pieces = msgspec.msgpack.Decoder(Piece)


class _LiveMedia:
    parallel = 1
    about: Mapping[str, object] = {}

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}

    def handle(self, _method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        """One ``Piece``; the answer is its samples, float32."""
        piece = _pieces.decode(body)
        for number in piece.ended:
            self._streams.pop(number, None)
        stream = _Stream(piece.codec) if piece.turn == 0 else self._streams.pop(piece.stream, None)
        if stream is None:
            raise Refusal("gone", "the process that decoded this stream ended")
        grant_cpu(CPU_S)
        pcm = stream.feed(payload, cancelled)
        if piece.last:
            pcm = np.concatenate([pcm, stream.finish(cancelled)])
        else:
            self._streams[piece.stream] = stream
        yield None, pcm.data.cast("B") if pcm.size else b""


class _Stream:
    """One session's sound: packets, frames, samples."""

    def __init__(self, codec: str) -> None:
        self._name = codec
        self._splitter = splitter(codec)
        self._sound = Sound(channels=None, max_ms=sys.maxsize)
        self._codec: Any = None if codec in {"opus", "speex"} else _decoder(codec)
        self._n_bytes = self._n_samples = self._damaged = 0

    def feed(self, data: bytes, cancelled: Cancelled) -> Pcm:
        """The samples that *data* completes."""
        self._n_bytes += len(data)
        return self._decode(self._splitter.feed(data), cancelled)

    def finish(self, cancelled: Cancelled) -> Pcm:
        """What was still inside; refused if there were bytes and never a sound."""
        rest = self._decode(self._splitter.finish(), cancelled)
        self._drain()
        self._sound.finish()
        if self._n_bytes and self._sound.info is None:
            raise Refusal("undecodable", FAILED)
        return np.concatenate([rest, self._sound.block()[0]])

    def _decode(self, packets: Iterator[Packet], cancelled: Cancelled) -> Pcm:
        try:
            for packet in packets:
                if cancelled():
                    break
                self._take(packet)
                self._check_growth()
        except NotThisFormat as error:
            raise Refusal("undecodable", FAILED) from error
        pcm: Pcm = self._sound.block()[0]
        self._n_samples += len(pcm)
        return pcm

    def _take(self, packet: Packet) -> None:
        if packet.begins:
            self._drain()
            self._codec = _decoder(self._name, packet.data)
        elif not (self._name == "mp3" and _is_about(packet.data)):
            self._hear(packet.data)

    def _hear(self, data: bytes | None) -> None:
        try:
            for frame in self._codec.decode(None if data is None else av.Packet(data)):
                self._sound.take(frame, self._name, self._codec.name)
            self._damaged = 0
        except FAULTS as error:
            self._damaged += 1
            if self._damaged > MOST_DAMAGED:
                raise Refusal("undecodable", FAILED) from error

    def _drain(self) -> None:
        if self._codec is not None:
            self._hear(None)
            self._codec = None

    def _check_growth(self) -> None:
        if self._n_samples + self._sound.n_waiting > SAMPLES_FREE + self._n_bytes * SAMPLES_PER_BYTE:
            raise Refusal("undecodable", FAILED)


def _decoder(name: str, header: bytes | None = None) -> Any:
    codec = av.CodecContext.create(DECODERS[name], "r")
    codec.thread_count = 1
    if header is not None:
        codec.extradata = header
    if name == "amr":
        codec.sample_rate, codec.layout = 8_000, "mono"
    return codec


def _is_about(frame: bytes) -> bool:
    """Whether an MP3 frame holds no sound, but tells about the file (Xing, LAME); it would decode to silence."""
    return any(frame[at : at + 4] in {b"Xing", b"Info"} for at in (13, 21, 36))

"""The child that parses strangers' media with PyAV (FFmpeg inside); our end of it is ``decode.py``.

Three things are taken from FFmpeg before it sees a byte: *names* (it gets an open file, or bytes, and may open no
other: a playlist renamed to .mp3 would otherwise read files for its author), *choice* (only the demuxers and decoders
below, of the several hundred it brings) and *resources* (memory, CPU time, files).

Packets are decoded one by one, so that a damaged one costs its own milliseconds and not the rest of the recording.
"""

import math
import os
import resource
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

import av
import av.error
import av.logging
import msgspec
import numpy as np

from qasr.domain.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, SAMPLE_RATE, MediaInfo, RawFormat, to_ms
from qasr.pipeline.decode import Block, Found, Job, Pcm2
from qasr.pipeline.resample import Resampler
from qasr.workers.child import Answer, Cancelled, Refusal

DEMUXERS: Final = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "asf", "au", "avi", "caf", "flac", "flv", "live_flv", "matroska",
    "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mp3", "mpeg", "mpegts", "ogg", "wav", "w64", "s16le",
)  # fmt: skip
"""No playlist is among them (``concat``, ``hls``, ``dash``, ``sdp``), nor ``image2`` and the like."""
DECODERS: Final = (
    "aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "eac3", "flac",
    "g722", "g726", "g726le", "gsm", "gsm_ms", "libopus", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float",
    "nellymoser", "opus","speex", "vorbis", "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
    "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be",
    "pcm_f64le", "pcm_mulaw", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8",
    "pcm_u8", "pcm_bluray", "pcm_dvd",
)  # fmt: skip
"""None for video: probing would decode pictures to learn their format."""
BETTER: Final = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
"""FFmpeg's own AMR decoders drop the comfort noise that phones send in pauses; all that follows moves up."""
OPTIONS: Final = {
    "format_whitelist": ",".join(DEMUXERS),
    "codec_whitelist": ",".join(DECODERS),
    "protocol_whitelist": "none",  # there is no protocol of that name
    "max_probe_packets": "1",  # 16-bit wav would be searched for DTS, which we do not read: 20 ms a file
    "max_size": "8192",  # bytes of a packet of wav, twice as many: each costs 0.06 ms, and more make that search long
}

MOST_CHANNELS: Final = 8
STEREO: Final = 2
CANCELED: Final = 0.003
"""Of the power of two tracks, what their mean must keep: unlike voices keep a half, -25 dB is none."""
HONEST: Final = frozenset({"mov", "matroska", "flac", "ogg", "wav", "w64", "aiff", "caf", "asf"})
"""Containers that say how long they are; the others are guessed at from their bit rate."""
MOST_CLAIMED_MS: Final = 2**40
"""35 years; files may claim numbers that no message carries."""
PADDING_MS: Final = 900
"""A recording of exactly the limit may decode to this much more. Codecs begin with a frame of their own (AAC: 0.13 s at
8 kHz, and 0.3 s in its HE profiles) and fill their last one, and files that were joined of parts have that at each
joint. Not a whole second, so that one of a second more is refused still."""
FIRST_BLOCK: Final = 5 * SAMPLE_RATE
BLOCK: Final = 10 * SAMPLE_RATE
MOST_DAMAGE_BEFORE_SOUND: Final = 2_000
"""Packets that may fail before the first that does not; then it is not audio."""
MOST_FAILED_READS: Final = 16
"""Reads in a row that may fail; the demuxer then stands still."""

MEMORY: Final = 1536 * 2**20
"""Bytes of address space above what the process has after loading. FFmpeg needs some 60 MB for any of our formats."""
OPEN_FILES: Final = 32

NOT_AUDIO: Final = "The audio format is illegal and cannot be opened."
FAULTS: Final = (av.error.FFmpegError, OSError, EOFError, ValueError, IndexError, OverflowError, MemoryError)
"""What PyAV raises about a bad file."""


def factory(_config: Mapping[str, object]) -> "_Media":
    """Lock this process up, and then decode."""
    os.environ.clear()
    sys.dont_write_bytecode = True
    av.logging.set_level(None)
    confine()
    return _Media()


_jobs = msgspec.msgpack.Decoder(Job)


class _Media:
    parallel = 1
    about: Mapping[str, object] = {"ffmpeg": ".".join(map(str, av.library_versions["libavformat"]))}

    def handle(self, _method: str, body: msgspec.Raw, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
        job = _jobs.decode(body)
        grant_cpu(job.cpu_s)
        return _decode(job, payload, cancelled)


def confine() -> None:
    """Limits that hold for the life of the process; it cannot raise them again."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    with suppress(OSError):  # only Linux tells, and only Linux enforces it
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def grant_cpu(seconds: float) -> None:
    """*seconds* more from now on; the kernel ends the process when they are used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), hard))


def _decode(job: Job, payload: bytes, cancelled: Cancelled) -> Iterator[Answer]:
    """``Found``, then ``Block`` after ``Block``."""
    sound = Sound(channels=job.channels, max_ms=job.max_ms)
    damaged = n_sent = 0
    found = False
    with _opened(job, payload) as container:
        stream = _audio_stream(container)
        claimed_ms = _claimed_ms(container, stream)
        _check_claim(container, claimed_ms, job.max_ms)
        codec = _codec(stream)
        packets = _Packets(container, stream)
        for packet in packets:
            if cancelled():
                return
            try:
                for frame in codec.decode(packet):
                    sound.take(frame, container.format.name, codec.name)
            except FAULTS:
                damaged += 1
                if sound.info is None and damaged > MOST_DAMAGE_BEFORE_SOUND:
                    break
            if sound.info is not None and not found:
                found = True
                yield Found(replace(sound.info, claimed_ms=claimed_ms)), b""
            if sound.n_waiting >= (BLOCK if n_sent else FIRST_BLOCK):
                yield _answer(sound.block(), damaged + packets.n_failed)
                n_sent += 1
    if sound.info is None:
        raise Refusal("undecodable", NOT_AUDIO)
    sound.finish()
    yield _answer(sound.block(), damaged + packets.n_failed)


def _answer(pcm: Pcm2, damaged: int) -> Answer:
    return Block(len(pcm), damaged), pcm.data.cast("B") if pcm.size else b""


@contextmanager
def _opened(job: Job, payload: bytes) -> Iterator[Any]:
    """The recording of *job*, its container recognized."""
    with BytesIO(payload) if job.path is None else _regular_file(job.path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size == 0:
            raise Refusal("empty", NOT_AUDIO)
        if size > job.max_bytes:
            raise Refusal("too_large", f"The input audio is larger than {job.max_bytes} bytes.")
        format_name, options = (None, OPTIONS) if job.raw is None else ("s16le", OPTIONS | _raw_options(job.raw))
        try:
            container = av.open(file, format=format_name, options=options, metadata_errors="replace")
        except FAULTS as error:
            raise Refusal("undecodable", NOT_AUDIO) from error
        with container:
            yield container


def _regular_file(path: bytes) -> IO[bytes]:
    try:  # without O_NONBLOCK a named pipe would keep us
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise Refusal("undecodable", NOT_AUDIO) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Refusal("undecodable", NOT_AUDIO)
    return file


def _raw_options(raw: RawFormat) -> dict[str, str]:
    return {"sample_rate": str(raw.rate_hz), "ch_layout": f"{raw.channels}c"}


def _audio_stream(container: Any) -> Any:
    """The first audio stream, its shape within bounds."""
    if not container.streams.audio:
        raise Refusal("no_audio_track", "The file has no audio track.")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None or context.codec.name not in DECODERS:
        raise Refusal("undecodable", NOT_AUDIO)
    if context.sample_rate:
        _check_shape(context.sample_rate, context.channels)
    return stream


def _check_claim(container: Any, claimed_ms: int | None, max_ms: int) -> None:
    """Refuse at once what says itself that it is too long, before somebody recognizes it up to the limit.

    Only a claim that is clearly above the limit counts.
    """
    is_honest = container.format.name.partition(",")[0] in HONEST
    if is_honest and claimed_ms is not None and claimed_ms > max_ms + max_ms // 100 + 1000:
        raise _too_long(max_ms)


def _claimed_ms(container: Any, stream: Any) -> int | None:
    """The length that the file claims; None: none that can be.

    Of PCM, a claim counts only if the file has bytes for it: who writes wav into a pipe does not know its length and
    claims the most.
    """
    if stream.duration is not None and stream.time_base is not None:
        claimed_ms = int(stream.duration * stream.time_base * 1000)
    else:
        claimed_ms = (container.duration or 0) // 1000
    codec = stream.codec_context
    if claimed_ms <= 0 or (
        codec.name.startswith("pcm_") and claimed_ms * (codec.bit_rate or 0) > container.size * 8000
    ):
        return None
    return min(claimed_ms, MOST_CLAIMED_MS)


def _too_long(max_ms: int) -> Refusal:
    return Refusal("too_long", f"The input audio is longer than {max_ms // 1000}s.")


def _codec(stream: Any) -> Any:
    """What decodes the packets of *stream*, in this thread."""
    codec = stream.codec_context
    if codec.codec.name in BETTER:
        codec = av.CodecContext.create(BETTER[codec.codec.name], "r")
        codec.sample_rate = stream.codec_context.sample_rate
        codec.layout = stream.codec_context.layout
    codec.thread_count = 1
    return codec


def _check_shape(rate_hz: int, channels: int) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise Refusal(
            "undecodable",
            f"The audio has a sample rate of {rate_hz} Hz; {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz are supported.",
        )
    if channels > MOST_CHANNELS:
        raise Refusal("undecodable", f"The audio has {channels} channels; at most {MOST_CHANNELS} are supported.")


class _Packets:
    """All packets of one stream, going on behind places that cannot be read; ends with the flushing one."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.n_failed = 0

    def __iter__(self) -> Iterator[Any]:
        failed_in_a_row = 0
        while failed_in_a_row < MOST_FAILED_READS:
            try:
                for packet in self._container.demux(self._stream):
                    failed_in_a_row = 0
                    yield packet
            except FAULTS:
                self.n_failed += 1
                failed_in_a_row += 1
            else:
                return


class Sound:
    """Frames of any kind in, 16 kHz out; counts what it gives against the limit."""

    def __init__(self, *, channels: tuple[int, ...] | None, max_ms: int) -> None:
        self._channels, self._max_ms = channels, max_ms
        self._resampler: Resampler | None = None
        self._waiting: list[Pcm2] = []
        self._n_total = 0
        self.n_waiting = 0
        self.info: MediaInfo | None = None

    def take(self, frame: Any, container: str, codec: str) -> None:
        """Resample *frame*; the first one tells what the recording is."""
        if frame.samples == 0:
            return
        if self._resampler is None or not self._resampler.takes(frame):
            _check_shape(frame.sample_rate, frame.layout.nb_channels)
            self._drain()
            mono = self._channels is None and frame.layout.nb_channels != STEREO
            self._resampler = Resampler(frame, layout="mono" if mono else frame.layout.name)
        if self.info is None:
            self._check_channels(frame.layout.nb_channels)
            self.info = MediaInfo(
                container=container, codec=codec, rate_hz=frame.sample_rate, channels=frame.layout.nb_channels
            )
        self._keep(self._resampler.push(frame))

    def finish(self) -> None:
        """No frame will follow."""
        self._drain()

    def block(self) -> Pcm2:
        """All that is waiting, float32 ``[n_channels, n_samples]`` within [-1, 1]."""
        n_channels = 1 if self._channels is None else len(self._channels)
        pcm = np.ascontiguousarray(np.concatenate([np.empty((n_channels, 0), np.float32), *self._waiting], axis=1))
        self._waiting.clear()
        self.n_waiting = 0
        # a comparison with NaN is False, so that this one look finds all that is not a sample
        if pcm.size and not (pcm.max() <= 1.0 and pcm.min() >= -1.0):
            np.nan_to_num(pcm, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            np.clip(pcm, -1.0, 1.0, out=pcm)
        return pcm

    def _check_channels(self, n_channels: int) -> None:
        for channel in self._channels or ():
            if not 0 <= channel < n_channels:
                raise Refusal(
                    "no_such_channel",
                    f"channel_id {channel} does not exist: the audio has {n_channels} channel(s), counted from 0.",
                )

    def _drain(self) -> None:
        if self._resampler is not None:
            self._keep(self._resampler.push(None))
            self._resampler = None

    def _keep(self, parts: Iterator[Pcm2]) -> None:
        for part in parts:
            if self._channels is None:
                kept = _mix(part) if len(part) == STEREO else part
            elif max(self._channels) < len(part):
                kept = part[list(self._channels)]
            else:  # the recording lost tracks on its way
                kept = np.zeros((len(self._channels), part.shape[1]), np.float32)
                for row, channel in enumerate(self._channels):
                    if channel < len(part):
                        kept[row] = part[channel]
            self._waiting.append(kept)
            self.n_waiting += kept.shape[1]
            self._n_total += kept.shape[1]
        if to_ms(self._n_total) > self._max_ms + PADDING_MS:
            raise _too_long(self._max_ms)


def _mix(pair: Pcm2) -> Pcm2:
    """Two tracks as one: their mean; the first alone where each is the other's negative (a wire soldered the wrong way
    round), since nothing would be left of them.
    """
    mean = pair.mean(axis=0, keepdims=True)
    loud, left = float(np.square(pair).mean()), float(np.square(mean).mean())
    return pair[:1] if left < CANCELED * loud else mean

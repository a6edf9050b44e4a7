"""Streams of compressed sound become packets: what a decoder takes, cut out of bytes that come in any pieces.

::

    mp3, aac, amr    frame frame frame …            each begins with a header that tells its length
    opus, speex      page [packet packet] page …    Ogg; the first packet of a stream is its header

Bytes that belong to no packet are passed over, so that damage costs no more than itself; too many in a row, and the
stream is not what it was said to be. What is kept is bounded by one packet and the piece that came last.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol, TypeAlias

MOST_GARBAGE: Final = 8 * 1024
"""Bytes in a row that may belong to nothing: more than the longest frame, and a quarter of a second of 16 kHz PCM."""
MOST_TAG: Final = 16 * 1024**2
"""Bytes of one ID3 tag, which may hold pictures; it is skipped, not kept."""
LARGEST_PACKET: Final = 64 * 1024
"""Bytes of one packet in Ogg; the largest of Opus has 61 000. Larger ones are comments with pictures: dropped."""

MOST_HEADERS: Final = 16
"""Packets before the sound of a stream in Ogg; encoders write two."""


class NotThisFormat(Exception):
    """The bytes are not of the format."""


class Packet(NamedTuple):
    """What a decoder takes at once."""

    data: bytes
    begins: bool = False
    """It is the header of a stream, for the decoder to be set up with."""


class Splitter(Protocol):
    """Cuts one stream."""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that *data* completes. Raises ``NotThisFormat``."""
        ...

    def finish(self) -> Iterator[Packet]:
        """What is left at the end; a packet that was cut off is dropped."""
        ...


Frame: TypeAlias = tuple[int, int]
"""Length in bytes, header included, and what the frames of a stream have in common."""


class FrameSplitter:
    """Frames one after another: found by two kindred headers at the right distance, then followed from one to the next.

    Args:
        header: the frame that begins at a place in a buffer with *n_header* bytes behind it; None if none does.
        n_header: bytes that *header* looks at.
        prefix: length of what comes before the first frame, from the first bytes; None while they are too few.
    """

    def __init__(
        self,
        header: Callable[[bytearray, int], Frame | None],
        n_header: int,
        prefix: Callable[[bytearray], int | None],
    ) -> None:
        self._header, self._n_header, self._prefix = header, n_header, prefix
        self._buffer = bytearray()
        self._before: int | None = None  # bytes of the prefix that are still to come
        self._kind: int | None = None  # of the frame before, while one follows the other
        self._garbage = 0

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The frames that *data* completes."""
        self._buffer += data
        if self._before is None:
            self._before = self._prefix(self._buffer)
        if self._before:
            passed = min(self._before, len(self._buffer))
            self._before -= passed
            del self._buffer[:passed]
        if self._before == 0:
            yield from self._frames(last=False)

    def finish(self) -> Iterator[Packet]:
        """A last frame that nothing followed."""
        yield from self._frames(last=True)

    def _frames(self, *, last: bool) -> Iterator[Packet]:
        at = 0
        try:
            while (n_bytes := self._frame(at, last=last)) is not None:
                if n_bytes:
                    yield Packet(bytes(self._buffer[at : at + n_bytes]))
                    self._garbage = 0
                else:
                    self._kind, self._garbage = None, self._garbage + 1
                at += n_bytes or 1
                if self._garbage > MOST_GARBAGE:
                    raise NotThisFormat
        finally:
            del self._buffer[:at]

    def _frame(self, at: int, *, last: bool) -> int | None:
        """Length of the frame that begins there, 0 if none does; None where more must come before it can be told."""
        there = len(self._buffer) - at
        if there < self._n_header:
            return None
        frame = self._header(self._buffer, at)
        if frame is None:
            return 0
        length, kind = frame
        if kind != self._kind and (there != length or not last):  # at the end, the end is as good as another header
            if there < length + self._n_header:
                return 0 if last else None
            follower = self._header(self._buffer, at + length)
            if follower is None or follower[1] != kind:
                return 0
        if there < length:
            return None
        self._kind = kind
        return length


def tag_length(buffer: bytearray) -> int | None:
    """Length of the ID3v2 tag that a stream begins with, 0 if it does with none. Source: id3.org, id3v2.4.0, 3.1."""
    if not buffer.startswith(b"ID3"[: len(buffer)]):
        return 0
    if len(buffer) < 10:
        return None
    length = 10 + sum((size & 0x7F) << 7 * place for place, size in enumerate(reversed(buffer[6:10])))
    if length > MOST_TAG:
        raise NotThisFormat
    return length


def amr_magic(buffer: bytearray) -> int | None:
    """Length of what an AMR-NB file begins with."""
    if not buffer.startswith(AMR_MAGIC[: len(buffer)]):
        raise NotThisFormat
    return len(AMR_MAGIC) if len(buffer) >= len(AMR_MAGIC) else None


_MP3_KBITS: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ: Final = (44_100, 48_000, 32_000)


def mp3_frame(buffer: bytearray, at: int) -> Frame | None:
    """MPEG 1, 2 or 2.5, layer III. Source: ISO/IEC 11172-3, 2.4.1.3; 2.5 is Fraunhofer's."""
    sync, shape, rates, _ = buffer[at : at + 4]
    version, bits, rate = shape >> 3 & 3, rates >> 4, rates >> 2 & 3  # version: 3 is MPEG 1, 2 is 2, 0 is 2.5
    if sync != 0xFF or shape & 0xE6 != 0xE2 or version == 1 or bits in {0, 15} or rate == 3:
        return None
    kbits = _MP3_KBITS[3 if version == 3 else 2][bits]
    rate_hz = _MP3_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    length = (144_000 if version == 3 else 72_000) * kbits // rate_hz + (rates >> 1 & 1)
    return length, version << 2 | rate


def adts_frame(buffer: bytearray, at: int) -> Frame | None:
    """AAC with its transport header. Source: ISO/IEC 13818-7, 6.2."""
    sync, shape, profile, high, middle, low = buffer[at : at + 6]
    length = (high & 3) << 11 | middle << 3 | low >> 5
    if sync != 0xFF or shape & 0xF6 != 0xF0 or profile >> 2 & 15 > 12 or length <= 7:
        return None
    return length, profile >> 2


AMR_MAGIC: Final = b"#!AMR\n"
_AMR_BYTES: Final = (13, 14, 16, 18, 20, 21, 27, 32, 6)


def amr_frame(buffer: bytearray, at: int) -> Frame | None:
    """AMR-NB in its storage format. Source: RFC 4867, 5.3."""
    mode = buffer[at] >> 3 & 15
    if buffer[at] & 0x83 or 9 <= mode < 15:
        return None
    return (1 if mode == 15 else _AMR_BYTES[mode]), 0


_PAGE: Final = 27
"""Bytes of a page's header before the lengths of its parts."""
_CONTINUED, _FIRST = 1, 2
"""Flags of a page."""


class OggSplitter:
    """Packets out of Ogg pages; one stream after another, as a client makes them that ends a file with each chunk.

    Args:
        magic: what the first packet of a stream begins with.
        n_headers: how many packets, from the first packet's bytes, are headers; only the first of them is given out.

    Source: RFC 3533. Checksums are left to the decoder, to which damage means nothing worse.
    """

    def __init__(self, magic: bytes, n_headers: Callable[[bytes], int]) -> None:
        self._magic, self._n_headers = magic, n_headers
        self._buffer = bytearray()
        self._garbage = 0
        self._begun = False
        self._serial: bytes | None = None
        self._n_packets = 0
        self._skipped = 0  # packets of the stream that are headers
        self._open: bytearray | None = None  # the packet that goes on in the next page; None: it is not wanted

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets of the pages that *data* completes."""
        self._buffer += data
        if not self._begun and not self._buffer.startswith(b"OggS"[: len(self._buffer)]):
            raise NotThisFormat
        self._begun = self._begun or len(self._buffer) >= 4
        while self._aligned() and (page := self._page()) is not None:
            yield from self._packets(*page)

    def finish(self) -> Iterator[Packet]:
        """Nothing: a page that was cut off is dropped."""
        yield from ()

    def _aligned(self) -> bool:
        """Drop what is before the next page; whether one begins the buffer."""
        found = self._buffer.find(b"OggS")
        passed = found if found >= 0 else max(0, len(self._buffer) - 3)
        del self._buffer[:passed]
        self._garbage += passed
        if self._garbage > MOST_GARBAGE:
            raise NotThisFormat
        return found >= 0

    def _page(self) -> tuple[bytes, bytes, bytes] | None:
        """Header, lengths and body of the page that begins the buffer, if it is there."""
        if len(self._buffer) < _PAGE:
            return None
        n_lengths = self._buffer[_PAGE - 1]
        lengths = bytes(self._buffer[_PAGE : _PAGE + n_lengths])
        end = _PAGE + n_lengths + sum(lengths)
        if len(lengths) < n_lengths or len(self._buffer) < end:
            return None
        head, body = bytes(self._buffer[:_PAGE]), bytes(self._buffer[_PAGE + n_lengths : end])
        del self._buffer[:end]
        self._garbage = 0
        return head, lengths, body

    def _packets(self, head: bytes, lengths: bytes, body: bytes) -> Iterator[Packet]:
        flags, serial = head[5], head[14:18]
        if flags & _FIRST:
            self._serial, self._n_packets, self._open = serial, 0, bytearray()
        elif self._serial is None:
            raise NotThisFormat
        elif serial != self._serial:
            return
        if not flags & _CONTINUED:
            self._open = bytearray()
        at = 0
        for length in lengths:
            if self._open is not None:
                self._open += body[at : at + length]
                if len(self._open) > LARGEST_PACKET:
                    self._open = None
            at += length
            if length < 255:  # the packet ends here
                data, self._open = self._open, bytearray()
                yield from self._numbered(bytes(data) if data else b"")
        if not lengths or lengths[-1] < 255:
            self._open = None  # a page that continues something else has lost its begin

    def _numbered(self, data: bytes) -> Iterator[Packet]:
        number, self._n_packets = self._n_packets, self._n_packets + 1
        if number == 0:
            if not data.startswith(self._magic):
                raise NotThisFormat
            self._skipped = self._n_headers(data)
            if self._skipped > MOST_HEADERS:
                raise NotThisFormat
            yield Packet(data, begins=True)
        elif number >= self._skipped and data:
            yield Packet(data)


def _speex_headers(header: bytes) -> int:
    """Two, and as many more as the header says."""
    return 2 + int.from_bytes(header[68:72], "little")


def splitter(codec: str) -> Splitter:
    """For one stream of *codec*, one of ``mp3 aac amr opus speex``."""
    match codec:
        case "mp3":
            return FrameSplitter(mp3_frame, 4, tag_length)
        case "aac":
            return FrameSplitter(adts_frame, 6, tag_length)
        case "amr":
            return FrameSplitter(amr_frame, 1, amr_magic)
        case "opus":
            return OggSplitter(b"OpusHead", lambda _: 2)
        case "speex":
            return OggSplitter(b"Speex   ", _speex_headers)
    raise ValueError(codec)

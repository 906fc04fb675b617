"""Frames on a link: a small header, then raw payload bytes received straight into their buffer.

    prefix (8 bytes) = kind 1 | header length 3 | payload length 4          (big endian)
    WHOLE            = prefix | header | payload
    OPEN             = prefix | header           the payload length is of what follows in pieces
    PIECE            = prefix (header length 0) | payload    the next bytes of the frame that is open

A large frame is opened and then leaves in pieces; whole frames may come between them, so that an Ack never waits for a
large payload. At most one frame is open at a time.

Rule 1: lengths are checked before anything is allocated.
Rule 2: payload bytes are copied at most once between the kernel and their buffer (what came in the same read as a prefix).
Rule 3: no socket and no clock in this file: it is given `recv_into`.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Final

from meshd.config import WRITE_PIECE_BYTES
from meshd.errors import InvalidError

Buffer = bytes | bytearray | memoryview
"""C-contiguous bytes."""

_PREFIX: Final = struct.Struct("!II")
PREFIX_BYTES: Final = _PREFIX.size
_READ_BYTES: Final = 16 * 1024
"""One TLS record: a read never returns more."""
EMPTY: Final = memoryview(b"")


class Kind(IntEnum):
    """What a prefix announces."""

    WHOLE = 1
    OPEN = 2
    PIECE = 3


class FrameError(InvalidError):
    """The far end broke the rules of framing: nothing after it on this connection can be trusted."""


def prefix(kind: Kind, header: int, payload: int) -> bytes:
    """The 8 bytes before a header of `header` and a payload of `payload` bytes."""
    return _PREFIX.pack(kind << 24 | header, payload)


def whole(header: bytes, payload: Sequence[Buffer] = ()) -> bytes:
    """A small frame, ready to send in one call."""
    size = sum(byte_length(part) for part in payload)
    return b"".join((prefix(Kind.WHOLE, len(header), size), header, *payload))


def opening(header: bytes, payload_bytes: int) -> bytes:
    """What opens a large frame; its pieces follow."""
    return prefix(Kind.OPEN, len(header), payload_bytes) + header


def pieces(payload: Sequence[Buffer], piece_bytes: int = WRITE_PIECE_BYTES) -> Iterator[memoryview]:
    """Prefixed pieces of a payload, each ready to send in one call; each is valid until the next is taken.

    A piece is gathered behind its prefix in one buffer that is used again and again: one copy of bytes that the cipher
    reads right after it, in exchange for half the calls (each of which gives up and retakes the GIL).
    """
    staging = bytearray(PREFIX_BYTES + piece_bytes)
    view = memoryview(staging)
    filled = PREFIX_BYTES
    for part in payload:
        source = memoryview(part).cast("B") if byte_length(part) else EMPTY
        start = 0
        while start < len(source):
            taken = min(len(source) - start, len(staging) - filled)
            view[filled : filled + taken] = source[start : start + taken]
            start += taken
            filled += taken
            if filled == len(staging):
                _PREFIX.pack_into(staging, 0, Kind.PIECE << 24, piece_bytes)
                yield view
                filled = PREFIX_BYTES
    if filled > PREFIX_BYTES:
        _PREFIX.pack_into(staging, 0, Kind.PIECE << 24, filled - PREFIX_BYTES)
        yield view[:filled]


def byte_length(part: Buffer) -> int:
    """Bytes in a buffer, whatever its item size."""
    return part.nbytes if isinstance(part, memoryview) else len(part)


class FrameReader:
    """Reads frames from `recv_into(buffer) -> bytes read, 0 at the end`. For one thread."""

    def __init__(
        self,
        recv_into: Callable[[memoryview], int],
        header_max: int,
        payload_max: int,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> None:
        self._recv_into, self._header_max, self._payload_max, self._allocate = (
            recv_into,
            header_max,
            payload_max,
            allocate,
        )
        self._read = memoryview(bytearray(_READ_BYTES))
        self._start = self._end = 0
        self._header = b""
        self._open: memoryview | None = None
        """The payload of the open frame, of which `_filled` bytes came."""
        self._filled = 0
        self.received_bytes = 0

    def read(self) -> tuple[bytes, memoryview] | None:
        """The next complete frame: its header, and its payload, which is the caller's to keep. None at the end.

        Raises
        ------
        FrameError
            Unknown kind, too long, a piece of nothing, or the end amid a frame.
        """
        while True:
            self._want(PREFIX_BYTES, at_start=True)
            if self._end == self._start:
                return None
            first, payload_bytes = _PREFIX.unpack_from(self._read, self._start)
            self._start += PREFIX_BYTES
            kind, header_bytes = first >> 24, first & 0xFFFFFF
            if header_bytes > self._header_max:
                raise FrameError(f"a header of {header_bytes} bytes; at most {self._header_max}")
            if payload_bytes > self._payload_max:
                raise FrameError(f"a payload of {payload_bytes} bytes; at most {self._payload_max}")
            if kind == Kind.WHOLE:
                header = self._take(header_bytes)
                payload = self._room(payload_bytes)
                self._fill(payload)
                return header, payload
            if kind == Kind.OPEN and self._open is None and payload_bytes > 0:
                self._header, self._open, self._filled = self._take(header_bytes), self._room(payload_bytes), 0
            elif kind == Kind.PIECE and self._open is not None and 0 < payload_bytes <= len(self._open) - self._filled:
                self._fill(self._open[self._filled : self._filled + payload_bytes])
                self._filled += payload_bytes
                if self._filled == len(self._open):
                    payload, self._open = self._open, None
                    return self._header, payload
            else:
                raise FrameError(
                    f"a frame of kind {kind}, header {header_bytes}, payload {payload_bytes}: out of place"
                )

    def _room(self, size: int) -> memoryview:
        return memoryview(self._allocate(size)).cast("B") if size else EMPTY

    def _take(self, size: int) -> bytes:
        # Headers may be longer than the read buffer holds; they are small and copied once anyway.
        if size <= _READ_BYTES:
            self._want(size)
            taken = bytes(self._read[self._start : self._start + size])
            self._start += size
            return taken
        header = bytearray(size)
        self._fill(memoryview(header))
        return bytes(header)

    def _want(self, size: int, at_start: bool = False) -> None:
        """Have at least `size` bytes buffered (or none at all, if `at_start` and the end is here)."""
        if self._end - self._start >= size:
            return
        if self._start:
            rest = self._end - self._start
            self._read[:rest] = bytes(self._read[self._start : self._end])
            self._start, self._end = 0, rest
        while self._end < size:
            got = self._recv_into(self._read[self._end :])
            if got == 0:
                if at_start and self._end == 0 and self._open is None:
                    return
                raise FrameError("the connection ended in the middle of a frame")
            self._end += got
            self.received_bytes += got

    def _fill(self, target: memoryview) -> None:
        if not len(target):
            return
        filled = min(len(target), self._end - self._start)
        target[:filled] = self._read[self._start : self._start + filled]
        self._start += filled
        while filled < len(target):
            got = self._recv_into(target[filled:])
            if got == 0:
                raise FrameError("the connection ended in the middle of a frame")
            filled += got
            self.received_bytes += got

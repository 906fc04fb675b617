"""Messages on a byte stream: a length of four bytes, then the body. For trio, over any stream.

Rule 1: a length is checked before anything of the body is kept.
"""

import struct

import trio

from meshd.errors import InvalidError

_LENGTH = struct.Struct("!I")
_READ_BYTES = 64 * 1024


class BodyStream:
    """Owns `stream`. One task may send while another receives; `aclose` at the end."""

    def __init__(self, stream: trio.abc.Stream, body_bytes_max: int) -> None:
        self._stream, self._max = stream, body_bytes_max
        self._buffer = bytearray()

    async def send(self, body: bytes) -> None:
        """Send one message. After cancellation the stream is unusable.

        Raises
        ------
        trio.BrokenResourceError, trio.ClosedResourceError
            The far end is gone; it was closed here.
        """
        assert len(body) <= self._max, f"a message of {len(body)} bytes; at most {self._max}"
        await self._stream.send_all(_LENGTH.pack(len(body)) + body)

    async def receive(self) -> bytes | None:
        """The next message; None when the far end closed in good order. Cancellation loses nothing.

        Raises
        ------
        InvalidError
            Too long, or the end amid a message.
        trio.BrokenResourceError, trio.ClosedResourceError
            The far end is gone without a word; it was closed here.
        """
        while True:
            if len(self._buffer) >= _LENGTH.size:
                size = _LENGTH.unpack_from(self._buffer)[0]
                if size > self._max:
                    raise InvalidError(f"a message of {size} bytes; at most {self._max}")
                if len(self._buffer) >= _LENGTH.size + size:
                    body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + size])
                    del self._buffer[: _LENGTH.size + size]
                    return body
            got = await self._stream.receive_some(_READ_BYTES)
            if not got:
                if self._buffer:
                    raise InvalidError("the connection ended in the middle of a message")
                return None
            self._buffer += got

    async def aclose(self) -> None:
        """Close the stream, saying so to the far end. Cancelled, it closes without a word."""
        await self._stream.aclose()

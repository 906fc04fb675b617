"""The half of a data link that this node dials and writes: one connection, one thread.

Rule 1: only `run`'s thread enters the TLS object, and it only writes.
Rule 2: small frames first, then one piece of the large frame in hand, then look again.
Rule 3: what was queued is lost with the connection: the requests it was for go elsewhere.
"""

import logging
import ssl
import threading
from collections.abc import Iterator, Sequence

from meshd.config import LINK_ECHO_US, LINK_GREETING_US, LINK_SILENT_US, LINK_UNHEARD_US, WRITE_PIECE_BYTES
from meshd.core.journey.frames import Answer, Forward
from meshd.net import tcp
from meshd.net.link_greeting import now_us
from meshd.net.link_lanes import Lanes, Large, Ticket
from meshd.wire.codec_frames import Echo, Header, encode_frame
from meshd.wire.frames import Buffer, byte_length, opening, pieces, whole

log = logging.getLogger(__name__)

_TOGETHER_BYTES = 12 * 1024
"""Small frames, and a payload up to this, that wait together leave in one TLS record."""
_LOSS_BYTES_MIN = 32 * 1024
"""Before so much was written, 2 % repeated is one packet, and chance."""
_RATE_BYTES_MIN = 128 * 1024
"""A frame that moved less than this tells nothing about bandwidth."""


class Measured:
    """What a link is like, smoothed, kept over connections."""

    def __init__(self) -> None:
        self.rtt_us = 0
        """There and back between the two processes, of an idle link; 0 until measured."""
        self.bandwidth_bps = 0
        """Bytes a second that the peer took in of a large frame; 0 until measured."""

    def round_trip(self, took_us: int) -> None:
        """An echo came back."""
        self.rtt_us = took_us if self.rtt_us == 0 else (7 * self.rtt_us + took_us) // 8

    def rate(self, bps: int) -> None:
        """A large frame left."""
        self.bandwidth_bps = bps if self.bandwidth_bps == 0 else (3 * self.bandwidth_bps + bps) // 4


class Writer:
    """One outgoing connection. `send` from any thread, `run` on its own."""

    def __init__(self, connection: ssl.SSLSocket, number: int, measured: Measured) -> None:
        self.number = number
        """Names this connection in Hellos."""
        self.measured = measured
        self._connection = connection
        self._lanes = Lanes()
        self._progress_lock = threading.Lock()
        self._progress_us = now_us()
        self._acked = 0
        self._lossy = False
        self._echo_number = self._echo_sent_us = 0
        self._echo_due_us: int | None = None
        self._answer_due_us = self._looked_us = now_us()
        self._answer_due_us += LINK_GREETING_US
        self.counts = {"frames": 0, "bytes": 0, "small_full": 0, "large_full": 0}

    def send(self, frame: Header, payload: Sequence[Buffer] = ()) -> Ticket | None:
        """Queue a frame; None if its lane is full (a full small lane ends the connection)."""
        ticket = Ticket(now_us(), self.progress_us)
        header = encode_frame(frame)
        if isinstance(frame, Forward | Answer):
            size = sum(map(byte_length, payload))
            if self._lanes.put_large(Large(header, payload, size, ticket)):
                return ticket
            self.counts["large_full"] += 1
            return None
        if self._lanes.put_small(whole(header, payload), ticket):
            return ticket
        self.counts["small_full"] += 1
        self.shut()  # Thousands of small frames and no room for one more: nobody is reading there.
        return None

    def progress_us(self, ticket: Ticket) -> int:
        """See `Ticket.progress_us`."""
        progress = tcp.progress(self._connection)
        with self._progress_lock:
            if progress is not None and progress.acked > self._acked:
                self._acked = progress.acked
                self._progress_us = max(self._progress_us, now_us() - progress.last_ack_ms * 1_000)
            if ticket.end and self._acked >= ticket.end:
                ticket.delivered_us = max(ticket.left_us, self._progress_us)
            return self._progress_us

    def echoed(self, number: int) -> None:
        """An echo came back."""
        if number == self._echo_number and self._echo_sent_us:
            took = max(1, now_us() - self._echo_sent_us)
            self.measured.round_trip(took)
            self._echo_sent_us = 0

    @property
    def stood(self) -> bool:
        """Whether the peer ever heard this connection."""
        return self._echo_due_us is not None

    def start_echoes(self) -> None:
        """The peer hears this connection and can answer: begin to measure."""
        if self._echo_due_us is None:
            self._echo_due_us = now_us()
            self._lanes.ring()

    def shut(self) -> None:
        """End the connection, from any thread; `run` returns soon."""
        self._lanes.close()
        tcp.shut(self._connection)

    def run(self) -> None:
        """Write until the connection ends; closes it."""
        try:
            self._write_all()
        except OSError as error:  # The peer is gone, or `shut` was called: who called `run` sees to what follows.
            log.debug("a connection that this node writes ended: %s", error)
        finally:
            self._lanes.close()
            tcp.shut(self._connection)
            self._connection.close()

    def _write_all(self) -> None:
        lanes = self._lanes
        large: _Leaving | None = None
        while not lanes.closed:
            small = lanes.take_small(_TOGETHER_BYTES)
            if large is None and (frame := lanes.take_large()) is not None:
                if frame.size <= _TOGETHER_BYTES:
                    # An Ack and its short Answer leave as one record: one call here, one read and one wake there.
                    self._write_small(small, whole(frame.header, frame.payload))
                    self._left(frame.ticket)
                    continue
                large = _Leaving(frame, self._taken_in(), now_us())
            if small:
                self._write_small(small)
            if large is not None:
                piece = next(large.pieces, None)
                if piece is not None:
                    self._write(piece)
                else:
                    self._rate(large, self._left(large.frame.ticket))
                    large = None
            elif not small:
                lanes.wait((LINK_ECHO_US if self.stood else LINK_UNHEARD_US) / 1e6)
                self._echo_when_due()

    def _write_small(self, small: list[tuple[bytes, Ticket]], last: bytes = b"") -> None:
        parts = [frame for frame, _ in small]
        if last:
            parts.append(last)
        self._write(b"".join(parts) if len(parts) > 1 else parts[0])
        if small:
            left_us = now_us()
            for _, ticket in small:
                ticket.left_us = left_us
            self.counts["frames"] += len(small)

    def _write(self, data: bytes | memoryview) -> None:
        sent = 0
        while sent < len(data):
            sent += self._connection.send(memoryview(data)[sent:] if sent else data)
        self.counts["bytes"] += len(data)
        with self._progress_lock:
            self._progress_us = now_us()

    def _left(self, ticket: Ticket) -> int:
        """A frame with a payload is in the kernel; returns how much of the connection the peer's has."""
        progress = tcp.progress(self._connection)
        ticket.end = progress.written if progress is not None else 0
        ticket.left_us = now_us()
        self.counts["frames"] += 1
        if progress is None:
            return 0
        if not self._lossy and progress.written > _LOSS_BYTES_MIN and progress.repeated > progress.written // 50:
            self._lossy = True
            tcp.expect_loss(self._connection)
        return progress.acked

    def _rate(self, large: "_Leaving", acked: int) -> None:
        # What the peer took in meanwhile, not what the kernel took from us: that is its buffers' speed.
        moved, took = acked - large.acked, large.frame.ticket.left_us - large.began_us
        if moved >= _RATE_BYTES_MIN and took > 0:
            self.measured.rate(moved * 1_000_000 // took)

    def _taken_in(self) -> int:
        progress = tcp.progress(self._connection)
        return progress.acked if progress is not None else 0

    def _echo_when_due(self) -> None:
        """When idle: measure the round trip, and notice a peer whose machine answers but whose process does not."""
        now = now_us()
        if self._echo_due_us is not None and not self._echo_sent_us and now < self._echo_due_us:
            return
        self._echo(now)

    def _echo(self, now: int) -> None:
        if now - self._looked_us > 2 * LINK_ECHO_US and self._echo_sent_us:
            self._echo_sent_us = now  # This process was stopped, or starved: it accuses nobody.
        self._looked_us = now
        progress = tcp.progress(self._connection)
        if progress is not None and not progress.open:
            raise ConnectionError("the peer closed it")  # Who only writes would never read that.
        if self._echo_due_us is None:
            if now > self._answer_due_us:
                raise TimeoutError("the peer did not answer the Hello")
        elif self._echo_sent_us:
            # Twice TCP's own patience: on a link that loses packets an echo waits its turn there and back.
            if now - self._echo_sent_us > 2 * LINK_SILENT_US:
                raise TimeoutError("the peer answers nothing")
        elif now >= self._echo_due_us:
            self._echo_due_us = now + LINK_ECHO_US
            self._echo_number += 1
            self._echo_sent_us = now
            self._write(whole(encode_frame(Echo(self._echo_number, True))))


class _Leaving:
    """The large frame in hand."""

    def __init__(self, frame: Large, acked: int, began_us: int) -> None:
        self.frame, self.acked, self.began_us = frame, acked, began_us
        self.pieces: Iterator[bytes | memoryview] = _pieces(frame)


def _pieces(frame: Large) -> Iterator[bytes | memoryview]:
    if frame.size <= WRITE_PIECE_BYTES:
        yield whole(frame.header, frame.payload)
        return
    lead = opening(frame.header, frame.size)
    for piece in pieces(frame.payload):
        yield b"".join((lead, piece)) if lead else piece
        lead = b""

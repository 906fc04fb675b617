"""What waits to leave on one connection: small frames before large ones, both bounded.

Rule 1: putting never waits; a full lane says so.
Rule 2: one thread takes; it sleeps in a C queue, so that waking it costs neither a lock dance nor a switch interval.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from meshd.config import LANE_LARGE_BYTES_MAX, LANE_LARGE_FRAMES_MAX, LANE_SMALL_FRAMES_MAX
from meshd.wire.frames import Buffer


class Ticket:
    """What became of one frame. Times are monotonic microseconds; reading them waits for nothing."""

    __slots__ = ("_progress_us", "delivered_us", "end", "left_us", "queued_us", "withdrawn")

    def __init__(self, queued_us: int, progress_us: Callable[["Ticket"], int]) -> None:
        self.queued_us, self._progress_us = queued_us, progress_us
        self.left_us = 0
        """When the frame's last byte was given to the kernel; 0 until then."""
        self.end = 0
        """Where in the connection's bytes it ends; 0 until it left, or where the kernel does not count."""
        self.delivered_us = 0
        """When the peer's machine had taken all of it in, as far as somebody asked; 0 until then."""
        self.withdrawn = False
        """Set it to have a frame that did not begin to leave dropped: nobody waits for it any more."""

    @property
    def progress_us(self) -> int:
        """When the frame last came nearer: from here an answer may be waited for.

        While it waits or leaves: when bytes of the link last left. Once it left: when the peer's machine last took bytes
        in, until it had all of this frame (a slow link holds some 100 KiB in this kernel, which are not there yet).
        """
        return self.delivered_us or max(self.queued_us, self.left_us, self._progress_us(self))


class Large:
    """A frame with a payload, waiting."""

    __slots__ = ("header", "payload", "size", "ticket")

    def __init__(self, header: bytes, payload: Sequence[Buffer], size: int, ticket: Ticket) -> None:
        self.header, self.payload, self.size, self.ticket = header, payload, size, ticket


class Lanes:
    """Two queues and a bell."""

    def __init__(self) -> None:
        self._small: deque[tuple[bytes, Ticket]] = deque()
        self._large: deque[Large] = deque()
        self._large_bytes = 0
        self._counting = threading.Lock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.closed = False

    def put_small(self, frame: bytes, ticket: Ticket) -> bool:
        """Queue a whole frame (`wire.frames.whole`). False: the lane is full."""
        if self.closed or len(self._small) >= LANE_SMALL_FRAMES_MAX:
            return False
        self._small.append((frame, ticket))
        self._bell.put(None)
        return True

    def put_large(self, frame: Large) -> bool:
        """Queue a frame with a payload. False: the lane is full."""
        with self._counting:
            if self.closed or len(self._large) >= LANE_LARGE_FRAMES_MAX:
                return False
            if self._large and self._large_bytes + frame.size > LANE_LARGE_BYTES_MAX:
                return False
            self._large_bytes += frame.size
            self._large.append(frame)
        self._bell.put(None)
        return True

    def take_small(self, bytes_max: int) -> list[tuple[bytes, Ticket]]:
        """All small frames that wait, up to about `bytes_max`."""
        taken, size = [], 0
        while self._small and size < bytes_max:
            taken.append(self._small.popleft())
            size += len(taken[-1][0])
        return taken

    def take_large(self) -> Large | None:
        """The next frame of the large lane that somebody still waits for."""
        while self._large:
            with self._counting:
                frame = self._large.popleft()
                self._large_bytes -= frame.size
            if not frame.ticket.withdrawn:
                return frame
        return None

    def wait(self, timeout_s: float) -> None:
        """Sleep until something was put, the lanes closed, or time is up. May return early."""
        try:
            self._bell.get(timeout=timeout_s)
        except queue.Empty:
            return

    def ring(self) -> None:
        """Wake the thread that waits."""
        self._bell.put(None)

    def close(self) -> None:
        """Take nothing more; wake the thread that waits."""
        self.closed = True
        self._bell.put(None)

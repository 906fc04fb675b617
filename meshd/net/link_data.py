"""Data links: a request's frames between peers, on threads. (Interface; being filled.)

A link is two TLS connections, one each way: each node dials the one it writes. One thread only writes, one only reads,
and no TLS object is ever entered by two threads. It is up when our Hello was answered on the peer's connection.

Rule 1: a reader never writes. Rule 2: small frames go before large ones, large ones leave in pieces.
Rule 3: end-of-file on the one connection ends the other; a link that is kept is dialled again with back-off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meshd.core.ids import Address, Boot, NodeId
from meshd.net.tls import Roster

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class Ticket:
    """What became of one frame (monotonic microseconds, `time.monotonic_ns() // 1000`)."""

    progress_us: int
    """When bytes of this link last left, or the frame was queued, if none has since."""
    left_us: int = 0
    """When the frame's last byte left; 0 until then."""


class Receiver(Protocol):
    """The data plane, as the links see it: called on a link's reader thread, returns within microseconds."""

    def receive(self, peer: NodeId, frame: Any, payload: memoryview) -> None:
        """A frame (`core.journey.frames.Frame`) of `peer`; the payload is the receiver's to keep."""

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """The link to `peer` came up or went down."""


class DataLinks:
    """All data links of this node. Thread-safe; no method blocks but `close`."""

    def __init__(self, roster: Roster, boot: Boot, port: int, resolve: Callable[[NodeId], Sequence[Address]]) -> None:
        """`port` is where this node listens; `resolve` tells where a peer may be dialled, best first (from the View)."""
        raise NotImplementedError

    def attach(self, receiver: Receiver) -> None:
        """Give frames to `receiver` from now on; tells it at once of every link that is up."""
        raise NotImplementedError

    def ensure(self, peer: NodeId) -> None:
        """Connect to `peer` and stay connected, dialling again with back-off, until `drop`."""
        raise NotImplementedError

    def drop(self, peer: NodeId) -> None:
        """Close the link to `peer` at once and do not dial it again."""
        raise NotImplementedError

    def is_up(self, peer: NodeId) -> bool:
        """Whether both ways stand."""
        raise NotImplementedError

    def send(self, peer: NodeId, frame: Any, payload: Sequence[Buffer] = ()) -> Ticket | None:
        """Queue a frame; None where no link is up or its lane is full."""
        raise NotImplementedError

    def rtt_us(self, peer: NodeId) -> int:
        """Round trip as last measured; 0 where it never was."""
        raise NotImplementedError

    def bandwidth_bps(self, peer: NodeId) -> int:
        """Bytes a second as last measured; 0 where it never was."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all links and end their threads (at most 2 s)."""
        raise NotImplementedError

"""What the data plane needs of the wire, and of whoever holds segments. Contract: `net` and `daemon` implement it.

Rule 1: `send` never blocks: the link's writer thread does; a full lane closes the link.
Rule 2: the receiver's callbacks run on the link's reader thread, return within microseconds and never write themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from meshd.core.ids import NodeId, SegmentId
from meshd.core.journey.frames import Frame
from meshd.core.plan import Plan
from meshd.model.graph import Port

if TYPE_CHECKING:
    from meshd.engine.segment import Segment

Buffer = bytes | bytearray | memoryview
"""C-contiguous bytes; `len()` of a memoryview here is its byte count (format B)."""


class Ticket(Protocol):
    """What became of one frame. Read without a lock: plain ints, written by the link's writer thread."""

    left_us: int
    """Monotonic time at which the frame's last byte left; 0 until then."""
    withdrawn: bool
    """Set it to have a frame that did not begin to leave dropped: nobody waits for it any more."""

    @property
    def progress_us(self) -> int:
        """Monotonic time at which the frame last came nearer: an answer may be waited for from here.

        Until it left: when bytes of this link last did (or it was queued). Then: when the peer's machine last took bytes
        in, up to this frame's last; a slow link holds some 100 KiB in this machine's kernel.
        """


class Receiver(Protocol):
    """The data plane, as the links see it."""

    def receive(self, peer: NodeId, frame: Frame, payload: memoryview) -> None:
        """A frame of `peer` (pinned by its key). `payload` is empty or exactly the frame's; the receiver owns it."""

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """The data links to and from `peer` both stand, or one of them went down (called once for each change)."""


class Links(Protocol):
    """Data links to peers, kept warm by `net`."""

    def attach(self, receiver: Receiver) -> None:
        """Give frames to `receiver` from now on; tells it at once of every link that is up."""

    def send(self, peer: NodeId, frame: Frame, payload: Sequence[Buffer] = ()) -> Ticket | None:
        """Queue a frame; the payload's buffers are sent in order, unjoined, and not touched until they have left.

        Returns None where no link is up, or its lane overflowed (which closes it).
        """

    def rtt_us(self, peer: NodeId) -> int:
        """Round trip as last measured; 0 where it never was."""

    def bandwidth_bps(self, peer: NodeId) -> int:
        """Bytes a second as last measured; 0 where it never was."""


class Held(Protocol):
    """A loaded segment and the plan it was loaded for (whose crossings tell the encodings)."""

    @property
    def segment(self) -> "Segment": ...
    @property
    def plan(self) -> Plan: ...
    @property
    def measured_us(self) -> int:
        """What one item took when it was loaded; 0 where that is not known."""


Holder = Callable[[SegmentId], Held | None]
"""What this node holds READY or DRAINING, by (plan digest, index). Cheap: asked for every frame."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a deployment's model takes and gives; the leading `None` of every shape is the batch."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batch_max: int = 0
    """Most items one request may carry; 0 is only bounded by bytes."""


Signatures = Callable[[str], Signature | None]
"""Deployment name → signature; None while this node has not fetched the model's topology. Cheap: asked every request."""

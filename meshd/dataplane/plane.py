"""The data plane of one node: what the services call and the links feed. Contract first; see `core.journey` for the rules.

Everything here runs on plain threads (gRPC's, the links' readers, a pool of one a core, one for timers) and never waits
for trio. It reads the control plane's decisions from one immutable `View`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshd.core.ids import Boot, NodeId
from meshd.core.journey.frames import Failure, Frame, Spent
from meshd.core.view import View
from meshd.dataplane.links import Buffer, Holder, Links, Signatures
from meshd.errors import MeshdError


class RequestFailedError(MeshdError):
    """A request ended without outputs; `failure` says how, for people and for programs."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Outputs:
    """A request's answer: `raw[i]` are the little-endian bytes of the model's output `i`, leading dimension `batch`."""

    batch: int
    raw: tuple[Buffer, ...]
    spent: Spent
    attempts: int


class Hints(Protocol):
    """Where the data plane tells the control plane what it saw. Both return at once (the bridge's bounded channel)."""

    def hinted(self, peer: NodeId) -> None:
        """`events.Hinted`."""

    def pair_unreachable(self, peer: NodeId, ok: bool) -> None:
        """`events.PairUnreachable`."""


class DataPlane:
    """One node's data plane. Threads start in the constructor and end in `close`.

    Parameters
    ----------
    me, boot : this node; request ids hold both
    view : returns the current view, without a lock
    holder, signatures, links, hints : see `dataplane.links` and above
    cores : threads that compute
    """

    def __init__(
        self,
        *,
        me: NodeId,
        boot: Boot,
        view: Callable[[], View],
        holder: Holder,
        signatures: Signatures,
        links: Links,
        hints: Hints,
        cores: int,
    ) -> None:
        raise NotImplementedError

    def infer(self, deployment: str, inputs: Sequence[Buffer], batch: int, deadline_us: int) -> Outputs:
        """Have the mesh compute; blocks the calling thread, at most until the deadline.

        Parameters
        ----------
        deployment : its name
        inputs : raw little-endian bytes of every input of the signature, in its order, already checked against it
        batch : items in the leading dimension
        deadline_us : remaining; 0 is `REQUEST_DEADLINE_US`

        Raises
        ------
        RequestFailedError
        """
        raise NotImplementedError

    def view_changed(self, view: View) -> None:
        """To be called with each published view (by the driver; returns within microseconds to a millisecond)."""
        raise NotImplementedError

    def receive(self, peer: NodeId, frame: Frame, payload: memoryview) -> None:
        """See `links.Receiver`."""
        raise NotImplementedError

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """See `links.Receiver`."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads; requests in flight end as UNAVAILABLE."""
        raise NotImplementedError

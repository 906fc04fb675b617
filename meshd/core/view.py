"""What the control plane knows, as one immutable value that the data plane, the services and the CLI read.

Published by `Node` whenever something in it changed, swapped atomically by the driver. Readers keep the reference they
took for as long as they need a consistent picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.plan import Plan, Policy


class State(Enum):
    """SWIM's states, ordered by `.value` within one (boot, incarnation)."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Hold(Enum):
    """A node's relation to one segment, as it says of itself."""

    RESERVED = "reserved"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node offers. Rates: multiply-accumulates a second by cost class (bytes a second for `memory`)."""

    memory_bytes: int = 0
    """Budget for segments."""
    free_bytes: int = 0
    rates: tuple[tuple[str, int], ...] = ()
    numeric: str = "fma"
    """Numeric class: nodes of one class answer bit for bit alike (`fma` compiled kernels, `numpy` the fallback)."""
    cores: int = 1
    labels: tuple[str, ...] = ()
    host: str = ""
    """Machine identity: standbys go to another one where possible."""
    watts: float = 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """What a node holds of one segment."""

    segment: SegmentId
    state: Hold
    measured_us: int = 0
    """Time one item takes there, measured; 0 before it was."""
    ready_since_us: int = 0
    """READY: since when, on the clock of the node whose view this is (it may be negative); no clock is shared."""
    reason: str = ""
    """Why, when FAILED."""


@dataclass(frozen=True, slots=True)
class PeerLink:
    """A node's link to a peer it exchanges activations with, as it says itself."""

    peer: NodeId
    rtt_us: int
    bandwidth_bps: int
    """Bits a second."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node as this node sees it (itself included, always ALIVE or LEFT)."""

    node: NodeId
    name: str
    state: State
    boot: Boot
    incarnation: int
    addresses: tuple[Address, ...]
    version: str = ""
    capacity: Capacity = field(default_factory=Capacity)
    holdings: tuple[Holding, ...] = ()
    models: tuple[Digest, ...] = ()
    """Models whose blobs it has whole on disk."""
    unreachable: tuple[NodeId, ...] = ()
    """Peers it says it cannot reach by link."""
    links: tuple[PeerLink, ...] = ()
    """Its links as it measured them, by peer."""
    rtt_us: int = 0
    """Of datagrams between it and the node whose view this is, in quarter powers of two; 0 if never measured."""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """One deployment: what was asked, what serves now, what is being loaded.

    `candidates[i]` are the nodes to ask for segment `i` of `plan`, best first; the first is the owner.
    """

    name: str
    model: Digest
    generation: int
    record: Digest
    policy: Policy
    plan: Plan | None
    """The greatest servable plan, which routes use; None while nothing is."""
    target: Plan | None
    """The greatest plan known, which holders load for."""
    candidates: tuple[tuple[NodeId, ...], ...] = ()
    conflict: bool = False
    """More than one head in the registry: settled by the next deploy."""
    problem: str = ""
    """Why nothing is planned or loaded, in words for a person; empty when all is well."""


@dataclass(frozen=True, slots=True)
class View:
    """A consistent picture at one moment. `version` rises by one with each publication of this node."""

    version: int
    me: NodeId
    boot: Boot
    members: Mapping[NodeId, Member]
    deployments: Mapping[str, Served]

    def alive(self) -> tuple[NodeId, ...]:
        """Nodes that are ALIVE here, in order of id."""
        return tuple(n for n, m in sorted(self.members.items()) if m.state is State.ALIVE)


def empty_view(me: NodeId, boot: Boot) -> View:
    """The view before anything is known."""
    return View(0, me, boot, MappingProxyType({}), MappingProxyType({}))

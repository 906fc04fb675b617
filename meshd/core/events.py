"""Everything that goes into a `Node` and everything that comes out: the narrow waist of meshd.

bytes → codec → **input** → `Node.step` → **effects** → driver → bytes. Inputs and effects are plain immutable values;
the driver and the simulator perform effects in order. Messages between nodes are in `core/messages.py`.

Rule 1: an effect that can fail comes back as an input (`Persisted`, `Solved`, `Loaded`, `LoadFailed`, `LinkChanged`).
Rule 2: what depends on a `Persist` is announced only after its `Persisted`.
Rule 3: timers are relative; a late one is tolerated, a lost one is a bug.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.plan import LayerCost, Plan, Policy
from meshd.core.view import Capacity, View

TimerId = NewType("TimerId", str)
"""Names a timer, e.g. `probe`, `suspect/<node>`; setting it again replaces it."""
Token = NewType("Token", int)
"""Pairs an effect with the input that answers it; from the node for Persist and Solve, from the shell for Operate."""


# ---------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class DatagramIn:
    """A datagram whose seal was verified: it really is from (source, boot) and meant for this node."""

    source: NodeId
    boot: Boot
    address: Address
    message: Any
    """One of `core.messages.GossipMessage`."""


@dataclass(frozen=True, slots=True)
class LinkIn:
    """A message on the control link of `source`, pinned by its key."""

    source: NodeId
    message: Any
    """One of `core.messages.LinkMessage`."""


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The control link to `peer` opened or closed (or could not be opened)."""

    peer: NodeId
    up: bool


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer `id` is due."""

    id: TimerId


@dataclass(frozen=True, slots=True)
class Woke:
    """The driver woke more than a probe period late: whoever seemed silent meanwhile is not to blame."""

    late_us: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """`Persist(token)` is on disk."""

    token: Token


@dataclass(frozen=True, slots=True)
class Solved:
    """The answer to `Solve(token)`: a `core.placement.Solution`, or `core.placement.Infeasible`."""

    token: Token
    solution: Any


@dataclass(frozen=True, slots=True)
class Sighted:
    """mDNS, a seed or a remembered peer says a node may be there. A hint where to dial, never proof."""

    address: Address
    node: NodeId | None = None
    """None for a seed, whose id is not known."""


@dataclass(frozen=True, slots=True)
class Hinted:
    """The data plane could not reach `peer`: probe it now."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PairUnreachable:
    """Links to `peer` fail while datagrams may pass: published, so that plans avoid the pair; `ok` withdraws it."""

    peer: NodeId
    ok: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What this device offers, as measured."""

    capacity: Capacity


@dataclass(frozen=True, slots=True)
class LinkMeasured:
    """Round trip and bandwidth to a peer as the data links see them."""

    peer: NodeId
    rtt_us: int
    bandwidth_bps: int
    """Bits a second; 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class DiskChanged:
    """The models whose blobs are all on this node's disk."""

    models: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A segment is compiled, warm and may serve."""

    segment: SegmentId
    resident_bytes: int
    measured_us: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A segment could not be loaded; `Load` may be asked again later."""

    segment: SegmentId
    reason: str


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A segment's memory is free again."""

    segment: SegmentId


@dataclass(frozen=True, slots=True)
class Operate:
    """An operator's command at this node; answered by `Answer(token)` exactly once."""

    token: Token
    command: "Command"
    wall_us: int = 0
    """Wall clock in microseconds since 1970: only the hybrid clock of deployments reads it."""


# Commands -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deploy:
    """Serve `model` under `name`. Answered `Done` when the record is kept and the model's blobs are on enough disks."""

    name: str
    model: Digest
    layers: tuple[LayerCost, ...]
    crossings: tuple[tuple[tuple[str, str], ...], ...]
    """For each cut between adjacent layers, (tensor, encoding value) pairs; one fewer than layers."""
    input_bytes: int
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Retire:
    """Stop serving `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Give up every segment in good order (`on=False` takes part again). Answered when nothing is held."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class Leave:
    """Say goodbye: LEFT is gossiped; the process ends after it."""


Command = Deploy | Retire | Drain | Leave


Input = (
    DatagramIn
    | LinkIn
    | LinkChanged
    | TimerFired
    | Woke
    | Persisted
    | Solved
    | Sighted
    | Hinted
    | PairUnreachable
    | Measured
    | LinkMeasured
    | DiskChanged
    | Loaded
    | LoadFailed
    | Unloaded
    | Operate
)


# ---------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Seal and send. `receiver` None is a Join to an address whose node is not known (sealed for nobody in particular)."""

    address: Address
    receiver: NodeId | None
    message: Any


@dataclass(frozen=True, slots=True)
class SendLink:
    """Send on the control link, opening it if need be; if that fails the message is dropped and `LinkChanged` says so."""

    peer: NodeId
    message: Any


@dataclass(frozen=True, slots=True)
class SetTimer:
    """`TimerFired(id)` after this long."""

    id: TimerId
    after_us: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget the timer, if it is set."""

    id: TimerId


@dataclass(frozen=True, slots=True)
class Persist:
    """Keep `value` (a core value, or None to delete) under `key`; `Persisted(token)` when it is on disk."""

    key: str
    value: Any
    token: Token


@dataclass(frozen=True, slots=True)
class Solve:
    """Run `core.placement.solve(problem)` on a thread."""

    token: Token
    problem: Any


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch what is missing, compile, warm up: answered by Loaded or LoadFailed."""

    segment: SegmentId
    plan: Plan


@dataclass(frozen=True, slots=True)
class Unload:
    """Finish what runs, free the memory, answer Unloaded."""

    segment: SegmentId


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get a model's blobs onto this disk from one of `sources`; DiskChanged tells when it is there."""

    model: Digest
    sources: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Discard:
    """No live deployment needs this model's blobs here."""

    model: Digest


@dataclass(frozen=True, slots=True)
class UseBoot:
    """Seal datagrams as this boot from now on: it is on disk. Nothing is sent before the first of these."""

    boot: Boot


@dataclass(frozen=True, slots=True)
class Proven:
    """(node, boot) returned a number to this process: whatever of it is older than what came is refused from now on.

    Without it, datagrams that this node's earlier life received could be replayed to it within the replay window.
    """

    node: NodeId
    boot: Boot


@dataclass(frozen=True, slots=True)
class Trust:
    """`node`'s certificate (DER) is on the roster: links to and from it may open. Its key hashes to the id."""

    node: NodeId
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Distrust:
    """Struck off the roster: its open links close at once."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Publish:
    """Swap in this view."""

    view: View


@dataclass(frozen=True, slots=True)
class Report:
    """Something an operator may want to see: `meshctl events`, the log, the metrics."""

    kind: str
    """A stable dotted name, e.g. `member.dead`, `segment.promoted`, `plan.agreed`, `datagram.refused`."""
    subject: str
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an operator's command."""

    token: Token
    result: "Done | Refused"


@dataclass(frozen=True, slots=True)
class Done:
    """It is so. `detail` is for people."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be: `kind` is an `errors.Exit` name (`CONFLICT`, `NOT_FOUND`, ...), `reason` says what and what to do."""

    kind: str
    reason: str


Effect = (
    SendDatagram
    | SendLink
    | SetTimer
    | CancelTimer
    | Persist
    | Solve
    | Load
    | Unload
    | Fetch
    | Discard
    | UseBoot
    | Proven
    | Trust
    | Distrust
    | Publish
    | Report
    | Answer
)

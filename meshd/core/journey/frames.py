"""What nodes say to each other about a request: the frames of a data link, as values.

Rule 1: payloads are never here; a frame says how many bytes of which tensor follow it, the shell keeps the bytes.
Rule 2: whom a frame is from is the link's peer, never a field of it.
Rule 3: times are remaining microseconds; no clock is compared between nodes.

A *leg* is one segment's part of one attempt: (request, attempt, segment). Source: DESIGN section 4.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from meshd.core.ids import Boot, Digest, NodeId, SegmentId

LEGS_PER_LOST_MAX: Final = 256
"""One Lost names at most this many legs, so that a death with thousands in flight does not flood the small lane."""
ROUTE_CANDIDATES_MAX: Final = 4
"""Candidates a header names for each later segment: the first, two alternates, one more for views that lag."""


NOWHERE: Final = NodeId("")
LOST_BEFORE_MAX: Final = 2


class RequestId(NamedTuple):
    """Names a request in the whole mesh, for ever: boots rise, `number` rises within a boot."""

    entry: NodeId
    boot: Boot
    number: int


class Leg(NamedTuple):
    """One segment's part of one attempt at a request."""

    request: RequestId
    attempt: int
    """From 1 to `ATTEMPTS_MAX`."""
    segment: int


class Code(IntEnum):
    """gRPC's canonical codes that a request can end with; the numbers are gRPC's."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Reason(Enum):
    """Why, for programs (google.rpc.ErrorInfo.reason) and for metrics: a closed set."""

    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    BAD_TENSOR = "BAD_TENSOR"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    NOT_SERVED = "NOT_SERVED"
    """Deployed, but no plan of it is loaded yet."""
    NO_HOLDER = "NO_HOLDER"
    """Every candidate of a segment says it does not hold it."""
    INPUT_STAYS = "INPUT_STAYS"
    """Inputs may not leave the entry (`keep_input`), which does not hold the first segment."""
    UNREACHABLE = "UNREACHABLE"
    """No candidate of a segment can be reached from where the request was."""
    OVERLOADED = "OVERLOADED"
    DEADLINE = "DEADLINE"
    COMPUTE = "COMPUTE"
    """The segment's own code failed."""
    HOLDERS_LOST = "HOLDERS_LOST"
    """Two holders vanished with this request in hand: it may be what kills them."""
    POISONED = "POISONED"
    """The same input killed two holders a short while ago."""
    HOPS = "HOPS"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request, or an attempt at it, ended badly. `segment` is -1 and `node` empty where none is to name."""

    code: Code
    reason: Reason
    message: str
    """For people: names the deployment, the limit or what was expected, and the way out."""
    deployment: str = ""
    segment: int = -1
    node: NodeId = NOWHERE
    retry_after_us: int = 0
    """When trying again makes sense; 0 says nothing about it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt cost so far, over all hops (each hop adds its own; no clock is compared)."""

    queue_us: int = 0
    compute_us: int = 0
    hops: int = 0
    """Links crossed."""
    lost: int = 0
    """Nodes that vanished with the request in hand and made somebody send it again."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Compute `segment`, then pass on. The payload follows: the segment's inputs, encoded, one after another."""

    request: RequestId
    attempt: int
    deployment: str
    """For messages and metrics only; what must be held is `plan`."""
    plan: Digest
    """Plan digest: the receiver computes if and only if it holds (plan, segment)."""
    segment: int
    deadline_us: int
    """Remaining when sent, already less half the round trip."""
    hops_left: int
    batch: int
    """Items in the leading dimension of every input."""
    sizes: tuple[int, ...]
    """Bytes of each tensor in the payload, in the order of the segment's inputs; they add up to the payload."""
    route: tuple[tuple[NodeId, ...], ...]
    """Candidates, best first, of segments `segment + 1` to the last: next hop and alternates; empty at the last."""
    spent: Spent = Spent()

    @property
    def leg(self) -> Leg:
        return Leg(self.request, self.attempt, self.segment)

    @property
    def segment_id(self) -> SegmentId:
        return SegmentId(self.plan, self.segment)


@dataclass(frozen=True, slots=True)
class Ack:
    """The Forward arrived and will be computed here (or was here before). Sent before anything is computed."""

    leg: Leg
    queue_us: int
    """Work waiting here, as time until a new job would start."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Held here, but not now: the queue is full, or the deadline too short for it. Says nothing about health."""

    leg: Leg
    queue_us: int
    """When trying again makes sense."""


@dataclass(frozen=True, slots=True)
class NotHeld:
    """The receiver does not hold (plan, segment) in this boot."""

    leg: Leg


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this attempt any more; it may overtake its Forward. `attempt` 0 is all of them."""

    request: RequestId
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """To the entry: `node` had acknowledged these legs and then vanished from the sender's sight."""

    node: NodeId
    legs: tuple[Leg, ...]
    """All of one entry; at most `LEGS_PER_LOST_MAX`."""
    before: tuple[NodeId, ...] = ()
    """Nodes whose links closed before `node` got the same frame, so that they may have had it too; at most 2."""
    suspected: bool = False
    """Membership suspects it; its link did not close. A split looks so, and makes no poison of what was under way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To the entry: the outputs follow as payload, raw little-endian, one after another in the model's order."""

    request: RequestId
    attempt: int
    plan: Digest
    batch: int
    sizes: tuple[int, ...]
    spent: Spent = Spent()


@dataclass(frozen=True, slots=True)
class Failed:
    """To the entry: this attempt ended badly at the sender or behind it."""

    request: RequestId
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Poison:
    """To every peer: two holders vanished with a request of this input; refuse it where it comes in, for so long.

    A client that is told HOLDERS_LOST, or loses its entry, may well ask another one the same.
    """

    digest: bytes
    """`POISON_DIGEST_BYTES`, of the deployment's name and the raw inputs."""
    left_us: int
    """At most `POISON_US`."""
    witness: NodeId
    """One of the two that vanished."""
    boot: Boot | None
    """In which it was given up; where that boot lives after all, the input is innocent. None: it has proven to have died."""


Frame = Forward | Ack | Busy | NotHeld | Cancel | Lost | Answer | Failed | Poison
"""Forward and Answer carry a payload and travel in the large lane; all others are small and go first."""

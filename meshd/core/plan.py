"""A deployment's policy and a plan: who serves which segment, in which order. Records that never change and have no state.

Rule 1: a plan record is immutable; which plan serves is derived from holdings, never written down.
Rule 2: `plan_digest` covers model, cuts and encodings: what an owner must hold. `record` covers everything.
"""

import hashlib
from dataclasses import dataclass, field
from enum import Enum

from meshd.config import SEGMENTS_MAX, SUCCESSION_MAX
from meshd.core.ids import Digest, NodeId


class Objective(Enum):
    """What a placement minimises."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    ENERGY = "energy"


class Encoding(Enum):
    """How a tensor crosses a cut, always losslessly."""

    FLOAT32 = "float32"
    INT8 = "int8"
    SIGN_BITS = "sign_bits"
    RAW = "raw"
    """Any other dtype, as its little-endian bytes."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer (the run between two adjacent cuts) as a planner sees it: integers only, batch of one.

    `macs` pairs a cost class (`binary`, `sparse`, `int8`, `dense`, `memory`, `steps`) with its multiply-accumulates that count
    (non-zero ones for `sparse`; bytes touched for `memory`; operations for `steps`, each of which costs something however
    small), sorted by class.
    """

    macs: tuple[tuple[str, int], ...]
    weight_bytes: int
    """Blobs of this layer, on disk and to move."""
    resident_bytes: int
    """What holding it loaded takes: packed weights, and its share of the arena."""
    crossing_bytes: int
    """What crosses the cut after this layer, in the encoding that really crosses, per item of a batch."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployer asks of a placement."""

    replicas: int = 2
    objective: Objective = Objective.LATENCY
    segments_min: int = 1
    memory_bytes_max: int = 0
    """Most that one node may give to this deployment; 0 is no bound but the node's own budget."""
    keep_to: tuple[str, ...] = ()
    """Labels a node must all carry."""
    avoid: tuple[str, ...] = ()
    """Labels a node may not carry."""
    keep_input: bool = False
    """The first segment stays at the entry: raw inputs never leave it."""


@dataclass(frozen=True, slots=True)
class PlanSegment:
    """Layers `[start, end)`, the tensors that cross the cut after it, and who serves it, first to last."""

    start: int
    end: int
    crossing: tuple[tuple[str, Encoding], ...]
    """Names and encodings of the tensors live across the cut at `end`, in the model's order; empty for the last."""
    succession: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments of a deployment, contiguous from layer 0 to the last."""

    deployment: str
    generation: int
    deployment_record: Digest
    epoch: int
    model: Digest
    segments: tuple[PlanSegment, ...]
    cost_us: int
    planner: NodeId
    load_us: int
    """Stated time to load: a target not servable within 60 s plus twice this is overdue."""
    plan_digest: Digest = field(init=False, compare=False)
    record: Digest = field(init=False, compare=False)

    def __post_init__(self) -> None:
        cuts = [(s.start, s.end, [(n, e.value) for n, e in s.crossing]) for s in self.segments]
        content = _digest("plan", self.model, cuts)
        object.__setattr__(self, "plan_digest", content)
        rest = (self.deployment, self.generation, self.deployment_record, self.epoch, self.cost_us, self.planner)
        object.__setattr__(
            self, "record", _digest("record", content, rest, [s.succession for s in self.segments], self.load_us)
        )

    def is_whole(self) -> bool:
        """Whether its segments follow each other from layer 0 (P3) and no node is named twice for one, within the limits."""
        spans = self.segments
        if not 1 <= len(spans) <= SEGMENTS_MAX or any(span.end <= span.start for span in spans):
            return False
        if [span.start for span in spans] != [0, *(span.end for span in spans[:-1])]:
            return False
        return all(len(set(span.succession)) == len(span.succession) <= SUCCESSION_MAX for span in spans)

    @property
    def order(self) -> tuple[int, Digest, int, int, NodeId, Digest]:
        """Plans of one deployment are totally ordered; the greatest a node knows is its target."""
        return (self.generation, self.deployment_record, self.epoch, -self.cost_us, self.planner, self.record)


def _digest(*parts: object) -> Digest:
    # repr of tuples, lists, strings and ints is one canonical text on every Python we support.
    return Digest(hashlib.sha256(repr(parts).encode()).hexdigest())

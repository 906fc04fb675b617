"""All that a node keeps about one deployment besides its records."""

from dataclasses import dataclass, field

from meshd.core.ids import Digest, NodeId
from meshd.core.negotiation import Run
from meshd.core.plan import Plan
from meshd.core.plans import Plans
from meshd.core.repair import Need
from meshd.core.view import Served

SEEN_MAX = 64
"""Keys remembered: enough for the plans and records of a busy minute; a forgotten one costs one more fetch."""


@dataclass(slots=True)
class Matter:
    """One deployment here."""

    plans: Plans = field(default_factory=Plans)
    target: Plan | None = None
    target_seen_us: int = 0
    stands_since_us: int | None = None
    """Since when the target has stood here without a break: the nodes it lists hold all of it."""
    generation: int = 0
    """The greatest that was served here: requests never start with a lesser one (E2)."""
    settled: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()
    """The shortage the target was made with."""
    need: Need | None = None
    needed_since_us: int = 0
    run: Run | None = None
    tried_us: int | None = None
    """When this node last planned in vain."""
    looked_us: int = 0
    """When this node last looked for copies that its plan is short of."""
    optimise_at: tuple[int, int] | None = None
    """(since when all has been quiet, the moment drawn to see whether it can be bettered)."""
    optimised_us: int | None = None
    """When this node last looked."""
    moved_us: int | None = None
    """When it last moved something for the better."""
    problem: str = ""
    held_back: bool = False
    """Its newest record is not on disk yet: nothing of it is told."""
    told: bytes = b""
    """The key last advertised."""
    due_us: int | None = None
    """When its timer is set for."""
    fetch_at_us: int = 0
    fetched: Digest | None = None
    """A model this node fetched for its sake."""
    served: Served | None = None
    seen: dict[bytes, None] = field(default_factory=dict)
    """Hashes of heads and prefixes of plans known or asked for, oldest first."""
    asked: dict[tuple[NodeId, bytes], int] = field(default_factory=dict)
    """(node, key) asked for and when, until that node tells."""

    def saw(self, part: bytes) -> None:
        """Remember a part of a key."""
        self.seen.pop(part, None)
        self.seen[part] = None
        while len(self.seen) > SEEN_MAX:
            del self.seen[next(iter(self.seen))]

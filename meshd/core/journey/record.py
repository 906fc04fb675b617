"""What an entry remembers: of a deployment what its requests taught it, of a request its attempts and what became of them."""

from dataclasses import dataclass, field
from enum import Enum

from meshd.core.ids import Boot, NodeId
from meshd.core.journey.budget import Admission, HedgeBucket
from meshd.core.journey.frames import Failure, RequestId
from meshd.core.journey.mute import Mutes
from meshd.core.journey.peers import Recent
from meshd.core.journey.route import Doubts, Route


class Why(Enum):
    """Of one more attempt."""

    GONE = "a holder is known to be gone"
    MUTE = "a holder answers nothing"
    LATE = "no answer within the usual time"
    ERROR = "a segment failed"
    UNREACHED = "nobody could be reached"


@dataclass(slots=True)
class Deployment:
    """What this entry learnt of one deployment."""

    bucket: HedgeBucket = field(default_factory=HedgeBucket)
    admission: Admission = field(default_factory=Admission)
    firsts: Recent = field(default_factory=lambda: Recent(128))
    """Latencies of first successes."""
    mutes: Mutes = field(default_factory=Mutes)
    generation: int = 0


@dataclass(slots=True)
class Attempt:
    """One way through the mesh."""

    number: int
    route: Route
    started_us: int
    out: bool = True
    """Nothing says yet that it cannot succeed."""
    over: bool = False
    """It ended by itself: nobody works on it any more."""
    late: bool = False

    def firsts(self, me: NodeId) -> list[NodeId]:
        """Whom else it asks first, of all its segments."""
        return [candidates[0] for candidates in self.route.segments if candidates[0] != me]

    def takers(self, peer: NodeId, first_hop: NodeId | None) -> list[NodeId]:
        """Who had a part in its answer, as far as the entry knows: `peer` brought it, `first_hop` acknowledged it.

        Of the hops between, the first choice is taken to be the one. Of the ends it is known, and matters: one whose link to
        the entry is cut is passed over there, and would be cleared by what others answered.
        """
        middle = [candidates[0] for candidates in self.route.segments[1:-1]]
        last = self.route.segments[-1]
        return [peer if peer in last else last[0], *middle, *([first_hop] if first_hop else [])]

    def seats(self) -> dict[tuple[int, NodeId], None]:
        """(segment, node) of whom it asks first."""
        return {(index, candidates[0]): None for index, candidates in enumerate(self.route.segments)}


@dataclass(slots=True)
class Request:
    """One that is not answered yet."""

    id: RequestId
    deployment: str
    batch: int
    sizes: tuple[int, ...]
    started_us: int
    deadline_at_us: int
    turn: int
    attempts: list[Attempt] = field(default_factory=list)
    tries: int = 0
    """Attempts that count."""
    vanished: dict[NodeId, Boot | None] = field(default_factory=dict)
    """Holders lost with this request in hand, and the boot they were in."""
    doubts: Doubts = field(default_factory=Doubts)
    failure: Failure | None = None
    retry_at_us: int = 0
    retry_from_us: int = 0
    """Not before, whatever is new."""
    trouble_us: int = 0
    """Since when it is not going well; 0 while it is."""
    verdict_at_us: int = 0
    late_at_us: int = 0


def attempt_of(request: Request | None, number: int) -> Attempt | None:
    """The attempt of that number, if there is one."""
    return request.attempts[number - 1] if request and 1 <= number <= len(request.attempts) else None

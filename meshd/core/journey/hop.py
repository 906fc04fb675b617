"""What a holder does with a Forward that arrives: compute it, or say at once why not.

Rule 1: a node computes if and only if it holds (plan digest, segment); that check is what makes failover safe.
Rule 2: the verdict never waits for compute: it is sent before the job starts.
Rule 3: the same leg is computed once in ten seconds; a repeat is acknowledged and dropped.

Source: DESIGN section 4, points 2, 6 and 8.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from meshd.config import CANCELS_REMEMBERED_MAX, QUEUE_SLACK_US, SEEN_MAX, SEEN_US
from meshd.core.ids import NodeId, SegmentId
from meshd.core.journey.frames import Forward, Leg, RequestId

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Backlog:
    """A held segment's load here."""

    queue_us: int
    """Time until a job queued now would start."""
    cost_us: int
    """Time this job would take."""


Backlogs = Callable[[SegmentId, int], Backlog | None]
"""(segment, batch) → its backlog here; None where it is not held. Given by the shell, without side effects."""


class Verdict(Enum):
    """On one Forward."""

    COMPUTE = "compute"
    DUPLICATE = "duplicate"
    BUSY = "busy"
    NOT_HELD = "not held"
    HOPS = "hops"


class Hop:
    """Memory of what arrived here. `counts` is shared with the rest of the journey."""

    def __init__(self, me: NodeId, backlogs: Backlogs, counts: Counter[str]) -> None:
        self.me = me
        self.backlogs = backlogs
        self._counts = counts
        self._seen: dict[Leg, int] = {}
        self._cancelled: dict[tuple[RequestId, int], int] = {}

    def judge(
        self, forward: Forward, previous: NodeId, left_us: int, now_us: int, known: Backlog | None = None
    ) -> tuple[Verdict, Backlog]:
        """What becomes of `forward`, and the backlog to tell its sender. Remembers the leg if it is to be computed."""
        backlog = known or self.backlogs(forward.segment_id, forward.batch)
        if backlog is None:
            return Verdict.NOT_HELD, Backlog(0, 0)
        # What never crossed a link comes once; else a copy of the segment before may have taken the same attempt.
        leg = None if previous == self.me and not forward.spent.hops else forward.leg
        if leg in self._seen or self.is_cancelled(forward.request, forward.attempt, now_us):
            self._counts["duplicates"] += 1
            return Verdict.DUPLICATE, backlog
        if forward.hops_left <= 0:
            return Verdict.HOPS, backlog
        # Short jobs may wait longer than they take, long ones less: twice the unloaded latency is the aim.
        full = backlog.queue_us > max(3 * backlog.cost_us // 4, QUEUE_SLACK_US - backlog.cost_us // 2)
        if full or backlog.queue_us + backlog.cost_us > left_us:
            self._counts["busy_said"] += 1
            return Verdict.BUSY, backlog
        if leg is not None:
            _prune(self._seen, SEEN_MAX - 1, now_us - SEEN_US)
            self._seen[leg] = now_us
        return Verdict.COMPUTE, Backlog(backlog.queue_us + backlog.cost_us, backlog.cost_us)

    def cancel(self, request: RequestId, attempt: int, now_us: int) -> None:
        """May come before its Forward."""
        _prune(self._cancelled, CANCELS_REMEMBERED_MAX - 1, now_us - SEEN_US)
        self._cancelled.pop((request, attempt), None)
        self._cancelled[request, attempt] = now_us

    def is_cancelled(self, request: RequestId, attempt: int, now_us: int) -> bool:
        if not self._cancelled:
            return False
        oldest = now_us - SEEN_US
        return any(self._cancelled.get((request, a), oldest) > oldest for a in (attempt, 0))

    def is_wanted(self, leg: Leg, deadline_at_us: int, now_us: int) -> bool:
        """Whether a queued job should still be computed."""
        return now_us < deadline_at_us and not self.is_cancelled(leg.request, leg.attempt, now_us)


def _prune(table: dict[_K, int], size_max: int, oldest_us: int) -> None:
    """Drop what is older than `oldest_us`, a few at a time, and enough of the oldest to keep to `size_max`."""
    for _ in range(4):
        first = next(iter(table), None)
        if first is None or (table[first] > oldest_us and len(table) <= size_max):
            return
        del table[first]

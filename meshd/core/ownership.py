"""Who serves a segment, and who is next.

Rule 1: every node computes this alone, from membership and holdings; nobody is asked, and promotion needs no message.
Rule 2: no clock and no address in this file: ages arrive as numbers.
Rule 3: SUSPECT moves routes, DEAD moves repair: a suspect goes last, and comes back for nothing.
Invariant: at rest, one owner a segment in each connected part of the mesh (E3).

Source: rendezvous hashing, Thaler and Ravishankar 1998; the succession list is ours.
"""

from collections.abc import Mapping
from typing import NamedTuple

from meshd.config import READY_YOUNG_US, Timers
from meshd.core.ids import NodeId, SegmentId, rank
from meshd.core.plan import Plan
from meshd.core.view import Hold


class Holder(NamedTuple):
    """A live member that holds a segment."""

    node: NodeId
    state: Hold
    suspect: bool
    ready_for_us: int
    measured_us: int = 0


Holders = Mapping[SegmentId, list[Holder]]
"""Who holds what, of live members only (ALIVE and SUSPECT)."""

SERVING = (Hold.READY, Hold.DRAINING)
"""A draining node still serves what it holds."""


def serving(plan: Plan, index: int, holders: Holders) -> list[Holder]:
    """Live holders that serve segment `index` of `plan`."""
    return [h for h in holders.get(SegmentId(plan.plan_digest, index), ()) if h.state in SERVING]


def servable(plan: Plan, holders: Holders) -> bool:
    """Whether each of its segments has a live holder that serves."""
    return all(serving(plan, index, holders) for index in range(len(plan.segments)))


def stands(plan: Plan, holders: Holders, states: tuple[Hold, ...] = (Hold.READY,)) -> bool:
    """Whether each of its segments has a live holder that its succession names: it leans on nobody who will let go.

    NB stricter than servable. A copy that no target lists is on its way out, or gone already though facts still show it: a
    new plan with an old plan's cuts looks servable by such copies (found by `tests/core/register_model.py`).
    """
    return all(
        any(
            holder.state in states and holder.node in span.succession
            for holder in holders.get(SegmentId(plan.plan_digest, index), ())
        )
        for index, span in enumerate(plan.segments)
    )


def candidates(plan: Plan, index: int, holders: Holders) -> tuple[NodeId, ...]:
    """Nodes to ask for a segment, best first; the first is the owner.

    Live READY nodes of the succession in order, then other live READY holders by rendezvous rank; a node that is draining
    after those, suspects last; one READY for less than a minute after its neighbour, for it may still be flapping.
    """
    listed = {node: place for place, node in enumerate(plan.segments[index].succession)}
    key = f"{plan.plan_digest}/{index}"
    found = sorted(serving(plan, index, holders), key=lambda h: rank(key, h.node), reverse=True)
    found.sort(key=lambda h: (h.suspect, h.state is Hold.DRAINING, listed.get(h.node, len(listed))))
    for at in range(len(found) - 2, -1, -1):
        first, second = found[at], found[at + 1]
        alike = (first.suspect, first.state) == (second.suspect, second.state)
        if alike and first.ready_for_us < READY_YOUNG_US <= second.ready_for_us:
            found[at], found[at + 1] = second, first
    return tuple(holder.node for holder in found)


def unload_after(
    listed: bool, surplus: bool, draining: bool, target_servable_for_us: int | None, timers: Timers
) -> int:
    """Microseconds until a READY segment may be unloaded: 0 is now, -1 is not as things stand. The unload rule (P4).

    Parameters
    ----------
    listed : the target lists this segment for this node
    surplus : the segment is of the target's plan digest, though not listed here: one more copy than was asked for
    draining : this node gives up what it holds
    target_servable_for_us : how long the target has stood (`stands`) in this node's view without a break; None: it does not
    """
    if listed or target_servable_for_us is None:
        return -1
    wait = timers.unload_surplus_after_us if surplus and not draining else timers.unload_after_us
    return max(0, wait - target_servable_for_us)

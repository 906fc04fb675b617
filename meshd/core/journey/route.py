"""From the View to a route: for each segment its candidates in order, or why there is none.

Rule 1: a route is made anew for each attempt, from the View of that moment.
Rule 2: the generation with which an entry starts requests of a deployment never falls (PROTOCOL, E2).
Rule 3: where the policy keeps inputs at the entry, the first segment is computed there or the request is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshd.config import S
from meshd.core.ids import Boot, Digest, NodeId
from meshd.core.journey.frames import ROUTE_CANDIDATES_MAX, Code, Failure, Reason
from meshd.core.view import State, View


@dataclass(frozen=True, slots=True)
class Route:
    """One plan and, for each of its segments, whom to ask; never empty."""

    plan: Digest
    generation: int
    segments: tuple[tuple[NodeId, ...], ...]

    def names(self, node: NodeId) -> bool:
        return any(node in candidates for candidates in self.segments)

    def begins_with(self, node: NodeId) -> bool:
        """Whether `node` is the first choice for some segment."""
        return any(candidates[0] == node for candidates in self.segments)


@dataclass(slots=True)
class Doubts:
    """What one request holds against candidates; who is under the gravest comes last."""

    gone: dict[NodeId, None] = field(default_factory=dict)
    """They had a part in an attempt that failed."""
    late: dict[tuple[int, NodeId], None] = field(default_factory=dict)
    """(segment, node): first there in an attempt that was late. Not the node alone: it may be well, and hold another part."""

    def holds(self, segment: int, node: NodeId) -> bool:
        """Whether there is anything against it."""
        return node in self.gone or (segment, node) in self.late

    def against(self, segment: int, node: NodeId, mute: Mapping[NodeId, object]) -> tuple[bool, bool, bool]:
        return node in self.gone, (segment, node) in self.late, node in mute


NO_DOUBTS = Doubts()


def find_route(
    view: View,
    deployment: str,
    generation_min: int = 0,
    doubts: Doubts = NO_DOUBTS,
    turn: int = 0,
    mute: Mapping[NodeId, object] = MappingProxyType({}),
) -> Route | Failure:
    """The route for a fresh attempt.

    Parameters
    ----------
    generation_min : plans of older generations do not count
    doubts : of this request's earlier attempts: they put candidates last
    turn : tells the parts of one batch apart: each begins with another candidate
    mute : nodes that answer nothing. A first attempt does not name them at all where there are others, for of the first two
        candidates a hop takes the less loaded
    """
    served = view.deployments.get(deployment)
    if served is None:
        known = ", ".join(sorted(view.deployments)[:8]) or "none"
        message = f"no model {deployment!r} is deployed in this mesh (deployed: {known})"
        return Failure(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, message, deployment)
    plan = served.plan
    if plan is None or plan.generation < generation_min:
        why = served.problem or "its segments are being placed and loaded"
        message = f"deployment {deployment!r} is not being served yet: {why}"
        return Failure(Code.UNAVAILABLE, Reason.NOT_SERVED, message, deployment, retry_after_us=1 * S)
    segments = []
    for index in range(len(plan.segments)):
        candidates = served.candidates[index] if index < len(served.candidates) else ()
        if not candidates:
            message = f"deployment {deployment!r}: no live node holds segment {index} of its {len(plan.segments)}"
            return Failure(Code.UNAVAILABLE, Reason.NO_HOLDER, message, deployment, index, retry_after_us=1 * S)
        if index == 0 and served.policy.keep_input:
            if view.me not in candidates:
                return _input_stays(deployment, view.me, candidates)
            candidates = (view.me,)
        first = turn % len(candidates)
        turned = candidates[first:] + candidates[:first]
        if doubts is NO_DOUBTS:
            ordered = [c for c in turned if c not in mute] or list(turned)
        else:
            ordered = sorted(turned, key=lambda c, i=index: doubts.against(i, c, mute))  # type: ignore[misc]
        segments.append(tuple(ordered[:ROUTE_CANDIDATES_MAX]))
    return Route(plan.plan_digest, plan.generation, tuple(segments))


def _input_stays(deployment: str, me: NodeId, holders: tuple[NodeId, ...]) -> Failure:
    message = (
        f"deployment {deployment!r} keeps inputs at the node they came in at, and node {me} does not hold its first"
        f" segment (for want of memory, or not yet): ask {', '.join(holders[:4])}"
    )
    return Failure(Code.UNAVAILABLE, Reason.INPUT_STAYS, message, deployment, 0, me, retry_after_us=1 * S)


def is_dead(view: View, node: NodeId, boot: Boot | None) -> bool:
    """Whether membership gives `node`, as it was in `boot`, up for good: dead, left, unknown, or started anew."""
    member = view.members.get(node)
    if member is None or member.state in (State.DEAD, State.LEFT):
        return True
    return boot is not None and member.boot != boot


def is_gone(view: View, node: NodeId, boot: Boot | None) -> bool:
    """Whether nothing should be sent to it now: dead, or a suspect."""
    return is_dead(view, node, boot) or view.members[node].state is not State.ALIVE

"""Whether one large batch is computed as several, each by another copy, and merged in order.

Rule 1: a part is worth its trip: at least `PART_US_MIN` of compute where the most is computed.
Rule 2: no more parts than the scarcest segment has copies, or the parts would only queue behind each other.

Answers are the same bit for bit: items of a batch know nothing of each other.
"""

from collections.abc import Sequence

from meshd.config import BATCH_PARTS_MAX, PART_US_MIN
from meshd.core.ids import NodeId, SegmentId
from meshd.core.view import Hold, Member, Served, View


def parts(view: View, deployment: str, batch: int) -> tuple[int, ...]:
    """Items of each part, in order; one part where splitting does not pay."""
    served = view.deployments.get(deployment)
    if served is not None and served.policy.keep_input:
        return (batch,)  # All parts would queue here, for the first segment.
    if batch < 2 or served is None or served.plan is None or len(served.candidates) < len(served.plan.segments):
        return (batch,)
    copies = min(len(_ready(view, served, index)) for index in range(len(served.plan.segments)))
    item_us = max(_item_us(view, served, index) for index in range(len(served.plan.segments)))
    count = min(copies, BATCH_PARTS_MAX, batch, batch * item_us // PART_US_MIN)
    if count < 2:
        return (batch,)
    each, more = divmod(batch, count)
    return tuple(each + (1 if i < more else 0) for i in range(count))


def _ready(view: View, served: Served, index: int) -> Sequence[NodeId]:
    return [n for n in served.candidates[index] if _measured_us(view.members.get(n), served, index) is not None]


def _item_us(view: View, served: Served, index: int) -> int:
    """What one item takes at the owner; 0 where nobody measured it."""
    owners = served.candidates[index][:1]
    return next((_measured_us(view.members.get(n), served, index) or 0 for n in owners), 0)


def _measured_us(member: Member | None, served: Served, index: int) -> int | None:
    """None unless it holds the segment READY."""
    assert served.plan is not None
    wanted = SegmentId(served.plan.plan_digest, index)
    for holding in member.holdings if member is not None else ():
        if holding.segment == wanted and holding.state is Hold.READY:
            return holding.measured_us
    return None

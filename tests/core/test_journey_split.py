"""When a large batch is computed in parts."""

from types import MappingProxyType

import pytest

from meshd.config import BATCH_PARTS_MAX, MS
from meshd.core.ids import Boot, Digest, NodeId, SegmentId
from meshd.core.journey.split import parts
from meshd.core.plan import Plan, PlanSegment, Policy
from meshd.core.view import Hold, Holding, Member, Served, State, View


def _view(copies: list[int], item_us: int, state: Hold = Hold.READY, planned: bool = True) -> View:
    names = [[NodeId(f"n{i}.{c}") for c in range(count)] for i, count in enumerate(copies)]
    segments = tuple(PlanSegment(i, i + 1, (), tuple(n)) for i, n in enumerate(names))
    plan = Plan("m", 1, Digest("d"), 1, Digest("0"), segments, 1, NodeId("p"), 1)
    members = {
        n: Member(
            n, n, State.ALIVE, Boot(1), 0, (), holdings=(Holding(SegmentId(plan.plan_digest, i), state, item_us),)
        )
        for i, candidates in enumerate(names)
        for n in candidates
    }
    served = Served(
        "m", Digest("0"), 1, Digest("r"), Policy(), plan if planned else None, plan, tuple(map(tuple, names))
    )
    return View(1, NodeId("e"), Boot(1), MappingProxyType(members), MappingProxyType({"m": served}))


CASES = {
    "one item": (_view([2, 2], 100 * MS), 1, (1,)),
    "one copy of some segment": (_view([2, 1], 100 * MS), 8, (8,)),
    "two copies": (_view([2, 2], 10 * MS), 8, (4, 4)),
    "odd": (_view([3, 3], 10 * MS), 8, (3, 3, 2)),
    "the scarcest counts": (_view([4, 2], 10 * MS), 8, (4, 4)),
    "fewer items than copies": (_view([4, 4], 10 * MS), 3, (1, 1, 1)),
    "too short to be worth it": (_view([2], 1 * MS), 16, (16,)),
    "just worth it": (_view([2], 1 * MS), 20, (10, 10)),
    "never measured": (_view([2], 0), 1000, (1000,)),
    "not ready": (_view([2], 100 * MS, Hold.LOADING), 8, (8,)),
    "no plan": (_view([2], 100 * MS, planned=False), 8, (8,)),
    "bounded": (_view([20], 100 * MS), 64, (8,) * BATCH_PARTS_MAX),
}


@pytest.mark.parametrize(("view", "batch", "expected"), CASES.values(), ids=CASES)
def test_a_batch_is_split_where_it_pays(view: View, batch: int, expected: tuple[int, ...]) -> None:
    assert parts(view, "m", batch) == expected
    assert parts(view, "unknown", batch) == (batch,)

"""Why a deployment must be planned anew, as it stands."""

from types import SimpleNamespace
from typing import Any

from meshd.config import Timers
from meshd.core.ids import Digest, NodeId
from meshd.core.plan import Plan, PlanSegment
from meshd.core.repair import Need, Standing, need

A, B, C = (NodeId(n) for n in "abc")
SEGMENT = PlanSegment(0, 1, (), (A, B))
PLAN = Plan("d", 1, Digest("d" * 64), 1, Digest("0" * 64), (SEGMENT,), 1, A, 1)


def mesh(*draining: NodeId) -> Any:
    live = [SimpleNamespace(node=node) for node in (A, B, C)]
    return SimpleNamespace(live=live, drains=lambda member: member.node in draining)


def test_a_listed_node_that_drains_is_planned_around_though_unlisted_copies_fill_its_place() -> None:
    """C holds it from an older plan. Who drains lets go only when listed nodes hold it: it would wait for its patience's end."""
    stands = Standing(PLAN, ((B, C),), (2,))
    assert need(stands, (), False, mesh(A), Timers()) == Need("draining", 0, ())
    assert need(stands, (), True, mesh(A), Timers()) is None, "the plan was made with it draining: it would be the same"
    assert need(stands, (), False, mesh(C), Timers()) is None, "nobody lists it"
    assert need(stands, (), False, mesh(), Timers()) is None

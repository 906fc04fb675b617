"""Candidates in order, servability, and the unload rule, as tables."""

import pytest

from meshd.config import MINUTE, S, Timers
from meshd.core.ids import Digest, NodeId, SegmentId, rank
from meshd.core.ownership import Holder, Holders, candidates, servable, unload_after
from meshd.core.plan import Plan, PlanSegment
from meshd.core.view import Hold

A, B, C, D = (NodeId(n) for n in "abcd")
OLD = 10 * MINUTE
PLAN = Plan(
    "d", 1, Digest("00"), 1, Digest("11"), (PlanSegment(0, 1, (), (A, B)), PlanSegment(1, 2, (), (B, C))), 1, A, 1
)


def held(*rows: tuple[NodeId, Hold, bool, int], index: int = 0) -> dict[SegmentId, list[Holder]]:
    return {SegmentId(PLAN.plan_digest, index): [Holder(*row) for row in rows]}


READY, DRAINING, LOADING, FAILED = Hold.READY, Hold.DRAINING, Hold.LOADING, Hold.FAILED


@pytest.mark.parametrize(
    ("holders", "order"),
    [
        (held((A, READY, False, OLD), (B, READY, False, OLD)), (A, B)),
        (held((B, READY, False, OLD), (A, READY, False, OLD)), (A, B)),
        (held((A, READY, True, OLD), (B, READY, False, OLD)), (B, A)),
        (held((A, READY, True, OLD), (B, READY, True, OLD)), (A, B)),
        (held((A, LOADING, False, 0), (B, READY, False, OLD)), (B,)),
        (held((A, FAILED, False, 0)), ()),
        (held((A, DRAINING, False, OLD), (B, READY, False, OLD)), (B, A)),
        (held((A, DRAINING, False, OLD), (B, READY, True, OLD)), (A, B)),
        (held((A, READY, False, 59 * S), (B, READY, False, 60 * S)), (B, A)),
        (held((A, READY, False, 1 * S), (B, READY, False, 2 * S)), (A, B)),
        (held((A, READY, False, 1 * S), (B, READY, True, OLD)), (A, B)),
        (held((D, READY, False, OLD), (B, READY, False, OLD)), (B, D)),
    ],
)
def test_candidates_are_the_succession_then_others_with_suspects_last(
    holders: Holders, order: tuple[NodeId, ...]
) -> None:
    assert candidates(PLAN, 0, holders) == order


def test_holders_that_no_succession_names_come_by_rendezvous() -> None:
    found = candidates(PLAN, 0, held((C, READY, False, OLD), (D, READY, False, OLD)))
    key = f"{PLAN.plan_digest}/0"
    assert found == tuple(sorted((C, D), key=lambda n: rank(key, n), reverse=True))


def test_a_plan_is_servable_when_each_segment_has_a_live_holder() -> None:
    one, two = held((A, READY, True, OLD)), held((C, DRAINING, False, OLD), index=1)
    assert not servable(PLAN, one)
    assert servable(PLAN, one | two)
    assert not servable(PLAN, one | held((C, LOADING, False, 0), index=1))


@pytest.mark.parametrize(
    ("listed", "surplus", "draining", "served_for", "wait"),
    [
        (True, True, False, 1_000 * S, -1),
        (True, True, True, 1_000 * S, -1),
        (False, False, False, None, -1),
        (False, False, False, 0, 10 * S),
        (False, False, False, 9 * S, 1 * S),
        (False, False, False, 10 * S, 0),
        (False, True, False, 10 * S, 590 * S),
        (False, True, False, 600 * S, 0),
        (False, True, True, 10 * S, 0),
        (False, True, True, None, -1),
    ],
)
def test_a_segment_goes_only_when_the_target_without_it_has_served_for_a_while(
    listed: bool, surplus: bool, draining: bool, served_for: int | None, wait: int
) -> None:
    assert unload_after(listed, surplus, draining, served_for, Timers()) == wait

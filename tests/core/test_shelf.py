"""Load states and memory of one node."""

from meshd.config import LOAD_RETRY_MAX_US, LOAD_RETRY_US, S
from meshd.core.events import Load, Unload
from meshd.core.ids import Digest, NodeId, SegmentId
from meshd.core.plan import Plan, PlanSegment
from meshd.core.shelf import Reservation, Shelf
from meshd.core.view import Hold
from tests.core.intent_cluster import layers

A = NodeId("a")
LAYERS = layers(10, 20, 30, 40)


def plan(*cuts: int, deployment: str = "d") -> Plan:
    spans = zip((0, *cuts), (*cuts, 4), strict=True)
    return Plan(
        deployment, 1, Digest("00"), 1, Digest("11"), tuple(PlanSegment(s, e, (), (A,)) for s, e in spans), 1, A, 1
    )


def segment(of: Plan, index: int) -> SegmentId:
    return SegmentId(of.plan_digest, index)


def test_a_segment_goes_from_nothing_to_ready_and_back() -> None:
    shelf, one = Shelf(100), plan(2)
    assert shelf.load(segment(one, 0), one, LAYERS, 0) == [Load(segment(one, 0), one)]
    assert shelf.load(segment(one, 0), one, LAYERS, 0) == []
    assert [h.state for h in shelf.holdings()] == [Hold.LOADING]
    assert shelf.unload(segment(one, 0)) == []
    shelf.loaded(segment(one, 0), 25, 77, 5 * S)
    [holding] = shelf.holdings()
    assert (holding.state, holding.measured_us, holding.ready_since_us) == (Hold.READY, 77, 5 * S)
    assert shelf.unload(segment(one, 0)) == [Unload(segment(one, 0))]
    assert shelf.unload(segment(one, 0)) == []
    assert [h.state for h in shelf.holdings()] == [Hold.DRAINING]
    shelf.unloaded(segment(one, 0))
    assert shelf.holdings() == ()


def test_layers_that_two_plans_share_take_memory_once() -> None:
    shelf, one, two = Shelf(100), plan(2), plan(3)
    shelf.load(segment(one, 0), one, LAYERS, 0)
    assert shelf.used_bytes() == 30
    shelf.load(segment(two, 0), two, LAYERS, 0)
    assert shelf.used_bytes() == 60
    other = plan(2, deployment="e")
    assert shelf.load(segment(other, 1), other, LAYERS, 0) == []
    assert shelf.room_for("e") == 40
    assert shelf.room_for("d") == 100


def test_what_a_segment_really_takes_counts() -> None:
    shelf, one = Shelf(100), plan(2)
    shelf.load(segment(one, 0), one, LAYERS, 0)
    shelf.loaded(segment(one, 0), 95, 1, 0)
    assert shelf.used_bytes() == 95


def test_a_promise_holds_memory_until_it_expires() -> None:
    shelf, one = Shelf(100), plan(2)
    promise = Reservation(A, 1, ((0, 10), (1, 20), (2, 30)), 0, 10 * S)
    assert shelf.reserve("d", promise)
    assert shelf.reserved_bytes() == 60
    assert not shelf.reserve("e", Reservation(A, 2, ((0, 41),), 0, 10 * S))
    assert shelf.room_for("e") == 40
    shelf.load(segment(one, 0), one, LAYERS, 0)
    assert shelf.used_bytes() + shelf.reserved_bytes() == 60
    shelf.expire(10 * S)
    assert shelf.reserved_bytes() == 0


def test_a_load_that_fails_waits_twice_as_long_each_time() -> None:
    shelf, one, now = Shelf(100), plan(2), 0
    for nth in range(9):
        assert shelf.load(segment(one, 0), one, LAYERS, now)
        shelf.failed(segment(one, 0), "disk full", now)
        assert shelf.holdings()[0].reason == "disk full"
        assert shelf.used_bytes() == 0
        wait = min(LOAD_RETRY_US << nth, LOAD_RETRY_MAX_US)
        assert shelf.load(segment(one, 0), one, LAYERS, now + wait - 1) == []
        now += wait
    shelf.unload(segment(one, 0))
    assert shelf.holdings() == ()

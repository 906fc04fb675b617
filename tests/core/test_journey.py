"""A request's journey, in a virtual world: scenarios with one fault each, and what must come of them."""

from collections.abc import Callable

import pytest

from meshd.config import ACK_WAIT_MAX_US, LATE_MAX_US, MS, S
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.frames import Answer, Cancel, Code, Failure, Forward, Leg, Lost, NotHeld, Reason, RequestId
from meshd.core.view import State
from tests.core.journey_world import World

THREE = [["a", "b"], ["c", "d"], ["f", "g"]]


def test_a_request_goes_through_every_segment_once() -> None:
    world = World(THREE)
    world.request()
    world.run()
    world.assert_answered()
    assert [len(world.hosts[NodeId(n)].computed) for n in "abcdfg"] == [1, 0, 1, 0, 1, 0]
    assert world.took_us() == 3 * 5 * MS + 4 * 1 * MS
    world.assert_nothing_is_kept()


def test_a_node_that_holds_everything_uses_no_wire() -> None:
    world = World([["e"], ["e"], ["e"]])
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() == 3 * 5 * MS


def _before(world: World, act: Callable[[], None], after_us: int) -> None:
    world.at(after_us, act)
    world.request()
    world.run()


# (what happens, microseconds after the request) → attempts, at most this much later than without a fault.
FAULTS = {
    "owner of the first dies before the request": ("kill", "a", 0, 1, 2 * MS),
    "owner of the first dies while it computes": ("kill", "a", 3 * MS, 2, 10 * MS),
    "owner of the middle dies while it computes": ("kill", "c", 9 * MS, 2, 16 * MS),
    "owner of the last dies while it computes": ("kill", "f", 15 * MS, 2, 22 * MS),
    "first goes silent before the request": ("stop", "a", 0, 1, ACK_WAIT_MAX_US),
    "first goes silent while it computes": ("stop", "a", 3 * MS, 2, LATE_MAX_US + 5 * MS),
    "middle goes silent while it computes": ("stop", "c", 9 * MS, 2, LATE_MAX_US + 5 * MS),
    "link to the middle is cut before": ("cut", "ac", 0, 1, 2 * MS),
    "link of the last to the entry is cut: through the previous hop": ("cut", "fe", 0, 1, 2 * MS),
    "an unheard standby dies": ("kill", "d", 9 * MS, 1, 0),
}


@pytest.mark.parametrize(("kind", "who", "after_us", "attempts", "added_us"), FAULTS.values(), ids=FAULTS)
def test_one_fault_costs_time_and_never_the_request(
    kind: str, who: str, after_us: int, attempts: int, added_us: int
) -> None:
    world = World(THREE)
    acts = {
        "kill": lambda: world.kill(who),
        "stop": lambda: setattr(world.hosts[NodeId(who)], "silent", True),
        "cut": lambda: world.cut_link(*who),
    }
    if after_us == 0:
        acts[kind]()
        world.run(2 * MS)
        world.request()
        world.run()
    else:
        _before(world, acts[kind], after_us)
    world.assert_answered()
    assert world.attempts() == attempts
    assert world.took_us() <= 19 * MS + added_us
    world.assert_nothing_is_kept()


def test_suspicion_of_a_node_on_the_route_repeats_at_once() -> None:
    world = World(THREE)
    world.at(7 * MS, lambda: setattr(world.hosts[NodeId("c")], "silent", True))
    world.at(100 * MS, lambda: world.suspect("c"))
    world.request()
    world.run()
    world.assert_answered()
    assert world.attempts() == 2
    assert world.took_us() == 100 * MS + 19 * MS


def test_a_hop_tells_the_entry_that_its_next_is_suspected() -> None:
    """The entry would not know: the second candidate was taken."""
    world = World([["a"], ["c", "d"]])
    world.hosts[NodeId("a")].journey.link_changed(NodeId("c"), False, world.now_us)
    world.at(9 * MS, lambda: setattr(world.hosts[NodeId("d")], "silent", True))
    world.at(50 * MS, lambda: world.hosts[NodeId("a")].journey.link_changed(NodeId("c"), True, world.now_us))
    world.at(100 * MS, lambda: world.suspect("d"))
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() == 100 * MS + (1 + 1 + 5 + 1 + 5 + 1) * MS


def test_busy_tries_one_alternate_and_never_hints() -> None:
    world = World([["a", "b", "c"]])
    world.hosts[NodeId("a")].queue_us = 1 * S
    world.request()
    world.run()
    world.assert_answered()
    assert world.attempts() == 1
    assert len(world.hosts[NodeId("b")].computed) == 1
    assert world.hosts[NodeId("e")].hints == []


def test_all_busy_ends_as_exhausted_with_a_hint_at_once() -> None:
    world = World([["a", "b", "c"]])
    for name in "abc":
        world.hosts[NodeId(name)].queue_us = 1 * S
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.reason, outcome.retry_after_us) == (Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, 1 * S)
    assert outcome.segment == 0
    assert world.took_us() == 4 * MS
    assert world.hosts[NodeId("c")].journey.counts["busy_said"] == 0, "one alternate, not all"


def test_a_deadline_too_short_for_the_job_is_busy_not_failure() -> None:
    world = World([["a"]])
    world.request(deadline_us=4 * MS)
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert outcome.code is Code.RESOURCE_EXHAUSTED
    assert world.hosts[NodeId("e")].hints == []


def test_not_held_goes_to_the_alternate_with_a_hint() -> None:
    world = World(THREE)
    world.hosts[NodeId("c")].holds.clear()
    world.request()
    world.run()
    world.assert_answered()
    assert world.attempts() == 1
    assert world.hosts[NodeId("a")].hints == [NodeId("c")]


def test_no_holder_anywhere_is_refused_in_three_seconds_naming_the_segment() -> None:
    world = World(THREE)
    for name in "cd":
        world.hosts[NodeId(name)].holds.clear()
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.reason, outcome.segment) == (Code.UNAVAILABLE, Reason.NO_HOLDER, 1)
    assert "segment 1" in outcome.message
    assert "'m'" in outcome.message
    assert world.took_us() < 3 * S
    world.assert_nothing_is_kept()


def test_an_unknown_deployment_is_not_found_and_one_without_a_plan_unavailable() -> None:
    world = World(THREE)
    entry = world.hosts[NodeId("e")]
    (finish,) = entry.journey.enter(RequestId(NodeId("e"), Boot(1), 7), "other", 1, (4,), 0, world.now_us)
    assert finish.outcome.code is Code.NOT_FOUND  # type: ignore[union-attr]
    assert "deployed: m" in finish.outcome.message  # type: ignore[union-attr]


def test_a_broken_copy_is_replaced() -> None:
    world = World([["a", "b"]])
    world.hosts[NodeId("a")].breaks = True
    world.request()
    world.run()
    world.assert_answered()
    assert world.attempts() == 2


def test_what_breaks_everywhere_is_an_error_after_three_attempts() -> None:
    world = World([["a", "b"]])
    for name in "ab":
        world.hosts[NodeId(name)].breaks = True
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.reason) == (Code.INTERNAL, Reason.COMPUTE)
    assert world.attempts() == 3


def test_a_stopped_owner_is_skipped_by_the_next_request() -> None:
    world = World([["a", "b"]])
    world.hosts[NodeId("a")].silent = True
    world.request(1)
    world.run(1 * S)
    world.request(2)
    world.run(1 * S)
    world.assert_answered(2)
    assert world.took_us(2) == 7 * MS
    entry = world.hosts[NodeId("e")]
    assert entry.pairs == [(NodeId("a"), False)]
    assert entry.hints == [NodeId("a")]
    world.run(3 * S)
    assert entry.pairs[1:] == [(NodeId("a"), True)], "published no longer than it is skipped"


def test_two_vanished_holders_make_a_poison_that_no_third_gets() -> None:
    world = World([["a", "b", "c"]])
    for name in "abc":
        world.hosts[NodeId(name)].deadly = True
    world.at(600 * MS, lambda: world.suspect("a"))
    world.at(700 * MS, lambda: world.suspect("b", State.DEAD))
    world.at(900 * MS, lambda: world.suspect("a", State.DEAD))
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.reason) == (Code.INTERNAL, Reason.HOLDERS_LOST)
    assert world.hosts[NodeId("c")].computed == []
    assert world.took_us() == 900 * MS
    entry = world.hosts[NodeId("e")].journey
    entry.poison(b"x", outcome, world.now_us)
    assert entry.poison_left_us(b"x", world.now_us) > 0
    world.suspect("b", State.ALIVE)
    assert entry.poison_left_us(b"x", world.now_us) == 0, "its boot lives: it was cut off, not killed"


def test_two_lost_holders_that_live_are_no_poison() -> None:
    world = World([["a", "b", "c"]])
    world.at(3 * MS, lambda: world.cut_link("e", "a"))
    world.at(6 * MS, lambda: world.cut_link("e", "b"))
    world.request()
    world.run()
    world.assert_answered()
    assert len(world.hosts[NodeId("c")].computed) == 1


def test_the_last_copy_is_waited_for_while_the_network_is_slow_to_reach_it() -> None:
    """TCP repeats a lost frame after 0.2, 0.6, 1.4 s: longer than a hop is given, and no reason to give up."""
    world = World([["a", "b"]])
    world.at(3 * MS, lambda: world.kill("a"))
    world.at(3 * MS, lambda: setattr(world.hosts[NodeId("b")], "slow_until_us", world.now_us + 1400 * MS))
    world.at(600 * MS, lambda: world.suspect("a"))
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() <= 1450 * MS
    world.assert_nothing_is_kept()


def test_the_last_copy_is_waited_for_while_its_link_is_made_anew() -> None:
    world = World([["a", "b"]])
    world.cut_link("e", "b")
    world.at(3 * MS, lambda: world.kill("a"))
    world.at(2500 * MS, lambda: world.mend_link("e", "b"))
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() <= 2520 * MS
    world.assert_nothing_is_kept()


def test_what_is_waited_for_is_refused_once_membership_gives_it_up() -> None:
    world = World([["a", "b"]])
    world.cut_link("e", "a")
    world.cut_link("e", "b")
    world.at(800 * MS, lambda: world.suspect("a"))
    world.at(900 * MS, lambda: world.suspect("b"))
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.segment) == (Code.UNAVAILABLE, 0)
    assert 900 * MS <= world.took_us() < 3 * S
    world.assert_nothing_is_kept()


def test_a_hop_that_finds_no_way_on_says_so_in_a_second_and_another_is_asked() -> None:
    world = World([["a", "b"], ["c"]])
    world.cut_link("a", "c")
    world.request()
    world.run()
    world.assert_answered()
    assert len(world.hosts[NodeId("b")].computed) == 1
    assert world.took_us() <= LATE_MAX_US + 50 * MS
    world.assert_nothing_is_kept()


def test_a_hedge_is_not_spent_on_those_that_have_the_request_already() -> None:
    world = World([["a", "b"]])
    for number in range(1, 4):
        world.request(number)
        world.run(1 * S)
    for name in "ab":
        world.hosts[NodeId(name)].cost_us = 300 * MS
    world.request(9)
    world.run()
    world.assert_answered(9)
    assert world.attempts(9) == 2


def test_two_suspects_that_come_back_are_no_poison() -> None:
    world = World([["a", "b", "c"]])
    for name in "abc":
        world.hosts[NodeId(name)].cost_us = 400 * MS
    world.at(3 * MS, lambda: world.cut_link("e", "a"))
    world.at(6 * MS, lambda: world.cut_link("e", "b"))
    for name in "ab":
        world.at(500 * MS, lambda n=name: world.suspect(n))  # type: ignore[misc]
        world.at(1500 * MS, lambda n=name: world.suspect(n, State.ALIVE))  # type: ignore[misc]
    world.request()
    world.run()
    world.assert_answered()


def test_first_success_wins_and_the_others_are_cancelled() -> None:
    world = World([["a", "b"]])
    world.hosts[NodeId("a")].cost_us = 1200 * MS
    world.request()
    world.run()
    world.assert_answered()
    assert world.attempts() == 2
    assert world.took_us() == LATE_MAX_US + 7 * MS
    assert world.hosts[NodeId("a")].computed == [], "cancelled before it ran"


def test_hedges_are_bounded_by_the_bucket() -> None:
    world = World([["a", "b"]])
    for name in "ab":
        world.hosts[NodeId(name)].cost_us = 2000 * MS
    for number in range(1, 21):
        world.request(number)
    world.run()
    assert all(isinstance(world.outcome(n), Answer) for n in range(1, 21))
    assert world.hosts[NodeId("e")].journey.counts["hedges"] == 5 + 20 // 10


def test_a_duplicate_is_acknowledged_and_dropped_and_a_cancel_may_overtake() -> None:
    world = World([["a"]])
    host = world.hosts[NodeId("a")]
    id = RequestId(NodeId("e"), Boot(1), 1)
    forward = Forward(id, 1, "m", world.plan.plan_digest, 0, 1 * S, 8, 1, (4,), ())
    first = host.journey.receive(NodeId("e"), forward, world.now_us)
    again = host.journey.receive(NodeId("e"), forward, world.now_us)
    assert [type(e).__name__ for e in first] == ["Send", "Compute"]
    assert [type(e).__name__ for e in again] == ["Send"]
    other = Forward(RequestId(NodeId("e"), Boot(1), 2), 1, "m", world.plan.plan_digest, 0, 1 * S, 8, 1, (4,), ())
    assert host.journey.receive(NodeId("e"), Cancel(other.request), world.now_us) == []
    assert [type(e).__name__ for e in host.journey.receive(NodeId("e"), other, world.now_us)] == ["Send"]
    host.journey.receive(NodeId("b"), Cancel(forward.request), world.now_us)
    assert host.journey.is_wanted(first[1], world.now_us), "only the entry may cancel"  # type: ignore[arg-type]


def test_what_nobody_asked_for_changes_nothing() -> None:
    world = World([["a"]], others=("z",))
    world.hosts[NodeId("a")].silent = True
    world.request()
    entry = world.hosts[NodeId("e")].journey
    id = RequestId(NodeId("e"), Boot(1), 1)
    plan = world.plan.plan_digest
    lies = (
        Answer(id, 1, plan, 1, (4,)),  # From a node that is not on the route.
        Lost(NodeId("a"), (Leg(id, 1, 0),)),
        NotHeld(Leg(id, 1, 0)),
        Answer(RequestId(NodeId("e"), Boot(1), 99), 1, plan, 1, (4,)),
    )
    assert [entry.receive(NodeId("z"), lie, world.now_us) for lie in lies] == [[], [], [], []]
    assert entry.receive(NodeId("a"), Answer(id, 3, plan, 1, (4,)), world.now_us) == []
    assert (entry.counts["unasked"], entry.counts["late_answers"]) == (3, 1)


def test_a_silent_mesh_ends_the_request_at_its_deadline() -> None:
    world = World([["a", "b"]])
    for name in "ab":
        world.at(3 * MS, lambda n=name: setattr(world.hosts[NodeId(n)], "silent", True))  # type: ignore[misc]
    world.request(deadline_us=2 * S)
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert outcome.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
    assert world.took_us() <= 2 * S
    world.assert_nothing_is_kept()


def test_two_replicas_share_what_waits() -> None:
    world = World([["a", "b"]])
    owner = world.hosts[NodeId("a")]
    owner.queue_us = 4 * MS
    world.request(1)
    world.run(2 * MS)
    world.request(2)
    world.run()
    assert len(world.hosts[NodeId("b")].computed) == 1
    world.assert_answered(2)


def test_the_generation_an_entry_starts_never_falls() -> None:
    world = World([["a"]])
    entry = world.hosts[NodeId("e")].journey
    world.request(1)
    world.run()
    entry._entry._deployments["m"].generation = 2
    world.request(2)
    world.run()
    outcome = world.outcome(2)
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.NOT_SERVED

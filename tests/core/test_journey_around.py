"""A request goes around: nodes that nothing comes back from, splits, links that come up late, the same attempt by two ways."""

import pytest

from meshd.config import ACK_WAIT_MAX_US, LATE_MIN_US, MS, UNREACHABLE_US, S
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.effects import Send
from meshd.core.journey.frames import Ack, Failure, Forward, Leg, Lost, Reason, RequestId
from meshd.core.view import State
from tests.core import journey_world
from tests.core.journey_world import World

THREE = [["a", "b"], ["c", "d"], ["f", "g"]]


def _steadily(world: World, seconds: float, every_us: int = 20 * MS) -> list[int]:
    """Requests at a steady rate, numbered from 1; returns what each took, microseconds."""
    count = int(seconds * S) // every_us
    for number in range(1, count + 1):
        world.at(number * every_us, lambda n=number: world.request(n, 10 * S))  # type: ignore[misc]
    world.run()
    for number in range(1, count + 1):
        world.assert_answered(number)
    return [world.took_us(number) for number in range(1, count + 1)]


@pytest.mark.parametrize("lost", [("f", "e"), ("a", "c")], ids=["its answers", "what it passes on"])
def test_a_node_that_nothing_comes_back_from_costs_a_few_requests_a_hedge_and_the_rest_nothing(
    lost: tuple[str, str],
) -> None:
    """Its acks come (of the entry's own frames) or membership hears of it from others: it is alive to all."""
    world = World(THREE)
    world.at(2 * S, lambda: world.unheard.update({lost: None}))
    took = _steadily(world, 12)
    slow = [t for t in took if t > 30 * MS]
    assert max(took) < LATE_MIN_US + 2 * ACK_WAIT_MAX_US
    assert len(slow) <= 25, "until it is known, and one each time it is tried again"


def test_a_mute_node_is_asked_again_once_its_answers_arrive() -> None:
    world = World(THREE)
    world.at(1 * S, lambda: world.unheard.update({("f", "e"): None}))
    world.at(3 * S, world.unheard.clear)
    _steadily(world, 12)
    before = len(world.hosts[NodeId("f")].computed)
    world.request(10_000)
    world.run()
    assert len(world.hosts[NodeId("f")].computed) == before + 1


def test_a_slow_burst_makes_nobody_mute() -> None:
    world = World(THREE)
    _steadily(world, 2)
    for host in world.hosts.values():
        host.cost_us = 80 * MS
    for number in range(1000, 1020):
        world.request(number)
    world.run()
    assert world.hosts[world.entry].journey.counts["mute"] == 0


def test_a_split_that_takes_three_owners_one_after_the_other_costs_no_attempt_too_many() -> None:
    world = World(THREE)
    for n, name in enumerate("acf"):
        world.hosts[NodeId(name)].silent = True
        world.at(30 * MS + n * MS, lambda name=name: world.suspect(name))  # type: ignore[misc]
    world.hosts[NodeId("a")].silent = False
    world.at(8 * MS, lambda: setattr(world.hosts[NodeId("a")], "silent", True))
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() < 200 * MS


def test_a_holder_that_comes_into_reach_while_views_change_all_the_time_answers() -> None:
    world = World([["a"]])
    world.cut_link("e", "a")
    for n in range(500):
        world.at(n * MS, lambda: world.suspect("e", State.ALIVE))

    def heal() -> None:
        world.cut.clear()
        for one, other in ("ea", "ae"):
            world._perform(
                NodeId(one), world.hosts[NodeId(one)].journey.link_changed(NodeId(other), True, world.now_us)
            )

    world.at(900 * MS, heal)
    world.request()
    world.run()
    world.assert_answered()
    assert world.took_us() < 950 * MS, "at once, not after a pause"
    assert world.attempts() == 1, "what never left was no attempt"


def test_who_vanished_is_named_with_its_segment() -> None:
    world = World([["a"], ["c"]])
    world.at(9 * MS, lambda: setattr(world.hosts[NodeId("c")], "silent", True))
    world.at(50 * MS, lambda: world.suspect("c"))
    world.request(deadline_us=10 * S)
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert outcome.segment == 1
    assert "segment 1" in outcome.message
    assert world.took_us() < 3 * S


def test_a_leg_that_two_nodes_acknowledge_is_remembered_once() -> None:
    """The same attempt came by two ways: what was passed on twice is lost once, whoever vanishes first."""
    world = World([["a"], ["c", "d"]])
    journey = world.hosts[NodeId("a")].journey
    forward = Forward(RequestId(world.entry, Boot(1), 1), 1, "m", world.plan.plan_digest, 1, 9 * S, 8, 1, (4,), ())
    for number, peer in enumerate("cd"):
        journey._carrier.carry(forward, (NodeId(peer),), world.entry, 20 * S, number)
        journey.receive(NodeId(peer), Ack(forward.leg, 0), 10 + number)
    for peer, legs in (("c", 0), ("d", 1), ("c", 0), ("d", 0)):
        lost = [e for e in journey.link_changed(NodeId(peer), False, 20) if isinstance(e, Send)]
        assert sum(len(e.frame.legs) for e in lost if isinstance(e.frame, Lost)) == legs


def test_what_a_node_gave_itself_it_does_not_compute_again_for_another() -> None:
    """Two copies of the first segment took the same attempt, and one of them holds the second as well."""
    world = World([["a", "b"], ["b"]])
    world.unheard.update({("a", "e"): None, ("b", "e"): None})  # Not even their acks.
    world.hosts[NodeId("a")].cost_us = 600 * MS
    world.request()
    world.run(800 * MS)
    assert world.hosts[NodeId("b")].computed.count(Leg(RequestId(world.entry, Boot(1), 1), 1, 1)) == 1


def test_holders_that_a_split_takes_make_no_poison() -> None:
    """Their links do not close: they are suspected. A process that a request kills closes its links."""
    world = World([["a"], ["c", "d", "f"]])
    for n, name in enumerate("cd"):
        world.at((9 + 20 * n) * MS, lambda name=name: setattr(world.hosts[NodeId(name)], "silent", True))  # type: ignore[misc]
        world.at((20 + 20 * n) * MS, lambda name=name: world.suspect(name, State.SUSPECT))  # type: ignore[misc]
    world.request()
    world.run()
    world.assert_answered()
    assert world.hosts[world.entry].journey.counts["poisoned"] == 0


def test_what_is_out_when_nobody_is_left_who_could_have_it_is_refused_within_three_seconds() -> None:
    world = World([["a"], ["c", "d"]])
    for name in "cd":
        world.at(9 * MS, lambda name=name: setattr(world.hosts[NodeId(name)], "silent", True))  # type: ignore[misc]
    world.at(500 * MS, lambda: world.order.__setitem__(1, ()))
    world.at(501 * MS, lambda: world.suspect("e", State.ALIVE))
    world.request(deadline_us=60 * S)
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert outcome.reason is Reason.NO_HOLDER
    assert world.took_us() <= 3 * S


def test_who_is_mute_in_one_part_is_asked_no_more_though_all_parts_share_their_nodes() -> None:
    """Three nodes hold three segments between them: what is late by one makes none of the others doubtful for long."""
    world = World([["a", "b"], ["b", "a"], ["c", "a"]])
    world.at(2 * S, lambda: world.unheard.update({("c", "e"): None}))
    took = _steadily(world, 12)
    assert len([t for t in took if t > 30 * MS]) <= 25
    assert max(took) < LATE_MIN_US + 2 * ACK_WAIT_MAX_US


def test_what_can_be_sent_to_nobody_is_refused_in_good_time_though_it_is_never_under_way() -> None:
    world = World([["a", "b"]])
    _steadily(world, 1)
    for name in "ab":
        world.cut_link("e", name)
        world.suspect(name)
    world.request(1_000, 20 * S)
    world.run()
    outcome = world.outcome(1_000)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.segment) == (Reason.UNREACHABLE, 0)
    assert UNREACHABLE_US <= world.took_us(1_000) <= 3 * S


def test_links_that_close_because_their_peers_were_given_up_make_no_poison() -> None:
    world = World([["a"], ["c", "d"]])
    for n, name in enumerate("cd"):
        world.unheard["a", name] = None
        world.at((20 + 20 * n) * MS, lambda name=name: world.suspect(name, State.DEAD))  # type: ignore[misc]
        world.at((21 + 20 * n) * MS, lambda name=name: world.cut_link("a", name))  # type: ignore[misc]
    world.request()
    world.run()
    outcome = world.outcome()
    assert isinstance(outcome, Failure)
    assert outcome.reason is not Reason.HOLDERS_LOST


def test_while_one_may_be_dying_of_it_no_other_gets_a_request_that_one_vanished_with() -> None:
    world = World([["a", "b", "c"]])
    _steadily(world, 1)
    for name in "ab":
        world.hosts[NodeId(name)].deadly = True
    world.hosts[NodeId("b")].cost_us = 500 * MS  # Past the time at which a request is late.
    world.request(1_000)
    world.run(2 * S)
    assert world.hosts[NodeId("b")].dead
    assert RequestId(world.entry, Boot(1), 1_000) not in [leg.request for leg in world.hosts[NodeId("c")].computed]


def test_a_lan_that_becomes_a_slow_radio_link_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(THREE)
    world.at(2 * S, lambda: monkeypatch.setattr(journey_world, "LATENCY_US", 100 * MS))
    took = _steadily(world, 8)
    assert max(took) <= 2 * (4 * 100 + 15) * MS
    assert sorted(took)[len(took) * 9 // 10] <= (4 * 100 + 15) * MS


def test_who_was_passed_over_is_not_cleared_by_what_others_answered() -> None:
    """The last owner is the first segment's standby: hedges name it first there, and the entry passes it over."""
    world = World([["a", "b"], ["c", "a"], ["b", "a"]])
    for pair in (("b", "e"), ("e", "b")):
        world.at(2 * S, lambda pair=pair: world.unheard.update({pair: None}))  # type: ignore[misc]
    took = _steadily(world, 12)
    assert len([t for t in took if t > 40 * MS]) <= 40

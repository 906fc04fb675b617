"""Where a policy keeps inputs at the entry: the first segment is on every node that has room, and nobody else computes it."""

from dataclasses import replace

from meshd.config import S
from meshd.core.ids import NodeId
from meshd.core.intent_messages import Offer
from meshd.core.journey.frames import Code, Failure, Reason
from meshd.core.journey.route import Doubts, Route, find_route
from meshd.core.journey.split import parts
from meshd.core.placement import Problem, Site, Solution, solve
from meshd.core.plan import Policy
from tests.core.intent_cluster import Cluster, deploy
from tests.core.journey_world import World

KEEP = Policy(keep_input=True)


def _site(name: str, memory: int, speed: int = 10) -> Site:
    return Site(NodeId(name), memory, (speed,) * 4)


def test_the_first_segment_goes_to_all_that_have_room_and_is_cut_where_least_crosses_for_it() -> None:
    sites = (_site("a", 100, 1), _site("b", 25), _site("c", 20), _site("d", 5))
    problem = Problem((10, 10, 10, 10), (1, 9, 3, 1, 1), sites, replicas=1, keep_input=True)
    found = solve(problem)
    assert isinstance(found, Solution)
    # Two layers fit b and c, and three bytes cross there; d has room for none.
    assert [(stage.start, stage.end) for stage in found.stages] == [(0, 2), (2, 4)]
    assert [stage.succession[0] for stage in found.stages] == ["a", "a"]
    assert sorted(found.stages[0].succession) == ["a", "b", "c"]
    assert found.stages[1].succession == ("a",)
    without = solve(replace(problem, keep_input=False))
    assert isinstance(without, Solution)
    assert without.cost == found.cost


def test_copies_of_the_other_segments_come_before_the_first_ones_further_copies() -> None:
    sites = tuple(_site(n, 30) for n in "abcd")
    found = solve(Problem((10, 10, 10, 10), (1, 1, 1, 1, 1), sites, replicas=2, keep_input=True))
    assert isinstance(found, Solution)
    assert found.copies_short == 0
    for site in sites:
        held = [s for s in found.stages if site.node in s.succession]
        assert sum(10 * (s.end - s.start) for s in held) <= site.memory_bytes


def test_all_nodes_hold_the_first_segment_and_so_does_one_that_joins() -> None:
    cluster = Cluster(4)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[0], deploy(keep_input=True, segments_min=2))

    def everywhere() -> bool:
        served = [cluster.served(node) for node in cluster.nodes]
        return all(s is not None and s.plan is not None and set(s.candidates[0]) == set(cluster.nodes) for s in served)

    cluster.run(20 * S, everywhere)
    assert everywhere()
    cluster.add(9)
    cluster.run(60 * S, everywhere)
    assert len(cluster.nodes) == 5
    assert everywhere()
    cluster.run(60 * S)
    planned = sum(1 for *_, message in cluster.sent if isinstance(message, Offer))
    cluster.run(60 * S)
    assert sum(1 for *_, message in cluster.sent if isinstance(message, Offer)) == planned, "it plans again and again"


def test_the_entry_computes_the_first_segment_itself_whoever_owns_it() -> None:
    world = World([["a", "e"], ["c"]], policy=KEEP)
    world.request()
    world.run()
    world.assert_answered()
    assert [len(world.hosts[NodeId(n)].computed) for n in "aec"] == [0, 1, 1]


def test_an_entry_without_the_first_segment_refuses_and_says_whom_to_ask() -> None:
    world = World([["a", "b"], ["c"]], policy=KEEP)
    view = world.hosts[world.entry].views[0]
    route = find_route(view, "m")
    assert isinstance(route, Failure)
    assert (route.code, route.reason) == (Code.UNAVAILABLE, Reason.INPUT_STAYS)
    assert "ask a, b" in route.message
    assert isinstance(find_route(world.hosts[NodeId("a")].views[0], "m"), Route)


def test_no_blame_and_no_turn_sends_an_input_elsewhere() -> None:
    world = World([["a", "e"], ["c"]], policy=KEEP)
    view = world.hosts[world.entry].views[0]
    for turn in range(3):
        route = find_route(view, "m", 0, Doubts(gone={world.entry: None}), turn)
        assert isinstance(route, Route)
        assert route.segments[0] == (world.entry,)
    assert parts(view, "m", 64) == (64,)

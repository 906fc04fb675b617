"""Whom a planner asks in a large mesh, and how it thinks of nodes that come and go."""

from dataclasses import replace
from random import Random

from meshd.config import CANDIDATES_MAX, FLAP_US, FLAPS_MAX, S
from meshd.core.ids import Boot, NodeId
from meshd.core.mesh import Mesh
from meshd.core.registry import Registry
from meshd.core.repair import candidates
from meshd.core.view import Capacity, Member, State
from tests.core.intent_cluster import Cluster, deploy, layers, sign, verify

RECORD = Registry(verify).next(
    replace(deploy(), layers=layers(10, 10), crossings=((("t", "float32"),),)), (b"key", NodeId("a"), Boot(1)), 1, sign
)


def member(node: str, rate: int = 10**9, free: int = 1_000, boot: int = 1) -> Member:
    capacity = Capacity(1_000, free, (("dense", rate),))
    return Member(NodeId(node), node, State.ALIVE, Boot(boot), 1, (), capacity=capacity)


def test_in_a_small_mesh_all_are_asked() -> None:
    able = [member(f"n{n}") for n in range(CANDIDATES_MAX)]
    assert candidates(able, RECORD, (), Random(1)) == able


def test_in_a_large_mesh_holders_the_best_and_a_random_quarter_are_asked() -> None:
    able = [member(f"n{n:04}", rate=10**6 * (n + 1), free=0 if n >= 900 else 1_000) for n in range(1_000)]
    asked = candidates(able, RECORD, {NodeId("n0003")}, Random(1))
    assert len(asked) == len({m.node for m in asked}) == CANDIDATES_MAX
    best = [m.node for m in asked[: CANDIDATES_MAX * 3 // 4]]
    assert best[0] == "n0003"
    # Fast, and with room: the fastest of all have none.
    assert best[1:4] == ["n0899", "n0898", "n0897"]
    others = [m.node for m in asked[len(best) :]]
    assert others != [m.node for m in candidates(able, RECORD, (), Random(2))[len(best) :]]
    assert min(others) < "n0300"
    assert candidates(able, RECORD, {NodeId("n0003")}, Random(1)) == asked


def test_a_node_that_came_back_three_times_in_ten_minutes_is_flapping_until_it_stays() -> None:
    mesh, now_us = Mesh(NodeId("me")), 0
    both = {NodeId(n): member(n) for n in ("a", "b")}
    for boot in range(FLAPS_MAX + 1):
        assert mesh.flapping(now_us) == ()
        now_us += 60 * S
        mesh.members = both | {NodeId("a"): member("a", boot=boot)}
        mesh.update((), False, now_us)
    assert mesh.flapping(now_us) == (NodeId("a"),)
    assert mesh.flapping(now_us + FLAP_US) == ()
    mesh.members = {NodeId("b"): both[NodeId("b")]}
    mesh.update((), False, now_us)
    assert mesh.flapping(now_us) == ()  # It is not even here.


def flapped(nodes: int) -> tuple[Cluster, NodeId]:
    """A cluster with some deployment, in which one node came back three times."""
    cluster = Cluster(nodes, memory=1_000)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[0], deploy("small", sizes=(1,)), 7)
    flapper = cluster.nodes[1]
    for _ in range(FLAPS_MAX):
        cluster.crash(flapper)
        cluster.run(20 * S)
        cluster.restart(flapper)
        cluster.run(20 * S)
    return cluster, flapper


def test_a_flapping_node_gets_nothing_new_while_others_have_room() -> None:
    cluster, flapper = flapped(4)
    cluster.operate(cluster.nodes[0], deploy(segments_min=3))
    cluster.run(30 * S, lambda: cluster.all_serve(2))
    assert cluster.all_serve(2)
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    assert served.plan is not None
    assert flapper not in {node for span in served.plan.segments for node in span.succession}


def test_a_flapping_node_serves_where_nobody_else_can() -> None:
    cluster, _ = flapped(2)
    cluster.operate(cluster.nodes[0], deploy(segments_min=1))
    cluster.run(30 * S, lambda: cluster.all_serve(2))
    assert cluster.all_serve(2)

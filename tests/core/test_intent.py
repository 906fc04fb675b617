"""Deployments from deploy to repair, on nodes that talk to each other."""

from meshd.core import events
from meshd.core.ids import rank
from tests.core.intent_cluster import MS, Cluster, S, deploy


def test_a_mesh_of_one_serves_within_milliseconds_of_the_load() -> None:
    cluster = Cluster(1)
    node = cluster.nodes[0]
    cluster.operate(node, deploy())
    cluster.run(10 * MS)
    assert cluster.peers[node].answers[0][0] == 1
    assert isinstance(cluster.peers[node].answers[0][1], events.Done)
    took = cluster.run(2 * S, cluster.all_serve)
    assert took < 600 * MS


def test_four_nodes_reach_three_segments_with_two_copies_each() -> None:
    cluster = Cluster(4)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[1], deploy(segments_min=3))
    took = cluster.run(5 * S, lambda: cluster.all_serve(2))
    assert took < 3 * S
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    assert served.plan is not None
    assert len(served.plan.segments) == 3
    assert len({nodes[0] for nodes in served.candidates}) == 3
    answered = [a for node in cluster.nodes for a in cluster.peers[node].answers]
    assert len(answered) == 1
    assert isinstance(answered[0][1], events.Done)


def test_a_dead_owner_is_replaced_and_nothing_else_moves() -> None:
    cluster = Cluster(4)
    cluster.operate(cluster.nodes[0], deploy(segments_min=3))
    cluster.run(5 * S, lambda: cluster.all_serve(2))
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    before = cluster.ready()
    victim = served.candidates[1][0]
    assert victim is not None
    cluster.crash(victim)
    cluster.run(30 * S, lambda: cluster.all_serve(2))
    after = cluster.ready()
    assert set(before) == set(after)
    assert all(set(before[s]) - {victim} <= set(after[s]) for s in before)
    cluster.restart(victim)
    cluster.run(60 * S)
    assert cluster.all_serve(2)


def test_the_next_in_rank_plans_when_the_planner_dies_before_anything_is_agreed() -> None:
    for moment in ("offer", "award", "tell"):
        cluster = Cluster(4)
        planner = max(cluster.nodes, key=lambda node: rank("d", node))
        entry = min(cluster.nodes, key=lambda node: rank("d", node))
        kind = {"offer": "Offer", "award": "Award", "tell": "IntentTell"}[moment]
        cluster.operate(entry, deploy(segments_min=3)) if entry != cluster.nodes[0] else None
        cluster.give(entry, events.DiskChanged((deploy().model,)))
        cluster.operate(entry, deploy(segments_min=3), 2)
        cluster.run(
            5 * S, lambda c=cluster, k=kind, p=planner: any(type(m).__name__ == k and s == p for _, s, _, m in c.sent)
        )
        cluster.crash(planner)
        cluster.run(30 * S, lambda c=cluster: c.all_serve(2))
        served = cluster.served(entry)
        assert served is not None
        assert served.plan is not None
        assert moment == "tell" or served.plan.planner != planner

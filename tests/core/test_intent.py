"""Deployments from deploy to repair, on nodes that talk to each other."""

from dataclasses import replace

from meshd.config import Timers
from meshd.core import events
from meshd.core.ids import Digest, SegmentId, rank
from meshd.core.intent_messages import IntentTell
from meshd.core.plan import Plan, PlanSegment
from meshd.core.view import Hold
from tests.core.intent_cluster import MODEL, MS, Cluster, S, deploy

OTHER = Digest("cd" * 32)


def serving(nodes: int = 4, copies: int = 2, memory: int = 1_000, **asked: object) -> Cluster:
    """A cluster that serves `d`."""
    cluster = Cluster(nodes, memory)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[0], deploy(**asked))  # type: ignore[arg-type]
    cluster.run(10 * S, lambda: cluster.all_serve(copies))
    cluster.run(1 * S)
    return cluster


def plan_of(cluster: Cluster) -> Plan:
    """The plan the first node routes by."""
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    assert served.plan is not None
    return served.plan


def test_a_mesh_of_one_serves_within_milliseconds_of_the_load() -> None:
    cluster = Cluster(1)
    node = cluster.nodes[0]
    cluster.operate(node, deploy())
    cluster.run(10 * MS)
    assert cluster.peers[node].answers[0][0] == 1
    assert isinstance(cluster.peers[node].answers[0][1], events.Done)
    assert cluster.run(2 * S, cluster.all_serve) < 600 * MS


def test_four_nodes_reach_three_segments_with_two_copies_each() -> None:
    cluster = Cluster(4)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[1], deploy(segments_min=3))
    assert cluster.run(5 * S, lambda: cluster.all_serve(2)) < 2 * S
    assert len(plan_of(cluster).segments) == 3
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    assert len({nodes[0] for nodes in served.candidates}) == 3
    answered = [a for node in cluster.nodes for a in cluster.peers[node].answers]
    assert [type(result) for _, result in answered] == [events.Done]


def test_nodes_of_six_tenths_of_the_model_hold_two_copies_of_every_segment() -> None:
    cluster = serving(memory=60, sizes=(20, 45, 35))
    assert len(plan_of(cluster).segments) >= 2
    assert all(len(nodes) >= 2 for nodes in cluster.ready().values())


def test_a_dead_owner_is_replaced_and_nothing_else_moves() -> None:
    cluster = serving(segments_min=3)
    served, before = cluster.served(cluster.nodes[0]), cluster.ready()
    assert served is not None
    victim = served.candidates[1][0]
    cluster.crash(victim)
    cluster.run(30 * S, lambda: cluster.all_serve(2))
    after = cluster.ready()
    assert set(before) == set(after)
    assert all(set(before[s]) - {victim} <= set(after[s]) for s in before)
    cluster.restart(victim)
    cluster.run(60 * S)
    assert cluster.all_serve(2)


def test_promotion_needs_no_message() -> None:
    cluster = serving(segments_min=3)
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    owner, standby = served.candidates[0][:2]
    sent = len(cluster.sent)
    cluster.crash(owner)
    cluster.run(2 * S)
    for node in cluster.nodes:
        view = cluster.served(node)
        assert view is not None
        assert view.candidates[0] == (standby, owner)
    assert len(cluster.sent) == sent


def test_a_suspect_that_lives_comes_back_for_nothing() -> None:
    cluster = serving(segments_min=3)
    plan = plan_of(cluster)
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    other = cluster.nodes[1]
    cluster.suspect(other, for_us=20 * S)
    cluster.run(60 * S)
    assert plan_of(cluster) == plan
    assert cluster.served(cluster.nodes[0]) == served


def test_the_next_in_rank_plans_when_the_planner_dies_at_any_moment() -> None:
    for kind in ("Offer", "Award", "IntentTell"):
        cluster = Cluster(4)
        planner = max(cluster.nodes, key=lambda node: rank("d", node))
        entry = min(cluster.nodes, key=lambda node: rank("d", node))
        cluster.give(entry, events.DiskChanged((MODEL,)))
        cluster.operate(entry, deploy(segments_min=3))
        cluster.run(5 * S, lambda c=cluster, k=kind, p=planner: c.said(p, k))
        cluster.crash(planner)
        cluster.run(30 * S, lambda c=cluster: c.all_serve(2))
        served = cluster.served(entry)
        assert served is not None
        assert served.plan is not None
        assert kind == "IntentTell" or served.plan.planner != planner


def test_two_planners_at_once_settle_on_one_plan() -> None:
    cluster = Cluster(4)
    cluster.run(1 * S)
    # Whoever plans, no one hears it for 3 s: the second in rank plans too.
    cluster.drop = lambda source, to, message: (
        isinstance(message, IntentTell) and cluster.now < 4 * S and message.plans != ()
    )
    cluster.operate(cluster.nodes[0], deploy(segments_min=3))
    cluster.run(30 * S, lambda: cluster.all_serve(2))
    begun = [node for node in cluster.nodes for _, r in cluster.peers[node].reports if r.kind == "plan.agreed"]
    assert len(set(begun)) >= 2
    cluster.run(30 * S)
    assert cluster.all_serve(2)
    assert {len(nodes) for nodes in cluster.ready().values()} == {2}


def test_when_both_copies_are_lost_what_is_left_makes_room_and_serves_again() -> None:
    cluster = serving(memory=60, sizes=(50, 50))
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    for node in served.candidates[0]:
        cluster.crash(node)
    cluster.run(60 * S, cluster.all_serve)
    assert len(cluster.nodes) == 2


def test_memory_promised_and_taken_never_exceeds_the_budget() -> None:
    cluster = Cluster(5, memory=60)
    cluster.run(1 * S)
    for n in range(3):
        cluster.operate(cluster.nodes[0], deploy(f"d{n}", (20, 10), segments_min=n % 2 + 1), n + 1)
        cluster.run(50 * MS)
    for _ in range(200):
        cluster.run(50 * MS)
        assert all(cluster.peers[node].intent.reserved_bytes() <= 60 for node in cluster.nodes)
    assert all(cluster.all_serve(2, f"d{n}") for n in range(3))


def test_a_load_that_fails_is_placed_elsewhere() -> None:
    cluster = Cluster(4)
    cluster.run(1 * S)
    cluster.fail_loads = {cluster.nodes[2]}
    cluster.operate(cluster.nodes[0], deploy(segments_min=2))
    cluster.run(60 * S, lambda: cluster.all_serve(2))
    assert all(cluster.nodes[2] not in nodes for nodes in cluster.ready().values())


def test_a_retired_deployment_is_let_go_everywhere() -> None:
    cluster = serving()
    cluster.operate(cluster.nodes[1], events.Retire("d"), 7)
    cluster.run(5 * S)
    assert cluster.peers[cluster.nodes[1]].answers[0][0] == 7
    assert not cluster.ready()
    assert all(cluster.served(node) is None for node in cluster.nodes)
    cluster.operate(cluster.nodes[2], events.Retire("d"), 8)
    assert isinstance(cluster.peers[cluster.nodes[2]].answers[0][1], events.Refused)
    cluster.operate(cluster.nodes[0], deploy(), 9)
    cluster.run(10 * S, lambda: cluster.all_serve(2))


def test_a_draining_node_is_planned_around_and_serves_until_it_is_replaced() -> None:
    cluster = serving(segments_min=3)
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    leaver = served.candidates[0][0]
    cluster.operate(leaver, events.Drain(), 5)
    for _ in range(600):
        cluster.run(50 * MS)
        assert cluster.all_servable()
        if cluster.peers[leaver].answers and cluster.peers[leaver].answers[-1][0] == 5:
            break
    assert isinstance(cluster.peers[leaver].answers[-1][1], events.Done)
    assert not cluster.peers[leaver].intent.holdings()
    assert all(len(nodes) == 2 for nodes in cluster.ready().values())


def test_a_lone_node_that_drains_lets_go_when_patience_ends() -> None:
    cluster = serving(1, 1)
    cluster.operate(cluster.nodes[0], events.Drain(), 5)
    cluster.run(119 * S)
    assert cluster.peers[cluster.nodes[0]].intent.holdings()
    cluster.run(3 * S)
    assert not cluster.peers[cluster.nodes[0]].intent.holdings()
    assert [token for token, _ in cluster.peers[cluster.nodes[0]].answers] == [1, 5]


def test_another_model_is_loaded_before_the_old_one_is_let_go() -> None:
    cluster = serving(segments_min=2)
    cluster.give(cluster.nodes[0], events.DiskChanged((MODEL, OTHER)))
    cluster.operate(cluster.nodes[0], deploy(model=OTHER, segments_min=2), 2)
    for _ in range(100):
        cluster.run(50 * MS)
        assert cluster.all_servable()
    assert plan_of(cluster).model == OTHER
    cluster.run(15 * S)
    assert {segment.plan for segment in cluster.ready()} == {plan_of(cluster).plan_digest}


def test_blobs_of_a_live_deployment_are_on_three_disks_again_when_a_keeper_dies() -> None:
    cluster = serving(5)
    keepers = [node for node in cluster.nodes if MODEL in cluster.peers[node].member.models]
    assert len(keepers) >= 3
    victim = max(keepers, key=lambda node: rank(MODEL, node))
    cluster.crash(victim)
    cluster.run(20 * S)
    wanted = sorted(cluster.nodes, key=lambda node: rank(MODEL, node))[-3:]
    assert all(MODEL in cluster.peers[node].member.models for node in wanted)


def test_a_deploy_says_what_is_missing_when_the_blobs_do_not_arrive() -> None:
    cluster = Cluster(3)
    cluster.run(1 * S)
    cluster.fail_fetches = True
    cluster.operate(cluster.nodes[0], deploy())
    cluster.run(61 * S)
    [(_, refused)] = cluster.peers[cluster.nodes[0]].answers
    assert isinstance(refused, events.Refused)
    assert refused.kind == "UNAVAILABLE"
    assert "1 of 3 nodes" in refused.reason


def test_what_cannot_be_is_refused_at_once_with_the_shortfall() -> None:
    cluster = Cluster(2, memory=25)
    cluster.run(1 * S)
    cases = [
        (deploy(model=OTHER), "NOT_FOUND", "push it first"),
        (deploy(sizes=(10,) * 6), "CONFLICT", "60 bytes, and all nodes together have 50: 10 bytes too few"),
        (deploy(sizes=(30, 1)), "CONFLICT", "layer 0 alone is 5 bytes more"),
        (deploy(segments_min=9), "USAGE", "6 layers"),
        (deploy(replicas=0), "USAGE", "0 replicas"),
        (deploy(keep_to=("gpu",)), "CONFLICT", "no node may take part"),
    ]
    for token, (command, kind, words) in enumerate(cases, 1):
        cluster.operate(cluster.nodes[0], command, token)
        answered, refused = cluster.peers[cluster.nodes[0]].answers[-1]
        assert answered == token
        assert isinstance(refused, events.Refused)
        assert refused.kind == kind
        assert words in refused.reason
    assert not cluster.peers[cluster.nodes[0]].intent.intents()


def test_a_record_is_told_only_once_it_is_on_disk() -> None:
    cluster = Cluster(2)
    cluster.run(1 * S)
    cluster.operate(cluster.nodes[0], deploy())
    assert not cluster.peers[cluster.nodes[0]].intent.intents()
    cluster.run(1 * MS)
    assert not cluster.sent
    cluster.run(2 * MS)
    assert cluster.peers[cluster.nodes[0]].intent.intents()
    assert cluster.sent


def test_a_record_that_nobody_signed_is_not_taken_in() -> None:
    cluster = serving(2)
    node = cluster.peers[cluster.nodes[1]]
    record = next(m for _, _, _, m in cluster.sent if isinstance(m, IntentTell)).records[0]
    forged = replace(record, name="e", signature=b"forged")
    cluster.perform(node, node.intent.on_link(cluster.nodes[0], IntentTell("e", (forged,), ()), cluster.now))
    assert [name for name, _ in node.intent.intents()] == ["d"]


def test_a_plan_that_does_not_cover_its_model_once_is_not_taken_in() -> None:
    cluster = serving(2)
    node, plan = cluster.peers[cluster.nodes[1]], plan_of(cluster)
    told = next(m for _, _, _, m in cluster.sent if isinstance(m, IntentTell))
    for spans in ((0, 3), (0, 3, 4, 6), (1, 6), (0, 7)):
        segments = tuple(PlanSegment(a, b, (), (node.node,)) for a, b in zip(spans[::2], spans[1::2], strict=True))
        broken = replace(plan, epoch=99, segments=segments)
        cluster.perform(
            node, node.intent.on_link(cluster.nodes[0], IntentTell("d", told.records, (broken,)), cluster.now)
        )
        served = cluster.served(node.node)
        assert served is not None
        assert served.target == plan


def test_all_off_at_once_serves_again_from_disk_without_planning() -> None:
    cluster = serving(segments_min=3)
    plan = plan_of(cluster)
    nodes = list(cluster.nodes)
    for node in nodes:
        cluster.crash(node)
    cluster.run(10 * S)
    for node in nodes:
        cluster.restart(node)
    cluster.run(20 * S, lambda: cluster.all_serve(2))
    assert plan_of(cluster) == plan


def test_a_split_mesh_serves_on_both_sides_and_agrees_when_it_heals() -> None:
    cluster = serving(6, segments_min=2)
    served = cluster.served(cluster.nodes[0])
    assert served is not None
    side = {served.candidates[0][0], served.candidates[1][1]}
    side |= set([node for node in cluster.nodes if node not in side][:1])
    cluster.split(side)
    cluster.run(60 * S)
    assert all(cluster.all_serve(2, among=part) for part in (side, set(cluster.nodes) - side))
    cluster.heal()
    for _ in range(100):
        cluster.run(100 * MS)
        assert cluster.all_servable()
    assert cluster.all_serve(2)
    cluster.run(11 * 60 * S)
    assert {len(nodes) for nodes in cluster.ready().values()} == {2}


def test_holders_of_an_unknown_plan_change_nothing() -> None:
    cluster = serving(2)
    node = cluster.nodes[0]
    cluster.give(node, events.Loaded(SegmentId(Digest("ee" * 32), 3), 1, 1))
    cluster.give(node, events.LoadFailed(SegmentId(Digest("ee" * 32), 3), "what?"))
    cluster.give(node, events.Unloaded(SegmentId(Digest("ee" * 32), 3)))
    assert all(h.state is Hold.READY for h in cluster.peers[node].intent.holdings())


def test_timers_have_reasons_that_hold_together() -> None:
    timers = Timers()
    assert timers.unload_after_us < timers.unload_surplus_after_us
    assert timers.reservation_us > timers.planner_step_us


def test_a_much_faster_node_is_moved_to_once_and_then_there_is_quiet() -> None:
    cluster = serving(3)
    slow = plan_of(cluster)
    fast = cluster.add(7, speed=10)
    cluster.run(115 * S)
    assert plan_of(cluster) == slow
    cluster.run(180 * S)
    better = plan_of(cluster)
    assert better.segments[0].succession[0] == fast
    epochs = better.epoch
    for _ in range(100):
        cluster.run(20 * S)
        assert cluster.all_servable()
    assert plan_of(cluster).epoch == epochs == slow.epoch + 1
    assert cluster.all_serve(2)


def test_a_node_that_is_a_little_faster_is_no_reason_to_move() -> None:
    cluster = serving(3)
    plan = plan_of(cluster)
    cluster.add(7, speed=1.2)
    cluster.run(600 * S)
    assert plan_of(cluster) == plan
    moves = [r for node in cluster.nodes for _, r in cluster.peers[node].reports if r.kind == "plan.agreed"]
    assert len(moves) == 1

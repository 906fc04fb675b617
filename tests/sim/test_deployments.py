"""Whole nodes, real codec: from deploy to a served plan, and back to one after crashes."""

from meshd.config import MS, S
from meshd.core import events
from meshd.core.ids import Digest, rank
from meshd.core.placement import solve
from meshd.core.plan import LayerCost, Policy
from meshd.core.view import Capacity, Served
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.run import Options, run

MODEL = Digest("ab" * 32)


def deploy(name: str = "d", sizes: tuple[int, ...] = (10,) * 6, **policy: int) -> events.Deploy:
    """A model of layers of these sizes, a millisecond each."""
    layers = tuple(LayerCost((("dense", 1_000_000),), size, size, 1_000) for size in sizes)
    crossings = ((("t", "float32"),),) * (len(sizes) - 1)
    return events.Deploy(name, MODEL, layers, crossings, 1_000, Policy(**policy))  # type: ignore[arg-type]


def mesh(nodes: int, seed: int = 1, memory: int = 1_000) -> Cluster:
    """Nodes that found each other and know what they offer; the first has the model."""
    cluster = Cluster(seed, nodes)
    for machine in cluster.machines:
        machine.shelf.solve = solve
    cluster.machines[0].shelf.models.add(MODEL)
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=10 * S)
    for machine in cluster.machines:
        offer(machine, memory)
    cluster.run_for(5 * S)
    return cluster


def offer(machine: Machine, memory: int) -> None:
    """What measuring tells it."""
    host = f"host{machine.index}"
    machine.give(events.Measured(Capacity(memory, memory, (("dense", 1_000_000_000),), host=host)))


def served(machine: Machine, name: str = "d") -> Served | None:
    """A deployment in a machine's view."""
    return None if machine.view is None else machine.view.deployments.get(name)


def all_serve(cluster: Cluster, copies: int = 1) -> bool:
    """Do all that are up see one servable plan, with so many candidates a segment, all of them up?"""
    up = {machine.node_id for machine in cluster.up}
    views = [served(machine) for machine in cluster.up]
    plans = {view.plan.record if view is not None and view.plan is not None else None for view in views}
    if len(plans) != 1 or None in plans:
        return False
    return all(
        len(up & set(nodes)) >= copies and set(nodes) <= up for view in views if view for nodes in view.candidates
    )


def test_four_nodes_serve_three_segments_with_two_copies_each() -> None:
    cluster = mesh(4)
    token = cluster.machines[0].operate(deploy(segments_min=3))
    took = cluster.run_until(lambda: all_serve(cluster, 2), within_us=10 * S)
    assert took < 4 * S
    cluster.run_until(lambda: isinstance(cluster.machines[0].answers[token], events.Done), within_us=5 * S)


def test_a_mesh_of_one_serves_at_once() -> None:
    cluster = mesh(1)
    token = cluster.machines[0].operate(deploy())
    assert cluster.run_until(lambda: all_serve(cluster), within_us=2 * S) < 700 * MS
    assert isinstance(cluster.machines[0].answers[token], events.Done)


def test_a_dead_owner_is_replaced_and_nothing_else_moves() -> None:
    for seed in range(3):
        cluster = mesh(4, seed)
        cluster.machines[0].operate(deploy(segments_min=3))
        cluster.run_until(lambda c=cluster: all_serve(c, 2), within_us=10 * S)
        view = served(cluster.machines[0])
        assert view is not None
        assert view.plan is not None
        victim = cluster.by_id[view.candidates[1][0]]
        before = [set(nodes) - {victim.node_id} for nodes in view.candidates]
        cluster.crash(victim.index)
        cluster.run_until(lambda c=cluster: all_serve(c, 2), within_us=60 * S)
        after = served(cluster.up[0])
        assert after is not None
        assert after.plan is not None
        assert after.plan.plan_digest == view.plan.plan_digest
        assert all(old <= set(new) for old, new in zip(before, after.candidates, strict=True))
        cluster.restart(victim.index)
        offer(victim, 1_000)
        cluster.run_until(cluster.agreed, within_us=20 * S)
        cluster.run_for(30 * S)
        assert all_serve(cluster, 2)
        assert served(victim) is not None


def test_when_the_planner_dies_at_any_moment_the_plan_comes_from_another() -> None:
    for moment in ("Offer", "Award", "IntentTell"):
        cluster = mesh(4)
        planner = max(cluster.machines, key=lambda m: rank("d", m.node_id))
        entry = next(machine for machine in cluster.machines if machine is not planner)
        entry.give(events.DiskChanged((MODEL,)))
        entry.shelf.models.add(MODEL)
        said: list[str] = []
        cluster.watchers.append(
            lambda machine, _, effects, p=planner, said=said: said.extend(
                type(e.message).__name__ for e in effects if machine is p and isinstance(e, events.SendLink)
            )
        )
        entry.operate(deploy(segments_min=3))
        cluster.run_until(lambda said=said, moment=moment: moment in said, within_us=5 * S, every_us=100)
        cluster.crash(planner.index)
        cluster.run_until(lambda c=cluster: all_serve(c, 2), within_us=40 * S)
        view = served(entry)
        assert view is not None
        assert view.plan is not None
        assert planner.node_id not in {node for nodes in view.candidates for node in nodes}


def test_everything_off_at_once_serves_again_from_disk() -> None:
    cluster = mesh(4)
    cluster.machines[0].operate(deploy(segments_min=3))
    cluster.run_until(lambda: all_serve(cluster, 2), within_us=10 * S)
    cluster.run_for(1 * S)
    for machine in list(cluster.up):
        cluster.crash(machine.index)
    cluster.run_for(5 * S)
    cluster.start()
    cluster.run_for(1 * S)
    for machine in cluster.machines:
        offer(machine, 1_000)
    cluster.run_until(lambda: all_serve(cluster, 2), within_us=20 * S)


def test_a_copy_that_could_not_be_planned_while_a_node_was_silent_is_made_when_it_is_well() -> None:
    cluster = mesh(2)
    planner = max(cluster.machines, key=lambda m: rank("d", m.node_id))
    other = next(m for m in cluster.machines if m is not planner)
    other.stall(3 * S)
    cluster.run_for(1 * S)
    planner.give(events.DiskChanged((MODEL,)))
    planner.operate(deploy())
    cluster.run_for(1 * S)
    view = served(planner)
    assert view is not None
    assert view.plan is not None
    assert view.candidates == ((planner.node_id,),), "planned without the other"
    cluster.run_until(lambda: all_serve(cluster, 2), within_us=100 * S)
    epoch = view.plan.epoch
    cluster.run_for(200 * S)
    after = served(planner)
    assert after is not None
    assert after.plan is not None
    assert after.plan.epoch == epoch + 1, "planned once more, and then no more"


def test_parts_that_deployed_apart_all_serve_what_wins_when_they_meet() -> None:
    """Who had served the losing part's later generation had no plan for ever: the winner's was of an earlier one (E2)."""
    outcome = run(Options(4, 0.6, 0, {"deploys": 20.0, "clock_jump": 0.0, "three_ways": 0.0}, deployments=1))
    assert outcome.broken == []

"""Ownership's target (PROTOCOL 6): from a crash to routes without the dead node at every node."""

from collections.abc import Iterator
from random import Random

from meshd.config import MS, S
from meshd.core.events import Hinted
from meshd.sim.bare import Bare
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.workload import Workload
from tests.bench.figures import Figure
from tests.bench.meshes import shares


def routes() -> Iterator[Figure]:
    """One owner of the served plan loses power; until nobody's candidate lists begin with it."""
    for nodes, crashes in ((3, 20), (8, 20), (64, 12)):
        for hinted in (False, True):
            where = f"{nodes} nodes, {'hinted' if hinted else 'probes alone'}"
            yield from shares("routes without the dead", where, _crashes(nodes, crashes, hinted), 1.2, 3.5)


def _crashes(nodes: int, count: int, hinted: bool) -> list[int]:
    cluster = Cluster(nodes, nodes, seeds=(0,), kind=Bare)
    workload = Workload(cluster, 1)
    workload.prepare()
    cluster.start_known()
    cluster.run_for(5 * S)
    workload.deploy()
    cluster.dies_loudly = False
    rng, times_us = Random(f"{nodes}/routes"), []
    for _ in range(count):
        cluster.run_until(lambda: not workload.wanting(), within_us=300 * S, every_us=500 * MS)
        cluster.run_for(rng.randrange(2 * S))
        served = workload.served(cluster.up[0], workload.names[0])
        assert served is not None
        victim = cluster.by_id[served.candidates[rng.randrange(len(served.candidates))][0]]
        began_us = cluster.clock.now_us
        cluster.crash(victim.index)
        if hinted:
            # The first request that meets it fails there, and says so.
            cluster.run_for(50 * MS)
            cluster.up[rng.randrange(nodes - 1)].give(Hinted(victim.node_id))
        cluster.run_until(lambda: _is_out(cluster, workload, victim), within_us=60 * S)  # noqa: B023
        times_us.append(cluster.clock.now_us - began_us)
        cluster.run_for(12 * S)
        cluster.restart(victim.index)
        cluster.run_until(cluster.agreed, within_us=60 * S, every_us=100 * MS)
    return times_us


def _is_out(cluster: Cluster, workload: Workload, victim: Machine) -> bool:
    for machine in cluster.up:
        served = workload.served(machine, workload.names[0])
        if served is None or any(nodes[0] == victim.node_id for nodes in served.candidates if nodes):
            return False
    return True

"""Membership's targets (PROTOCOL 2): detection, healing, the reach of a rumour, coming together, bytes of an idle node."""

from collections.abc import Iterator
from functools import partial
from random import Random

from meshd.config import MS, S
from meshd.core.events import Effect, Hinted, Input, Publish
from meshd.core.ids import NodeId
from meshd.core.view import State
from meshd.sim.bare import Bare
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from tests.bench.figures import Figure
from tests.bench.meshes import known, shares
from tests.bench.scale import raise_incarnation

HINT_US = 20 * MS
"""After a crash: a hop to it failed."""


def detection() -> Iterator[Figure]:
    """From power lost to the first SUSPECT and to DEAD everywhere. Links stay silent: nothing but probes tells, unless hinted."""
    for nodes, crashes, dead_s in ((2, 60, 6.5), (3, 60, 6.5), (8, 60, 6.5), (64, 120, 11.0)):
        for loss in (0.0, 0.1):
            where = f"{nodes} nodes, loss {loss}"
            suspect_us, dead_us = _crashes(nodes, loss, crashes, hint=False)
            yield from shares("first SUSPECT", where, suspect_us, 1.0, 3.0)
            yield from shares("DEAD everywhere", where, dead_us, None, dead_s)
            suspect_us, _ = _crashes(nodes, loss, crashes // 2, hint=True)
            yield from shares("first SUSPECT, hinted", where, suspect_us, 0.5)


def _crashes(nodes: int, loss: float, count: int, hint: bool) -> tuple[list[int], list[int]]:
    cluster = known(nodes, nodes, loss)
    cluster.dies_loudly = False
    rng = Random(f"{nodes}/crashes")
    suspect_us, dead_us = [], []
    for _ in range(count):
        cluster.run_for(2 * S + rng.randrange(S))
        victim = cluster.machines[rng.randrange(nodes)]
        began_us = cluster.clock.now_us
        cluster.crash(victim.index)
        if hint:
            cluster.run_for(HINT_US)
            asker = cluster.up[rng.randrange(nodes - 1)]
            asker.give(Hinted(victim.node_id))
        cluster.run_until(partial(_some_doubt, cluster, victim), within_us=60 * S)
        suspect_us.append(cluster.clock.now_us - began_us)
        cluster.run_until(partial(_all_buried, cluster, victim), within_us=60 * S, every_us=20 * MS)
        dead_us.append(cluster.clock.now_us - began_us)
        cluster.restart(victim.index)
        cluster.run_until(cluster.agreed, within_us=60 * S, every_us=50 * MS)
    return suspect_us, dead_us


def _some_doubt(cluster: Cluster, victim: Machine) -> bool:
    return any(cluster.sees(machine, victim) is not State.ALIVE for machine in cluster.up)


def _all_buried(cluster: Cluster, victim: Machine) -> bool:
    return all(cluster.sees(machine, victim) is State.DEAD for machine in cluster.up)


def heal() -> Iterator[Figure]:
    """From the end of a split into halves to all agreeing again."""
    for nodes, splits in ((2, 30), (8, 30), (64, 12)):
        for split_s in (5, 60, 600) if nodes < 64 else (5, 60):
            times_us = []
            cluster, rng = known(nodes, nodes, 0.05), Random(f"{nodes}/splits")
            for _ in range(splits if split_s < 600 else 10):
                cluster.network.split([range(nodes // 2), range(nodes // 2, nodes)])
                cluster.run_for(split_s * S + rng.randrange(5 * S))  # In step with no timer.
                cluster.network.heal()
                times_us.append(cluster.run_until(cluster.agreed, within_us=120 * S, every_us=20 * MS))
                cluster.run_for(10 * S)
            yield from shares("heal", f"{nodes} nodes, split {split_s} s", times_us, 5.0, 15.0)


def reach() -> Iterator[Figure]:
    """Gossip ticks until a rumour is known to all."""
    for nodes, loss in ((8, 0.0), (8, 0.1), (64, 0.0), (64, 0.1)):
        cluster = known(1, nodes, loss, settle_us=5 * S)
        ticks = []
        for number in range(40):
            machine = cluster.machines[number % nodes]
            incarnation = raise_incarnation(machine)
            knows = partial(_know, cluster, machine.node_id, incarnation)
            ticks.append(cluster.run_until(knows, within_us=16 * S) / cluster.timers.gossip_period_us)
            cluster.run_for(2 * S)
        ticks.sort()
        where = f"{nodes} nodes, loss {loss}"
        yield Figure("rumour reaches all, p50", where, round(ticks[20], 1), "ticks", None, len(ticks))
        yield Figure("rumour reaches all, worst", where, round(ticks[-1], 1), "ticks", 7, len(ticks))


def _know(cluster: Cluster, subject: NodeId, incarnation: int) -> bool:
    return all(m.view is not None and m.view.members[subject].incarnation >= incarnation for m in cluster.up)


def bootstrap(sizes: tuple[int, ...] = (64, 256)) -> Iterator[Figure]:
    """All powered on at once, until all see all; and the number of distinct sizes that Views showed (Rapid's measure)."""
    for nodes in sizes:
        for found in ("mdns", "one seed") if nodes <= 64 else ("one seed",):
            cluster = Cluster(1, nodes, mdns=found == "mdns", seeds=() if found == "mdns" else (0,), kind=Bare)
            sizes: set[int] = set()
            cluster.watchers.append(partial(_note_size, sizes))
            cluster.start()
            took_us = cluster.run_until(cluster.agreed, within_us=120 * S, every_us=50_000)
            where = f"{nodes} nodes, {found}"
            yield Figure("one mesh after power on", where, took_us / S, "s", 3 if nodes <= 64 else 45)
            yield Figure("distinct sizes that views showed", where, len(sizes), "")


def _note_size(sizes: set[int], machine: Machine, input: Input, effects: list[Effect]) -> None:
    if any(isinstance(effect, Publish) for effect in effects):
        assert machine.node is not None
        sizes.add(machine.node.members.count - len(machine.node.members.suspects))


def idle() -> Iterator[Figure]:
    """Bytes a second that an idle node sends, IPv4 and UDP headers counted."""
    for nodes in (2, 8, 64):
        cluster = known(1, nodes, 0.0, kind=Machine)  # Whole, for their bytes.
        before = cluster.network.sent_bytes
        cluster.run_for(60 * S)
        rate = (cluster.network.sent_bytes - before) / 60 / nodes
        yield Figure("idle, sent by one node", f"{nodes} nodes", round(rate), "B/s", 500)

"""A mesh that begins with everybody knowing all (`core.known`) goes on as one that met by itself."""

from meshd.config import S
from meshd.core.events import Measured
from meshd.core.view import Capacity, State
from meshd.sim.cluster import Cluster


def _known(nodes: int = 12) -> Cluster:
    cluster = Cluster(seed=3, nodes=nodes, seeds=(0,))
    cluster.start_known()
    return cluster


def test_it_agrees_before_a_datagram_was_sent() -> None:
    cluster = _known()
    assert cluster.agreed()
    assert len(cluster.digests()) == 1
    assert cluster.network.sent == 0


def test_nothing_is_news_in_it() -> None:
    cluster = _known()
    cluster.run_for(10 * S)
    assert cluster.agreed()
    assert not [report for machine in cluster.machines for _, report in machine.reports]
    assert cluster.links.bytes < 12 * 12 * 1_000  # Syncs compare one hash and end.


def test_a_crash_is_noticed_by_all_and_a_restart_taken_in() -> None:
    cluster = _known()
    victim = cluster.machines[5]
    cluster.run_for(1 * S)
    cluster.crash(5)
    cluster.run_until(
        lambda: all(cluster.sees(machine, victim) is State.DEAD for machine in cluster.up), within_us=7 * S
    )
    cluster.restart(5)
    cluster.run_until(cluster.agreed, within_us=5 * S)
    cluster.run_until(lambda: len(cluster.digests()) == 1, within_us=20 * S)


def test_what_one_says_anew_reaches_others_by_gossip_alone() -> None:
    cluster = _known()
    speaker = cluster.machines[0]
    cluster.run_for(1 * S)
    speaker.give(Measured(Capacity(memory_bytes=1 << 30)))
    seen = [machine.view.members[speaker.node_id].capacity.memory_bytes for machine in cluster.machines if machine.view]
    assert seen.count(1 << 30) <= 1
    cluster.run_for(5 * S)
    seen = [machine.view.members[speaker.node_id].capacity.memory_bytes for machine in cluster.machines if machine.view]
    assert seen == 12 * [1 << 30]

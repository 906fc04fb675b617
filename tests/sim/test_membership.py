"""Whole nodes over a simulated network: they find each other, notice a death, refute a rumour, heal a split."""

import pytest

from meshd.config import MINUTE, MS, S
from meshd.core.events import Leave
from meshd.core.view import State
from meshd.sim.cluster import Cluster
from meshd.sim.network import Weather


def _up(cluster: Cluster) -> Cluster:
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=5 * S)
    return cluster


def _dead_everywhere(cluster: Cluster, index: int) -> bool:
    return all(cluster.sees(m, cluster.machines[index]) is State.DEAD for m in cluster.up)


@pytest.mark.parametrize("nodes", [2, 3, 8, 64])
def test_nodes_that_sight_each_other_are_one_mesh_within_seconds(nodes: int) -> None:
    cluster = Cluster(seed=1, nodes=nodes)
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=3 * S)
    cluster.run_until(lambda: len(cluster.digests()) == 1, within_us=20 * S)
    assert cluster.refused == []


def test_a_seed_is_enough_where_multicast_does_not_reach() -> None:
    cluster = Cluster(seed=2, nodes=8, mdns=False, seeds=(0,))
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=5 * S)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("nodes", [2, 3, 8])
def test_a_crash_is_suspected_within_three_seconds_and_soon_dead_everywhere(nodes: int, loss: float, seed: int) -> None:
    cluster = _up(Cluster(seed=seed, nodes=nodes, weather=Weather(loss=loss)))
    cluster.run_for(3 * S + seed * 97 * MS)
    cluster.crash(nodes - 1)
    victim = cluster.machines[nodes - 1]
    cluster.run_until(lambda: any(cluster.sees(m, victim) is not State.ALIVE for m in cluster.up), within_us=3 * S)
    cluster.run_until(lambda: _dead_everywhere(cluster, nodes - 1), within_us=6_500 * MS)


def test_nobody_is_suspected_for_long_at_twenty_percent_loss() -> None:
    cluster = _up(Cluster(seed=3, nodes=8, weather=Weather(loss=0.2)))
    cluster.run_for(2 * MINUTE)
    kinds = [report.kind for machine in cluster.machines for _, report in machine.reports]
    assert "member.dead" not in kinds


def test_a_split_heals_by_itself_and_all_are_alive_again() -> None:
    cluster = _up(Cluster(seed=4, nodes=6, mdns=False, seeds=(0,)))
    cluster.network.split([[0, 1, 2], [3, 4, 5]])
    cluster.run_for(60 * S)
    assert all(
        cluster.sees(cluster.machines[a], cluster.machines[b]) is State.DEAD for a in range(3) for b in range(3, 6)
    )
    cluster.network.heal()
    cluster.run_until(cluster.agreed, within_us=15 * S)
    cluster.run_until(lambda: len(cluster.digests()) == 1, within_us=30 * S)


def test_a_restarted_node_is_taken_in_again_under_its_new_boot() -> None:
    cluster = _up(Cluster(seed=5, nodes=3))
    before = cluster.machines[2].boot
    cluster.crash(2)
    cluster.run_for(1 * S)
    cluster.restart(2)
    cluster.run_until(cluster.agreed, within_us=5 * S)
    assert cluster.machines[2].boot > before


def test_a_node_that_restarts_finds_remembered_peers_without_seeds_or_multicast() -> None:
    cluster = _up(Cluster(seed=6, nodes=3, mdns=True))
    cluster.run_for(2 * S)
    cluster.crash(0)
    cluster.run_for(20 * S)
    cluster.mdns = False
    cluster.restart(0)
    cluster.run_until(cluster.agreed, within_us=5 * S)


def test_a_node_with_an_older_disk_raises_its_boot_past_the_one_others_know() -> None:
    cluster = _up(Cluster(seed=7, nodes=3))
    old_disk = dict(cluster.machines[2].disk)
    for _ in range(3):
        cluster.crash(2)
        cluster.run_for(1 * S)
        cluster.restart(2)
        cluster.run_until(cluster.agreed, within_us=10 * S)
    known = cluster.machines[2].boot
    cluster.crash(2)
    cluster.machines[2].disk = old_disk
    cluster.restart(2)
    cluster.run_until(cluster.agreed, within_us=30 * S)
    assert cluster.machines[2].boot >> 32 > known >> 32


def test_who_leaves_is_left_and_not_suspected() -> None:
    cluster = _up(Cluster(seed=8, nodes=4))
    token = cluster.machines[3].operate(Leave())
    cluster.run_until(lambda: cluster.machines[3].answers[token] is not None, within_us=2 * S)
    cluster.crash(3)
    cluster.run_for(5 * S)
    assert all(cluster.sees(m, cluster.machines[3]) is State.LEFT for m in cluster.up)


def test_a_process_that_was_stopped_accuses_nobody() -> None:
    cluster = _up(Cluster(seed=9, nodes=3))
    stopped = cluster.machines[0]
    began_us = cluster.clock.now_us
    stopped.stall(2 * S)
    cluster.run_for(20 * S)
    accused = [report for at, report in stopped.reports if at > began_us and report.kind == "member.suspect"]
    assert not accused
    assert cluster.agreed()


def test_an_idle_node_sends_under_five_hundred_bytes_a_second() -> None:
    for nodes in (2, 8, 32):
        cluster = _up(Cluster(seed=10, nodes=nodes))
        cluster.run_for(30 * S)
        before = cluster.network.sent_bytes
        cluster.run_for(60 * S)
        assert (cluster.network.sent_bytes - before) / 60 / nodes <= 500


def test_sixty_four_nodes_with_one_seed_are_one_mesh_in_three_seconds() -> None:
    cluster = Cluster(seed=12, nodes=64, mdns=False, seeds=(0,))
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=3 * S, every_us=50 * MS)


@pytest.mark.parametrize("loss", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("nodes", [2, 3, 8])
def test_loss_alone_kills_nobody(nodes: int, loss: float) -> None:
    """A short part of the long run in tests/bench: a quarter of a node-hour a cell."""
    cluster = Cluster(seed=13, nodes=nodes, weather=Weather(loss=loss))
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=30 * S)
    cluster.run_for(15 * MINUTE // nodes)
    kinds = {report.kind for machine in cluster.machines for _, report in machine.reports}
    assert "member.dead" not in kinds

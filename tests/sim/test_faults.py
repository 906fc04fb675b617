"""Every fault has a name, and really happens when it is asked for."""

from dataclasses import replace

import pytest

from meshd.config import S
from meshd.sim.cluster import Cluster
from meshd.sim.faults import FAULTS, NEED_DEPLOYMENTS, intruders, power, process, weather
from meshd.sim.machine import Machine
from meshd.sim.run import Options, run

WANTED = {
    "loss, independent and in bursts": "loss burst",
    "delay with a heavy tail": "delay",
    "reordering": "reorder",
    "duplicates": "duplicates",
    "replay of old datagrams": "replay",
    "corruption": "corruption",
    "splits: whole, one-way, isolate one, three ways": "split one_way isolate three_ways",
    "links that clog": "clog",
    "datagrams that pass where links do not": "no_links",
    "80 % loss on one node": "lossy_node",
    "flip-flop every 20 s": "flip_flop flap",
    "crash and restart with disk, without, with an older disk": "crash no_disk old_disk",
    "cloned identity": "clone",
    "clock skew and jumps": "skew clock_jump sleep",
    "a node that stalls: its timers run late, or they run and its input waits": "stall stall_timers stall_input",
    "a crash-looping owner": "crash_loop",
    "a planner that dies mid-award": "planner_dies",
    "a wrong-key node": "wrong_key",
    "garbage": "garbage",
    "disk full": "disk_full",
    "load failure": "load_failure",
    "a link cut to 5 Mbit/s": "slow_link",
    "everything off at once": "all_off",
}


def test_each_kind_of_fault_that_is_wanted_has_its_names() -> None:
    assert {name for names in WANTED.values() for name in names.split()} <= set(FAULTS)


@pytest.mark.parametrize("room", [power, process, weather, intruders])
def test_every_fault_really_happens_and_breaks_nothing(room: object) -> None:
    names = [name for name, fault in FAULTS.items() if getattr(room, name, None) is fault]
    for chosen in (names[::2], names[1::2]):
        outcome = run(Options(4, 0.7, 2, dict.fromkeys(chosen, 0.0), deployments=1))
        assert outcome.missing == []
        assert outcome.broken == []


def test_faults_that_strike_deployments_exist() -> None:
    assert set(NEED_DEPLOYMENTS) <= set(FAULTS)


@pytest.mark.parametrize("seed", range(3))
def test_a_clone_is_named_and_makes_no_storm(seed: int) -> None:
    cluster = Cluster(seed, 3)
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=5 * S)
    cluster.run_for(5 * S)
    original = cluster.machines[1]
    twin = Machine(cluster, 3, (), twin=1)
    twin.disk, twin.shelf = dict(original.disk), replace(original.shelf)
    before = cluster.network.sent
    cluster.intrude(twin)
    cluster.run_for(40 * S)
    assert (cluster.network.sent - before) / 40 < 100, "datagrams a second, of four machines"
    assert any(report.kind == "member.cloned" for machine in cluster.machines for _, report in machine.reports)
    twin.crash()
    cluster.run_until(cluster.agreed, within_us=30 * S)

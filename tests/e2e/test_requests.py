"""Requests on real daemons on the loopback: one owner after the other is killed under load, and nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.demo import mesh, model
from meshd.demo.load import Load
from meshd.net.key import MeshKey
from meshd.v1 import admin_pb2 as pb
from tests.e2e.daemons import Daemon, cache_with_rates

NODES = 4
CALLERS = 8
SERVE_S = 120


@pytest.fixture(scope="module")
def demo_model() -> model.DemoModel:
    return model.load()


@pytest.fixture
def fleet(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    cache = cache_with_rates(tmp_path_factory.mktemp("cache"))
    MeshKey.new().save(tmp_path / "mesh.key")
    started: list[Daemon] = []
    try:
        for n in range(NODES):
            flags = {"seeds": started[0].address("gossip")} if started else {}
            key = str(tmp_path / "mesh.key")
            started.append(
                Daemon(tmp_path / f"n{n}", cache, mesh_key=key, discovery="false", log_level="info", **flags)
                .start()
                .ready()
            )
        for daemon in started:
            daemon.wait_nodes(NODES)
        yield started
    finally:
        for daemon in started:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()


def _deploy(entry: Daemon, demo: model.DemoModel) -> pb.Status:
    with entry.admin() as admin:
        digest = admin.push(demo.bundle.topology, demo.bundle.blobs)
        admin.deploy(model.NAME, digest, pb.DeployPolicy(segments_min=3), SERVE_S)
        return admin.wait(lambda status: mesh.has_copies(status, model.NAME), SERVE_S, "two copies of every segment")


def test_owners_killed_one_after_the_other_under_load_cost_no_request(
    fleet: list[Daemon], demo_model: model.DemoModel, capsys: Any
) -> None:
    status = _deploy(fleet[0], demo_model)
    names = mesh.names(status)
    owners = {names[mesh.owner(status, model.NAME, segment)] for segment in range(3)}
    entry = next(d for d in fleet if d.name not in owners)
    load = Load(f"unix:{entry.folder / 'run' / 'client.sock'}", model.NAME, demo_model.sample, 10**6, CALLERS)
    load.open_to(400)
    assert load.wait(lambda sent: len(sent.outcomes) >= 300, 60)
    kills = []
    for segment in (1, 0):
        with entry.admin() as admin:
            status = admin.wait(lambda s: mesh.has_copies(s, model.NAME), SERVE_S, "copies again")
        owner = names[mesh.owner(status, model.NAME, segment)]
        if owner == entry.name:
            continue
        load.open_to(10**6)
        time.sleep(1)
        kills.append(time.perf_counter())
        next(d for d in fleet if d.name == owner).kill()
        time.sleep(3)
        load._gate = load._next  # Hold the rest back while the mesh repairs itself.
        load.wait(lambda sent: sent.in_flight == 0, 30)
    outcomes = list(load.outcomes)
    assert kills, "the entry owned every segment"
    lost = [o for o in outcomes if not o.answered]
    wrong = [o for o in outcomes if o.answered and not o.right]
    took = sorted((o.ended_s - o.sent_s) * 1e3 for o in outcomes)
    near = [max((o.ended_s - o.sent_s) * 1e3 for o in outcomes if o.sent_s <= k + 2 and o.ended_s >= k) for k in kills]
    with capsys.disabled():
        print(
            f"\n{len(outcomes)} requests, {len(kills)} kills, lost {len(lost)}, wrong {len(wrong)};"
            f" p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms, worst at a kill {near}"
        )
    assert not lost, lost[:3]
    assert not wrong

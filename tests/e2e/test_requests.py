"""Requests on real daemons on the loopback: owners are killed and stopped under load, and nothing is lost."""

import signal
import time
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    tmp_path, cache = tmp_path_factory.mktemp("fleet"), cache_with_rates(tmp_path_factory.mktemp("cache"))
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


class Report:
    """What came of the requests around some faults."""

    def __init__(self, load: Load, faults: list[float]) -> None:
        outcomes = list(load.outcomes)
        self.sent, self.faults = len(outcomes), len(faults)
        self.lost = [o for o in outcomes if not o.answered]
        self.wrong = [o for o in outcomes if o.answered and not o.right]
        took = sorted((o.ended_s - o.sent_s) * 1e3 for o in outcomes)
        self.p50_ms, self.p99_ms = took[len(took) // 2], took[len(took) * 99 // 100]
        near = [[o for o in outcomes if o.sent_s <= f + 2 and o.ended_s >= f] for f in faults]
        self.worst_ms = [round(max((o.ended_s - o.sent_s) * 1e3 for o in some)) for some in near]

    def __str__(self) -> str:
        return (
            f"{self.sent} requests, {self.faults} faults, lost {len(self.lost)}, wrong {len(self.wrong)};"
            f" p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, worst at each fault {self.worst_ms} ms"
        )


class Scene:
    """A fleet that serves the demo model, and load on a node that owns nothing of it."""

    def __init__(self, fleet: list[Daemon], demo: model.DemoModel) -> None:
        self.fleet = fleet
        status = _deploy(fleet[0], demo)
        self.names = mesh.names(status)
        owners = {self.names[mesh.owner(status, model.NAME, segment)] for segment in range(3)}
        self.entry = next(d for d in fleet if d.name not in owners)
        socket = self.entry.folder / "run" / "client.sock"
        self.load = Load(f"unix:{socket}", model.NAME, demo.sample, 10**6, CALLERS)
        self.load.open_to(300)
        assert self.load.wait(lambda sent: len(sent.outcomes) >= 300, 60)

    def owner(self, segment: int) -> Daemon | None:
        """Who owns it now, once every segment has its copies again; None if that is the entry."""
        with self.entry.admin() as admin:
            status = admin.wait(lambda s: mesh.has_copies(s, model.NAME), SERVE_S, "copies again")
        owner = self.names[mesh.owner(status, model.NAME, segment)]
        return None if owner == self.entry.name else next(d for d in self.fleet if d.name == owner)

    def under_load(self, act: Callable[[], None], seconds: float) -> float:
        """Do it while requests are in flight, go on for so long, let them all end; returns when it was done."""
        self.load.open_to(10**6)
        time.sleep(1)
        at = time.perf_counter()
        act()
        time.sleep(seconds)
        self.load._gate = self.load._next
        assert self.load.wait(lambda sent: sent.in_flight == 0, 30)
        return at


@pytest.fixture(scope="module")
def scene(fleet: list[Daemon], demo_model: model.DemoModel) -> Scene:
    """One for all tests here, in order: the deaths come last."""
    return Scene(fleet, demo_model)


def test_an_owner_stopped_for_five_seconds_under_load_costs_no_request(scene: Scene, capsys: Any) -> None:
    owner = scene.owner(1)
    assert owner is not None
    process = owner.process
    assert process is not None
    stopped = scene.under_load(lambda: process.send_signal(signal.SIGSTOP), 5)
    scene.under_load(lambda: process.send_signal(signal.SIGCONT), 3)
    report = Report(scene.load, [stopped])
    with capsys.disabled():
        print(f"\nstop: {report}")
    assert not report.lost, report.lost[:3]
    assert not report.wrong


def test_owners_killed_one_after_the_other_under_load_cost_no_request(scene: Scene, capsys: Any) -> None:
    kills = [scene.under_load(owner.kill, 3) for segment in (1, 0) if (owner := scene.owner(segment)) is not None]
    report = Report(scene.load, kills)
    with capsys.disabled():
        print(f"\nkill: {report}")
    assert kills
    assert not report.lost, report.lost[:3]
    assert not report.wrong

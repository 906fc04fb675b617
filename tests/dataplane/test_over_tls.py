"""The same data planes over real data links: mutual TLS on loopback sockets, one pair of connections a link."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from meshd.core.ids import NodeId
from meshd.dataplane.links import Links
from meshd.net.identity import Identity
from meshd.net.link_data import DataLinks
from tests.dataplane.fake_mesh import WIDTH, FakeMesh
from tests.net.data_nodes import DataNode, connect

DRAIN_S = 10.0


class TlsMesh:
    """`plan[i]` are indices of nodes; node 0 is the entry."""

    def __init__(self, identities: list[Identity], plan: list[list[int]]) -> None:
        self.hosts = [DataNode(identity) for identity in identities]
        for host in self.hosts:
            host.meet(*(other for other in self.hosts if other is not host))
        for i, near in enumerate(self.hosts):
            for far in self.hosts[i + 1 :]:
                connect(near, far)
        by_node = {host.node: host for host in self.hosts}
        names = [[self.hosts[n].node for n in candidates] for candidates in plan]
        self.mesh = FakeMesh(names, self.hosts[0].node, links_of=lambda _, node: by_node[node].links)  # type: ignore[arg-type]

    def segment_before(self, node: int, index: int, act: object) -> None:
        self.mesh.nodes[self.hosts[node].node].segment(index).before = act  # type: ignore[assignment]

    def kill(self, node: int) -> None:
        self.hosts[node].close()

    def close(self) -> None:
        for node in self.mesh.nodes.values():
            node.plane.close()
        for host in self.hosts:
            host.close()


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    folders = [tmp_path_factory.mktemp(f"node-{n}") for n in range(4)]
    return [Identity.load_or_create(Path(f), "test") for f in folders]


@pytest.fixture
def mesh(identities: list[Identity]) -> Iterator[TlsMesh]:
    made = TlsMesh(identities, [[1, 2], [2, 3]])
    yield made
    made.close()


def test_real_links_are_what_the_data_plane_needs() -> None:
    links: type[Links] = DataLinks
    assert links


@pytest.mark.parametrize("batch", [1, 1000, 130_000])
def test_answers_of_any_size_come_through(mesh: TlsMesh, batch: int) -> None:
    answer = mesh.mesh.infer(1.0, batch)
    assert answer.shape == (batch, WIDTH)
    assert np.all(answer == mesh.mesh.expected(1.0))


def test_many_callers_at_once(mesh: TlsMesh) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(mesh.mesh.infer, range(200)))
    assert [float(a[0, 0]) for a in answers] == [mesh.mesh.expected(v) for v in range(200)]


@pytest.mark.parametrize(("victim", "segment"), [(1, 0), (2, 1)])
def test_an_owner_whose_links_close_while_it_computes_costs_no_answer(mesh: TlsMesh, victim: int, segment: int) -> None:
    died = threading.Event()

    def die() -> None:
        if not died.is_set():
            died.set()
            threading.Thread(target=mesh.kill, args=(victim,)).start()
            threading.Event().wait(0.2)  # A death between being asked and having answered.

    mesh.segment_before(victim, segment, die)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(mesh.mesh.infer, range(40)))
    assert died.is_set()
    assert [float(a[0, 0]) for a in answers] == [mesh.mesh.expected(v) for v in range(40)]
    entry = mesh.mesh.nodes[NodeId(mesh.hosts[0].node)].plane.counts()
    assert entry["in_flight"] == entry["payloads_kept"] == 0
    # The last answers were here before their hops' own bookkeeping was done: it drains by itself.
    until = time.monotonic() + DRAIN_S
    while left := [node.plane._tickets for node in mesh.mesh.nodes.values() if node.plane._tickets]:
        assert time.monotonic() < until, left
        threading.Event().wait(0.01)

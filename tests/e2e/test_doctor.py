"""`meshctl doctor` on real daemons and real mDNS of the loopback: each reason why a node that is heard is no member."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from meshd.config import PROTOCOL_VERSION
from meshd.core.ids import node_id
from meshd.net import discovery
from meshd.net.addresses import bind_ports
from meshd.net.discovery import Discovery
from meshd.net.key import MeshKey
from tests.e2e.daemons import Daemon, cache_with_rates

STRANGER = node_id(bytes(range(16)))
HEARD_S = 30.0


@pytest.fixture
def key(tmp_path: Path) -> MeshKey:
    made = MeshKey.new()
    made.save(tmp_path / "mesh.key")
    return made


@pytest.fixture
def node(tmp_path: Path, key: MeshKey) -> Iterator[Daemon]:
    with Daemon(tmp_path / "node", cache_with_rates(tmp_path / "cache"), mesh_key=str(tmp_path / "mesh.key")) as daemon:
        yield daemon.ready()


@contextmanager
def announced(mesh: str, port: int) -> Iterator[None]:
    """A node that is only an announcement, on the loopback, until the end of the block."""
    scope = trio.CancelScope()

    async def main() -> None:
        with scope:
            await Discovery(STRANGER, mesh, port, lambda sighting: None, loopback=True).run()

    token: list[trio.lowlevel.TrioToken] = []

    async def run() -> None:
        token.append(trio.lowlevel.current_trio_token())
        await main()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    try:
        yield
    finally:
        token[0].run_sync_soon(scope.cancel)
        thread.join()


def wait_finding(daemon: Daemon, kind: str) -> None:
    """Wait for that finding about the stranger. (Other meshes may be about on this machine: theirs do not count.)"""
    until = time.monotonic() + HEARD_S
    with daemon.admin() as admin:
        while True:
            findings = admin.diagnose()
            if any(finding.kind == kind and STRANGER in finding.subject for finding in findings):
                return
            assert time.monotonic() < until, [(finding.kind, finding.subject) for finding in findings]
            time.sleep(0.3)


def test_another_protocol_version_is_named(node: Daemon, key: MeshKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "PROTOCOL_VERSION", PROTOCOL_VERSION + 1)
    with announced(key.mesh, 9):
        wait_finding(node, "other_version")


def test_another_key_is_named(node: Daemon) -> None:
    with announced("0" * 32, 9):
        wait_finding(node, "other_key")


def test_a_closed_port_is_named(node: Daemon, key: MeshKey) -> None:
    udp, tcp, port = bind_ports("127.0.0.1")
    udp.close()
    tcp.close()
    with announced(key.mesh, port):
        wait_finding(node, "port_closed")


def test_an_open_port_without_a_member_behind_it_is_named(node: Daemon, key: MeshKey) -> None:
    udp, tcp, port = bind_ports("127.0.0.1")
    with announced(key.mesh, port):
        wait_finding(node, "not_joined")
    udp.close()
    tcp.close()


def test_a_cloned_identity_is_named(node: Daemon, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("identity.key", "identity.crt"):
        shutil.copy(node.folder / name, clone / name)
    third = Daemon(tmp_path / "third", tmp_path / "cache", mesh_key=str(tmp_path / "mesh.key"))
    twin = Daemon(clone, tmp_path / "cache", mesh_key=str(tmp_path / "mesh.key"))
    with third, twin:
        third.ready()
        twin.ready()
        kinds: set[str] = set()
        until = time.monotonic() + 90
        while "cloned_identity" not in kinds:
            assert time.monotonic() < until, (kinds, node.log(), twin.log())
            for daemon in (node, twin):
                with daemon.admin() as admin:
                    kinds |= {finding.kind for finding in admin.diagnose()}
            time.sleep(0.5)

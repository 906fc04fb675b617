"""`meshctl doctor` on hosts of one network: each reason why a node that is heard by mDNS is no member, named."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshd.config import PROTOCOL_VERSION
from meshd.core.ids import node_id
from tests.e2e.daemons import Daemon
from tests.e2e.hosts import PORT, Hosts
from tests.e2e.relay import Relay, needs_namespaces

STRANGER = node_id(bytes(range(16)))
FOUND_S = 90.0
ANNOUNCE = """
import socket, sys, trio
from meshd.net import discovery
node, mesh, port, version, open_too = sys.argv[1:]
discovery.PROTOCOL_VERSION = int(version)
listening = socket.create_server(("", int(port))) if open_too == "open" else None
trio.run(discovery.Discovery(node, mesh, int(port), lambda sighting: None).run)
"""
"""A node that is only an announcement, with a TCP port that is open or not."""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Relay(3, seed=5) as relay, ExitStack() as stack:
        yield Hosts(relay, tmp_path, stack)


def announce(hosts: Hosts, *, mesh: str, version: int = PROTOCOL_VERSION, port: str = "closed") -> None:
    """Host 2 announces the stranger until the end of the test."""
    hosts.relay.run(2, [sys.executable, "-c", ANNOUNCE, STRANGER, mesh, str(PORT), str(version), port])


def wait_finding(kind: str, *daemons: Daemon, about: str = "") -> None:
    """Wait until one of these daemons finds that."""
    until = time.monotonic() + FOUND_S
    while True:
        found = []
        for daemon in daemons:
            with daemon.admin() as admin:
                found += [(each.kind, each.subject) for each in admin.diagnose()]
        if any(kind == each and about in subject for each, subject in found):
            return
        assert time.monotonic() < until, (found, daemons[0].log())
        time.sleep(0.3)


@needs_namespaces
def test_another_protocol_version_is_named(hosts: Hosts) -> None:
    node = hosts.start(1)
    announce(hosts, mesh=hosts.key.mesh, version=PROTOCOL_VERSION + 1)
    wait_finding("other_version", node.ready(), about=STRANGER)


@needs_namespaces
def test_another_key_is_named(hosts: Hosts) -> None:
    node = hosts.start(1)
    announce(hosts, mesh="0" * 32)
    wait_finding("other_key", node.ready(), about=STRANGER)


@needs_namespaces
def test_a_closed_port_is_named(hosts: Hosts) -> None:
    node = hosts.start(1)
    announce(hosts, mesh=hosts.key.mesh)
    wait_finding("port_closed", node.ready(), about=STRANGER)


@needs_namespaces
def test_an_open_port_without_a_member_behind_it_is_named(hosts: Hosts) -> None:
    node = hosts.start(1)
    announce(hosts, mesh=hosts.key.mesh, port="open")
    wait_finding("not_joined", node.ready(), about=STRANGER)


@needs_namespaces
@pytest.mark.timeout(200)
def test_a_cloned_identity_is_named(hosts: Hosts) -> None:
    node, third = hosts.start(1).ready(), hosts.start(3)
    (hosts.folder / "h2").mkdir()
    for name in ("identity.key", "identity.crt"):
        shutil.copy(node.folder / name, hosts.folder / "h2" / name)
    third.ready()
    wait_finding("cloned_identity", node, hosts.start(2).ready())

"""mDNS between daemons of one machine, on loopback; and what is made of a stranger's records."""

import logging
import random
import socket
import threading
import time

import pytest
import trio
from zeroconf import ServiceInfo

from meshd.config import HEARD_MAX, PROTOCOL_VERSION
from meshd.core.ids import Address, NodeId, node_id
from meshd.net import discovery
from meshd.net.discovery import SERVICE, Discovery, Sighting, sighting_of
from meshd.net.interfaces import Interface, choose

MESH = "ab" * 16


def fresh_mesh() -> str:
    """Other test runs may be on this machine's loopback too."""
    return random.SystemRandom().randbytes(16).hex()


class Watch:
    """Remembers sightings; trio can wait for them."""

    def __init__(self) -> None:
        self.seen: list[Sighting] = []
        self.nodes: set[NodeId] = set()

    def __call__(self, sighting: Sighting) -> None:
        self.seen.append(sighting)
        self.nodes.add(sighting.node)

    async def until(self, *nodes: NodeId, within_s: float) -> None:
        with trio.fail_after(within_s):
            while not set(nodes) <= self.nodes:
                await trio.sleep(0.01)


def some(number: int) -> NodeId:
    return node_id(bytes([number]) * 8 + random.SystemRandom().randbytes(8))


def test_daemons_on_one_host_find_each_other_within_two_seconds() -> None:
    mesh, nodes = fresh_mesh(), [some(n) for n in range(4)]
    watches = [Watch() for _ in nodes]

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for n, (node, watch) in enumerate(zip(nodes, watches, strict=True)):
                nursery.start_soon(Discovery(node, mesh, 5000 + n, watch, loopback=True).run)
            for n, watch in enumerate(watches):
                await watch.until(*(node for node in nodes if node != nodes[n]), within_s=2 if n == 0 else 1)
            nursery.cancel_scope.cancel()

    trio.run(scenario)
    assert watches[0].seen[0].addresses[0].host == "127.0.0.1"
    expected = {
        Sighting(node, mesh, PROTOCOL_VERSION, (Address("127.0.0.1", 5000 + n),)) for n, node in enumerate(nodes)
    }
    assert set(watches[0].seen) == expected - {s for s in expected if s.node == nodes[0]}
    assert not [t for t in threading.enumerate() if "zeroconf" in t.name.lower()]


def test_one_that_comes_later_or_comes_back_is_seen() -> None:
    mesh, old, new = fresh_mesh(), some(1), some(2)
    watch, other = Watch(), Watch()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Discovery(old, mesh, 5001, watch, loopback=True).run)
            await trio.sleep(0.5)
            for port in (5002, 5003):
                async with trio.open_nursery() as life:
                    life.start_soon(Discovery(new, mesh, port, other, loopback=True).run)
                    with trio.fail_after(2):
                        while Address("127.0.0.1", port) not in [a for s in watch.seen for a in s.addresses]:
                            await trio.sleep(0.01)
                    life.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    trio.run(scenario)


def test_nodes_of_other_meshes_are_kept_for_the_doctor_and_not_told() -> None:
    mine, theirs = fresh_mesh(), fresh_mesh()
    a, b, c = some(1), some(2), some(3)
    watch = Watch()
    near = Discovery(a, mine, 5001, watch, loopback=True)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.run)
            nursery.start_soon(Discovery(b, theirs, 5002, Watch(), loopback=True).run)
            nursery.start_soon(Discovery(c, mine, 5003, Watch(), loopback=True).run)
            await watch.until(c, within_s=2)
            with trio.fail_after(2):
                while b not in [s.node for s in near.strangers()]:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(scenario)
    assert watch.nodes == {c}


def test_without_port_5353_it_warns_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def taken(**_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(discovery, "Zeroconf", taken)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Discovery(some(1), MESH, 5001, Watch(), loopback=True).run)
            with trio.fail_after(2):
                while "nodes are found by seeds only" not in caplog.text:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING):
        trio.run(scenario)


# ---------------------------------------------------------------- without a network


def record(port: int = 5000, addresses: tuple[str, ...] = ("192.0.2.1",), **properties: str | bytes) -> ServiceInfo:
    said = {"v": "1", "id": "a" * 26, "mesh": MESH} | properties
    return ServiceInfo(SERVICE, f"x.{SERVICE}", port=port, parsed_addresses=list(addresses), properties=said)


def test_a_record_says_who_is_where() -> None:
    found = sighting_of(record(addresses=("fd00::1", "192.0.2.1", "fe80::1")))
    assert found == Sighting(NodeId("a" * 26), MESH, 1, (Address("192.0.2.1", 5000), Address("fd00::1", 5000)))


@pytest.mark.parametrize(
    "info",
    [
        record(v="x"), record(v=""), record(v="9" * 20), record(id="a" * 25), record(id="A" * 26), record(id=b"\xff" * 26),
        record(mesh="ab"), record(mesh="zz" * 16), record(port=0), record(addresses=("fe80::1",)),
        record(addresses=("0.0.0.0", "224.0.0.1")), ServiceInfo(SERVICE, f"x.{SERVICE}", port=1),
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_ignored(info: ServiceInfo) -> None:
    assert sighting_of(info) is None


def test_what_is_kept_of_strangers_is_bounded() -> None:
    near = Discovery(some(1), MESH, 5000, Watch())
    for n in range(HEARD_MAX + 50):
        near._heard(record(id=node_id(n.to_bytes(16, "big")), mesh="cd" * 16))
    assert len(near.strangers()) == HEARD_MAX


def test_a_repeated_announcement_is_told_once_a_second() -> None:
    watch = Watch()
    near = Discovery(some(1), MESH, 5000, watch)
    for _ in range(5):
        near._heard(record())
    assert len(watch.seen) == 1
    near._heard(record(port=5001))
    assert len(watch.seen) == 2
    near._told[watch.seen[0]] = time.monotonic() - 2
    near._heard(record())
    assert len(watch.seen) == 3


def test_a_stranger_that_becomes_a_member_is_no_stranger() -> None:
    near = Discovery(some(1), MESH, 5000, Watch())
    near._heard(record(mesh=""))
    assert [s.mesh for s in near.strangers()] == [""]
    near._heard(record())
    assert near.strangers() == ()


ADAPTERS = [
    ("eth0", ["192.0.2.5", ("fe80::1", 0, 2), ("fd00::5", 0, 0)]),
    ("lo", ["127.0.0.1", ("::1", 0, 0)]),
    ("docker0", ["172.17.0.1"]),
    ("br-1a2b", ["172.18.0.1"]),
    ("wlan0", ["198.51.100.7"]),
    ("usb0", ["169.254.3.3"]),
]


def test_interfaces_others_cannot_reach_are_left_out() -> None:
    found = choose(ADAPTERS, (), ("docker*", "br-*"))
    assert found == (Interface("eth0", ("192.0.2.5", "fd00::5")), Interface("wlan0", ("198.51.100.7",)))
    assert [i.name for i in choose(ADAPTERS, ("eth*", "docker0"), ("docker*",))] == ["eth0"]
    assert choose(ADAPTERS, ("nothing",), ()) == ()


def test_garbage_on_the_mdns_port_does_not_end_discovery() -> None:
    mesh, a, b = fresh_mesh(), some(1), some(2)
    watch = Watch()
    rng = random.Random(9)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Discovery(a, mesh, 5001, watch, loopback=True).run)
            await trio.sleep(0.3)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
                raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
                for size in (0, 1, 11, 12, 100, 1400, 9000):
                    raw.sendto(rng.randbytes(size), ("224.0.0.251", 5353))
                    raw.sendto(b"\x00\x00\x84\x00\x00\x00\x00\xff" + rng.randbytes(size), ("224.0.0.251", 5353))
            nursery.start_soon(Discovery(b, mesh, 5002, Watch(), loopback=True).run)
            await watch.until(b, within_s=2)
            nursery.cancel_scope.cancel()

    trio.run(scenario)

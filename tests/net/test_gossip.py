"""Gossip sockets on loopback: sealed datagrams arrive, everything else is counted and changes nothing."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from meshd.config import DATAGRAM_BODY_BYTES_MAX
from meshd.core.ids import Address, Boot, NodeId, node_id
from meshd.errors import MisuseError, UnavailableError
from meshd.net.addresses import address_of, bind_ports, sockaddr
from meshd.net.gossip import GossipSocket, Received
from meshd.wire.seal import Keyring, Opener, Refusal, Sealer

A, B = (node_id(bytes([n]) * 16) for n in (1, 2))
RING = Keyring(bytes(16), (b"k" * 32,))


@contextmanager
def gossip(node: NodeId, host: str = "127.0.0.1", ring: Keyring = RING) -> Iterator:
    boot = Boot(1)
    udp, tcp, port = bind_ports(host)
    tcp.close()
    made = GossipSocket(udp, Sealer(ring, node, boot), Opener(ring, node, boot))
    try:
        yield made, Address(host or "127.0.0.1", port)
    finally:
        made.close()


def run(scenario) -> None:
    async def bounded() -> None:
        with trio.fail_after(5):
            await scenario()

    trio.run(bounded)


async def gather(near: GossipSocket, count: int) -> list[Received]:
    found: list[Received] = []
    while len(found) < count:
        await near.readable()
        found += near.drain()
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_a_datagram_arrives_with_its_source_and_address(host: str) -> None:
    async def scenario() -> None:
        with gossip(A, host) as (a, at_a), gossip(B, host) as (b, at_b):
            assert a.send(at_b, B, b"hello")
            assert await gather(b, 1) == [Received(A, Boot(1), at_a, False, b"hello")]
            assert b.send(at_a, None, b"join")
            assert await gather(a, 1) == [Received(B, Boot(1), at_b, True, b"join")]
            assert (a.counts["sent"], a.counts["received"]) == (1, 1)

    run(scenario)


def test_the_largest_body_arrives_and_a_larger_one_is_the_callers_fault() -> None:
    async def scenario() -> None:
        with gossip(A) as (a, _), gossip(B) as (b, at_b):
            body = random.Random(1).randbytes(DATAGRAM_BODY_BYTES_MAX)
            a.send(at_b, B, body)
            assert (await gather(b, 1))[0].body == body
            with pytest.raises(MisuseError):
                a.send(at_b, B, body + b"x")

    run(scenario)


def test_a_batch_is_bounded() -> None:
    async def scenario() -> None:
        with gossip(A) as (a, _), gossip(B) as (b, at_b):
            for n in range(20):
                a.send(at_b, B, b"%d" % n)
            await b.readable()
            assert len(b.drain(15)) == 15
            assert len(b.drain(15)) == 5
            assert b.drain(15) == []

    run(scenario)


def test_garbage_and_other_meshes_are_counted_and_good_datagrams_still_arrive() -> None:
    async def scenario() -> None:
        other = Keyring(b"o" * 16, RING.secrets)
        with gossip(A) as (a, _), gossip(B) as (b, at_b), gossip(A, ring=other) as (stranger, _):
            rng = random.Random(3)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
                for size in (0, 1, 7, 40, 56, 500, 1208, 1209, 9000):
                    raw.sendto(rng.randbytes(size), (at_b.host, at_b.port))
            stranger.send(at_b, B, b"let me in")
            a.send(at_b, B, b"good")
            assert [r.body for r in await gather(b, 1)] == [b"good"]
            assert b._opener.refused == {Refusal.MALFORMED: 9, Refusal.OTHER_MESH: 1}

    run(scenario)


def test_what_cannot_leave_is_dropped_and_counted() -> None:
    async def scenario() -> None:
        with gossip(A) as (a, _):
            for nowhere in (Address("not-numeric", 1), Address("::1", 1), Address("203.0.113.1", 0)):
                assert not a.send(nowhere, B, b"x")
            assert a.counts == {"unsent": 3}

    run(scenario)


def test_an_answer_of_nobody_there_does_not_stop_the_reader() -> None:
    async def scenario() -> None:
        with gossip(A) as (a, at_a), gossip(B) as (b, _):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.bind(("127.0.0.1", 0))
                dead = Address("127.0.0.1", gone.getsockname()[1])
            for _ in range(3):
                a.send(dead, B, b"x")
            b.send(at_a, A, b"alive")
            assert [r.body for r in await gather(a, 1)] == [b"alive"]

    run(scenario)


def test_udp_and_tcp_share_one_port_number_and_a_taken_one_is_named() -> None:
    udp, tcp, port = bind_ports("127.0.0.1")
    try:
        assert udp.getsockname()[1] == tcp.getsockname()[1] == port
        with pytest.raises(UnavailableError, match=str(port)):
            bind_ports("127.0.0.1", port)
    finally:
        udp.close()
        tcp.close()


def test_addresses_are_written_one_way() -> None:
    assert address_of(("::ffff:192.0.2.1", 5, 0, 0)) == Address("192.0.2.1", 5)
    assert address_of(("fd00::1", 5, 0, 0)) == Address("fd00::1", 5)
    assert sockaddr(Address("192.0.2.1", 5), socket.AF_INET6) == ("::ffff:192.0.2.1", 5)
    with pytest.raises(ValueError, match="IPv4 only"):
        sockaddr(Address("fd00::1", 5), socket.AF_INET)

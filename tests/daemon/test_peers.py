"""Bytes become core values at the wires and nowhere above: over real sockets on the loopback, without TLS links."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from meshd.core import events
from meshd.core.ids import Address, Boot
from meshd.core.messages import Join, Ping
from meshd.core.view import empty_view
from meshd.daemon.peers import Peers
from meshd.errors import NotFoundError
from meshd.net.addresses import bind_ports
from meshd.net.identity import Identity
from meshd.net.key import MeshKey
from meshd.wire.seal import Sealer

KEYRING = MeshKey.new().keyring


def read_nothing(digest: str) -> memoryview:
    raise NotFoundError(digest)


def make(folder: Path, boot: int = 1) -> tuple[Peers, Address]:
    folder.mkdir()
    identity = Identity.load_or_create(folder)
    udp, tcp, port = bind_ports("127.0.0.1", 0)
    view = empty_view(identity.node, Boot(0))
    peers = Peers(udp, tcp, port, identity, KEYRING, lambda: view, read_nothing)
    if boot:
        peers.use_boot(Boot(boot))
    return peers, Address("127.0.0.1", port)


def run(test: Callable[[], Any]) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            await test()

    trio.run(main)


def test_a_message_arrives_as_what_it_was_from_whom_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        (a, from_a), (b, at_b) = make(tmp_path / "a"), make(tmp_path / "b", boot=7)
        a.send(events.SendDatagram(at_b, b._identity.node, Ping(42)))
        await b.readable()
        assert b.drain(10) == [events.DatagramIn(a._identity.node, Boot(1), from_a, Ping(42))]
        assert b.drain(10) == []
        a.close()
        b.close()

    run(test)


def test_what_is_sealed_but_not_understood_is_counted_and_gone(tmp_path: Path) -> None:
    async def test() -> None:
        (a, _), (b, at_b) = make(tmp_path / "a"), make(tmp_path / "b")
        sealer = Sealer(KEYRING, a._identity.node, Boot(2))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(sealer.seal(b._identity.node, b"\xff\xff\xff\xff"), (at_b.host, at_b.port))
            out.sendto(b"junk", (at_b.host, at_b.port))
            await b.readable()
            while b.tallies()["received"] < 2:
                assert b.drain(10) == []
        assert b.tallies()["undecoded"] == 1
        assert b.refused() == {"malformed": 1}
        a.close()
        b.close()

    run(test)


def test_only_a_join_may_be_meant_for_nobody_in_particular(tmp_path: Path) -> None:
    async def test() -> None:
        (a, _), (b, at_b) = make(tmp_path / "a"), make(tmp_path / "b")
        join = Join(a._identity.certificate, 5)
        a.send(events.SendDatagram(at_b, None, Ping(1)))
        a.send(events.SendDatagram(at_b, None, join))
        found: list[Any] = []
        while not found:
            await b.readable()
            found = b.drain(10)
        assert [each.message for each in found] == [join]
        a.close()
        b.close()

    run(test)


def test_nothing_is_read_or_sent_before_there_is_a_boot(tmp_path: Path) -> None:
    async def test() -> None:
        (silent, at_silent), (b, _) = make(tmp_path / "a", boot=0), make(tmp_path / "b")
        b.send(events.SendDatagram(at_silent, silent._identity.node, Ping(1)))
        assert silent.drain(10) == []
        silent.send(events.SendDatagram(at_silent, None, Ping(1)))
        assert silent.refused() == {}
        silent.close()
        b.close()

    run(test)

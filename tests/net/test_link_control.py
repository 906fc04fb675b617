"""Control links: one suite over streams in memory and over TLS on loopback, then what only TLS can show."""

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from meshd.config import CONTROL_FRAME_BYTES_MAX, CONTROL_IDLE_US, CONTROL_LINGER_US, CONTROL_QUEUE_FRAMES_MAX
from meshd.core.ids import Address, Boot, NodeId
from meshd.errors import UnavailableError
from meshd.net.addresses import bind_ports
from meshd.net.body_stream import BodyStream
from meshd.net.identity import Identity
from meshd.net.link_control import ControlLinks
from meshd.net.link_listener import Greetings, serve_links
from meshd.net.link_trio import dial_stream
from meshd.net.tls import Roster

WAIT_S = 20.0


class NoSockets:
    """Stands for data and bulk links: closes what it is given."""

    def adopt(self, raw: socket.socket, done: Callable[[], None]) -> None:
        raw.close()
        done()


class Node:
    """A node that is nothing but control links."""

    def __init__(self, identity: Identity) -> None:
        self.identity, self.node = identity, identity.node
        self.roster = Roster(identity)
        self.messages: list[tuple[NodeId, bytes]] = []
        self.changes: list[tuple[NodeId, bool]] = []
        self.where: dict[NodeId, Address] = {}
        self.news = trio.Event()
        self.dials = 0

    def make(self, boot: int = 1, port: int = 1, dial=None) -> None:
        self.links = ControlLinks(
            self.roster, Boot(boot), port, lambda peer: [self.where[peer]] if peer in self.where else [],
            self.on_message, self.on_change, dial,
        )  # fmt: skip

    def on_message(self, peer: NodeId, body: bytes) -> None:
        self.messages.append((peer, body))
        self.news.set()

    def on_change(self, peer: NodeId, up: bool) -> None:
        self.changes.append((peer, up))
        self.news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.news = trio.Event()
            await self.news.wait()


class Memory:
    """Nodes joined by streams in memory."""

    @staticmethod
    @asynccontextmanager
    async def mesh(*identities: Identity) -> AsyncIterator[list[Node]]:
        nodes = {i.node: Node(i) for i in identities}
        async with trio.open_nursery() as nursery:

            def dialler(me: Node):
                async def dial(peer: NodeId) -> trio.abc.Stream:
                    await trio.lowlevel.checkpoint()
                    me.dials += 1
                    if peer not in nodes or peer not in me.where:
                        raise UnavailableError("nobody is there")
                    near, far = trio.testing.memory_stream_pair()
                    nursery.start_soon(nodes[peer].links.serve, me.node, far)
                    return near

                return dial

            for node in nodes.values():
                node.make(dial=dialler(node))
                node.where = dict.fromkeys(nodes, Address("memory", 1))
                await nursery.start(node.links.run)
            yield list(nodes.values())
            nursery.cancel_scope.cancel()


class Tls:
    """Nodes joined by TLS on loopback."""

    @staticmethod
    @asynccontextmanager
    async def mesh(*identities: Identity) -> AsyncIterator[list[Node]]:
        nodes = [Node(i) for i in identities]
        sockets = []
        async with trio.open_nursery() as nursery:
            for node in nodes:
                udp, tcp, port = bind_ports("127.0.0.1")
                sockets += [udp, tcp]

                async def dial(peer: NodeId, me: Node = node) -> trio.abc.Stream:
                    me.dials += 1
                    return await dial_stream(me.roster, peer, [me.where[peer]] if peer in me.where else [])

                node.make(port=port, dial=dial)
                for other in nodes:
                    other.where[node.node] = Address("127.0.0.1", port)
                    other.roster.trust(node.node, node.identity.certificate)
                await nursery.start(node.links.run)
                await nursery.start(serve_links, tcp, node.links, NoSockets(), NoSockets())
            yield nodes
            nursery.cancel_scope.cancel()
        for one in sockets:
            one.close()


@pytest.fixture(params=[Memory, Tls])
def transport(request: pytest.FixtureRequest):
    return request.param


def run(scenario, clock: trio.abc.Clock | None = None) -> None:
    async def bounded() -> None:
        with trio.fail_after(WAIT_S if clock is None else 10_000):
            await scenario()

    trio.run(bounded, clock=clock)


def test_a_message_opens_the_link_and_arrives(transport, identities) -> None:
    async def scenario() -> None:
        async with transport.mesh(*identities[:2]) as (a, b):
            a.links.send(b.node, b"hello")
            await b.until(lambda: b.messages == [(a.node, b"hello")])
            assert a.changes == [(b.node, True)]
            assert b.changes == [(a.node, True)]
            b.links.send(a.node, b"and back, on the same link")
            await a.until(lambda: len(a.messages) == 1)
            assert (a.dials, b.dials) == (1, 0)
            assert a.links.peers() == [b.node]

    run(scenario)


def test_messages_arrive_in_order_whatever_their_size(transport, identities) -> None:
    async def scenario() -> None:
        async with transport.mesh(*identities[:2]) as (a, b):
            rng = random.Random(1)
            sent = [rng.randbytes(size) for size in (0, 1, 65_535, 3, CONTROL_FRAME_BYTES_MAX, 0, 100_000)]
            for body in sent:
                a.links.send(b.node, body)
            await b.until(lambda: len(b.messages) == len(sent))
            assert [body for _, body in b.messages] == sent

    run(scenario)


def test_both_dial_at_once_and_nothing_is_lost(transport, identities) -> None:
    async def scenario() -> None:
        for _ in range(5):
            async with transport.mesh(*identities[:2]) as (a, b):
                for n in range(20):
                    a.links.send(b.node, b"a%d" % n)
                    b.links.send(a.node, b"b%d" % n)
                await a.until(lambda a=a: len(a.messages) == 20)
                await b.until(lambda b=b: len(b.messages) == 20)
                assert a.changes == [(b.node, True)]
                assert b.changes == [(a.node, True)]
                used = [node.links._peers[other.node].current.dialled_by for node, other in ((a, b), (b, a))]
                if (a.dials, b.dials) == (1, 1):
                    await trio.testing.wait_all_tasks_blocked()
                    assert used[0] == used[1], "both ends use the same connection"

    run(scenario)


def test_a_peer_that_is_not_there_is_told_once_and_not_dialled_at_every_send(transport, identities) -> None:
    async def scenario() -> None:
        async with transport.mesh(*identities[:2]) as (a, b):
            del a.where[b.node]
            a.links.send(b.node, b"1")
            a.links.send(b.node, b"2")
            await a.until(lambda: a.changes == [(b.node, False)])
            for _ in range(100):
                a.links.send(b.node, b"too soon")
            assert a.dials == 1
            assert a.changes == [(b.node, False)] * 101
            assert a.links.counts["dropped"] == 102

    run(scenario)


def test_a_link_that_breaks_is_told_and_opens_again(transport, identities) -> None:
    async def scenario() -> None:
        async with transport.mesh(*identities[:2]) as (a, b):
            a.links.send(b.node, b"1")
            await b.until(lambda: len(b.messages) == 1)
            b.links.drop(a.node)
            await a.until(lambda: (b.node, False) in a.changes)
            while not b.messages[1:]:
                a.links.send(b.node, b"2")
                await trio.sleep(0.02)
            assert a.changes[-1] == (b.node, True)

    run(scenario)


def test_a_peer_that_takes_nothing_in_is_dropped_with_a_bounded_queue(identities) -> None:
    async def scenario() -> None:
        async with Memory.mesh(*identities[:2]) as (a, b):
            stuck, _ = trio.testing.lockstep_stream_pair()

            async def dial(peer: NodeId) -> trio.abc.Stream:
                await trio.lowlevel.checkpoint()
                return stuck

            a.links._dial = dial
            for n in range(CONTROL_QUEUE_FRAMES_MAX):
                a.links.send(b.node, b"%d" % n)
            assert a.changes == []
            a.links.send(b.node, b"one too many")
            assert a.changes == [(b.node, False)]
            assert not a.links._peers[b.node].queue

    run(scenario)


def test_an_idle_link_closes_without_being_called_a_failure(identities) -> None:
    async def scenario() -> None:
        async with Memory.mesh(*identities[:2]) as (a, b):
            a.links.send(b.node, b"1")
            await b.until(lambda: len(b.messages) == 1)
            await trio.sleep(CONTROL_IDLE_US / 1e6 + 1)
            assert (a.links.peers(), b.links.peers()) == ([], [])
            assert (a.changes, b.changes) == ([(b.node, True)], [(a.node, True)])
            b.links.send(a.node, b"2")
            await a.until(lambda: len(a.messages) == 1)

    run(scenario, trio.testing.MockClock(autojump_threshold=0))


def test_a_peer_that_restarted_replaces_its_old_connection_at_once(identities) -> None:
    async def scenario() -> None:
        async with Memory.mesh(*identities[:2]) as (a, b):
            a.links.send(b.node, b"1")
            await b.until(lambda: len(b.messages) == 1)
            first = a.links._peers[b.node].current
            again = Node(b.identity)
            again.make(boot=2, dial=b.links._dial)
            again.where = b.where
            async with trio.open_nursery() as nursery:
                await nursery.start(again.links.run)
                again.links.send(a.node, b"2")
                await a.until(lambda: len(a.messages) == 1)
                assert a.links._peers[b.node].current is not first
                assert a.changes == [(b.node, True)]
                nursery.cancel_scope.cancel()

    run(scenario)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff" * 8, b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02zz", b"\x00\x00\x00\x00", b"\x00\x00\x00\x09x"],
)
def test_nonsense_in_place_of_a_hello_is_refused(identities, junk: bytes) -> None:
    async def scenario() -> None:
        async with Memory.mesh(*identities[:2]) as (a, b):
            near, far = trio.testing.memory_stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a.links.serve, b.node, far)
                await near.send_all(junk)
                await near.send_eof()
            assert a.changes == []
            assert a.links.counts["refused"] == 1

    run(scenario)


def test_a_message_that_is_too_long_ends_the_link(identities) -> None:
    async def scenario() -> None:
        async with Memory.mesh(*identities[:2]) as (a, b):
            a.links.send(b.node, b"1")
            await b.until(lambda: len(b.messages) == 1)
            stream = a.links._peers[b.node].current.stream._stream
            await stream.send_all((CONTROL_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
            await b.until(lambda: b.changes[1:] == [(a.node, False)])

    run(scenario)


# ---------------------------------------------------------------- TLS


def test_who_is_struck_off_loses_its_link_at_once(identities) -> None:
    async def scenario() -> None:
        async with Tls.mesh(*identities[:2]) as (a, b):
            b.links.send(a.node, b"1")
            await a.until(lambda: len(a.messages) == 1)
            a.roster.strike(b.node)
            assert a.links.peers() == []
            await b.until(lambda: (a.node, False) in b.changes)
            a.links.send(b.node, b"no")
            await a.until(lambda: a.changes[-1] == (b.node, False))
            assert b.messages == []

    run(scenario)


def test_a_stranger_and_garbage_are_refused_while_members_are_served(identities) -> None:
    async def scenario() -> None:
        async with Tls.mesh(*identities[:2]) as (a, b):
            stranger = Roster(identities[2])
            stranger.trust(a.node, a.identity.certificate)
            where = b.where[a.node]
            rng = random.Random(5)
            for noise in (
                b"",
                b"C",
                b"C\x16\x03\x01",
                b"C" + rng.randbytes(300),
                b"X",
                rng.randbytes(2000),
                b"D",
                b"B",
            ):
                with socket.create_connection((where.host, where.port)) as raw:
                    raw.sendall(noise)
            try:
                async with await dial_stream(stranger, a.node, [where]) as stream:
                    assert await BodyStream(stream, 100).receive() is None
            except (trio.BrokenResourceError, UnavailableError):
                pass
            b.links.send(a.node, b"still here?")
            await a.until(lambda: len(a.messages) == 1)
            assert a.changes == [(b.node, True)]

    run(scenario)


def test_a_dialler_that_reaches_another_node_says_whom_it_wanted(identities) -> None:
    async def scenario() -> None:
        async with Tls.mesh(*identities[:3]) as (a, b, c):
            with pytest.raises(UnavailableError, match=b.node):
                await dial_stream(a.roster, b.node, [a.where[c.node]])

    run(scenario)


def test_strangers_that_hold_connections_open_cannot_take_them_all() -> None:
    greetings = Greetings(most=5, most_a_host=3)
    assert [greetings.begin("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert [greetings.begin("b") for _ in range(3)] == [True] * 2 + [False]
    greetings.end("a")
    assert greetings.begin("b")
    assert greetings.refused == 3


def test_linger_is_shorter_than_idle() -> None:
    assert CONTROL_LINGER_US < CONTROL_IDLE_US

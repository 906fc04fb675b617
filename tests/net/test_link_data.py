"""Data links on real loopback sockets: up on both sides or on none, frames whole and attributed, ends noticed."""

import random
import socket
import ssl
import threading

import pytest

from meshd.core.ids import NodeId
from meshd.core.journey import frames as core
from meshd.net import tcp
from meshd.net.identity import Identity
from meshd.net.link_writer import Writer
from meshd.wire import codec_frames
from tests.net.data_nodes import WAIT_S, DataNode, Heard, connect, data_nodes, forward


def test_one_side_asks_and_both_are_up(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        assert a.links.is_up(b.node)
        assert b.links.is_up(a.node)
        assert a.links.peers() == {b.node: True}


def test_the_one_that_is_dialled_needs_no_address(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2], meet=False) as (a, b):
        a.meet(b)
        b.meet(a, address=False)
        connect(a, b)


def test_both_may_ask_at_once(identities: list[Identity]) -> None:
    for _ in range(10):
        with data_nodes(*identities[:2]) as (a, b):
            a.links.ensure(b.node)
            connect(b, a)
            a.heard.wait(lambda h, b=b: h.is_up(b.node))
            a.links.send(b.node, core.Cancel(forward(1).request))
            b.heard.wait(lambda h: len(h.frames) == 1)
            assert a.heard.changes == [(b.node, True)]
            assert b.heard.changes == [(a.node, True)]


def test_frames_arrive_whole_in_order_and_attributed_to_the_links_peer(identities: list[Identity]) -> None:
    sizes = [0, 1, 1000, 65_536, 65_537, 1_000_000]
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        sent = [(forward(n, size), random.Random(n).randbytes(size)) for n, size in enumerate(sizes)]
        tickets = [a.links.send(b.node, frame, [payload]) for frame, payload in sent]
        b.heard.wait(lambda h: len(h.frames) == len(sizes))
        assert b.heard.frames == [(a.node, frame, payload) for frame, payload in sent]
        assert all(t is not None and t.left_us >= 0 and t.progress_us > 0 for t in tickets)


def test_a_payload_in_parts_arrives_joined(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        parts = [random.Random(n).randbytes(n * 40_001) for n in range(4)]
        a.links.send(b.node, forward(1, *map(len, parts)), [memoryview(p) for p in parts])
        b.heard.wait(lambda h: len(h.frames) == 1)
        assert b.heard.frames[0][2] == b"".join(parts)


def test_a_small_frame_passes_a_large_one_that_waits(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        for n in range(4):
            a.links.send(b.node, forward(n, 8_000_000), [bytes(8_000_000)])
        a.links.send(b.node, core.Cancel(forward(9).request))
        b.heard.wait(lambda h: len(h.frames) == 5)
        order = [type(frame) for _, frame, _ in b.heard.frames]
        assert order.index(core.Cancel) < 4


def test_what_is_answered_in_the_receivers_own_call_does_not_wait(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        ack = lambda peer, frame, payload: b.links.send(peer, core.Ack(frame.leg, 0))  # noqa: E731
        b.links.attach(Heard(ack))
        a.links.ensure(b.node)
        a.heard.wait(lambda h: h.is_up(b.node))
        for n in range(200):
            assert a.links.send(b.node, forward(n, 10), [bytes(10)]) is not None
        a.heard.wait(lambda h: len(h.frames) == 200)


def test_nothing_is_sent_where_no_link_is_up(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        assert a.links.send(b.node, core.Cancel(forward(1).request)) is None
        assert not a.links.is_up(b.node)
        assert (a.links.rtt_us(b.node), a.links.bandwidth_bps(b.node)) == (0, 0)


def test_progress_of_a_frame_ends_when_the_peers_machine_has_it(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        first = a.links.send(b.node, forward(1, 1_000_000), [bytes(1_000_000)])
        assert first is not None
        b.heard.wait(lambda h: len(h.frames) == 1)
        assert wait_for(lambda: first.progress_us >= first.left_us > 0 and first.delivered_us)
        ended = first.progress_us
        a.links.send(b.node, forward(2, 1_000_000), [bytes(1_000_000)])
        b.heard.wait(lambda h: len(h.frames) == 2)
        assert first.progress_us == ended == first.delivered_us


def test_links_are_busy_while_requests_cross_them(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        assert not a.links.busy()
        a.links.send(b.node, forward(1, 1), [b"x"])
        b.heard.wait(lambda h: len(h.frames) == 1)
        assert a.links.busy()
        assert b.links.busy()


def test_round_trip_and_bandwidth_are_measured(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        for n in range(3):
            a.links.send(b.node, forward(n, 4_000_000), [bytes(4_000_000)])
        b.heard.wait(lambda h: len(h.frames) == 3)
        assert wait_for(lambda: a.links.rtt_us(b.node) > 0)
        assert a.links.bandwidth_bps(b.node) > 1_000_000


def wait_for(true: object) -> bool:
    done = threading.Event()
    for _ in range(int(WAIT_S * 100)):
        if true():  # type: ignore[operator]
            return True
        done.wait(0.01)
    return False


def test_a_peer_that_closes_is_noticed_and_taken_back_when_it_returns(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        b.close()
        a.heard.wait(lambda h: not h.is_up(b.node))
        assert a.links.send(b.node, core.Cancel(forward(1).request)) is None
        again = DataNode(identities[1], boot=2)
        again.meet(a)
        a.addresses[b.node] = again.address
        again.heard.wait(lambda h: h.is_up(a.node))
        a.heard.wait(lambda h: h.is_up(b.node))
        again.close()


def test_a_link_that_is_dropped_stays_down(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        a.links.drop(b.node)
        assert not a.links.is_up(b.node)
        b.heard.wait(lambda h: not h.is_up(a.node))
        assert a.links.peers() == {}


def test_who_is_struck_off_loses_its_link_at_once_and_cannot_come_back(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(b, a)
        a.roster.strike(b.node)
        assert not a.links.is_up(b.node)
        b.heard.wait(lambda h: not h.is_up(a.node))
        assert wait_for(lambda: a.links.counts["refused_greeting"] > 0)
        assert not a.links.is_up(b.node)
        assert a.heard.frames == []


def test_a_new_receiver_is_told_of_links_that_are_up(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        late = Heard()
        a.links.attach(late)
        assert late.changes == [(b.node, True)]


@pytest.mark.parametrize("which", ["ours", "theirs"])
def test_the_end_of_either_connection_ends_both_and_the_link_comes_back(identities: list[Identity], which: str) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        pair = a.links._links[b.node]
        connection = pair.writer._connection if which == "ours" else pair._incoming
        tcp.shut(connection)
        a.heard.wait(lambda h: h.changes[1:2] == [(b.node, False)])
        b.heard.wait(lambda h: h.changes[1:2] == [(a.node, False)])
        a.heard.wait(lambda h: h.is_up(b.node))
        b.heard.wait(lambda h: h.is_up(a.node))
        a.links.send(b.node, core.Cancel(forward(1).request))
        b.heard.wait(lambda h: len(h.frames) == 1)


def test_links_settle_whatever_breaks_at_once(identities: list[Identity]) -> None:
    rng = random.Random(7)
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        b.links.ensure(a.node)
        for _ in range(30):
            for node, other in ((a, b), (b, a)):
                pair = node.links._links[other.node]
                for connection in (pair._incoming, pair.writer and pair.writer._connection):
                    if connection is not None and rng.random() < 0.5:
                        tcp.shut(connection)
            threading.Event().wait(rng.random() * 0.02)
        assert wait_for(lambda: a.links.is_up(b.node) and b.links.is_up(a.node))
        a.heard.wait(lambda h: h.is_up(b.node))
        for node in (a, b):
            ups = [up for _, up in node.heard.changes]
            assert ups == [n % 2 == 0 for n in range(len(ups))], "each change is told once"


def raw_link(node: DataNode, identity: Identity, knows: DataNode) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", node.address.port), WAIT_S)
    raw.sendall(b"D")
    return knows.roster.dialler_context(node.node).wrap_socket(raw)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x02\x00\x00\x00\x00zz",
    ],
)
def test_a_member_that_talks_nonsense_is_cut_and_nobody_else_suffers(identities: list[Identity], junk: bytes) -> None:
    with data_nodes(*identities[:3]) as (a, b, c):
        connect(a, b)
        with raw_link(a, identities[2], c) as liar:
            liar.sendall(junk)
            if not junk:
                socket.socket.shutdown(liar, socket.SHUT_WR)
            liar.settimeout(WAIT_S)
            assert end_of(liar)
        assert wait_for(lambda: a.links.counts["refused_greeting"] == 1)
        assert a.links.is_up(b.node)
        assert a.heard.changes == [(b.node, True)]


def end_of(connection: ssl.SSLSocket) -> bool:
    try:
        return connection.recv(1) == b""
    except OSError:
        return True


def test_a_header_that_lies_closes_the_link(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        writer = a.links._links[b.node].writer
        assert isinstance(writer, Writer)
        writer.send(forward(1, 10), [bytes(11)])
        b.heard.wait(lambda h: h.changes[1:2] == [(a.node, False)])
        assert b.heard.frames == []
        assert b.links.counts["refused_frame"] == 1


def test_a_bug_in_the_receiver_is_told_as_one_by_the_links_thread(identities: list[Identity]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        b.links.attach(Heard(broken))
        a.links.send(b.node, core.Cancel(forward(1).request))
        assert wait_for(lambda: bool(b.bugs))
        assert [type(bug) for bug in b.bugs] == [ZeroDivisionError]


def test_a_bug_in_the_writer_is_told_as_one(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        writer = a.links._links[b.node].writer
        assert isinstance(writer, Writer)
        writer._lanes.put_small("not bytes", None)  # type: ignore[arg-type]
        assert wait_for(lambda: bool(a.bugs))
        assert isinstance(a.bugs[0], TypeError)
        assert not b.bugs


def test_a_header_that_the_decoder_has_a_bug_with_costs_its_sender_the_link(
    identities: list[Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("a bug")

    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        monkeypatch.setitem(codec_frames._DECODE, "cancel", broken)
        a.links.send(b.node, core.Cancel(forward(1).request))
        b.heard.wait(lambda h: h.changes[1:2] == [(a.node, False)])
        assert b.links.counts["refused_frame"] == 1
        assert not b.bugs


def test_a_stranger_without_tls_or_with_another_key_is_refused(identities: list[Identity]) -> None:
    with data_nodes(*identities[:3], meet=False) as (a, b, c):
        a.meet(b)
        b.meet(a)
        c.meet(a, b)
        connect(a, b)
        for noise in (
            b"D",
            b"D" + bytes(100),
            b"D\x16\x03\x01\xff\xff",
            b"GET / HTTP/1.1\r\n\r\n",
            random.Random(1).randbytes(5000),
        ):
            with socket.create_connection(("127.0.0.1", a.address.port), WAIT_S) as raw:
                raw.sendall(noise)
                tcp.shut(raw)
        c.links.ensure(a.node)
        assert wait_for(lambda: a.links.counts["refused_greeting"] >= 4)
        assert a.heard.changes == [(b.node, True)]
        assert not c.links.is_up(a.node)
        assert NodeId(c.node) not in a.links.peers()


def test_a_frame_that_nobody_waits_for_any_more_is_not_sent(identities: list[Identity]) -> None:
    with data_nodes(*identities[:2]) as (a, b):
        connect(a, b)
        for n in range(8):
            ticket = a.links.send(b.node, forward(n, 4_000_000), [bytes(4_000_000)])
        assert ticket is not None
        ticket.withdrawn = True
        a.links.send(b.node, forward(99, 1), [b"x"])
        b.heard.wait(lambda h: any(f.request.number == 99 for _, f, _ in h.frames))
        assert 7 not in [f.request.number for _, f, _ in b.heard.frames]

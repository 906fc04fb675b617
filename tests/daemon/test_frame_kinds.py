"""What the rows of frame kinds promise is what the wires do: over real sockets, and at the core's door."""

import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from meshd.config import PROTOCOL_VERSION
from meshd.core import messages as core
from meshd.core.ids import Address, Boot, Digest, node_id
from meshd.core.journey import frames
from meshd.daemon.inbox import Inbox
from meshd.daemon.services.roles import ROLES, Role
from meshd.errors import InvalidError, UnavailableError
from meshd.net.key import MeshKey
from meshd.net.link_greeting import LinkKind, dial
from meshd.net.tls import Roster
from meshd.v1 import control_pb2, gossip_pb2, link_pb2
from meshd.wire.codec import decode_gossip, decode_link, encode_gossip, encode_link
from meshd.wire.codec_bulk import BlobAsk, BlobChunk, BlobHead, BlobMissing, decode_bulk, encode_bulk
from meshd.wire.codec_frames import Echo, Hello, decode_frame, encode_frame
from meshd.wire.frames import whole
from meshd.wire.seal import Sealer
from tests.core.lone import Lone, address_of, alive, certificate_of, id_of
from tests.daemon.test_peers import make, run
from tests.wire.test_codec import DATAGRAMS, LINKS
from tests.wire.test_codec_intent import MESSAGES

A, DIGEST = node_id(bytes(16)), Digest("ab" * 32)
REQUEST = frames.RequestId(A, Boot(1), 1)
LEG = frames.Leg(REQUEST, 1, 0)
FAILURE = frames.Failure(frames.Code.INTERNAL, frames.Reason.COMPUTE, "it broke")
HELLO = Hello(PROTOCOL_VERSION, Boot(9), 7946, 5)
NO_COST = frames.Spent(0, 0, 0, 0)
DATA: list[Any] = [
    HELLO, Echo(1, True), Echo(1, False), frames.Forward(REQUEST, 1, "m", DIGEST, 0, 1, 1, 1, (), (), NO_COST),
    frames.Ack(LEG, 1), frames.Busy(LEG, 1), frames.NotHeld(LEG), frames.Cancel(REQUEST), frames.Lost(A, (LEG,)),
    frames.Answer(REQUEST, 1, DIGEST, 1, (), NO_COST), frames.Failed(REQUEST, 1, FAILURE),
    frames.Poison(bytes(16), 1, A, None),
]  # fmt: skip
BULK: list[Any] = [HELLO, BlobAsk(DIGEST), BlobHead(0), BlobChunk(0), BlobMissing("no")]

WIRES: dict[str, tuple[Any, list[bytes], Callable[[bytes], Any]]] = {
    "gossip": (gossip_pb2.GossipMessage, [encode_gossip(m) for m in DATAGRAMS], decode_gossip),
    "control": (control_pb2.LinkMessage, [encode_link(m) for m in LINKS + MESSAGES], decode_link),
    "data": (link_pb2.DataHeader, [encode_frame(f) for f in DATA], decode_frame),
    "bulk": (link_pb2.BulkHeader, [encode_bulk(h) for h in BULK], decode_bulk),
}
"""Wire → its envelope, a message of each kind, its decoder."""


def _field(envelope: Any, data: bytes) -> Any:
    message = envelope.FromString(data)
    (oneof,) = envelope.DESCRIPTOR.oneofs
    return envelope.DESCRIPTOR.fields_by_name[message.WhichOneof(oneof.name)]


def test_there_is_a_sample_of_every_kind() -> None:
    named = {_field(envelope, data).full_name for envelope, samples, _ in WIRES.values() for data in samples}
    assert named == {kind for kind in ROLES if not kind.startswith("/")}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("other", WIRES)
def test_a_kind_that_a_wire_does_not_have_is_refused_there(wire: str, other: str) -> None:
    envelope, _, decode = WIRES[wire]
    mine = {field.number for field in envelope.DESCRIPTOR.oneofs[0].fields}
    source, samples, _ = WIRES[other]
    strange = [data for data in samples if _field(source, data).number not in mine]
    for data in strange:
        with pytest.raises(InvalidError):
            decode(data)
    assert bool(strange) == (other != wire and (wire, other) not in SUBSETS)


SUBSETS = {("gossip", "bulk"), ("data", "bulk")}
"""Their numbers all mean something on the first wire too: there such bytes are that wire's own kind, said by who may say it."""


def test_what_a_link_refuses_of_another_wire_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        peers, _ = make(tmp_path / "a")
        inbox = Inbox()
        peers.deliver_to(inbox)
        mine = {field.number for field in control_pb2.LinkMessage.DESCRIPTOR.oneofs[0].fields}
        strange = [d for d in WIRES["gossip"][1] if _field(gossip_pb2.GossipMessage, d).number not in mine]
        for data in strange:
            peers._on_message(A, data)
        assert peers.counts["undecoded"] == len(strange)
        assert len(inbox) == 0
        peers.close()

    run(test)


# ---------------------------------------------------------------- KEYHOLDER and MEMBER: datagrams


def test_no_kind_is_heard_that_another_mesh_sealed(tmp_path: Path) -> None:
    async def test() -> None:
        (a, _), (b, at_b) = make(tmp_path / "a"), make(tmp_path / "b")
        sealer = Sealer(MeshKey.new().keyring, a._identity.node, Boot(2))
        for data in WIRES["gossip"][1]:
            a._udp.sendto(sealer.seal(b._identity.node, data), (at_b.host, at_b.port))
        while b.tallies()["received"] < len(DATAGRAMS):
            await b.readable()
            assert b.drain(100) == []
        assert sum(b.refused().values()) == len(DATAGRAMS)
        a.close()
        b.close()

    run(test)


NEWS = core.News((alive("b"),))
SAID: list[Any] = [
    core.Ping(7, news=NEWS), core.Ack(7, news=NEWS), core.PingReq(7, id_of("b"), address_of("b")),
    core.PingReqAck(7, id_of("b")), core.Nack(7, id_of("b")), core.Spread(NEWS), core.CertificateAsk(),
    core.CertificateTell(certificate_of("a")), core.FactsAsk(id_of("me"), Boot(0), 0),
    core.Join(certificate_of("a"), 1), core.JoinAck(certificate_of("a"), 1, 2), core.JoinDone(3),
]  # fmt: skip


@pytest.mark.parametrize("message", SAID, ids=lambda message: type(message).__name__)
def test_a_keyholder_is_at_most_answered_until_its_handshake_is_done(message: Any) -> None:
    me = Lone()
    me.forget()
    kept = dict(me.kept)
    me.hear("a", message)
    assert me.view is not None
    assert list(me.view.members) == [id_of("me")]
    assert me.kept == kept
    assert me.linked == []
    assert {send.receiver for send in me.sent} <= {id_of("a")}, "nobody is troubled on a stranger's word"
    assert {type(send.message) for send in me.sent} <= {core.Ack, core.Join, core.JoinAck}


def test_what_a_keyholder_is_not_heard_with_a_member_is() -> None:
    kinds = {_field(gossip_pb2.GossipMessage, encode_gossip(message)).full_name for message in SAID}
    assert kinds == {kind for kind, role in ROLES.items() if role in (Role.KEYHOLDER, Role.MEMBER)}
    me = Lone()
    me.meet("a")
    me.hear("a", core.Spread(NEWS))
    assert me.state("b") is not None
    me.forget()
    me.hear("a", core.CertificateAsk())
    assert me.sent_to("a", core.CertificateTell)


# ---------------------------------------------------------------- PEER: links


def _knock(roster: Roster, peer: Any, where: Address, kind: LinkKind, said: Sequence[bytes]) -> bytes:
    """Say these on a link of a kind; returns the first byte of what comes back, or b"" where one is sent away."""
    try:
        with dial(roster, peer, [where], kind) as connection:
            for data in said:
                connection.sendall(len(data).to_bytes(4, "big") + data if kind is LinkKind.CONTROL else whole(data))
            # A data link answers on another connection, if at all: an end tells it not to wait. NB the SSLSocket's own
            # `shutdown` would forget TLS, and read the refusal as if it were an answer.
            socket.socket.shutdown(connection, socket.SHUT_WR)
            return bytes(connection.recv(1))
    except (OSError, UnavailableError, ssl.SSLError):
        return b""


SAYS = {
    LinkKind.CONTROL: ("control", [encode_frame(HELLO), *WIRES["control"][1]], "refused", "received"),
    LinkKind.DATA: ("data", WIRES["data"][1], "refused_greeting", "welcomed"),
    LinkKind.BULK: ("bulk", [*WIRES["bulk"][1]], "refused", ""),
}


@pytest.mark.parametrize("kind", SAYS, ids=lambda kind: kind.name)
def test_no_kind_on_a_link_is_heard_of_a_keyholder_that_is_no_peer(tmp_path: Path, kind: LinkKind) -> None:
    wire, said, refused, heard = SAYS[kind]

    async def test() -> None:
        (a, _), (b, at_b) = make(tmp_path / "a"), make(tmp_path / "b")
        inbox, taken = Inbox(), Taken()
        b.deliver_to(inbox)
        b.data.attach(taken)
        a.roster.trust(b._identity.node, b._identity.certificate)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.run)
            answer = await trio.to_thread.run_sync(_knock, a.roster, b._identity.node, at_b, kind, said)
            assert answer == b""
            while not b.link_counts().get((wire, refused)):
                await trio.sleep(0.01)
            assert (len(inbox), taken.frames) == (0, [])
            assert not b.link_counts().get((wire, heard))
            # Not for what was said or how: once it is on the roster, the same is heard.
            b.roster.trust(a._identity.node, a._identity.certificate)
            answer = await trio.to_thread.run_sync(_knock, a.roster, b._identity.node, at_b, kind, said)
            assert answer or b.link_counts()[wire, heard]
            nursery.cancel_scope.cancel()
        a.close()
        b.close()

    run(test)


class Taken:
    """The data plane's place: what links brought."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def receive(self, peer: Any, frame: Any, payload: memoryview) -> None:
        self.frames.append(frame)

    def link_changed(self, peer: Any, up: bool) -> None:
        pass

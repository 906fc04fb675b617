"""Every message survives the wire, and what is out of bounds is refused by name."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import DATAGRAM_BODY_BYTES_MAX
from meshd.core import messages as core
from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId, node_id
from meshd.core.view import Hold, State
from meshd.errors import InvalidError, MisuseError
from meshd.v1 import gossip_pb2
from meshd.wire import codec

A, B = node_id(bytes(range(16))), node_id(bytes(range(16, 32)))
HERE = Address("192.0.2.7", 7946)
SIX = Address("fd00::7", 7946)
PLAN = Digest("ab" * 32)
ALIVE = core.Rumour(State.ALIVE, A, Boot(1 << 40), 3, (HERE, SIX), 77)
DEAD = core.Rumour(State.DEAD, A, Boot(1 << 40), 3, accuser=B)
FACTS = core.FactsDelta(
    A,
    Boot(5),
    2,
    9,
    (
        core.Fact(SegmentId(PLAN, 3), 3, core.Held(Hold.READY, 120, 5_000_000)),
        core.Fact(SegmentId(PLAN, 4), 4, None),
        core.Fact("hardware", 5, core.Hardware("kitchen", "0.1", "host", 4, 1 << 30, "fma", ("gpu=no",), 4500)),
        core.Fact("capacity", 6, core.Spare(1 << 29, (("binary", 10**12), ("dense", 10**9)), True)),
        core.Fact(("link", B), 7, core.LinkState(300, 10**9)),
        core.Fact(("disk", PLAN), 9, core.OnDisk()),
    ),
)
PART = core.FactsDelta(A, Boot(5), 2, 4, FACTS.entries[:2], whole=9)
RESET = core.FactsDelta(A, Boot(5), 0, 9, FACTS.entries, floor=2)
NEWS = core.News((ALIVE, DEAD), (FACTS,), (core.IntentRumour("camera", b"\x01\x02"),))
DIGEST = core.MemberDigest(A, Boot(5), 1, State.ALIVE, Boot(5), 9, 77)

DATAGRAMS: list[Any] = [
    core.Ping(1 << 63, 7, core.Accusation(State.DEAD, Boot(9), 4), NEWS),
    core.Ping(0),
    core.Ack(5, 1, NEWS),
    core.PingReq(5, A, SIX),
    core.PingReqAck(5, A),
    core.Nack(5, A),
    core.Spread(NEWS),
    core.Spread(core.NO_NEWS),
    core.Spread(core.News(facts=(PART, RESET))),
    core.Join(b"cert", 0),
    core.JoinAck(b"cert", 1, 2),
    core.JoinDone(0),
    core.CertificateAsk(),
    core.CertificateTell(b"cert"),
    core.FactsAsk(A, Boot(5), 3),
]
LINKS: list[Any] = [
    core.SyncRoot(0),
    core.SyncBuckets(tuple(range(256))),
    core.SyncDigests((0, 255), (DIGEST,), (core.IntentRumour("camera", b"k"),)),
    core.SyncItems((core.MemberItem(ALIVE, b"cert", FACTS), core.MemberItem(DEAD, age_s=60)), (DIGEST,)),
    core.SyncItems(),
]


@pytest.mark.parametrize("message", DATAGRAMS, ids=lambda m: type(m).__name__)
def test_a_datagram_survives_the_wire(message: Any) -> None:
    assert codec.decode_gossip(codec.encode_gossip(message)) == message


@pytest.mark.parametrize("message", LINKS, ids=lambda m: type(m).__name__)
def test_a_link_message_survives_the_wire(message: Any) -> None:
    assert codec.decode_link(codec.encode_link(message)) == message


@pytest.mark.parametrize(
    ("key", "value"), [("boot", core.KeptBoot(7)), (f"peer/{A}", core.KeptPeer((HERE, SIX)))], ids=["boot", "peer"]
)
def test_what_is_kept_comes_back(key: str, value: Any) -> None:
    assert codec.decode_value(key, codec.encode_value(key, value)) == value


def test_every_kind_of_message_has_a_codec() -> None:
    kinds = {type(m) for m in DATAGRAMS}
    assert kinds == set(core.GossipMessage.__args__)
    assert {f.name for f in gossip_pb2.GossipMessage.DESCRIPTOR.oneofs_by_name["body"].fields} == {
        gossip_pb2.GossipMessage.FromString(codec.encode_gossip(m)).WhichOneof("body") for m in DATAGRAMS
    }


@given(st.binary(max_size=1200))
@settings(max_examples=300, derandomize=True)
def test_junk_is_refused_or_read_never_worse(data: bytes) -> None:
    for decode in (codec.decode_gossip, codec.decode_link):
        with contextlib.suppress(InvalidError):
            decode(data)


@given(st.sampled_from(DATAGRAMS), st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=300, derandomize=True)
def test_a_flipped_byte_is_refused_or_read_never_worse(message: Any, place: int, value: int) -> None:
    data = bytearray(codec.encode_gossip(message))
    if data:
        data[place % len(data)] = value
    with contextlib.suppress(InvalidError):
        codec.decode_gossip(bytes(data))


def _rumour(**fields: Any) -> bytes:
    given_: dict[str, Any] = {"state": 1, "subject": bytes(16)} | fields
    message = gossip_pb2.GossipMessage(spread=gossip_pb2.Spread(), rumours=[gossip_pb2.Rumour(**given_)])
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (_rumour(subject=b"short"), "rumour.subject"),
        (_rumour(state=0), "state"),
        (_rumour(state=9), "state"),
        (_rumour(accuser=bytes(16)), "rumour.accuser"),
        (_rumour(state=3), "rumour.accuser"),
        (_rumour(addresses=[gossip_pb2.Address(ip=b"12345", port=1)]), "rumour.addresses"),
        (_rumour(addresses=[gossip_pb2.Address(ip=b"1234", port=0)]), "port"),
        (_rumour(addresses=[gossip_pb2.Address(ip=b"1234", port=1)] * 5), "rumour.addresses"),
        (gossip_pb2.GossipMessage(ping=gossip_pb2.Ping(health=8)).SerializeToString(), "health"),
        (gossip_pb2.GossipMessage(join=gossip_pb2.Join()).SerializeToString(), "certificate"),
        (gossip_pb2.GossipMessage(spread={}, rumours=[{}] * 65).SerializeToString(), "rumours: 65"),
        (bytes(DATAGRAM_BODY_BYTES_MAX + 1), "at most 1152"),
        (b"", "without a body"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_name(data: bytes, names: str) -> None:
    with pytest.raises(InvalidError, match=names):
        codec.decode_gossip(data)


def test_a_million_empty_entries_are_counted_before_they_are_touched() -> None:
    empty = b"\x12\x00" * 400_000
    data = b"\x1a" + _varint(len(empty)) + empty
    with pytest.raises(InvalidError, match=r"sync.members: 400000 is more than"):
        codec.decode_link(data)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_a_message_too_big_is_the_cores_fault() -> None:
    rumours = tuple(core.Rumour(State.ALIVE, NodeId(A), Boot(1), i, (SIX, SIX), 7) for i in range(40))
    with pytest.raises(MisuseError, match="1152"):
        codec.encode_gossip(core.Spread(core.News(rumours)))

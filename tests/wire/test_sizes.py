"""The core fills datagrams by estimate: an estimate below what the codec writes would end the process."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import DATAGRAM_BODY_BYTES_MAX, NEWS_BYTES_MAX
from meshd.core import messages as core
from meshd.core.ids import Address, Boot, Digest, SegmentId, node_id
from meshd.core.sizes import delta_bytes, intent_bytes, rumour_bytes
from meshd.core.view import Hold, State
from meshd.v1 import gossip_pb2 as pb
from meshd.wire.codec_facts import COUNT_MAX, put_delta
from meshd.wire.codec_gossip import encode_gossip, put_intent, put_rumour

Nodes = st.binary(min_size=16, max_size=16).map(node_id)
Digests = st.binary(min_size=32, max_size=32).map(lambda b: Digest(b.hex()))
Boots = st.integers(1, (1 << 64) - 1).map(Boot)
Counts = st.integers(0, COUNT_MAX)
Words = st.text(st.characters(categories=("L", "N")), max_size=32)
Addresses = st.builds(Address, st.ip_addresses().map(str), st.integers(1, 65_535))
Rumours = st.one_of(
    st.builds(
        core.Rumour, st.just(State.ALIVE), Nodes, Boots, st.integers(0, (1 << 32) - 1),
        st.lists(Addresses, max_size=4).map(tuple), st.integers(0, (1 << 64) - 1),
    ),
    st.builds(
        core.Rumour, st.sampled_from([State.SUSPECT, State.DEAD]), Nodes, Boots, st.integers(0, (1 << 32) - 1),
        accuser=Nodes,
    ),
)  # fmt: skip
Versions = st.integers(1, COUNT_MAX)
Facts = st.one_of(
    st.builds(
        core.Fact, st.builds(SegmentId, Digests, st.integers(0, 63)), Versions,
        st.none() | st.builds(core.Held, st.sampled_from(Hold), Counts, Counts, Words),
    ),
    st.builds(
        core.Fact, st.just("hardware"), Versions,
        st.builds(
            core.Hardware, Words, Words, Words, st.integers(0, 65_535), Counts, Words,
            st.lists(Words, max_size=16).map(tuple), Counts,
        ),
    ),
    st.builds(
        core.Fact, st.just("capacity"), Versions,
        st.builds(core.Spare, Counts, st.lists(st.tuples(Words, Counts), max_size=16).map(tuple), st.booleans()),
    ),
    st.builds(
        core.Fact, st.tuples(st.just("link"), Nodes), Versions,
        st.builds(core.LinkState, Counts, Counts, st.booleans()),
    ),
    st.builds(core.Fact, st.tuples(st.just("disk"), Digests), Versions, st.just(core.OnDisk())),
)  # fmt: skip
Deltas = st.builds(core.FactsDelta, Nodes, Boots, Counts, Counts, st.lists(Facts, max_size=5).map(tuple))


@given(Rumours)
@settings(max_examples=300, derandomize=True)
def test_a_rumour_is_never_larger_than_estimated(rumour: core.Rumour) -> None:
    out = pb.GossipMessage()
    put_rumour(out.rumours.add(), rumour)
    assert out.ByteSize() <= rumour_bytes(rumour)


@given(Deltas)
@settings(max_examples=300, derandomize=True)
def test_a_delta_is_never_larger_than_estimated(delta: core.FactsDelta) -> None:
    out = pb.GossipMessage()
    put_delta(out.facts.add(), delta)
    assert out.ByteSize() <= delta_bytes(delta)


@given(st.text(min_size=1, max_size=256), st.binary(min_size=1, max_size=96))
@settings(max_examples=100, derandomize=True)
def test_an_intent_is_never_larger_than_estimated(name: str, key: bytes) -> None:
    intent = core.IntentRumour(name, key)
    out = pb.GossipMessage()
    put_intent(out.intents.add(), intent)
    assert out.ByteSize() <= intent_bytes(intent)


def test_the_largest_body_fits_beside_full_news() -> None:
    most = (1 << 64) - 1
    ping = core.Ping(most, 7, core.Accusation(State.LEFT, Boot(most), (1 << 32) - 1))
    assert len(encode_gossip(ping)) + NEWS_BYTES_MAX <= DATAGRAM_BODY_BYTES_MAX

"""Headers of data links: every frame comes back equal; what is out of bounds is refused by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import ATTEMPTS_MAX, HEADER_BYTES_MAX, HOPS_MAX, POISON_US, SEGMENTS_MAX
from meshd.core.ids import Boot, Digest, NodeId, node_id
from meshd.core.journey import frames as core
from meshd.errors import InvalidError, MisuseError
from meshd.v1 import link_pb2 as pb
from meshd.wire.codec_frames import Echo, Header, Hello, check_payload, decode_frame, encode_frame

u64 = st.integers(0, 2**64 - 1)
nodes = st.binary(min_size=16, max_size=16).map(node_id)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest(raw.hex()))
requests = st.builds(core.RequestId, nodes, u64.map(Boot), u64)
attempts = st.integers(1, ATTEMPTS_MAX)
segments = st.integers(0, SEGMENTS_MAX - 1)
legs = st.builds(core.Leg, requests, attempts, segments)
spent = st.builds(core.Spent, u64, u64, st.integers(0, 2**32 - 1))
sizes = st.lists(u64, max_size=4).map(tuple)
names = st.text("abc xyz-äß", min_size=1, max_size=20)
route = st.lists(st.lists(nodes, max_size=4).map(tuple), max_size=3).map(tuple)
failures = st.builds(
    core.Failure, st.sampled_from(core.Code), st.sampled_from(core.Reason), names, names,
    st.integers(-1, SEGMENTS_MAX - 1), st.one_of(nodes, st.just(NodeId(""))), u64,
)  # fmt: skip
batches = st.integers(1, 1 << 20)
frames = st.one_of(
    st.builds(
        core.Forward, requests, attempts, names, digests, segments, u64, st.integers(0, HOPS_MAX), batches, sizes,
        route, spent,
    ),
    st.builds(core.Ack, legs, u64),
    st.builds(core.Busy, legs, u64),
    st.builds(core.NotHeld, legs),
    st.builds(core.Cancel, requests, st.integers(0, ATTEMPTS_MAX)),
    st.builds(core.Lost, nodes, st.lists(legs, max_size=3).map(tuple), st.just(()), st.booleans()),
    st.builds(core.Answer, requests, attempts, digests, batches, sizes, spent),
    st.builds(core.Failed, requests, attempts, failures),
    st.builds(Hello, st.integers(0, 9), u64.map(Boot), st.integers(1, 65535), st.integers(1, 2**64 - 1), u64),
    st.builds(Echo, u64, st.booleans()),
    st.builds(core.Poison, st.binary(min_size=16, max_size=16), st.integers(1, POISON_US), nodes, st.none() | u64.map(Boot)),
)  # fmt: skip

REQUEST = core.RequestId(node_id(bytes(16)), Boot(2**64 - 1), 2**64 - 1)


@given(frames)
@settings(derandomize=True, max_examples=300)
def test_every_frame_comes_back_equal(frame: Header) -> None:
    assert decode_frame(encode_frame(frame)) == frame


def test_the_largest_frames_fit() -> None:
    worst = core.Leg(REQUEST, ATTEMPTS_MAX, SEGMENTS_MAX - 1)
    encode_frame(core.Lost(REQUEST.entry, (worst,) * core.LEGS_PER_LOST_MAX))
    candidates = (REQUEST.entry,) * core.ROUTE_CANDIDATES_MAX
    plan = Digest("ab" * 32)
    full = core.Forward(
        REQUEST, 3, "n" * 256, plan, 0, 2**40, 64, 1, (2**26,) * 256, (candidates,) * (SEGMENTS_MAX - 1)
    )
    assert decode_frame(encode_frame(full)) == full
    with pytest.raises(MisuseError, match=str(HEADER_BYTES_MAX)):
        encode_frame(core.Lost(REQUEST.entry, (worst,) * 400))


@given(st.binary(max_size=300))
@settings(derandomize=True, max_examples=300)
def test_noise_is_refused_or_a_frame(noise: bytes) -> None:
    try:
        decode_frame(noise)
    except InvalidError:
        return


def _leg(attempt: int = 1, segment: int = 0, entry: bytes = bytes(16)) -> pb.Leg:
    return pb.Leg(request=pb.RequestId(entry=entry, boot=1, number=1), attempt=attempt, segment=segment)


def _forward(**changed: object) -> pb.DataHeader:
    good = {"leg": _leg(), "deployment": "d", "plan": bytes(32), "deadline_us": 1, "hops_left": 1, "batch": 1}
    return pb.DataHeader(forward=pb.Forward(**(good | changed)))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (pb.DataHeader(), "without a kind"),
        (_forward(leg=_leg(attempt=0)), "attempt"),
        (_forward(leg=_leg(attempt=9)), "attempt"),
        (_forward(leg=_leg(segment=64)), "segment"),
        (_forward(leg=_leg(entry=bytes(15))), "entry"),
        (_forward(plan=bytes(31)), "plan"),
        (_forward(deployment=""), "deployment"),
        (_forward(deployment="a\nb"), "deployment"),
        (_forward(hops_left=65), "hops_left"),
        (_forward(batch=0), "batch"),
        (_forward(sizes=[0] * 257), "sizes"),
        (_forward(route=[pb.Candidates()] * 64), "route"),
        (_forward(route=[pb.Candidates(nodes=bytes(17))]), "route"),
        (_forward(route=[pb.Candidates(nodes=bytes(80))]), "route"),
        (pb.DataHeader(ack=pb.ForwardAck()), "entry"),
        (pb.DataHeader(cancel=pb.Cancel(request=_leg().request, attempt=9)), "attempt"),
        (pb.DataHeader(lost=pb.Lost(node=bytes(16), legs=[_leg()] * 257)), "legs"),
        (pb.DataHeader(failed=pb.Failed(request=_leg().request, attempt=1, code=99, reason="COMPUTE")), "closed set"),
        (pb.DataHeader(failed=pb.Failed(request=_leg().request, attempt=1, code=13, reason="WHY")), "closed set"),
        (pb.DataHeader(poison=pb.Poison(digest=bytes(15), left_us=1)), "digest"),
        (pb.DataHeader(poison=pb.Poison(digest=bytes(16), left_us=POISON_US + 1, witness=bytes(16))), "left_us"),
        (pb.DataHeader(hello=pb.Hello(port=0, number=1)), "port"),
        (pb.DataHeader(hello=pb.Hello(port=1, number=0)), "number"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(header: pb.DataHeader, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        decode_frame(header.SerializeToString())


def test_a_header_that_lies_about_its_payload_is_refused() -> None:
    answer = core.Answer(REQUEST, 1, Digest("ab" * 32), 1, (3, 4))
    check_payload(answer, 7)
    check_payload(core.Cancel(REQUEST), 0)
    for frame, size in ((answer, 6), (answer, 8), (core.Cancel(REQUEST), 1)):
        with pytest.raises(InvalidError, match="announced"):
            check_payload(frame, size)

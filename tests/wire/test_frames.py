"""Frames: any mixture of small and large ones, cut anywhere, comes out whole; what breaks the rules ends the link."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.wire.frames import EMPTY, FrameError, FrameReader, Kind, opening, pieces, prefix, whole

HEADER_MAX, PAYLOAD_MAX = 1000, 100_000


def source(data: bytes, cut: Callable[[], int]) -> Callable[[memoryview], int]:
    """`recv_into` of a stream that arrives in bits as long as `cut` says."""
    rest = memoryview(data)

    def recv_into(buffer: memoryview) -> int:
        nonlocal rest
        size = min(len(buffer), len(rest), cut())
        assert len(buffer) > 0, "a read into nothing would look like the end"
        buffer[:size] = rest[:size]
        rest = rest[size:]
        return size

    return recv_into


def frames_of(data: bytes, cut: Callable[[], int] = lambda: 1 << 20, **limits: int) -> list[tuple[bytes, bytes]]:
    reader = FrameReader(
        source(data, cut), limits.get("header_max", HEADER_MAX), limits.get("payload_max", PAYLOAD_MAX)
    )
    found = []
    while (frame := reader.read()) is not None:
        found.append((frame[0], bytes(frame[1])))
    assert reader.received_bytes == len(data)
    return found


def large(header: bytes, payload: bytes, piece_bytes: int, between: list[bytes] | None = None) -> bytes:
    out = [opening(header, len(payload))]
    for piece in pieces([payload], piece_bytes):
        out.append(bytes(piece))
        if between:
            out.append(between.pop())
    return b"".join(out)


@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 100, 16 * 1024, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 15, 16 * 1024, 70_000])
def test_frames_come_out_as_they_went_in_however_they_are_cut(size: int, step: int) -> None:
    body = random.Random(size).randbytes(size)
    sent = [(b"a", b""), (b"", body), (b"h" * 999, body), (b"z", b"")]
    assert frames_of(b"".join(whole(h, [p]) for h, p in sent), lambda: step) == sent


@given(st.data())
@settings(derandomize=True, max_examples=60, deadline=None)
def test_small_frames_pass_large_ones(data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=5000))
    piece_bytes = data.draw(st.integers(1, 700))
    small = [whole(b"small", [bytes([n])]) for n in range(data.draw(st.integers(0, 5)))]
    rng = random.Random(data.draw(st.integers(0, 1000)))
    stream = large(b"large", body, piece_bytes, list(small)) + whole(b"last")
    found = frames_of(stream, lambda: rng.randint(1, 900))
    assert [f for f in found if f[0] == b"large"] == [(b"large", body)]
    assert found[-1] == (b"last", b"")
    assert sum(f[0] == b"small" for f in found) == min(len(small), -(-len(body) // piece_bytes))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 200))
@settings(derandomize=True, max_examples=60)
def test_a_payload_of_many_parts_leaves_as_one(parts: list[bytes], piece_bytes: int) -> None:
    joined = b"".join(parts)
    out = [bytes(p) for p in pieces(parts, piece_bytes)]
    assert b"".join(p[8:] for p in out) == joined
    assert all(len(p) == 8 + piece_bytes for p in out[:-1])


def test_parts_may_be_views_of_any_item_size() -> None:
    floats = memoryview(bytearray(range(64))).cast("f")
    assert b"".join(bytes(p)[8:] for p in pieces([floats, memoryview(b"")], 10)) == bytes(range(64))
    assert frames_of(whole(b"", [floats])) == [(b"", bytes(range(64)))]


def test_a_payload_is_the_readers_to_keep() -> None:
    reader = FrameReader(source(whole(b"", [b"one"]) + whole(b"", [b"two"]), lambda: 1 << 20), 10, 10)
    first, second = reader.read(), reader.read()
    assert first is not None
    assert second is not None
    assert (bytes(first[1]), bytes(second[1])) == (b"one", b"two")
    assert not first[1].readonly


def test_an_empty_payload_allocates_nothing() -> None:
    reader = FrameReader(source(whole(b"h"), lambda: 1 << 20), 10, 10, allocate=lambda size: 1 // 0)
    assert reader.read() == (b"h", EMPTY)


@pytest.mark.parametrize(
    "stream",
    [
        prefix(Kind.WHOLE, HEADER_MAX + 1, 0),
        prefix(Kind.WHOLE, 0, PAYLOAD_MAX + 1),
        prefix(Kind.WHOLE, 0xFFFFFF, 0xFFFFFFFF),
        prefix(Kind.OPEN, 0, PAYLOAD_MAX + 1),
        prefix(Kind.OPEN, 0, 0),
        prefix(Kind.PIECE, 0, 1),
        opening(b"", 10) + opening(b"", 10),
        opening(b"", 10) + prefix(Kind.PIECE, 0, 11),
        opening(b"", 10) + prefix(Kind.PIECE, 0, 0),
        b"\x00" * 8,
        b"\xff" * 8,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_breaks_the_rules_is_refused_before_anything_is_allocated(stream: bytes) -> None:
    allocated: list[int] = []

    def allocate(size: int) -> bytearray:
        allocated.append(size)
        return bytearray(size)

    reader = FrameReader(source(stream, lambda: 1 << 20), HEADER_MAX, PAYLOAD_MAX, allocate)
    with pytest.raises(FrameError):
        reader.read()
    assert sum(allocated) <= 10


def test_an_end_inside_a_frame_is_told_from_an_end_between_frames() -> None:
    stream = whole(b"header", [b"payload"]) + large(b"l", b"x" * 50, 20)
    for cut in range(1, len(stream)):
        complete = cut == len(whole(b"header", [b"payload"]))
        if complete:
            assert len(frames_of(stream[:cut])) == 1
        else:
            with pytest.raises(FrameError, match="in the middle"):
                frames_of(stream[:cut])


@given(st.binary(max_size=400))
@settings(derandomize=True, max_examples=200)
def test_noise_is_refused_or_harmless(noise: bytes) -> None:
    try:
        frames_of(noise)
    except FrameError:
        return

"""Blobs between peers on loopback TLS: whole or not at all, from several holders, past those that fail or lie."""

import contextlib
import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from meshd.config import BLOB_CHUNK_BYTES
from meshd.core.ids import Address, Digest, NodeId
from meshd.errors import InvalidError, NotFoundError, UnavailableError
from meshd.net import tcp
from meshd.net.bulk_download import Download, Source
from meshd.net.identity import Identity
from meshd.net.link_bulk import BulkLinks
from meshd.net.tls import Roster
from meshd.wire.codec_bulk import BlobAsk, BlobChunk, BlobHead, BlobMissing, decode_bulk, encode_bulk

WAIT_S = 10.0
RNG = random.Random(1)
BLOB = RNG.randbytes(3 * BLOB_CHUNK_BYTES + 12_345)
DIGEST = Digest(hashlib.sha256(BLOB).hexdigest())


class BulkNode:
    """A node that is nothing but bulk links."""

    def __init__(self, identity: Identity, blobs: dict[Digest, bytes], busy: Callable[[], bool]) -> None:
        self.node, self.roster, self.blobs = identity.node, Roster(identity), blobs
        self.where: dict[NodeId, Address] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self.links = BulkLinks(self.roster, lambda peer: [self.where[peer]], self.read, busy)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def read(self, digest: Digest) -> memoryview:
        if digest not in self.blobs:
            raise NotFoundError("it is not here")
        return memoryview(self.blobs[digest])

    def close(self) -> None:
        tcp.shut(self._listener)
        self._listener.close()
        self._thread.join(WAIT_S)
        self.links.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                raw.settimeout(WAIT_S)
                if raw.recv(1) == b"B":
                    self.links.adopt(raw)
                    continue
            raw.close()


@contextlib.contextmanager
def bulk_nodes(
    identities: list[Identity], *blobs: dict[Digest, bytes], busy: Callable[[], bool] = lambda: False
) -> Iterator[list[BulkNode]]:
    before = set(threading.enumerate())
    nodes = [BulkNode(identity, dict(held), busy) for identity, held in zip(identities, blobs, strict=False)]
    for node in nodes:
        for other in nodes:
            node.roster.trust(other.node, other.roster.identity.certificate)
            node.where[other.node] = other.address
    try:
        yield nodes
    finally:
        for node in nodes:
            node.close()
        for thread in threading.enumerate():
            if thread.name.startswith("link-"):
                thread.join(WAIT_S)
    left = set(threading.enumerate()) - before  # Threads of other tests' pools may end meanwhile.
    assert not left, [t.name for t in left]


@pytest.mark.parametrize("size", [0, 1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, len(BLOB)])
def test_a_blob_arrives_whole(identities: list[Identity], size: int) -> None:
    digest = Digest(hashlib.sha256(BLOB[:size]).hexdigest())
    with bulk_nodes(identities, {}, {digest: BLOB[:size]}) as (a, b):
        assert b"".join(a.links.fetch([b.node], digest)) == BLOB[:size]
    # Counted once sent, which may be after it came: looked at when all threads have ended.
    assert (a.links.counts["fetched_bytes"], b.links.counts["served_bytes"]) == (size, size)


def test_several_holders_share_the_work(identities: list[Identity]) -> None:
    blob = RNG.randbytes(12 * BLOB_CHUNK_BYTES)
    digest = Digest(hashlib.sha256(blob).hexdigest())
    with bulk_nodes(identities, {}, *[{digest: blob}] * 3) as (a, *holders):
        assert b"".join(a.links.fetch([h.node for h in holders], digest)) == blob
    assert sum(h.links.counts["served"] > 0 for h in holders) >= 2


def test_who_lacks_it_is_passed_over_and_named_if_nobody_has_it(identities: list[Identity]) -> None:
    with bulk_nodes(identities, {}, {}, {DIGEST: BLOB}) as (a, b, c):
        assert b"".join(a.links.fetch([b.node, c.node], DIGEST)) == BLOB
        with pytest.raises(UnavailableError, match=f"{b.node}: it is not here"):
            list(a.links.fetch([b.node], DIGEST))
        with pytest.raises(UnavailableError, match="no holder is known"):
            list(a.links.fetch([], DIGEST))


def test_a_holder_that_is_not_there_is_passed_over(identities: list[Identity]) -> None:
    with bulk_nodes(identities, {}, {}, {DIGEST: BLOB}) as (a, b, c):
        b.close()
        assert b"".join(a.links.fetch([b.node, c.node], DIGEST)) == BLOB


def test_a_holder_that_dies_amid_a_blob_is_replaced_where_it_stopped(identities: list[Identity]) -> None:
    with bulk_nodes(identities, {}, {DIGEST: BLOB}, {DIGEST: BLOB}) as (a, b, c):
        came = b""
        for chunk in a.links.fetch([b.node, c.node], DIGEST):
            came += chunk
            b.links.close()
        assert came == BLOB


def test_a_blob_that_rotted_at_its_holder_is_refused_and_the_holder_not_asked_again(identities: list[Identity]) -> None:
    rotten = BLOB[:-1] + bytes([BLOB[-1] ^ 1])
    with bulk_nodes(identities, {}, {DIGEST: rotten}, {DIGEST: BLOB}) as (a, b, c):
        with pytest.raises(InvalidError, match=b.node):
            list(a.links.fetch([b.node], DIGEST))
        assert b"".join(a.links.fetch([b.node, c.node], DIGEST)) == BLOB
        assert a.links.counts["wrong"] == 1


def test_a_fetch_that_is_given_up_ends_its_threads(identities: list[Identity]) -> None:
    with bulk_nodes(identities, {}, {DIGEST: BLOB}) as (a, b):
        fetch = a.links.fetch([b.node], DIGEST)
        next(fetch)
        fetch.close()


def test_who_is_struck_off_gets_nothing_more(identities: list[Identity]) -> None:
    with bulk_nodes(identities, {}, {DIGEST: BLOB}) as (a, b):
        b.roster.strike(a.node)
        with pytest.raises(UnavailableError):
            list(a.links.fetch([b.node], DIGEST))
        assert b.links.counts["served"] == 0


def test_a_blob_is_held_back_while_requests_cross(identities: list[Identity]) -> None:
    paced: list[int] = []
    with bulk_nodes(identities, {}, {DIGEST: BLOB}, busy=lambda: True) as (a, b), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tcp, "pace", lambda connection, bps: paced.append(bps))
        assert b"".join(a.links.fetch([b.node], DIGEST)) == BLOB
    assert paced[0] == 0
    assert all(bps > 0 for bps in paced[1:])
    assert len(paced) == 4


# ---------------------------------------------------------------- the download alone


class Scripted(Source):
    """A holder that answers as told."""

    def __init__(
        self, blob: bytes, answer: Callable[[BlobAsk], tuple[object, bytes] | None] = lambda ask: None
    ) -> None:
        self.blob, self.answer = blob, answer
        self.asked: list[BlobAsk] = []

    def ask(self, ask: BlobAsk) -> tuple[object, memoryview]:
        self.asked.append(ask)
        said = self.answer(ask)
        if said is None:
            chunks = [self.blob[s : s + BLOB_CHUNK_BYTES] for s in range(0, len(self.blob), BLOB_CHUNK_BYTES)]
            if ask.chunk is None:
                said = BlobHead(len(self.blob)), b"".join(hashlib.sha256(c).digest() for c in chunks)
            else:
                said = BlobChunk(ask.chunk), chunks[ask.chunk]
        return said[0], memoryview(said[1])

    def close(self) -> None:
        pass

    def shut(self) -> None:
        pass


def download(*sources: Scripted) -> bytes:
    names = [NodeId(f"n{n}") for n in range(len(sources))]
    made = Download(DIGEST, names, lambda name: sources[names.index(name)])
    try:
        return b"".join(made.chunks())
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda ask: (BlobChunk(0), b"") if ask.chunk is None else None, "no sense"),
        (lambda ask: (BlobHead(5), b"") if ask.chunk is None else None, "no sense"),
        (lambda ask: (BlobChunk(ask.chunk), bytes(10)) if ask.chunk is not None else None, "not what the list says"),
        (lambda ask: (BlobChunk(ask.chunk + 1), b"") if ask.chunk is not None else None, "sent another"),
        (lambda ask: (BlobMissing("gone"), b"") if ask.chunk is not None else None, "gone"),
    ],
)
def test_a_holder_that_talks_nonsense_is_passed_over(answer, said: str) -> None:
    liar = Scripted(BLOB, answer)
    with pytest.raises(UnavailableError, match=said):
        download(liar)
    assert download(liar, Scripted(BLOB)) == BLOB


def test_a_slow_holder_does_not_hold_up_the_end() -> None:
    release = threading.Event()

    def slow(ask: BlobAsk) -> None:
        if ask.chunk is not None:
            release.wait(WAIT_S)

    stuck = Scripted(BLOB, slow)
    try:
        assert download(stuck, Scripted(BLOB)) == BLOB
    finally:
        release.set()


@pytest.mark.parametrize(
    "header",
    [
        BlobAsk(DIGEST),
        BlobAsk(DIGEST, 0),
        BlobAsk(DIGEST, 511),
        BlobHead(0),
        BlobHead(2**29),
        BlobChunk(0),
        BlobMissing("no"),
    ],
)
def test_every_header_comes_back_equal(header) -> None:
    assert decode_bulk(encode_bulk(header)) == header


@pytest.mark.parametrize(
    "junk", [b"", b"\xff", encode_bulk(BlobHead(2**30)), encode_bulk(BlobAsk(DIGEST, 512)), bytes(20_000)]
)
def test_headers_out_of_bounds_are_refused(junk: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_bulk(junk)

"""Bulk links: blobs between peers, on threads and on their own connections, so that nothing waits behind a blob.

A connection belongs to whoever asks: it sends one ask, reads the answer, sends the next. One thread at each end, which
reads and writes in turn, so no TLS object is entered by two.

Rule 1: a chunk is verified when it comes, the whole at the end; nothing of it counts before (see `fetch`).
Rule 2: while requests cross this node's links, a blob takes `BULK_SHARE_PERCENT` of what its own link can do.
"""

import hashlib
import logging
import socket
import ssl
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence

from meshd.config import (
    BLOB_CHUNK_BYTES,
    BULK_SERVED_MAX,
    BULK_SHARE_PERCENT,
    HEADER_BYTES_MAX,
    LINK_SILENT_US,
    PROTOCOL_VERSION,
)
from meshd.core.ids import Address, Boot, Digest, NodeId
from meshd.errors import InvalidError, MeshdError
from meshd.net import tcp
from meshd.net.bulk_download import Download, Source
from meshd.net.link_greeting import LinkKind, check_hello, dial, now_us, welcome
from meshd.net.tls import Roster
from meshd.wire.codec_bulk import BlobAsk, BlobChunk, BlobHead, BlobMissing, decode_bulk, encode_bulk
from meshd.wire.codec_frames import Hello
from meshd.wire.frames import Buffer, FrameReader, opening, pieces, whole

log = logging.getLogger(__name__)

_HEADS_KEPT = 64
"""Chunk lists of blobs served lately: a model's worth, so that several askers cost one hashing."""
_LIARS_KEPT = 256
_PACE_BPS_MIN = 64 * 1024
"""A chunk must not take so long that its asker gives up."""


class BulkLinks:
    """Serves this node's blobs and fetches others'. Thread-safe."""

    def __init__(
        self,
        roster: Roster,
        resolve: Callable[[NodeId], Sequence[Address]],
        read: Callable[[Digest], memoryview],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make them.

        Parameters
        ----------
        resolve : where a peer may be dialled, best first (from the View).
        read : a blob's bytes; raises NotFoundError.
        busy : whether requests cross this node's links now (`DataLinks.busy`).
        """
        self._roster, self._resolve, self._read, self._busy = roster, resolve, read, busy
        self._lock = threading.Lock()
        self._open: dict[ssl.SSLSocket, NodeId] = {}
        self._serving = 0
        self._closed = False
        self._heads: OrderedDict[Digest, bytes] = OrderedDict()
        self._liars: OrderedDict[tuple[Digest, NodeId], None] = OrderedDict()
        self.counts: Counter[str] = Counter()
        """`served`, `served_bytes`, `fetched_bytes`, `refused`, `wrong`."""
        roster.on_strike(self._cut)

    # ---------------------------------------------------------------- asking

    def fetch(self, sources: Sequence[NodeId], digest: Digest) -> Iterator[bytes]:
        """Get a blob from whoever of `sources` has it, chunk by chunk in order; blocks; several are asked at once.

        Chunks are checked against a list of hashes that a source gave, so the blob is to be trusted only once the
        iterator has ended: it checks the digest last, and remembers who gave a wrong list.

        Raises
        ------
        UnavailableError
            No source could give it; names what each said.
        InvalidError
            What came hashes to something else. Asking again asks others.
        """
        honest = [s for s in sources if (digest, s) not in self._liars and s != self._roster.identity.node]
        download = Download(digest, honest, self._connect)
        try:
            for chunk in download.chunks():
                self.counts["fetched_bytes"] += len(chunk)
                yield chunk
        except InvalidError:
            self.counts["wrong"] += 1
            if download.liar is not None:
                with self._lock:
                    self._liars[digest, download.liar] = None
                    while len(self._liars) > _LIARS_KEPT:
                        self._liars.popitem(last=False)
            raise
        finally:
            download.stop()

    def _connect(self, source: NodeId) -> "_Asker":
        connection = dial(self._roster, source, self._resolve(source), LinkKind.BULK)
        try:
            asker = _Asker(connection, lambda: self._let_go(connection))
            self._hold(connection, source)
            return asker
        except BaseException:
            connection.close()
            raise

    # ---------------------------------------------------------------- serving

    def adopt(self, raw: socket.socket, done: Callable[[], None] = lambda: None) -> None:
        """Take over a connection that was accepted and whose first byte said `BULK`; `done` once it is greeted."""
        threading.Thread(target=self._serve, args=(raw, done), name="link-bulk", daemon=True).start()

    def close(self) -> None:
        """End all transfers."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for connection in connections:
            tcp.shut(connection)

    def _serve(self, raw: socket.socket, done: Callable[[], None]) -> None:
        try:
            connection, peer = welcome(self._roster, raw)
        except (OSError, MeshdError) as error:
            self.counts["refused"] += 1
            log.debug("refused a bulk link: %s", error)
            raw.close()
            return
        finally:
            done()
        with self._lock:
            self._serving += 1
        try:
            self._hold(connection, peer)
            reader = FrameReader(connection.recv_into, HEADER_BYTES_MAX, 0)
            first = reader.read()
            check_hello(decode_bulk(first[0]) if first is not None else None)
            connection.settimeout(LINK_SILENT_US / 1e6)
            full_bps = 0
            while (frame := reader.read()) is not None and peer in self._roster:
                ask = decode_bulk(frame[0])
                if not isinstance(ask, BlobAsk):
                    raise InvalidError(f"expected an ask, not {type(ask).__name__}")
                full_bps = self._answer(connection, ask, full_bps)
        except TimeoutError:
            pass  # It asks nothing more.
        except InvalidError as error:
            self.counts["refused"] += 1
            log.info("cut the bulk link of %s: %s", peer, error)
        except (OSError, MeshdError) as error:
            log.debug("the bulk link of %s ended: %s", peer, error)
        finally:
            with self._lock:
                self._serving -= 1
            self._let_go(connection)

    def _answer(self, connection: ssl.SSLSocket, ask: BlobAsk, full_bps: int) -> int:
        """Answer one ask. Takes and returns what the connection can do when it is not held back; 0 for unknown."""
        try:
            if self._serving > BULK_SERVED_MAX:
                raise InvalidError("too many are asking; ask another")
            blob = self._read(ask.digest)
            if ask.chunk is None:
                _send(connection, encode_bulk(BlobHead(len(blob))), self._head(ask.digest, blob))
                return full_bps
            chunk = blob[ask.chunk * BLOB_CHUNK_BYTES : (ask.chunk + 1) * BLOB_CHUNK_BYTES]
            if not chunk:
                raise InvalidError(f"there is no chunk {ask.chunk} in {len(blob)} bytes")
        except MeshdError as error:
            _send(connection, encode_bulk(BlobMissing(str(error))), b"")
            return full_bps
        held_back = full_bps > 0 and self._busy()
        # The first chunk always goes at full speed: it is the measure.
        tcp.pace(connection, max(_PACE_BPS_MIN, full_bps * BULK_SHARE_PERCENT // 100) if held_back else 0)
        _send(connection, encode_bulk(BlobChunk(ask.chunk)), chunk)
        self.counts["served"] += 1
        self.counts["served_bytes"] += len(chunk)
        return full_bps if held_back else tcp.delivery_bps(connection)

    def _head(self, digest: Digest, blob: memoryview) -> bytes:
        with self._lock:
            known = self._heads.get(digest)
        if known is None:
            starts = range(0, len(blob), BLOB_CHUNK_BYTES)
            known = b"".join(hashlib.sha256(blob[s : s + BLOB_CHUNK_BYTES]).digest() for s in starts)
            with self._lock:
                self._heads[digest] = known
                while len(self._heads) > _HEADS_KEPT:
                    self._heads.popitem(last=False)
        return known

    # ---------------------------------------------------------------- both

    def _hold(self, connection: ssl.SSLSocket, peer: NodeId) -> None:
        with self._lock:
            self._open[connection] = peer
            closed = self._closed
        if closed:
            tcp.shut(connection)

    def _let_go(self, connection: ssl.SSLSocket) -> None:
        with self._lock:
            self._open.pop(connection, None)
        connection.close()

    def _cut(self, node: NodeId) -> None:
        with self._lock:
            struck = [connection for connection, peer in self._open.items() if peer == node]
        for connection in struck:
            tcp.shut(connection)


class _Asker(Source):
    """A connection this node dialled to ask for a blob. For one thread."""

    def __init__(self, connection: ssl.SSLSocket, let_go: Callable[[], None]) -> None:
        self._connection, self._let_go = connection, let_go
        connection.settimeout(LINK_SILENT_US / 1e6)
        self._reader = FrameReader(connection.recv_into, HEADER_BYTES_MAX, BLOB_CHUNK_BYTES)
        hello = Hello(PROTOCOL_VERSION, Boot(0), 1, now_us() + 1)
        connection.sendall(whole(encode_bulk(hello)))

    def ask(self, ask: BlobAsk) -> tuple[object, memoryview]:
        self._connection.sendall(whole(encode_bulk(ask)))
        frame = self._reader.read()
        if frame is None:
            raise ConnectionError("it closed the link")
        return decode_bulk(frame[0]), frame[1]

    def close(self) -> None:
        self._let_go()

    def shut(self) -> None:
        tcp.shut(self._connection)


def _send(connection: ssl.SSLSocket, header: bytes, payload: Buffer) -> None:
    if len(payload) <= HEADER_BYTES_MAX:
        connection.sendall(whole(header, [payload] if len(payload) else []))
        return
    connection.sendall(opening(header, len(payload)))
    for piece in pieces([payload]):
        connection.sendall(piece)

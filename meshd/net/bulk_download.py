"""One blob from several holders: who fetches which chunk, what is checked, what comes out in order.

Rule 1: the first holder that answers gives the list of chunk hashes; a holder whose list differs is not asked further.
Rule 2: each chunk is checked against the list, the whole against the digest: a lie costs at most one download, and its
    teller is known (`liar`).
Rule 3: a chunk nobody is fetching goes to whoever is free; near the end, to two: the slow one does not hold up the rest.
"""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from meshd.config import BLOB_CHUNK_BYTES, BULK_AHEAD_MAX, BULK_SOURCES_MAX
from meshd.core.ids import Digest, NodeId
from meshd.errors import InvalidError, MeshdError, UnavailableError
from meshd.wire.codec_bulk import BlobAsk, BlobChunk, BlobHead, BlobMissing


class Source(ABC):
    """A holder that can be asked."""

    @abstractmethod
    def ask(self, ask: BlobAsk) -> tuple[object, memoryview]:
        """Ask and wait for the answer: a header of `wire.codec_bulk` and its payload. Raises OSError, InvalidError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; by the thread that asks."""

    @abstractmethod
    def shut(self) -> None:
        """End what it waits for; from any thread."""


class Download:
    """Fetches one blob. `chunks` once, by one thread; `stop` from any."""

    def __init__(self, digest: Digest, sources: Sequence[NodeId], connect: Callable[[NodeId], Source]) -> None:
        self._digest, self._waiting, self._connect = digest, list(sources), connect
        self._news = threading.Condition()
        self._size: int | None = None
        self._hashes: list[bytes] = []
        self._told_by: NodeId | None = None
        self._next = 0
        """The chunk the reader waits for."""
        self._come: dict[int, bytes] = {}
        self._asked: dict[int, set[NodeId]] = {}
        self._working: dict[NodeId, Source | None] = {}
        self._said: dict[NodeId, str] = {}
        self._stopped = False
        self.liar: NodeId | None = None
        """Who gave the list, if the whole was wrong though every chunk matched it."""

    def chunks(self) -> Iterator[bytes]:
        """The blob's chunks in order; see `BulkLinks.fetch` for what is raised."""
        sha = hashlib.sha256()
        with self._news:
            self._start_more()
        while True:
            with self._news:
                while (chunk := self._come.pop(self._next, None)) is None:
                    if self._size is not None and self._next >= len(self._hashes):
                        break
                    if not self._working:
                        said = "; ".join(f"{source}: {why}" for source, why in sorted(self._said.items()))
                        raise UnavailableError(f"nobody gave blob {self._digest[:12]}: {said or 'no holder is known'}")
                    self._news.wait()
                if chunk is not None:
                    self._next += 1
                    self._news.notify_all()
            if chunk is None:
                break
            sha.update(chunk)
            yield chunk
        if sha.hexdigest() != self._digest:
            self.liar = self._told_by
            raise InvalidError(f"blob {self._digest[:12]}: what {self._told_by} gave hashes to {sha.hexdigest()[:12]}")

    def stop(self) -> None:
        """End all that is under way."""
        with self._news:
            self._stopped = True
            self._news.notify_all()
            working = list(self._working.values())
        for source in working:
            if source is not None:
                source.shut()

    def _start_more(self) -> None:
        while self._waiting and len(self._working) < BULK_SOURCES_MAX and not self._stopped:
            source = self._waiting.pop(0)
            self._working[source] = None
            threading.Thread(target=self._work, args=(source,), name="link-fetch", daemon=True).start()

    def _work(self, name: NodeId) -> None:
        source: Source | None = None
        try:
            source = self._connect(name)
            with self._news:
                self._working[name] = source
                if self._stopped:
                    return
            self._agree(name, *source.ask(BlobAsk(self._digest)))
            while (number := self._take(name)) is not None:
                header, payload = source.ask(BlobAsk(self._digest, number))
                self._check(number, header, payload)
                with self._news:
                    if number >= self._next:
                        self._come.setdefault(number, bytes(payload))
                    self._asked.pop(number, None)
                    self._news.notify_all()
        except (OSError, MeshdError) as error:
            with self._news:
                self._said[name] = str(error) or type(error).__name__
        finally:
            with self._news:
                del self._working[name]
                for askers in self._asked.values():
                    askers.discard(name)
                self._start_more()
                self._news.notify_all()
            if source is not None:
                source.close()

    def _agree(self, name: NodeId, header: object, payload: memoryview) -> None:
        if isinstance(header, BlobMissing):
            raise UnavailableError(header.reason)
        if not isinstance(header, BlobHead) or len(payload) != -(-header.size_bytes // BLOB_CHUNK_BYTES) * 32:
            raise InvalidError("its head makes no sense")
        hashes = [bytes(payload[n : n + 32]) for n in range(0, len(payload), 32)]
        with self._news:
            if self._size is None:
                self._size, self._hashes, self._told_by = header.size_bytes, hashes, name
                self._news.notify_all()
            elif (self._size, self._hashes) != (header.size_bytes, hashes):
                raise InvalidError(f"its list of chunks differs from that of {self._told_by}")

    def _take(self, name: NodeId) -> int | None:
        """The next chunk for `name` to fetch; waits while others have all there is to do; None when all came."""
        with self._news:
            while not self._stopped:
                missing = [n for n in range(self._next, len(self._hashes)) if n not in self._come]
                if not missing:
                    return None
                near = [n for n in missing if n < self._next + BULK_AHEAD_MAX]
                free = [n for n in near if not self._asked.get(n)]
                # At the end, help with what another has in hand.
                late = [n for n in near if self._asked.get(n) and name not in self._asked[n]] if not free else []
                if free or (late and len(near) == len(missing)):
                    number = (free or late)[0]
                    self._asked.setdefault(number, set()).add(name)
                    return number
                self._news.wait()
        return None

    def _check(self, number: int, header: object, payload: memoryview) -> None:
        if isinstance(header, BlobMissing):
            raise UnavailableError(header.reason)
        if not isinstance(header, BlobChunk) or header.chunk != number:
            raise InvalidError(f"it was asked for chunk {number} and sent another")
        if hashlib.sha256(payload).digest() != self._hashes[number]:
            raise InvalidError(f"its chunk {number} is not what the list says")

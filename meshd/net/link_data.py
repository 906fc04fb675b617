"""Data links: a request's frames between peers, on threads.

A link is two TLS connections, one each way: each node dials the one it writes. One thread only writes, one only reads,
and no TLS object is ever entered by two threads. A link is up when the peer's Hello, heard on its connection, names
ours: in TLS 1.3 a dialler learns in no other way, without reading, that it was let in.

Rule 1: a reader never writes: what it has to say (Hello, Echo) it queues.
Rule 2: the end of either connection ends both. Whose fault it was does not matter: what was on the way is lost.
Rule 3: a link that was asked for (`ensure`), or that the peer keeps up, is dialled again with back-off.
Rule 4: `link_changed` is called once for each change, in order.
Rule 5: a bug on a link's thread ends the process (`fail_stop`); what a peer sends can only close its link.
"""

import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from meshd.config import (
    BULK_QUIET_US,
    DATA_FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    LINKS_MAX,
)
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.journey.frames import Frame
from meshd.errors import MeshdError
from meshd.net.addresses import address_of
from meshd.net.fail_stop import OnBug, end_process, watched
from meshd.net.link_greeting import LinkKind, check_hello, dial, now_us, welcome
from meshd.net.link_lanes import Ticket
from meshd.net.link_pair import LinkPair
from meshd.net.tls import Roster
from meshd.wire.codec_frames import decode_frame
from meshd.wire.frames import Buffer, FrameReader

log = logging.getLogger(__name__)


class Receiver(Protocol):
    """The data plane, as the links see it: called on a link's reader thread, returns within microseconds."""

    def receive(self, peer: NodeId, frame: Frame, payload: memoryview) -> None:
        """A frame of `peer`, pinned by its key. The payload is the receiver's to keep."""

    def link_changed(self, peer: NodeId, up: bool) -> None:
        """The link to `peer` came up or went down."""


class DataLinks:
    """All data links of this node. Thread-safe; no method but `close` waits."""

    def __init__(
        self,
        roster: Roster,
        boot: Boot,
        port: int,
        resolve: Callable[[NodeId], Sequence[Address]],
        on_bug: OnBug = end_process,
    ) -> None:
        """Make them.

        Parameters
        ----------
        port : where this node listens
        resolve : tells where a peer may be dialled, best first (from the View)
        on_bug : told what a thread of a link raised, on that thread
        """
        self._roster, self._resolve, self.on_bug = roster, resolve, on_bug
        self.boot, self.port = boot, port
        self.counts: Counter[str] = Counter()
        """`dialled`, `dial_failed`, `welcomed`, `refused_greeting`, `refused_frame`, `lost`."""
        self._lock = threading.Lock()
        self._links: dict[NodeId, LinkPair] = {}
        self._receiver: Receiver | None = None
        self._closed = False
        self._crossed_us = -BULK_QUIET_US
        roster.on_strike(self.drop)

    def attach(self, receiver: Receiver) -> None:
        """Give frames to `receiver` from now on; tells it at once of every link that is up."""
        with self._lock:
            self._receiver = receiver
            links = list(self._links.values())
        for link in links:
            link.tell_again()

    def ensure(self, peer: NodeId) -> None:
        """Connect to `peer` and stay connected, dialling again with back-off, until `drop`."""
        link = self._link(peer)
        if link is not None:
            link.keep()

    def drop(self, peer: NodeId) -> None:
        """Close the link to `peer` at once and do not dial it again. It may still dial, if it is on the roster."""
        with self._lock:
            link = self._links.pop(peer, None)
        if link is not None:
            link.close()

    def is_up(self, peer: NodeId) -> bool:
        """Whether both ways stand."""
        link = self._links.get(peer)
        return link is not None and link.up

    def peers(self) -> dict[NodeId, bool]:
        """Every peer a link is kept or open to, and whether it is up."""
        with self._lock:
            return {peer: link.up for peer, link in sorted(self._links.items())}

    def send(self, peer: NodeId, frame: Frame, payload: Sequence[Buffer] = ()) -> Ticket | None:
        """Queue a frame; its buffers are not touched until the ticket says that it left.

        Returns None where no link is up, or the lane for payloads is full (many large frames wait: ask another peer).

        Notes
        -----
        NB a full lane of small frames closes the link; a full lane of payloads does not: one slow link under load would
        fail everything on it at once.
        """
        link = self._links.get(peer)
        writer = link.writer if link is not None and link.up else None
        if writer is None:
            return None
        self._crossed_us = now_us()
        return writer.send(frame, payload)

    def busy(self) -> bool:
        """Whether requests cross this node's links now: bulk transfers hold back."""
        return now_us() - self._crossed_us < BULK_QUIET_US

    def rtt_us(self, peer: NodeId) -> int:
        """Round trip between the two processes as last measured; 0 where it never was."""
        link = self._links.get(peer)
        return link.measured.rtt_us if link is not None else 0

    def bandwidth_bps(self, peer: NodeId) -> int:
        """Bytes a second as last measured; 0 where it never was."""
        link = self._links.get(peer)
        return link.measured.bandwidth_bps if link is not None else 0

    def adopt(self, raw: socket.socket, done: Callable[[], None] = lambda: None) -> None:
        """Take over a connection that was accepted and whose first byte said `DATA`; `done` once it is greeted.

        Starts a thread; the socket is this object's.
        """
        threading.Thread(
            target=watched(self._greet, self.on_bug), args=(raw, done), name="link-greet", daemon=True
        ).start()

    def close(self) -> None:
        """Close all links and wait for their threads (at most 2 s)."""
        with self._lock:
            self._closed = True
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            link.close()
        until = time.monotonic() + 2
        for link in links:
            link.join(max(0.0, until - time.monotonic()))

    def _link(self, peer: NodeId) -> LinkPair | None:
        with self._lock:
            link = self._links.get(peer)
            if link is not None or self._closed or peer not in self._roster:
                return link
            if len(self._links) >= LINKS_MAX:
                idle = next((p for p, found in self._links.items() if found.idle), None)
                if idle is None:
                    log.warning("no link to %s: this node has %d already", peer, LINKS_MAX)
                    return None
                del self._links[idle]
            link = self._links[peer] = LinkPair(self, peer)
            return link

    # ---------------------------------------------------------------- for its pairs

    def dial(self, peer: NodeId, came_from: Address | None) -> ssl.SSLSocket | None:
        """Connect to `peer`, also where it came from itself. None if that fails."""
        addresses = list(self._resolve(peer))
        if came_from is not None and came_from not in addresses:
            addresses.append(came_from)
        try:
            connection = dial(self._roster, peer, addresses, LinkKind.DATA)
            connection.settimeout(None)
        except (OSError, MeshdError) as error:
            self.counts["dial_failed"] += 1
            log.debug("%s", error)
            return None
        self.counts["dialled"] += 1
        return connection

    def deliver(self, peer: NodeId, frame: Frame, payload: memoryview) -> None:
        """A frame came."""
        self._crossed_us = now_us()
        if self._receiver is not None:
            self._receiver.receive(peer, frame, payload)

    def changed(self, peer: NodeId, up: bool) -> None:
        """A link came up or went down."""
        if not up:
            self.counts["lost"] += 1
        if self._receiver is not None:
            self._receiver.link_changed(peer, up)

    def _greet(self, raw: socket.socket, done: Callable[[], None]) -> None:
        try:
            sender = address_of(raw.getpeername())
            connection, peer = welcome(self._roster, raw)
        except (OSError, MeshdError) as error:
            self.counts["refused_greeting"] += 1
            log.debug("refused a data link: %s", error)
            raw.close()
            done()
            return
        try:
            reader = FrameReader(connection.recv_into, HEADER_BYTES_MAX, DATA_FRAME_BYTES_MAX)
            first = reader.read()
            hello = check_hello(decode_frame(first[0]) if first is not None else None)
            connection.settimeout(None)
        except (OSError, MeshdError) as error:
            self.counts["refused_greeting"] += 1
            log.info("refused a data link of %s: %s", peer, error)
            connection.close()
            return
        finally:
            done()
        self.counts["welcomed"] += 1
        link = self._link(peer)
        if link is None:
            connection.close()
            return
        threading.current_thread().name = f"link-read-{peer[:6]}"
        link.read(connection, reader, hello, Address(sender.host, hello.port))

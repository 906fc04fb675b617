"""Control links: the core's link messages between peers, in trio.

Bodies are opaque here (the codec is `wire`'s), at most `CONTROL_FRAME_BYTES_MAX`. A connection opens when there is
something to send, or when the peer's does, and closes when nothing was said for a while.

Rule 1: one connection a pair is used for sending. Where both dialled at once, the lower id's stays; the other is still
    read for a while, so that nothing that was sent on it is lost.
Rule 2: `send` never waits; what cannot be sent is dropped, and `on_change(peer, False)` says so.
Rule 3: a connection that closes in good order, because nobody used it, is no failure and is not told.
"""

import logging
import random
import secrets
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from meshd.config import (
    CONTROL_FRAME_BYTES_MAX,
    CONTROL_IDLE_US,
    CONTROL_LINGER_US,
    CONTROL_LINKS_MAX,
    CONTROL_QUEUE_BYTES_MAX,
    CONTROL_QUEUE_FRAMES_MAX,
    LINK_BACK_OFF_MAX_US,
    LINK_BACK_OFF_MIN_US,
    LINK_GREETING_US,
    LINK_SILENT_US,
    PROTOCOL_VERSION,
)
from meshd.core.ids import Address, Boot, NodeId
from meshd.errors import DeniedError, MeshdError
from meshd.net.body_stream import BodyStream
from meshd.net.link_greeting import check_hello
from meshd.net.link_trio import dial_stream, welcome_stream
from meshd.net.tls import Roster
from meshd.wire.codec_frames import Hello, decode_frame, encode_frame

log = logging.getLogger(__name__)

Dial = Callable[[NodeId], Awaitable[trio.abc.Stream]]
"""Connects to a peer and verifies that it is the peer, or raises MeshdError or OSError."""
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, MeshdError, OSError)


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection to a peer, greeted."""

    stream: BodyStream
    dialled_by: NodeId
    boot: Boot
    opened_s: float
    used_s: float
    sent_s: float = float("-inf")
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass(slots=True, eq=False)
class _Peer:
    """What waits for a peer, and how it is reached."""

    queue: deque[bytes] = field(default_factory=deque)
    queue_bytes: int = 0
    news: trio.Event = field(default_factory=trio.Event)
    current: _Connection | None = None
    others: list[_Connection] = field(default_factory=list)
    """Still read, not written any more."""
    dialling: bool = False
    back_off_us: int = 0
    dial_after_s: float = float("-inf")


class ControlLinks:
    """All control links of this node; used from its trio thread only."""

    def __init__(
        self,
        roster: Roster,
        boot: Boot,
        port: int,
        resolve: Callable[[NodeId], Sequence[Address]],
        on_message: Callable[[NodeId, bytes], None],
        on_change: Callable[[NodeId, bool], None],
        dial: Dial | None = None,
    ) -> None:
        """Make them; nothing happens before `run`.

        Parameters
        ----------
        port : where this node listens.
        resolve : where a peer may be dialled, best first (from the View).
        on_message : called with each message, in the order of its link.
        on_change : called with True when a link opened; with False when it failed and what waited was dropped.
        dial : for tests, another way to reach a peer than TLS.
        """
        self._roster, self._me, self._boot, self._port = roster, roster.identity.node, boot, port
        self._dial = dial or (lambda peer: dial_stream(roster, peer, resolve(peer)))
        self._on_message, self._on_change = on_message, on_change
        self._peers: dict[NodeId, _Peer] = {}
        roster.on_strike(self.drop)
        self._nursery: trio.Nursery | None = None
        self.counts: Counter[str] = Counter()
        """`opened`, `failed`, `dial_failed`, `sent`, `sent_bytes`, `received`, `received_bytes`, `dropped`, `refused`."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then all links are closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def peers(self) -> list[NodeId]:
        """Peers with an open link."""
        return sorted(peer for peer, found in self._peers.items() if found.current is not None)

    def send(self, peer: NodeId, body: bytes) -> None:
        """Queue a message, dialling if need be. Never waits."""
        if self._nursery is None:
            return  # The daemon ends.
        there = self._peers.setdefault(peer, _Peer())
        if there.current is None and not there.dialling and trio.current_time() < there.dial_after_s:
            self.counts["dropped"] += 1
            self._on_change(peer, False)
            return
        if len(there.queue) >= CONTROL_QUEUE_FRAMES_MAX or there.queue_bytes + len(body) > CONTROL_QUEUE_BYTES_MAX:
            log.warning("%s does not take in what this node says: closed its control link", peer)
            self.drop(peer)
            self._on_change(peer, False)
            return
        there.queue.append(body)
        there.queue_bytes += len(body)
        there.news.set()
        if there.current is None and not there.dialling:
            there.dialling = True
            self._nursery.start_soon(self._open, peer, there)

    def drop(self, peer: NodeId) -> None:
        """Close the link to `peer` at once; what waits for it is forgotten. It may be opened again by a `send`."""
        there = self._peers.get(peer)
        if there is None:
            return
        self._forget_queue(there)
        for connection in (there.current, *there.others):
            if connection is not None:
                connection.scope.cancel()
        there.current = None

    async def adopt(self, accepted: trio.SocketStream, done: Callable[[], None] = lambda: None) -> None:
        """Serve a connection that was accepted and whose first byte said `CONTROL`, until it ends. Owns it."""
        try:
            stream, peer = await welcome_stream(self._roster, accepted)
        except DeniedError as error:
            self.counts["refused"] += 1
            log.debug("%s", error)
            return
        finally:
            done()
        await self.serve(peer, stream)

    async def serve(self, peer: NodeId, stream: trio.abc.Stream) -> None:
        """Serve a connection that `peer` dialled, verified, until it ends. Owns the stream."""
        await self._greet(peer, stream, peer)

    # ---------------------------------------------------------------- opening

    async def _open(self, peer: NodeId, there: _Peer) -> None:
        try:
            with trio.fail_after(2 * LINK_GREETING_US / 1e6):
                stream = await self._dial(peer)
        except (*_BROKEN, trio.TooSlowError) as error:
            log.debug("no control link to %s: %s", peer, error)
            self.counts["dial_failed"] += 1
            there.dialling = False
            if there.current is None:  # Or the peer dialled meanwhile.
                self._failed(peer, there)
            return
        await self._greet(peer, stream, self._me)

    async def _greet(self, peer: NodeId, stream: trio.abc.Stream, dialled_by: NodeId) -> None:
        bodies = BodyStream(stream, CONTROL_FRAME_BYTES_MAX)
        there = self._peers.setdefault(peer, _Peer())
        hello: Hello | None = None
        try:
            with trio.move_on_after(LINK_GREETING_US / 1e6):
                mine = Hello(PROTOCOL_VERSION, self._boot, self._port, secrets.randbits(63) + 1)
                await bodies.send(encode_frame(mine))
                first = await bodies.receive()
                hello = check_hello(decode_frame(first) if first is not None else None)
        except _BROKEN as error:
            log.info("no control link with %s: %s", peer, error)
        finally:
            if dialled_by == self._me:
                there.dialling = False
            if hello is None:
                self.counts["refused"] += 1
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await bodies.aclose()
        if hello is not None:
            now = trio.current_time()
            await self._use(peer, there, _Connection(bodies, dialled_by, hello.boot, now, now))
        elif dialled_by == self._me and there.current is None:
            self._failed(peer, there)

    def _wins(self, new: _Connection, old: _Connection) -> bool:
        """Whether `new` is used from now on. Both ends must say the same of two that opened at once."""
        if new.boot != old.boot or new.dialled_by == old.dialled_by:
            return True  # The peer restarted, or dialled again: it has lost the old one.
        if new.opened_s - old.opened_s > CONTROL_LINGER_US / 1e6:
            return True
        return new.dialled_by < old.dialled_by

    # ---------------------------------------------------------------- one connection

    async def _use(self, peer: NodeId, there: _Peer, connection: _Connection) -> None:
        old = there.current
        if old is None or self._wins(connection, old):
            there.current = connection
            there.back_off_us, there.dial_after_s = 0, float("-inf")
            if old is not None:
                self._linger(there, old)
                there.news.set()  # Its sender sees that it is the sender no more.
            else:
                self._make_room()
                self.counts["opened"] += 1
                self._on_change(peer, True)
        else:
            self._linger(there, connection)
        in_order = False
        try:
            with connection.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_all, there, connection)
                    in_order = await self._receive_all(peer, connection)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What broke was told by `in_order`; anything else is a bug and goes up.
            _, rest = group.split(_BROKEN)
            if rest is not None:
                raise rest from None
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await connection.stream.aclose()
            if connection in there.others:
                there.others.remove(connection)
            self._ended(peer, there, connection, in_order)

    async def _receive_all(self, peer: NodeId, connection: _Connection) -> bool:
        """Take messages until the end; True if it came in good order."""
        while (body := await connection.stream.receive()) is not None:
            connection.used_s = trio.current_time()
            self.counts["received"] += 1
            self.counts["received_bytes"] += len(body)
            self._on_message(peer, body)
        return True

    async def _send_all(self, there: _Peer, connection: _Connection) -> None:
        while there.current is connection:
            if not there.queue:
                there.news = trio.Event()
                idle_s = connection.used_s + CONTROL_IDLE_US / 1e6
                # Only its dialler closes an idle connection: two that close at once would each lose the other's last word.
                with trio.move_on_at(idle_s if connection.dialled_by == self._me else float("inf")):
                    await there.news.wait()
                    continue
                if trio.current_time() >= connection.used_s + CONTROL_IDLE_US / 1e6:
                    connection.scope.cancel()
                    there.current = None
                    return
                continue
            body = there.queue.popleft()
            there.queue_bytes -= len(body)
            try:
                with trio.fail_after(LINK_SILENT_US / 1e6):
                    await connection.stream.send(body)
            except trio.TooSlowError:
                raise trio.BrokenResourceError("the peer takes nothing in") from None
            connection.used_s = connection.sent_s = trio.current_time()
            self.counts["sent"] += 1
            self.counts["sent_bytes"] += len(body)

    def _linger(self, there: _Peer, connection: _Connection) -> None:
        there.others.append(connection)
        connection.scope.deadline = trio.current_time() + CONTROL_LINGER_US / 1e6

    def _ended(self, peer: NodeId, there: _Peer, connection: _Connection, in_order: bool) -> None:
        if there.current is not connection:
            return  # Dropped, idle, or not the one in use.
        there.current = None
        just_sent = trio.current_time() - connection.sent_s < CONTROL_LINGER_US / 1e6
        if in_order and not just_sent and not there.queue:
            return
        self._failed(peer, there)

    def _failed(self, peer: NodeId, there: _Peer) -> None:
        self.counts["failed"] += 1
        self._forget_queue(there)
        there.back_off_us = min(max(LINK_BACK_OFF_MIN_US, 2 * there.back_off_us), LINK_BACK_OFF_MAX_US)
        there.dial_after_s = trio.current_time() + there.back_off_us * random.uniform(0.5, 1.0) / 1e6
        self._on_change(peer, False)

    def _forget_queue(self, there: _Peer) -> None:
        self.counts["dropped"] += len(there.queue)
        there.queue.clear()
        there.queue_bytes = 0

    def _make_room(self) -> None:
        """Keep at most `CONTROL_LINKS_MAX` open: close what was used longest ago, and forget peers of long ago."""
        opened = [(p.current.used_s, peer) for peer, p in self._peers.items() if p.current is not None]
        if len(opened) > CONTROL_LINKS_MAX:
            self.drop(min(opened)[1])
        now = trio.current_time()
        for peer, there in list(self._peers.items()):
            if there.current is None and not (
                there.dialling or there.queue or there.others or now < there.dial_after_s
            ):
                del self._peers[peer]

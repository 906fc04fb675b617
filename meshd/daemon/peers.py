"""The wires to other nodes, as the driver wants them: bytes become core values here and nowhere above.

Before the core says `UseBoot` nothing can be sealed, so the sockets are bound but silent; with it the links are made.

Rule 1: what does not decode is refused, counted and forgotten; its sender is not blamed (a newer version may be there).
Rule 2: a message on a link is attributed to the link's pinned peer, never to what it claims.
"""

import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import trio

from meshd.core import events
from meshd.core.events import DatagramIn, LinkChanged, LinkIn
from meshd.core.ids import Address, Boot, Digest, NodeId
from meshd.core.messages import Join
from meshd.core.view import View
from meshd.daemon.inbox import Inbox
from meshd.errors import InvalidError, MeshdError
from meshd.net.gossip import GossipSocket
from meshd.net.identity import Identity
from meshd.net.link_bulk import BulkLinks
from meshd.net.link_control import ControlLinks
from meshd.net.link_data import DataLinks
from meshd.net.link_listener import Greetings, serve_links
from meshd.net.tls import Roster
from meshd.wire.codec import decode_gossip, decode_link, encode_gossip, encode_link
from meshd.wire.seal import Keyring, Opener, Sealer

log = logging.getLogger(__name__)


class Peers:
    """Gossip, control, data and bulk links of one node; the driver's `Gossip` and `Links`.

    Parameters
    ----------
    udp, tcp : bound to one port (`net.addresses.bind_ports`); closed by `close`
    view : the current view: tells where a peer may be dialled
    read : a topology's or blob's bytes, for a peer that asks
    """

    def __init__(
        self,
        udp: socket.socket,
        tcp: socket.socket,
        port: int,
        identity: Identity,
        keyring: Keyring,
        view: Callable[[], View],
        read: Callable[[Digest], memoryview],
    ) -> None:
        self._udp, self._tcp, self._port, self._identity, self._keyring = udp, tcp, port, identity, keyring
        self._view, self._read = view, read
        self.roster = Roster(identity)
        self._greetings = Greetings()
        self._gossip: GossipSocket | None = None
        self._inbox: Inbox | None = None
        self.booted = trio.Event()
        self.counts: Counter[str] = Counter()
        """`undecoded`: verified, but not what this version understands. `unheard`: the inbox was full."""

    def deliver_to(self, inbox: Inbox) -> None:
        """Where link messages and changes go; before `UseBoot`."""
        self._inbox = inbox

    def proven(self, node: NodeId, boot: Boot) -> None:
        """(node, boot) answered this process: nothing older of it counts."""
        self.opener.proven(node, boot)

    def use_boot(self, boot: Boot) -> None:
        """Seal as `boot` from now on. The first makes the links; a later one (an identity seen elsewhere) keeps them."""
        if not self.booted.is_set():
            self.opener = Opener(self._keyring, self._identity.node, boot)
        self.opener.use_boot(boot)  # The same one: a fresh one would not know what came before.
        self._gossip = GossipSocket(self._udp, Sealer(self._keyring, self._identity.node, boot), self.opener)
        self.boot = boot
        if not self.booted.is_set():
            self.control = ControlLinks(self.roster, boot, self._port, self.resolve, self._on_message, self._on_change)
            self.data = DataLinks(self.roster, boot, self._port, self.resolve)
            self.bulk = BulkLinks(self.roster, self.resolve, self._read, self.data.busy)
            self.booted.set()

    async def run(self) -> None:
        """Serve links once booted, until cancelled."""
        await self.booted.wait()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.control.run)
            await nursery.start(serve_links, self._tcp, self.control, self.data, self.bulk, self._greetings)

    def close(self) -> None:
        """Close everything; ends the data links' threads."""
        if self.booted.is_set():
            self.data.close()
            self.bulk.close()
        self._udp.close()
        self._tcp.close()

    def fetch(self, sources: Sequence[NodeId], digest: Digest) -> Iterator[bytes]:
        """Get a topology or blob from a peer; see `holder.Fetch`."""
        yield from self.bulk.fetch(sources, digest)

    def tallies(self) -> Counter[str]:
        """Gossip's counts, for the metrics."""
        return self.counts + (self._gossip.counts if self._gossip is not None else Counter())

    def link_counts(self) -> dict[tuple[str, str], int]:
        """(kind of link, what happened) → how often, for the metrics."""
        if not self.booted.is_set():
            return {}
        kinds = {"control": self.control.counts, "data": self.data.counts, "bulk": self.bulk.counts}
        told = {(kind, what): count for kind, counts in kinds.items() for what, count in dict(counts).items()}
        return {("any", "refused_at_the_door"): self._greetings.refused, **told}

    def refused(self) -> dict[str, int]:
        """Datagrams refused by reason, for the metrics."""
        return {reason.value: count for reason, count in self.opener.refused.items()} if self.booted.is_set() else {}

    def resolve(self, peer: NodeId) -> Sequence[Address]:
        """Where `peer` may be dialled, best first."""
        member = self._view().members.get(peer)
        return () if member is None else member.addresses

    # ------------------------------------------------------------ the driver's Gossip

    async def readable(self) -> None:
        """Return when a datagram waits."""
        await self.booted.wait()
        assert self._gossip is not None
        await self._gossip.readable()

    def drain(self, limit: int) -> list[DatagramIn]:
        """Read, verify and decode what waits."""
        if self._gossip is None:
            return []
        found = []
        for received in self._gossip.drain(limit):
            try:
                message = decode_gossip(received.body)
                if received.to_anyone and not isinstance(message, Join):
                    raise InvalidError("sealed for nobody in particular, and not a Join")
            except MeshdError as error:
                self.counts["undecoded"] += 1
                log.debug("datagram of %s refused: %s", received.source[:8], error)
                continue
            found.append(DatagramIn(received.source, received.boot, received.address, message))
        return found

    def send(self, effect: events.SendDatagram | events.SendLink) -> None:
        """Encode and send, or queue on the control link."""
        if isinstance(effect, events.SendLink):
            self.control.send(effect.peer, encode_link(effect.message))
        elif self._gossip is not None:
            self._gossip.send(effect.address, effect.receiver, encode_gossip(effect.message))

    # ------------------------------------------------------------ the driver's Links

    def trust(self, effect: events.Trust) -> None:
        """Put a certificate on the roster."""
        self.roster.trust(effect.node, effect.certificate)

    def distrust(self, effect: events.Distrust) -> None:
        """Strike a node off the roster, which closes its links."""
        self.roster.strike(effect.node)

    def _on_message(self, peer: NodeId, body: bytes) -> None:
        assert self._inbox is not None
        try:
            message = decode_link(body)
        except MeshdError as error:
            self.counts["undecoded"] += 1
            log.debug("link message of %s refused: %s", peer[:8], error)
            return
        if not self._inbox.offer(LinkIn(peer, message)):
            self.counts["unheard"] += 1

    def _on_change(self, peer: NodeId, up: bool) -> None:
        assert self._inbox is not None
        self._inbox.answer(LinkChanged(peer, up))

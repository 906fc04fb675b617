"""Calling those who are not there: the dead, the seeds, peers remembered from earlier lives.

Without it a long split never heals: each side holds the other dead and nobody ever asks.

Rule: a sighting (mDNS, a seed) says where to dial and proves nothing.
"""

from meshd.config import PEERS_KEPT_MAX
from meshd.core.context import Context
from meshd.core.ids import Address, NodeId
from meshd.core.join import Joins
from meshd.core.membership import Members, Record
from meshd.core.messages import KeptPeer
from meshd.core.post import Post
from meshd.core.rng import Rng
from meshd.core.view import State


class Contacts:
    """Seeds, remembered peers, the dead."""

    def __init__(
        self, context: Context, members: Members, post: Post, joins: Joins, rng: Rng, seeds: tuple[Address, ...]
    ) -> None:
        self._context, self._members, self._post, self._joins, self._rng = context, members, post, joins, rng
        self._seeds = seeds
        self.kept: dict[NodeId, KeptPeer] = {}
        """On disk: members met, the oldest first."""

    def start(self) -> None:
        """Knock at every known door."""
        self._context.timer("contact", 1 + self._rng.randrange(self._context.timers.contact_dead_us))
        self.on_seeds()

    def on_seeds(self) -> None:
        """Timer `seeds`: doors behind which no live member is known."""
        timers = self._context.timers
        self._context.timer("seeds", timers.contact_seeds_us if self._members.live else timers.contact_alone_us)
        doors: dict[Address, NodeId | None] = dict.fromkeys(self._seeds)
        for node, peer in self.kept.items():
            doors |= dict.fromkeys(peer.addresses, node)
        if not doors:
            return
        known = set(self._context.addresses)
        for node in self._members.live:
            record = self._members.peek(node)
            known |= {*record.addresses, *([record.path] if record.path is not None else [])}
        for address, who in doors.items():
            if address not in known:
                self._joins.invite(address, who)

    def on_dead(self) -> None:
        """Timer `contact`: call one of the dead, each in turn."""
        timers = self._context.timers
        self._context.timer("contact", timers.contact_dead_us)
        dead = [
            record
            for node in self._members.gone
            if (record := self._members.records[node]).state is State.DEAD
            and self._context.now_us - record.since_us < timers.contact_dead_for_us
        ]
        if dead:
            self.call(dead[self._rng.randrange(len(dead))])

    def call(self, record: Record) -> None:
        """Ask a member that is held dead: if it lives, its answer refutes."""
        self._post.ping(record, self._rng.getrandbits(64))

    def sighted(self, address: Address, node: NodeId | None) -> None:
        """A hint that somebody is there."""
        record = self._members.get(node) if node is not None else None
        if node == self._context.me or address in self._context.addresses:
            return
        if record is None:
            self._joins.invite(address, node)
        elif record.state is State.DEAD:
            self.call(record)
        elif record.state is State.LEFT:
            self._joins.invite(address, node)

    def remember(self, record: Record) -> tuple[NodeId, KeptPeer] | None:
        """Keep where a member is, if that is news; the oldest of too many is forgotten."""
        peer = KeptPeer(record.addresses)
        if not record.addresses or self.kept.get(record.node) == peer:
            return None
        if record.node not in self.kept and len(self.kept) >= PEERS_KEPT_MAX:
            return None
        self.kept[record.node] = peer
        return record.node, peer

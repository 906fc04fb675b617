"""Control links between simulated machines: TCP and TLS as the node sees them.

A link opens in two round trips if both ends trust each other's certificate, keeps order, loses nothing, and closes: at
once when a process dies, after `SILENT_US` when the machine or the path between does, and what was on its way is gone.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshd.config import MS, S
from meshd.core.events import LinkChanged
from meshd.core.ids import NodeId

if TYPE_CHECKING:
    from meshd.sim.cluster import Cluster

HANDSHAKE_DELAYS = 5
"""One-way delays until the first message may leave: TCP, TLS 1.3, Hello."""
SILENT_US = 10 * S
"""A link over which nothing passes is given up after this."""
CONNECT_US = 3 * S
PENDING_MAX = 256


@dataclass(slots=True)
class _Link:
    """One link, of a pair (lower index, higher index)."""

    pair: tuple[int, int]
    opened: bool = False
    closed: bool = False
    free_us: dict[int, int] = field(default_factory=dict)
    """Sender → when its last message will have arrived: the next comes after it."""
    pending: deque[tuple[int, bytes]] = field(default_factory=deque)
    """Sent while it was opening."""
    dead: int | None = None
    """The end that died, if that closed it."""


class Links:
    """All control links of a cluster."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._links: dict[tuple[int, int], _Link] = {}
        self.messages = self.bytes = 0
        self.clogged: dict[tuple[int, int], str] = {}
        """Pairs between which nothing passes on links although datagrams do, with the fault's name.

        For less than `SILENT_US` all is late; for longer links close, and none opens.
        """

    def send(self, source: int, peer: NodeId, body: bytes) -> None:
        """A SendLink effect."""
        target = self._cluster.by_id.get(peer)
        if target is None:
            return
        pair = _pair(source, target.index)
        link = self._links.get(pair)
        if link is None:
            link = self._links[pair] = _Link(pair)
            self._dial(link, source)
        if not link.opened:
            if len(link.pending) < PENDING_MAX:
                link.pending.append((source, body))
            return
        self._carry(link, source, body)

    def _dial(self, link: _Link, source: int) -> None:
        network, clock = self._cluster.network, self._cluster.clock
        other = link.pair[0] if link.pair[1] == source else link.pair[1]
        took_us = sum(network.delay_us() for _ in range(HANDSHAKE_DELAYS))
        if self._passes(link):
            clock.after(took_us, self._opened, link)
        elif not self._cluster.machine(other).up and self._reach(link):
            clock.after(took_us, self._close, link)  # Refused at once.
        else:
            clock.after(CONNECT_US, self._close, link)

    def _reach(self, link: _Link) -> bool:
        a, b = link.pair
        network = self._cluster.network
        if clog := self.clogged.get(link.pair):
            network.on_fault(clog)
            return False
        return network.reaches(a, b) and network.reaches(b, a)

    def _passes(self, link: _Link) -> bool:
        a, b = link.pair
        return self._reach(link) and self._cluster.machine(a).up and self._cluster.machine(b).up

    def _opened(self, link: _Link) -> None:
        if link.closed:
            return
        one, two = (self._cluster.machine(index) for index in link.pair)
        if not self._passes(link) or two.node_id not in one.trusted or one.node_id not in two.trusted:
            self._close(link)
            return
        link.opened = True
        one.give(LinkChanged(two.node_id, True))
        two.give(LinkChanged(one.node_id, True))
        while link.pending:
            self._carry(link, *link.pending.popleft())

    def _carry(self, link: _Link, source: int, body: bytes) -> None:
        clock, network = self._cluster.clock, self._cluster.network
        self.messages += 1
        self.bytes += len(body)
        to = link.pair[0] if link.pair[1] == source else link.pair[1]
        left_us = clock.now_us + network.crossing_us(source, to, len(body))
        arrives_us = max(link.free_us.get(source, 0) + 1, left_us + network.delay_us())
        link.free_us[source] = arrives_us
        clock.at(arrives_us, self._arrive, link, source, body, clock.now_us)

    def _arrive(self, link: _Link, source: int, body: bytes, sent_us: int) -> None:
        if link.closed and link.dead != source:
            return
        if link.closed:
            # What a machine said before it died still arrives, where it can.
            if not self._reach(link):
                return
        elif not self._passes(link):
            # TCP tries again and again: it arrives when the path is back, or the link is given up.
            if self._cluster.clock.now_us - sent_us > SILENT_US:
                self._close(link)
            else:
                again_us = self._cluster.clock.now_us + 200 * MS
                link.free_us[source] = max(link.free_us.get(source, 0), again_us)
                self._cluster.clock.at(again_us, self._arrive, link, source, body, sent_us)
            return
        to = link.pair[0] if link.pair[1] == source else link.pair[1]
        self._cluster.machine(to).link_message(self._cluster.machine(source).node_id, body)

    def close(self, source: int, peer: NodeId) -> None:
        """One end struck the other off its roster."""
        link = self._links.get(_pair(source, self._cluster.by_id[peer].index))
        if link is not None:
            self._close(link)

    def host_died(self, index: int) -> None:
        """A machine went silent: the other ends notice after a while, or at once if only the process died."""
        at_once = self._cluster.dies_loudly
        for pair, link in list(self._links.items()):
            if index in pair:
                after_us = self._cluster.network.delay_us() if at_once and self._reach(link) else SILENT_US
                del self._links[pair]
                link.closed, link.dead = True, index
                other = self._cluster.machine(pair[0] if pair[1] == index else pair[1])
                other.give_in(after_us, LinkChanged(self._cluster.machine(index).node_id, False))

    def _close(self, link: _Link) -> None:
        if link.closed:
            return
        link.closed = True
        del self._links[link.pair]
        one, two = (self._cluster.machine(index) for index in link.pair)
        one.give(LinkChanged(two.node_id, False))
        two.give(LinkChanged(one.node_id, False))


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)

"""The members as the View shows them: records and facts put together, each `Member` made anew only when something of it changed.

Rule: what changes all the time (a round trip, a queue) is rounded before it counts as a change.
"""

from collections.abc import Mapping, MutableMapping
from types import MappingProxyType

from meshd.core.context import Context
from meshd.core.facts import Facts, FactSet
from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.layered import Layered
from meshd.core.membership import Members
from meshd.core.messages import Hardware, Held, LinkState, OnDisk, Spare
from meshd.core.quantise import quarter_power
from meshd.core.view import Capacity, Holding, Member, PeerLink, State


class Picture:
    """Members as the View shows them."""

    def __init__(self, context: Context, members: Members, facts: Facts) -> None:
        self._context, self._members, self._facts = context, members, facts
        self._shown: MutableMapping[NodeId, Member] = {}
        self.members: Mapping[NodeId, Member] = MappingProxyType({})

    def refresh(self, nodes: Mapping[NodeId, None]) -> bool:
        """Make these members anew; True if one of them differs from what was shown."""
        fresh: dict[NodeId, Member | None] = {}
        for node in nodes:
            member = self._make(node)
            if member != self._shown.get(node):
                fresh[node] = member
        if not fresh:
            return False
        shown = self._shown.copy() if isinstance(self._shown, Layered) else dict(self._shown)
        for node, member in fresh.items():
            if member is None:
                del shown[node]
            else:
                shown[node] = member
        self._shown = shown
        self.members = MappingProxyType(shown)
        return True

    def adopt(self, shown: dict[NodeId, Member]) -> None:
        """Show what all others show (`core.known`)."""
        self._shown = Layered(shown)
        self.members = MappingProxyType(self._shown)

    def _make(self, node: NodeId) -> Member | None:
        context = self._context
        if node == context.me:
            return self._member(node, context.state, context.boot, context.incarnation, context.addresses, 0)
        record = self._members.get(node)
        if record is None:
            return None
        shown = self._shown.get(node)
        rtt_us = quarter_power(record.rtt_us)
        if shown is not None and 3 * shown.rtt_us < 4 * record.rtt_us < 6 * shown.rtt_us:
            rtt_us = shown.rtt_us  # Within a step or two: the same.
        addresses = record.addresses
        if record.path is not None:
            addresses = (record.path, *(a for a in addresses if a != record.path))
        return self._member(node, record.state, record.boot, record.incarnation, addresses, rtt_us)

    def _member(
        self, node: NodeId, state: State, boot: Boot, incarnation: int, addresses: tuple[Address, ...], rtt_us: int
    ) -> Member:
        facts = self._facts.of(node)
        values = facts.values() if facts.boot == boot else {}
        hardware, spare = values.get("hardware"), values.get("capacity")
        hardware = hardware if isinstance(hardware, Hardware) else Hardware()
        spare = spare if isinstance(spare, Spare) else Spare()
        links = [(k[1], v) for k, v in values.items() if isinstance(v, LinkState) and isinstance(k, tuple)]
        links.sort()
        return Member(
            node=node,
            name=hardware.name or node[:8],
            state=state,
            boot=boot,
            incarnation=incarnation,
            addresses=addresses,
            version=hardware.software,
            capacity=Capacity(
                memory_bytes=hardware.memory_bytes,
                free_bytes=spare.free_bytes,
                rates=spare.rates,
                numeric=hardware.numeric,
                cores=hardware.cores,
                labels=hardware.labels,
                host=hardware.host,
                watts=hardware.milliwatts / 1000,
            ),
            holdings=_holdings(facts) if facts.boot == boot else (),
            models=tuple(
                sorted(Digest(k[1]) for k, v in values.items() if isinstance(v, OnDisk) and isinstance(k, tuple))
            ),
            unreachable=tuple(NodeId(peer) for peer, link in links if link.unreachable),
            links=tuple(PeerLink(NodeId(p), v.rtt_us, v.bandwidth_bps) for p, v in links if v.bandwidth_bps),
            rtt_us=rtt_us,
            draining=spare.draining,
        )


def _holdings(facts: FactSet) -> tuple[Holding, ...]:
    holdings = [
        Holding(key, fact.value.state, fact.value.measured_us, facts.since_us.get(key, 0), fact.value.reason)
        for key, fact in facts.entries.items()
        if isinstance(key, SegmentId) and isinstance(fact.value, Held)
    ]
    return tuple(sorted(holdings, key=lambda holding: holding.segment))

"""The mesh as planning and ownership see it: who lives, who holds what, who may be asked.

Rule 1: live is ALIVE or SUSPECT; repair counts the dead only, routes put suspects last.
Rule 2: what this node holds is what its own shelf says, not what its facts said a moment ago.
"""

from collections.abc import Mapping

from meshd.config import FLAP_US, FLAPS_MAX, MEMBERS_MAX
from meshd.core.ids import Boot, NodeId, SegmentId, rank
from meshd.core.ownership import SERVING, Holder, servable, stands
from meshd.core.placement import GIGABIT
from meshd.core.plan import Plan, Policy
from meshd.core.view import Hold, Holding, Member, State

LIVE = (State.ALIVE, State.SUSPECT)


class Mesh:
    """Rebuilt by `update` whenever membership, facts, or this node's holdings changed."""

    def __init__(self, me: NodeId) -> None:
        self.me = me
        self._members: Mapping[NodeId, Member] = {}
        self._changed = True
        self._own: tuple[Holding, ...] = ()
        self._aged_us = 0
        self.draining = False
        self.live: list[Member] = []
        """By id."""
        self.holders: dict[SegmentId, list[Holder]] = {}
        self.print: tuple[object, ...] = ()
        """Changes when what could be planned changes: who lives, in which boot, with how much memory, draining or not."""
        self.print_changed_us = 0
        self._known_since: dict[NodeId, tuple[Boot, int]] = {}
        self._returns: dict[NodeId, tuple[int, ...]] = {}
        """Of all seen lately, the least lately first: the last few times it came back, from the dead or in a new boot."""

    def update(self, own: tuple[Holding, ...], draining: bool, now_us: int) -> None:
        """Look again, with `own` as this node's holdings. Nothing is done while nothing changed."""
        if not self._changed and own == self._own and draining == self.draining:
            self._age(now_us)
            return
        self._changed, self._own, self.draining = False, own, draining
        self.live = [m for n, m in sorted(self._members.items()) if m.state in LIVE or n == self.me]
        before = self._known_since
        self._known_since = {}
        self.holders = {}
        for member in self.live:
            node = member.node
            known = before.get(node)
            same = known is not None and known[0] == member.boot
            if not same and node != self.me:
                self._came(node, now_us)
            self._known_since[node] = known if known is not None and same else (member.boot, now_us)
            suspect = member.state is State.SUSPECT and node != self.me
            for h in own if node == self.me else member.holdings:
                age = now_us - h.ready_since_us if h.state in SERVING else 0
                self.holders.setdefault(h.segment, []).append(Holder(node, h.state, suspect, age, h.measured_us))
        self._aged_us = now_us
        print_ = tuple((m.node, m.boot, m.capacity.memory_bytes, self.drains(m)) for m in self.live)
        if print_ != self.print:
            self.print, self.print_changed_us = print_, now_us

    def _came(self, node: NodeId, now_us: int) -> None:
        times = self._returns.pop(node, None)
        self._returns[node] = () if times is None else (*times, now_us)[-FLAPS_MAX:]
        while len(self._returns) > MEMBERS_MAX:
            del self._returns[next(iter(self._returns))]

    def flapping(self, now_us: int) -> tuple[NodeId, ...]:
        """Live nodes that came back so often of late that they will hardly stay, by id."""
        times = ((m.node, self._returns.get(m.node, ())) for m in self.live)
        return tuple(node for node, at in times if len(at) >= FLAPS_MAX and now_us - at[0] < FLAP_US)

    def _age(self, now_us: int) -> None:
        """Holders were READY for longer than when they were looked at."""
        passed, self._aged_us = now_us - self._aged_us, now_us
        if passed:
            for segment, holders in self.holders.items():
                self.holders[segment] = [
                    h._replace(ready_for_us=h.ready_for_us + passed) if h.state in SERVING else h for h in holders
                ]

    @property
    def members(self) -> Mapping[NodeId, Member]:
        """All that membership knows, the dead too."""
        return self._members

    @members.setter
    def members(self, members: Mapping[NodeId, Member]) -> None:
        self._members, self._changed = members, True

    def boot(self) -> Boot:
        """This node's own boot, as membership told."""
        me = self.members.get(self.me)
        return Boot(0) if me is None else me.boot

    def known_since_us(self, member: Member) -> int:
        """When this boot of a member was first seen live here."""
        boot, since_us = self._known_since.get(member.node, (member.boot, 0))
        return since_us if boot == member.boot else 0

    def servable(self, plan: Plan) -> bool:
        """Whether `plan` serves, as seen from here."""
        return servable(plan, self.holders)

    def stands(self, plan: Plan) -> bool:
        """Whether the nodes that `plan` lists hold all of it READY, as seen from here."""
        return stands(plan, self.holders)

    def stands_draining(self, plan: Plan) -> bool:
        """The same, counting those that drain."""
        return stands(plan, self.holders, SERVING)

    def holders_of(self, plan: Plan, index: int) -> list[Holder]:
        """Live nodes that hold a segment in any state, by id."""
        return self.holders.get(SegmentId(plan.plan_digest, index), [])

    def holds(self, plan: Plan, index: int, node: NodeId) -> Hold | None:
        """What `node` says of a segment."""
        for holder in self.holders_of(plan, index):
            if holder.node == node:
                return holder.state
        return None

    def anything_held(self, plan: Plan) -> bool:
        """Whether some live node holds a segment of it."""
        return any(SegmentId(plan.plan_digest, i) in self.holders for i in range(len(plan.segments)))

    def may_serve(self, member: Member, policy: Policy) -> bool:
        """Whether a policy's labels admit a member, and it takes part."""
        labels = member.capacity.labels
        fits = all(label in labels for label in policy.keep_to) and not any(label in labels for label in policy.avoid)
        return fits and not self.drains(member)

    def drains(self, member: Member) -> bool:
        """Whether a member gives up what it holds."""
        return self.draining if member.node == self.me else member.draining

    def planners(self, name: str) -> list[NodeId]:
        """Who plans for a deployment, first to last: alive nodes by rendezvous, those that drain only if no other is."""
        alive = [m for m in self.live if m.state is State.ALIVE or m.node == self.me]
        staying = [m.node for m in alive if not self.drains(m)] or [m.node for m in alive] or [self.me]
        return sorted(staying, key=lambda node: rank(name, node), reverse=True)

    def sources(self, model: str) -> tuple[NodeId, ...]:
        """Live nodes other than this with a model on disk."""
        return tuple(m.node for m in self.live if m.node != self.me and model in m.models)


def bandwidth_bps(member: Member | None) -> int:
    """What a node's network carries: the most it measured on any of its links, a gigabit until it measured one."""
    links = () if member is None else member.links
    return max((link.bandwidth_bps for link in links), default=0) or GIGABIT

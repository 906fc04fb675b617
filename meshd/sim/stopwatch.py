"""How long the mesh takes: for a rumour to reach all, for routes to go around a dead owner, for a plan to be agreed.

What the network's falling apart, or a machine's coming back, got in the way of is not measured.
"""

from dataclasses import dataclass, field

from meshd.core.events import Deploy, Effect, Input, Operate, Publish, Report
from meshd.core.ids import Boot, NodeId
from meshd.core.view import State
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine

Order = tuple[Boot, int, int]
NEWS_MAX = 256
"""Rumours followed at once: in a bad storm the oldest are given up."""


@dataclass(slots=True)
class _News:
    order: Order
    at_us: int
    lives: dict[int, int]
    """Who is to hear of it: the machines that were on, and their lives."""


@dataclass(slots=True)
class Stopwatch:
    """Add `watch` to `cluster.watchers`; tell it of crashes and splits; set `running` once the mesh has come together."""

    cluster: Cluster
    running: bool = False
    rumour_us: list[int] = field(default_factory=list)
    """From when a member's new state is first in some View to when it is in all."""
    reelect_us: list[int] = field(default_factory=list)
    """From an owner's crash to when nobody's list has it first."""
    plan_us: list[int] = field(default_factory=list)
    """From a deploy, or from when a planner took up what is missing, to the plan; loading apart."""
    _news: dict[NodeId, _News] = field(default_factory=dict)
    _known: dict[NodeId, Order] = field(default_factory=dict)
    """The latest of each member that is, or was, followed."""
    _owners: dict[int, int] = field(default_factory=dict)
    """Machine that was an owner → when it crashed."""
    _asked_us: dict[str, int] = field(default_factory=dict)
    _begun_us: dict[tuple[int, str], int] = field(default_factory=dict)

    def watch(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        now_us = self.cluster.clock.now_us
        if machine.index >= len(self.cluster.machines):
            return
        if isinstance(input, Operate) and isinstance(input.command, Deploy):
            self._asked_us.setdefault(input.command.name, now_us)
        for effect in effects:
            match effect:
                case Report("plan.begun", name):
                    self._begun_us[machine.index, name] = now_us
                case Report("plan.agreed", name, detail):
                    begun_us = self._begun_us.pop((machine.index, name), now_us)
                    asked_us = self._asked_us.pop(name, begun_us)
                    self.plan_us.append(now_us - (asked_us if detail["reason"] == "unplanned" else begun_us))
                case Publish() if self.running:
                    self._look_at_news(machine)
                    self._look_at_owners()

    # ------------------------------------------------------------ disturbances

    def crashed(self, index: int) -> None:
        """A machine is about to go down."""
        machine = self.cluster.machines[index]
        self._news.pop(machine.node_id, None)
        if self.cluster.network.whole and any(m is not machine and _asks_first(m, machine) for m in self.cluster.up):
            self._owners[index] = self.cluster.clock.now_us

    def split(self) -> None:
        """The network is about to fall apart."""
        self._news.clear()
        self._owners.clear()

    # ------------------------------------------------------------ rumours

    def _look_at_news(self, machine: Machine) -> None:
        assert machine.view is not None
        for node, member in machine.view.members.items():
            order = (member.boot, member.incarnation, member.state.value)
            if member.state is not State.SUSPECT and order > self._known.get(node, (Boot(0), 0, 0)):
                fresh = node in self._known  # Whose first word this is, it joins: that is no rumour.
                self._known[node] = order
                if fresh and self.cluster.network.whole:
                    lives = {m.index: m.life for m in self.cluster.up if m.node_id != node}
                    self._news[node] = _News(order, self.cluster.clock.now_us, lives)
                    while len(self._news) > NEWS_MAX:
                        del self._news[next(iter(self._news))]
        for node, news in list(self._news.items()):
            if machine.index in news.lives and all(self._heard(node, news, index) for index in news.lives):
                self.rumour_us.append(self.cluster.clock.now_us - news.at_us)
                del self._news[node]

    def _heard(self, node: NodeId, news: _News, index: int) -> bool:
        machine = self.cluster.machines[index]
        if machine.life != news.lives[index] or machine.view is None:
            return True  # It was switched off: there is nobody to tell.
        member = machine.view.members.get(node)
        return member is not None and (member.boot, member.incarnation, member.state.value) >= news.order

    # ------------------------------------------------------------ owners

    def _look_at_owners(self) -> None:
        for index, crashed_us in list(self._owners.items()):
            victim = self.cluster.machines[index]
            if victim.up:
                del self._owners[index]
            elif not any(_asks_first(machine, victim) for machine in self.cluster.up):
                self.reelect_us.append(self.cluster.clock.now_us - crashed_us)
                del self._owners[index]


def _asks_first(machine: Machine, owner: Machine) -> bool:
    if machine.view is None:
        return False
    lists = (nodes for served in machine.view.deployments.values() for nodes in served.candidates)
    return any(nodes[:1] == (owner.node_id,) for nodes in lists)

"""What a run measures: detection, false deaths, bytes, heals. Watches from outside, as checkers do.

Times are in virtual microseconds. A death is false if its subject was up, in that boot, and reachable both ways from the
accuser when it was declared and for a while before; it is one death, however many members hear of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshd.config import MS, S
from meshd.core.events import Effect, Input, Publish, Report
from meshd.core.ids import Boot, NodeId
from meshd.core.view import State
from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine

TICK_US = 1 * S
EXCUSED_US = 20 * S
"""After a split or a stall: what was accused meanwhile takes a while to be refuted; M7 watches that it is."""


@dataclass(slots=True)
class _Crash:
    at_us: int
    boot: int
    suspected_us: int | None = None
    dead_us: int | None = None
    spoiled: bool = False
    """The network was not whole meanwhile, or it came back first: no measure of detection."""


@dataclass(slots=True)
class Meter:
    """Add `watch` to `cluster.watchers`, call `start` once."""

    cluster: Cluster
    suspect_us: list[int] = field(default_factory=list)
    dead_all_us: list[int] = field(default_factory=list)
    heal_us: list[int] = field(default_factory=list)
    false_deaths: set[tuple[NodeId, Boot, int]] = field(default_factory=set)
    """(subject, boot, incarnation) declared dead although it lived."""
    sizes: set[int] = field(default_factory=set)
    """Distinct numbers of live members in published views."""
    node_us: int = 0
    bytes_by_second: list[int] = field(default_factory=list)
    _crashes: dict[int, _Crash] = field(default_factory=dict)
    _bytes: int = 0
    _whole_since_us: int = -EXCUSED_US
    _healing_since_us: int | None = None
    _pairs_apart_us: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def false_dead(self) -> int:
        """Living members declared dead."""
        return len(self.false_deaths)

    def start(self) -> None:
        """Begin to count seconds."""
        self.cluster.clock.after(TICK_US, self._tick)

    def _tick(self) -> None:
        cluster = self.cluster
        self.node_us += TICK_US * len(cluster.up)
        self.bytes_by_second.append(cluster.network.sent_bytes - self._bytes)
        self._bytes = cluster.network.sent_bytes
        self._look()
        cluster.clock.after(TICK_US, self._tick)

    def crashed(self, index: int) -> None:
        """A machine is about to go down."""
        machine = self.cluster.machines[index]
        known = any(self.cluster.sees(m, machine) is State.ALIVE for m in self.cluster.up if m is not machine)
        if known:
            self._crashes[index] = _Crash(
                self.cluster.clock.now_us, machine.boot, spoiled=not self.cluster.network.whole
            )

    def split(self) -> None:
        """The network is about to fall apart: detections meanwhile measure something else."""
        for crash in self._crashes.values():
            crash.spoiled = True
        self._healing_since_us = None

    def healed(self) -> None:
        """The network is whole again."""
        if not self.cluster.agreed():
            self._healing_since_us = self.cluster.clock.now_us
        self._whole_since_us = self.cluster.clock.now_us

    def watch(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        for effect in effects:
            if isinstance(effect, Publish):
                self.sizes.add(len(effect.view.alive()))
                self._look_at_crashes(machine)
                if self._healing_since_us is not None and self.cluster.agreed():
                    self.heal_us.append(self.cluster.clock.now_us - self._healing_since_us)
                    self._healing_since_us = None
            elif isinstance(effect, Report) and effect.kind == "member.dead":
                self._judge(machine, effect)

    def _judge(self, machine: Machine, report: Report) -> None:
        subject = self.cluster.by_id.get(report.subject)  # type: ignore[call-overload]
        network = self.cluster.network
        if subject is None or not subject.up or subject.stalled or machine.stalled or not network.whole:
            return
        if self.cluster.clock.now_us - self._whole_since_us < EXCUSED_US:
            return
        if subject.stopped_us and self.cluster.clock.now_us - subject.stopped_us < EXCUSED_US:
            return
        if network.host_loss.get(subject.index) or network.host_loss.get(machine.index):
            return  # Of five pings one arrives, and of five answers one: that is no working network.
        member = machine.node.members.get(subject.node_id) if machine.node is not None else None
        if member is not None and member.boot == subject.boot:
            self.false_deaths.add((member.node, member.boot, member.incarnation))

    def _look(self) -> None:
        for index, crash in list(self._crashes.items()):
            if self.cluster.machines[index].up and self.cluster.machines[index].boot > crash.boot:
                del self._crashes[index]  # It came back first.

    def _look_at_crashes(self, machine: Machine) -> None:
        now_us = self.cluster.clock.now_us
        for index, crash in list(self._crashes.items()):
            victim = self.cluster.machines[index]
            if victim.up:
                continue
            state = self.cluster.sees(machine, victim)
            if crash.suspected_us is None and state in {State.SUSPECT, State.DEAD}:
                crash.suspected_us = now_us
                if not crash.spoiled:
                    self.suspect_us.append(now_us - crash.at_us)
            if state is State.DEAD and all(self.cluster.sees(m, victim) in {State.DEAD, None} for m in self.cluster.up):
                if not crash.spoiled:
                    self.dead_all_us.append(now_us - crash.at_us)
                del self._crashes[index]


def quantile(values: Sequence[int], share: float) -> int | None:
    """The smallest value that at least `share` of them do not exceed; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ms(value_us: int | None) -> float | None:
    """Microseconds as milliseconds."""
    return None if value_us is None else round(value_us / MS, 1)

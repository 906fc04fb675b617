"""Invariants of membership and facts, watched from outside after every step. Each names itself as PROTOCOL does.

Rule 1: a checker keeps its own account of the truth; it never asks the node whether the node is right.
Rule 2: a checker that cannot fail is a defect: for each there is a mutant of its rule in `tests/sim`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from meshd.config import FACT_ENTRIES_MAX, FACT_TOMBSTONES_MAX
from meshd.core.dissemination import sends_max
from meshd.core.events import Effect, Input, Publish, SendDatagram
from meshd.core.facts import FactSet
from meshd.core.ids import NodeId
from meshd.core.messages import Ack, FactValue, Held, Ping, Rumour, Spread
from meshd.core.view import Member, State
from meshd.sim.machine import Machine

WRITTEN_MAX = 65_536
"""Versions of facts whose truth is remembered: six of each of 10,000 nodes; what was read of one forgotten is not judged."""
SENDS_MAX = 200_000
"""Rumours whose sends are counted; then the count begins anew."""


class BrokenError(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, machine: Machine, what: str) -> None:
        self.invariant, self.what = invariant, what
        at_s = machine.cluster.clock.now_us / 1e6
        super().__init__(f"{invariant} at {at_s:.6f} s on node {machine.index}: {what}")


class Checkers:
    """All per-step checks of one run. Add `check` to `cluster.watchers`."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self._truth: dict[NodeId, tuple[int, int]] = {}
        """Node → the greatest (boot, incarnation) it ever took."""
        self._seen: dict[tuple[int, int], dict[NodeId, Member]] = {}
        """(machine, life) → members as last published."""
        self._facts: dict[tuple[int, int], dict[NodeId, tuple[int, int]]] = {}
        self._buried: dict[tuple[int, int], dict[NodeId, tuple[int, int]]] = {}
        self._written: dict[tuple[NodeId, int, int], int] = {}
        """(owner, boot, version) → what the owner's facts said then, oldest first."""
        self._capacity: dict[tuple[int, int], tuple[int, int]] = {}
        """(machine, life) → version and time of its last word about its capacity."""
        self._lives: dict[int, int] = {}
        """The life of each machine that the tables are about."""
        self._sends: Counter[tuple[int, int, Rumour]] = Counter()
        self._largest = 1
        self._steps = 0

    def check(self, machine: Machine, input: Input, effects: list[Effect]) -> None:
        """After one step of one node."""
        assert machine.node is not None
        if self._lives.get(machine.index) != machine.life:
            self._begin(machine)
        context = machine.node.context
        self._truth[machine.node_id] = max(
            self._truth.get(machine.node_id, (0, 0)), (context.boot, context.incarnation)
        )
        self._check_own_facts(machine)
        for effect in effects:
            if isinstance(effect, Publish):
                self._check_view(machine, effect.view.members)
            elif isinstance(effect, SendDatagram) and isinstance(effect.message, Ping | Ack | Spread):
                self._check_sends(machine, effect)
        self._steps += 1
        if self._steps % 64 == 0:
            self._check_sizes(machine)

    def _begin(self, machine: Machine) -> None:
        """A machine was powered on: what its earlier lives saw binds this one no more."""
        life = self._lives.get(machine.index, 0)
        self._lives[machine.index] = machine.life
        for table in (self._seen, self._facts, self._buried, self._capacity):
            table.pop((machine.index, life), None)

    def _check_own_facts(self, machine: Machine) -> None:
        assert machine.node is not None
        facts = machine.node.facts.of(machine.node_id)
        said = (machine.node_id, facts.boot, facts.version)
        if said in self._written:
            return
        self._written[said] = _facts_hash(facts)
        while len(self._written) > WRITTEN_MAX:
            del self._written[next(iter(self._written))]
        fact = facts.entries.get("capacity")
        if fact is None or fact.version != facts.version:
            return
        life, now_us = (machine.index, machine.life), machine.local_us()
        boot, before_us = self._capacity.get(life, (0, 0))
        if boot == facts.boot and now_us - before_us < machine.cluster.timers.facts_gap_us:
            raise BrokenError("C5", machine, f"its capacity was news again after {now_us - before_us} us")
        self._capacity[life] = (facts.boot, now_us)
        self.checked["C5"] += 1

    def _check_view(self, machine: Machine, members: Mapping[NodeId, Member]) -> None:
        life = (machine.index, machine.life)
        seen = self._seen.setdefault(life, {})
        self._largest = max(self._largest, len(members))
        for node, member in members.items():
            before = seen.get(node)
            if before is member:
                continue
            self._check_member(machine, before, member)
            seen[node] = member
        for node in [node for node in seen if node not in members]:
            self._buried.setdefault(life, {})[node] = (seen[node].boot, seen[node].incarnation)
            self._facts.get(life, {}).pop(node, None)  # Forgotten with its tombstone: it may start over.
            del seen[node]

    def _check_member(self, machine: Machine, before: Member | None, member: Member) -> None:
        node = member.node
        now = (member.boot, member.incarnation, member.state.value)
        if now[:2] > self._truth.get(node, (0, 0)):
            raise BrokenError("M1", machine, f"{node} is known in {now[:2]}, which it never was in")
        if before is not None and now < (before.boot, before.incarnation, before.state.value):
            raise BrokenError("M2", machine, f"{node} fell from {before.state} to {member.state}")
        if node == machine.node_id and member.state not in {State.ALIVE, State.LEFT}:
            raise BrokenError("M3", machine, f"it lists itself {member.state}")
        buried = self._buried.get((machine.index, machine.life), {}).get(node)
        if buried is not None and now[:2] <= buried and not machine.cluster.lives(node, member.boot):
            raise BrokenError("C4", machine, f"{node} came back from its collected tombstone")
        assert machine.node is not None
        facts = machine.node.facts.of(node)
        known = self._facts.setdefault((machine.index, machine.life), {})
        if (facts.boot, facts.version) < known.get(node, (0, 0)):
            raise BrokenError("C3", machine, f"facts of {node} fell below {known[node]}")
        known[node] = (facts.boot, facts.version)
        last = 0
        for fact in facts.entries.values():
            if not last < fact.version <= facts.version:
                raise BrokenError("C1", machine, f"facts of {node}: version {fact.version} after {last}")
            last = fact.version
        written = self._written.get((node, facts.boot, facts.version))
        if written is not None and written != _facts_hash(facts):
            raise BrokenError("C2", machine, f"facts of {node}, version {facts.version}, are not what it said then")
        self.checked.update(("M1", "M2", "M3", "C1", "C2", "C3", "C4"))

    def _check_sends(self, machine: Machine, effect: SendDatagram) -> None:
        for rumour in effect.message.news.rumours:
            # What the accused and the accuser tell each other directly is not gossip.
            if rumour.subject in {machine.node_id, effect.receiver}:
                continue
            key = (machine.index, machine.life, rumour)
            self._sends[key] += 1
            limit = sends_max(self._largest, machine.cluster.timers.rumour_sends_factor)
            if self._sends[key] > limit:
                raise BrokenError("M4", machine, f"sent {rumour} {self._sends[key]} times, limit {limit}")
            self.checked["M4"] += 1
        if len(self._sends) > SENDS_MAX:
            self._sends.clear()

    def _check_sizes(self, machine: Machine) -> None:
        assert machine.node is not None
        for name, size, limit in machine.node.sizes():
            if size > limit:
                raise BrokenError("M9", machine, f"{name}: {size} entries, limit {limit}")
        for node in machine.node.members.records:
            if len(machine.node.facts.of(node).entries) > FACT_ENTRIES_MAX + FACT_TOMBSTONES_MAX:
                raise BrokenError("M9", machine, f"facts of {node}")
        self.checked["M9"] += 1


def unchanged_by(machine: Machine, deliver: Callable[[], None]) -> None:
    """M5: what `deliver` brings (forged, cut, replayed) changes nothing that this node knows."""
    before = _knowledge(machine)
    machine.cluster.unchanged += 1
    deliver()
    if machine.up and _knowledge(machine) != before:
        raise BrokenError("M5", machine, "a replayed or forged datagram changed what it knows")


def _facts_hash(facts: FactSet) -> int:
    # How long a holding is ready differs with the path it came by; what it is does not.
    said = sorted((str(key), str(_without_age(value))) for key, value in facts.values().items())
    return int.from_bytes(hashlib.blake2b(repr(said).encode(), digest_size=8).digest(), "big")


def _without_age(value: FactValue) -> FactValue:
    return replace(value, ready_for_us=0) if isinstance(value, Held) else value


def _knowledge(machine: Machine) -> tuple[object, ...]:
    node = machine.node
    if node is None:
        return ()
    context = node.context
    records = tuple((r.node, r.order(), r.addresses, r.verified, r.path) for r in node.members.records.values())
    return (context.boot, context.incarnation, node.sync.root(), records)

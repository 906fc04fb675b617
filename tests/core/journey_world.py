"""Several journeys in one virtual world: a heap of events, links with latency, holders that compute, and faults.

Payloads are tuples of the segments that were computed, so that a test sees that an answer went through all of them once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Any

from meshd.config import MS
from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.journey.effects import Carry, Compute, Finish, Hint, Keep, Pair, Release, Respond, Send
from meshd.core.journey.frames import Answer, Code, Failure, Forward, Leg, Reason, RequestId
from meshd.core.journey.hop import Backlog
from meshd.core.journey.journey import Journey
from meshd.core.plan import Plan, PlanSegment, Policy
from meshd.core.view import Member, Served, State, View

LATENCY_US = 1 * MS


@dataclass
class Host:
    """One node of the world."""

    name: NodeId
    journey: Journey
    views: list[View]
    """The current one."""
    holds: dict[SegmentId, None] = field(default_factory=dict)
    cost_us: int = 5 * MS
    queue_us: int = 0
    kept: dict[Leg, Any] = field(default_factory=dict)
    dead: bool = False
    slow_until_us: int = 0
    """Frames from and to it arrive then, no earlier: TCP repeats what was lost."""
    silent: bool = False
    """Neither receives nor computes, but its links stand (SIGSTOP)."""
    breaks: bool = False
    deadly: bool = False
    """Dies when it computes."""
    computed: list[Leg] = field(default_factory=list)
    hints: list[NodeId] = field(default_factory=list)
    pairs: list[tuple[NodeId, bool]] = field(default_factory=list)


class World:
    """`plan[i]` are the candidates of segment `i`, best first; `entry` takes requests."""

    def __init__(
        self, plan: list[list[str]], entry: str = "e", others: tuple[str, ...] = (), policy: Policy | None = None
    ) -> None:
        self.now_us = 1_000_000
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._seq = 0
        names = sorted({entry, *others, *(n for candidates in plan for n in candidates)})
        self.names = [NodeId(n) for n in names]
        self.entry, self.policy = NodeId(entry), policy or Policy()
        self.finished: dict[int, tuple[Answer | Failure, Any, int, int]] = {}
        self.cut: dict[frozenset[str], None] = {}
        self.unheard: dict[tuple[str, str], None] = {}
        """(source, target) whose frames vanish, though links stand."""
        self._started: dict[int, int] = {}
        self.hosts: dict[NodeId, Host] = {}
        self.states = dict.fromkeys(self.names, State.ALIVE)
        self.segments = tuple(
            PlanSegment(i, i + 1, (), tuple(NodeId(n) for n in candidates)) for i, candidates in enumerate(plan)
        )
        self.plan = Plan("m", 1, Digest("d" * 64), 1, Digest("0" * 64), self.segments, 1, self.entry, 1)
        self.order = [tuple(NodeId(n) for n in candidates) for candidates in plan]
        for name in self.names:
            self._add(name)
        for i, candidates in enumerate(plan):
            for n in candidates:
                self.hosts[NodeId(n)].holds[SegmentId(self.plan.plan_digest, i)] = None
        for a in self.names:
            for b in self.names:
                if a != b:
                    self.hosts[a].journey.link_changed(b, True, self.now_us)

    def _add(self, name: NodeId) -> None:
        def backlog(segment: SegmentId, batch: int) -> Backlog | None:
            return Backlog(host.queue_us, host.cost_us * batch) if segment in host.holds else None

        views = [self._view(name, 1)]
        host = Host(name, Journey(lambda: views[0], backlog, self), views)
        self.hosts[name] = host

    def _view(self, me: NodeId, version: int) -> View:
        members = {n: Member(n, n, s, Boot(1), 0, (Address("h", 1),)) for n, s in sorted(self.states.items())}
        served = Served("m", self.plan.model, 1, Digest("r" * 64), self.policy, self.plan, self.plan, tuple(self.order))
        return View(version, me, Boot(1), MappingProxyType(members), MappingProxyType({"m": served}))

    # Wire: nothing here is slow but what a test makes slow.
    def left_us(self, leg: Leg) -> int:
        return 0

    def progress_us(self, leg: Leg) -> int:
        return 0

    def rtt_us(self, peer: NodeId) -> int:
        return 2 * LATENCY_US

    def bandwidth_bps(self, peer: NodeId) -> int:
        return 0

    # ------------------------------------------------------------ faults

    def kill(self, name: str) -> None:
        """The process dies: its links close."""
        node = NodeId(name)
        self.hosts[node].dead = True
        for other in self.names:
            if other != node:
                self.at(
                    LATENCY_US, lambda o=other: self._perform(o, self._alive(o).link_changed(node, False, self.now_us))
                )

    def cut_link(self, a: str, b: str) -> None:
        self.cut[frozenset((a, b))] = None
        for one, other in ((a, b), (b, a)):
            host = self.hosts[NodeId(one)]
            self._perform(host.name, host.journey.link_changed(NodeId(other), False, self.now_us))

    def mend_link(self, a: str, b: str) -> None:
        del self.cut[frozenset((a, b))]
        for one, other in ((a, b), (b, a)):
            host = self.hosts[NodeId(one)]
            self._perform(host.name, host.journey.link_changed(NodeId(other), True, self.now_us))

    def suspect(self, name: str, state: State = State.SUSPECT) -> None:
        """Everyone's view suspects `name`, and lists it last."""
        self.states[NodeId(name)] = state
        self.order = [tuple(sorted(c, key=lambda n: self.states[n] is not State.ALIVE)) for c in self.order]
        for host in self.hosts.values():
            host.views[0] = self._view(host.name, host.views[0].version + 1)
            if not host.dead:
                self._perform(host.name, host.journey.view_changed(self.now_us))

    # ------------------------------------------------------------ running

    def _alive(self, name: NodeId) -> Journey:
        return self.hosts[name].journey

    def at(self, after_us: int, act: Callable[[], None]) -> None:
        self._seq += 1
        heappush(self._events, (self.now_us + after_us, self._seq, act))

    def request(self, number: int = 1, deadline_us: int = 0, batch: int = 1) -> None:
        id = RequestId(self.entry, Boot(1), number)
        self._started[number] = self.now_us
        host = self.hosts[self.entry]
        self._perform(self.entry, host.journey.enter(id, "m", batch, (4,), deadline_us, self.now_us), ())

    def run(self, for_us: int = 40_000 * MS) -> None:
        """Until nothing happens any more, or for so long."""
        end_us = self.now_us + for_us
        while True:
            dues = [(d, n) for n in self.names if (d := self._due(n)) is not None]
            first = min((self._events[0][0] if self._events else end_us + 1, *(d for d, _ in dues)))
            if first > end_us:
                self.now_us = end_us
                return
            self.now_us = max(self.now_us, first)
            if self._events and self._events[0][0] <= self.now_us:
                heappop(self._events)[2]()
                continue
            for _, name in sorted(dues):
                if not self.hosts[name].dead and not self.hosts[name].silent:
                    self._perform(name, self.hosts[name].journey.due(self.now_us))

    def _due(self, name: NodeId) -> int | None:
        host = self.hosts[name]
        return None if host.dead or host.silent else host.journey.next_due_us()

    def _deliver(self, source: NodeId, target: NodeId, frame: Any, payload: Any) -> bool:
        host = self.hosts[target]
        if host.dead or frozenset((source, target)) in self.cut:
            return False

        def arrive() -> None:
            lost = frozenset((source, target)) in self.cut or (source, target) in self.unheard
            if not (host.dead or host.silent or lost):
                self._perform(target, host.journey.receive(source, frame, self.now_us), payload)

        slow_until_us = max(host.slow_until_us, self.hosts[source].slow_until_us)
        self.at(max(LATENCY_US, slow_until_us - self.now_us), arrive)
        return True

    def _perform(self, name: NodeId, effects: list[Any], payload: Any = None) -> None:
        host = self.hosts[name]
        for effect in effects:
            match effect:
                case Send(peer, frame):
                    self._deliver(name, peer, frame, None)
                case Respond(peer, answer):
                    self._deliver(name, peer, answer, payload)
                case Keep(leg):
                    host.kept[leg] = payload
                case Release(leg):
                    host.kept.pop(leg, None)
                case Carry(peer, forward):
                    kept = () if forward.segment == 0 else host.kept[forward.leg]
                    if not self._deliver(name, peer, forward, kept):
                        self._perform(name, host.journey.unsent(peer, forward.leg, self.now_us))
                case Compute(forward, _, _, _, local):
                    value = (() if forward.segment == 0 else host.kept.pop(forward.leg)) if local else payload
                    self.at(host.queue_us + host.cost_us, lambda e=effect, v=value: self._compute(host, e, v))
                case Finish(request, outcome, attempts):
                    assert request.number not in self.finished, "E6: one answer a request id"
                    took = self.now_us - self._started[request.number]
                    self.finished[request.number] = (outcome, payload, attempts, took)
                case Hint(peer):
                    host.hints.append(peer)
                case Pair(peer, ok):
                    host.pairs.append((peer, ok))

    def _compute(self, host: Host, compute: Compute, value: tuple[int, ...]) -> None:
        if host.dead or host.silent or not host.journey.is_wanted(compute, self.now_us):
            return
        forward: Forward = compute.forward
        host.computed.append(forward.leg)
        if host.deadly:
            self.kill(host.name)
        elif host.breaks:
            failure = Failure(Code.INTERNAL, Reason.COMPUTE, "it broke", "m", forward.segment, host.name)
            self._perform(host.name, host.journey.broke(forward, compute.previous, failure, self.now_us))
        else:
            spent = replace(forward.spent, compute_us=forward.spent.compute_us + host.cost_us)
            effects = host.journey.computed(compute, (4,), spent, self.now_us)
            self._perform(host.name, effects, (*value, forward.segment))

    # ------------------------------------------------------------ what came of it

    def outcome(self, number: int = 1) -> Answer | Failure:
        return self.finished[number][0]

    def took_us(self, number: int = 1) -> int:
        return self.finished[number][3]

    def attempts(self, number: int = 1) -> int:
        return self.finished[number][2]

    def assert_answered(self, number: int = 1) -> None:
        outcome, payload, _, _ = self.finished[number]
        assert isinstance(outcome, Answer), outcome
        assert payload == tuple(range(len(self.segments)))

    def assert_nothing_is_kept(self) -> None:
        assert not any(h.kept for h in self.hosts.values() if not h.dead)

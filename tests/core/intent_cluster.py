"""Several `Intent`s in one process on virtual time, without membership: who lives and what facts say is told truthfully, late.

For tests of deployments, plans and holdings alone; whole nodes with gossip and faults are in `meshd.sim`.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from types import MappingProxyType
from typing import Any

from meshd.config import Timers
from meshd.core import events
from meshd.core.ids import Boot, Digest, NodeId, SegmentId, node_id
from meshd.core.intent import Intent
from meshd.core.placement import solve
from meshd.core.plan import LayerCost, Policy
from meshd.core.view import Capacity, Hold, Member, Served, State

MS, S = 1_000, 1_000_000
MODEL = Digest("ab" * 32)
SUSPECT_US, DEAD_US, SYNC_US = 1 * S, 4 * S, 5 * S


def sign(message: bytes) -> bytes:
    """A signature nobody could forge who does not read this line."""
    return b"signed" + message[-8:]


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `sign` made it."""
    return signature == sign(message)


def layers(*sizes: int, work: int = 1_000_000) -> tuple[LayerCost, ...]:
    """Layers of these loaded sizes and equal work (a millisecond each at the cluster's usual rate)."""
    return tuple(LayerCost((("dense", work),), size, size, 1_000) for size in sizes)


def deploy(name: str = "d", sizes: tuple[int, ...] = (10,) * 6, model: Digest = MODEL, **policy: Any) -> events.Deploy:
    """A deploy of a model of layers of these sizes."""
    crossings = ((("t", "float32"),),) * (len(sizes) - 1)
    return events.Deploy(name, model, layers(*sizes), crossings, 1_000, Policy(**policy))


@dataclass
class Peer:
    """One node, and what its shell would keep."""

    node: NodeId
    intent: Intent
    member: Member
    timers: dict[str, int] = field(default_factory=dict)
    disk: dict[str, Any] = field(default_factory=dict)
    loaded: set[SegmentId] = field(default_factory=set)
    up: bool = True
    answers: list[tuple[int, events.Done | events.Refused]] = field(default_factory=list)
    told: dict[str, bytes] = field(default_factory=dict)
    facts_version: int = 0
    heard: dict[NodeId, tuple[int, int]] = field(default_factory=dict)
    """Boot and version of the facts it has of others."""
    reports: list[tuple[int, events.Report]] = field(default_factory=list)


class Cluster:
    """`nodes` nodes with `memory` bytes each; the first `with_model` have the model on disk."""

    def __init__(self, nodes: int, memory: int = 1_000, with_model: int = 1, seed: int = 1, **timers: int) -> None:
        self.now = 0
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.ties = count()
        self.rng = Random(seed)
        self.timers = replace(Timers(), **timers)
        self.peers: dict[NodeId, Peer] = {}
        self.states: dict[NodeId, State] = {}
        self.facts: dict[NodeId, dict[NodeId, Member]] = {}
        self.fail_loads: set[NodeId] = set()
        self.fail_fetches = False
        self.suspected: set[NodeId] = set()
        self.side: set[NodeId] = set()
        """One side of a split; empty: there is none."""
        self.cut_since = 0
        self.sent: list[tuple[int, NodeId, NodeId, Any]] = []
        self.drop: Callable[[NodeId, NodeId, Any], bool] = lambda source, to, message: False
        for n in range(nodes):
            self.add(n, memory, (MODEL,) if n < with_model else ())
        self.after(SYNC_US, self._sync)

    # ------------------------------------------------------------ life

    def add(self, n: int, memory: int = 1_000, models: tuple[Digest, ...] = (), speed: float = 1) -> NodeId:
        """A node joins."""
        node = node_id(bytes([n]) * 16)
        capacity = Capacity(memory, memory, (("dense", int(speed * 1_000_000_000)),), host=f"host{n}")
        member = Member(node, f"n{n}", State.ALIVE, Boot(1 << 32), 1, (), capacity=capacity, models=models)
        self._boot(node, member, {})
        return node

    def _boot(self, node: NodeId, member: Member, disk: dict[str, Any]) -> None:
        intent = Intent(node, Random(f"{node}{member.boot}"), b"key", sign, verify, self.timers, disk)
        peer = self.peers[node] = Peer(node, intent, member, disk=disk)
        self.states[node] = State.ALIVE
        self.facts[node] = {}
        for other in self.peers.values():
            self.facts[node][other.node] = other.member
            self.facts[other.node][node] = member
        self.perform(peer, intent.start(self.now))
        self.give(node, events.Measured(member.capacity))
        self.give(node, events.DiskChanged(member.models))
        for other in self.peers.values():
            if other.up:
                self._members(other)
                for name, key in other.intent.intents():
                    self.after(50 * MS, lambda o=other, n=name, k=key: self._rumour(o.node, node, n, k))

    def crash(self, node: NodeId) -> None:
        """It stops; others suspect it after a second and declare it dead after four."""
        peer = self.peers[node]
        peer.up = False
        boot = peer.member.boot
        self.after(SUSPECT_US, lambda: self._state(node, boot, State.SUSPECT))
        self.after(DEAD_US, lambda: self._state(node, boot, State.DEAD))

    def restart(self, node: NodeId) -> None:
        """It comes back with its disk, and nothing loaded."""
        peer = self.peers[node]
        member = replace(peer.member, boot=Boot(peer.member.boot + (1 << 32)), holdings=(), state=State.ALIVE)
        self._boot(node, member, peer.disk)

    def _state(self, node: NodeId, boot: Boot, state: State) -> None:
        if self.peers[node].member.boot == boot and not self.peers[node].up:
            self.states[node] = state
            for peer in self.peers.values():
                if peer.up:
                    self._members(peer)

    def suspect(self, node: NodeId, for_us: int) -> None:
        """Others suspect it for a while, wrongly."""
        self.suspected.add(node)
        self.after(for_us, lambda: self.suspected.discard(node))
        for us in (0, for_us + 1):
            self.after(us, self._all_members)

    def split(self, side: set[NodeId]) -> None:
        """`side` and the rest no longer hear each other."""
        self.side, self.cut_since = set(side), self.now
        self.after(SUSPECT_US, self._all_members)
        self.after(DEAD_US, self._all_members)

    def heal(self) -> None:
        """They do again; facts and keys are exchanged as Sync would."""
        self.side = set()
        for peer in self.peers.values():
            for other in self.peers.values():
                if peer is not other:
                    self._hear(other, peer.member, (peer.member.boot, peer.facts_version))
                    for name, key in peer.intent.intents():
                        self.after(300 * MS, lambda p=peer.node, o=other.node, n=name, k=key: self._rumour(p, o, n, k))
        self._all_members()

    def apart(self, a: NodeId, b: NodeId) -> bool:
        """Whether a split lies between them."""
        return bool(self.side) and (a in self.side) != (b in self.side)

    def _all_members(self) -> None:
        for peer in self.peers.values():
            if peer.up:
                self._members(peer)

    def _sync(self) -> None:
        """Everyone tells one other its keys: what a lost answer is mended by."""
        for peer in list(self.peers.values()):
            others = [node for node in self.nodes if node != peer.node]
            if peer.up and others:
                other = self.rng.choice(others)
                for name, key in peer.intent.intents():
                    self._rumour(peer.node, other, name, key)
        self.after(SYNC_US, self._sync)

    # ------------------------------------------------------------ time

    def after(self, us: int, what: Callable[[], None]) -> None:
        """Do `what` later."""
        heapq.heappush(self.heap, (self.now + us, next(self.ties), what))

    def run(self, us: int, until: Callable[[], bool] | None = None) -> int:
        """Let time pass, at most until `until`; returns microseconds that passed."""
        start, end = self.now, self.now + us
        while self.heap and self.heap[0][0] <= end:
            if until is not None and until():
                return self.now - start
            self.now, _, what = heapq.heappop(self.heap)
            what()
        if until is not None:
            assert until(), f"not within {us / S} s"
            return self.now - start
        self.now = end
        return us

    # ------------------------------------------------------------ effects

    def give(self, node: NodeId, input: events.Input) -> None:
        """An input to a node that is up."""
        peer = self.peers[node]
        if peer.up:
            self.perform(peer, peer.intent.on_input(input, self.now))

    def operate(self, node: NodeId, command: events.Command, token: int = 1) -> None:
        """An operator's command."""
        self.give(node, events.Operate(events.Token(token), command, wall_us=self.now))

    def later(self, peer: Peer, us: int, input: events.Input) -> None:
        """An input to this life of a node."""
        self.after(us, lambda: self.give(peer.node, input) if self.peers[peer.node] is peer else None)

    def perform(self, peer: Peer, effects: list[events.Effect]) -> None:
        """What a shell would do."""
        for effect in effects:
            match effect:
                case events.SendLink(to, message):
                    self._send(peer, to, message)
                case events.SetTimer(id, after_us):
                    assert after_us > 0
                    due = peer.timers[id] = self.now + after_us
                    self.after(after_us, lambda id=id, due=due: self._fire(peer, id, due))
                case events.CancelTimer(id):
                    peer.timers.pop(id, None)
                case events.Persist(key, value, token):
                    peer.disk[key] = value
                    self.later(peer, 2 * MS, events.Persisted(token))
                case events.Solve(token, problem):
                    self.later(peer, 10 * MS, events.Solved(token, solve(problem)))
                case events.Load(segment, _):
                    if peer.node in self.fail_loads:
                        self.later(peer, 100 * MS, events.LoadFailed(segment, "no such luck"))
                    else:
                        peer.loaded.add(segment)
                        self.later(peer, 500 * MS, events.Loaded(segment, 1, 1_000))
                case events.Unload(segment):
                    peer.loaded.discard(segment)
                    self.later(peer, 10 * MS, events.Unloaded(segment))
                case events.Fetch(model, sources):
                    assert sources
                    if self.fail_fetches:
                        continue
                    self.later(peer, 300 * MS, events.DiskChanged((*peer.member.models, model)))
                    self.after(301 * MS, lambda model=model: self._fact(peer, models=(*peer.member.models, model)))
                case events.Answer(token, result):
                    peer.answers.append((token, result))
                case events.Report():
                    peer.reports.append((self.now, effect))
        for name, key in peer.intent.intents():
            if peer.told.get(name) != key:
                peer.told[name] = key
                for other in self.peers.values():
                    if other is not peer:
                        delay = self.rng.randrange(50 * MS, 300 * MS)
                        self.after(delay, lambda o=other.node, n=name, k=key: self._rumour(peer.node, o, n, k))
        if peer.member.holdings != peer.intent.holdings() or peer.member.draining != peer.intent.draining:
            self._fact(peer, holdings=peer.intent.holdings(), draining=peer.intent.draining)

    def _send(self, peer: Peer, to: NodeId, message: Any) -> None:
        assert to != peer.node, f"a link to itself: {message}"
        self.sent.append((self.now, peer.node, to, message))
        if not self.drop(peer.node, to, message):
            self.after(self.rng.randrange(1 * MS, 4 * MS), lambda: self._arrive(peer.node, to, message))

    def _arrive(self, source: NodeId, to: NodeId, message: Any) -> None:
        peer = self.peers.get(to)
        if peer is None or not peer.up or self.apart(source, to):
            self.after(1 * MS, lambda: self.give(source, events.LinkChanged(to, False)))
            return
        self.perform(peer, peer.intent.on_link(source, message, self.now))

    def _rumour(self, source: NodeId, to: NodeId, name: str, key: bytes) -> None:
        peer = self.peers[to]
        if peer.up and not self.apart(source, to) and dict(peer.intent.intents()).get(name) != key:
            self.perform(peer, peer.intent.on_intent(source, name, key, self.now))

    def _fire(self, peer: Peer, id: str, due: int) -> None:
        if peer.up and self.peers[peer.node] is peer and peer.timers.get(id) == due:
            del peer.timers[id]
            self.perform(peer, peer.intent.on_timer(events.TimerId(id), self.now))

    def _fact(self, peer: Peer, **changed: Any) -> None:
        if self.peers[peer.node] is not peer or not peer.up:
            return
        peer.member = replace(peer.member, **changed)
        peer.facts_version += 1
        said = (peer.member.boot, peer.facts_version)
        self._hear(peer, peer.member, said)
        for other in self.peers.values():
            if other is not peer:
                delay = self.rng.randrange(50 * MS, 300 * MS)
                self.after(delay, lambda o=other.node, m=peer.member: self._hear(self.peers[o], m, said))

    def _hear(self, peer: Peer, member: Member, said: tuple[int, int]) -> None:
        if peer.up and not self.apart(peer.node, member.node) and peer.heard.get(member.node, (0, 0)) < said:
            peer.heard[member.node] = said
            self.facts[peer.node][member.node] = member
            self._members(peer)

    def _members(self, peer: Peer) -> None:
        members = {
            node: replace(member, state=State.ALIVE if node == peer.node else self._state_of(peer.node, node))
            for node, member in sorted(self.facts[peer.node].items())
        }
        self.perform(peer, peer.intent.on_members(MappingProxyType(members), self.now))

    def _state_of(self, observer: NodeId, node: NodeId) -> State:
        if self.apart(observer, node):
            since = self.now - self.cut_since
            return State.DEAD if since >= DEAD_US else State.SUSPECT if since >= SUSPECT_US else State.ALIVE
        if node in self.suspected:
            return State.SUSPECT
        return self.states[node]

    # ------------------------------------------------------------ what tests ask

    @property
    def nodes(self) -> list[NodeId]:
        """Nodes that are up."""
        return [node for node, peer in self.peers.items() if peer.up]

    def served(self, node: NodeId, name: str = "d") -> Served | None:
        """A deployment in a node's view."""
        return self.peers[node].intent.served(self.now).get(name)

    def said(self, node: NodeId, kind: str) -> bool:
        """Whether `node` ever sent such a message."""
        return any(source == node and type(message).__name__ == kind for _, source, _, message in self.sent)

    def all_servable(self, name: str = "d") -> bool:
        """Whether every node that is up has somebody to ask for each segment who really serves it."""
        ready = self.ready()
        for node in self.nodes:
            served = self.served(node, name)
            if served is None or served.plan is None:
                return False
            for index, nodes in enumerate(served.candidates):
                if not set(nodes) & set(ready.get(SegmentId(served.plan.plan_digest, index), ())):
                    return False
        return True

    def all_serve(self, copies: int = 1, name: str = "d", among: set[NodeId] | None = None) -> bool:
        """Whether all nodes that are up see one servable plan with so many candidates for each segment, all of them up."""
        views = [self.served(node, name) for node in self.nodes if among is None or node in among]
        plans = {view.plan.record if view is not None and view.plan is not None else None for view in views}
        if len(plans) != 1 or None in plans:
            return False
        return all(
            len([n for n in nodes if n in self.nodes]) >= copies for view in views if view for nodes in view.candidates
        )

    def ready(self) -> dict[SegmentId, list[NodeId]]:
        """What really is READY, anywhere."""
        held: dict[SegmentId, list[NodeId]] = {}
        for node in self.nodes:
            for holding in self.peers[node].intent.holdings():
                if holding.state in {Hold.READY, Hold.DRAINING}:
                    held.setdefault(holding.segment, []).append(node)
        return held

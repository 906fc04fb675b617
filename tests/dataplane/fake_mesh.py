"""Whole data planes in one process: in-memory links with faults, segments that add, a view that tests write.

A fake segment `i` of a plan adds `i + 1` to its input, so the answer of a plan of n segments is x + n (n + 1) / 2. `Gate`s
make a segment wait until a test lets it go on: nothing here sleeps.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic_ns
from types import MappingProxyType
from typing import Any

import numpy as np

from meshd.core.ids import Address, Boot, Digest, NodeId, SegmentId
from meshd.core.plan import Encoding, Plan, PlanSegment, Policy
from meshd.core.view import Hold, Holding, Member, Served, State, View
from meshd.dataplane.links import Buffer, Receiver, Signature
from meshd.dataplane.plane import DataPlane
from meshd.model.graph import Port, TensorType

WIDTH = 8
PORT_IN = Port("x", TensorType("float32", (None, WIDTH)))
PORT_OUT = Port("y", TensorType("float32", (None, WIDTH)))


@dataclass
class FakeSegment:
    """Adds `step`; calls `before` first."""

    index: int
    last: bool
    before: Callable[[], None] = lambda: None
    resident_bytes: int = 0
    kernels: dict[str, int] = field(default_factory=dict)
    runs: int = 0

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (PORT_IN if self.index == 0 else Port(f"t{self.index - 1}", PORT_IN.type),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (PORT_OUT if self.last else Port(f"t{self.index}", PORT_IN.type),)

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        self.runs += 1
        self.before()
        return [inputs[0] + np.float32(self.index + 1)]

    def warm(self) -> int:
        return 1


@dataclass
class Held:
    segment: Any
    plan: Plan
    measured_us: int = 0


@dataclass
class FakeTicket:
    progress_us: int
    left_us: int
    withdrawn: bool = False


class FakeLinks:
    """One node's links: each peer has a thread that delivers, as a link's reader does."""

    def __init__(self, mesh: "FakeMesh", me: NodeId) -> None:
        self._mesh, self._me = mesh, me
        self.receiver: Receiver | None = None
        self._queues: dict[NodeId, queue.SimpleQueue[Any]] = {}
        self._threads: list[threading.Thread] = []
        self.sent: list[tuple[NodeId, Any]] = []
        self._given: list[Any] = []
        """Frames that the far end has dealt with, or that were lost on the way."""
        self._news = threading.Condition()

    def attach(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, peer: NodeId, frame: Any, payload: Sequence[Buffer] = ()) -> FakeTicket | None:
        if not self._mesh.is_linked(self._me, peer):
            return None
        # Joined, as on a wire: what the sender does to its buffers later must not be seen.
        item = frame, b"".join(bytes(p) for p in payload)
        with self._news:  # Two threads may be the first to send to a peer: it has one queue, in the order of `sent`.
            if peer not in self._queues:
                self._queues[peer] = queue.SimpleQueue()
                thread = threading.Thread(target=self._deliver, args=(peer, self._queues[peer]), daemon=True)
                self._threads.append(thread)
                thread.start()
            self.sent.append((peer, frame))
            self._queues[peer].put(item)
        now_us = monotonic_ns() // 1000
        return FakeTicket(now_us, now_us)

    def _deliver(self, peer: NodeId, frames: "queue.SimpleQueue[Any]") -> None:
        while (item := frames.get()) is not None:
            frame, payload = item
            other = self._mesh.nodes.get(peer)
            if other is not None and peer not in self._mesh.silent and self._mesh.is_linked(self._me, peer):
                receiver = other.links.receiver
                assert receiver is not None
                receiver.receive(self._me, frame, memoryview(payload))
            with self._news:
                self._given.append(frame)
                self._news.notify_all()

    def wait_for(self, kind: type, count: int = 1) -> None:
        """Until so many frames of a kind have come to where they went: not only left, or a death could overtake them."""
        with self._news:
            assert self._news.wait_for(lambda: sum(isinstance(f, kind) for f in self._given) >= count, 20)

    def rtt_us(self, peer: NodeId) -> int:
        return 100

    def bandwidth_bps(self, peer: NodeId) -> int:
        return 0

    def close(self) -> None:
        for frames in self._queues.values():
            frames.put(None)
        for thread in self._threads:
            thread.join()


@dataclass
class FakeNode:
    name: NodeId
    links: Any
    """`FakeLinks`, unless a test brought real ones."""
    held: dict[SegmentId, Held] = field(default_factory=dict)
    hints: list[NodeId] = field(default_factory=list)
    pairs: list[tuple[NodeId, bool]] = field(default_factory=list)
    plane: DataPlane = None  # type: ignore[assignment]

    def hinted(self, peer: NodeId) -> None:
        self.hints.append(peer)

    def pair_unreachable(self, peer: NodeId, ok: bool) -> None:
        self.pairs.append((peer, ok))

    def segment(self, index: int) -> FakeSegment:
        (found,) = [h.segment for id, h in self.held.items() if id.index == index]
        assert isinstance(found, FakeSegment)
        return found


class FakeMesh:
    """`plan[i]` are the candidates of segment `i`; `entry` is a node of its own unless it is named there."""

    def __init__(
        self,
        plan: list[list[str]],
        entry: str = "e",
        name: str = "m",
        cores: int = 2,
        links_of: Callable[["FakeMesh", NodeId], Any] | None = None,
        item_us: int = 0,
    ) -> None:
        self.item_us = item_us
        make_links = links_of or FakeLinks
        self.name = name
        self.entry = NodeId(entry)
        self.cut: dict[frozenset[str], None] = {}
        self.dead: dict[str, None] = {}
        self.silent: dict[str, None] = {}
        self.states: dict[NodeId, State] = {}
        names = sorted({entry, *(n for candidates in plan for n in candidates)})
        cross = [((f"t{i}", Encoding.FLOAT32),) for i in range(len(plan) - 1)]
        self.segments = tuple(
            PlanSegment(i, i + 1, cross[i] if i < len(cross) else (), tuple(NodeId(n) for n in candidates))
            for i, candidates in enumerate(plan)
        )
        self.plan = Plan(name, 1, Digest("d" * 64), 1, Digest("0" * 64), self.segments, 1, self.entry, 1)
        self.states = {NodeId(n): State.ALIVE for n in names}
        self.views = {n: self._make_view(n) for n in self.states}
        self.nodes: dict[NodeId, FakeNode] = {}
        for n in names:
            self._add(NodeId(n), cores, make_links(self, NodeId(n)))
        if links_of is not None:
            return
        for a in self.nodes.values():
            for b in self.nodes:
                if a.name != b:
                    a.plane.link_changed(b, True)

    def _add(self, name: NodeId, cores: int, links: Any) -> None:
        node = FakeNode(name, links)
        for i, segment in enumerate(self.segments):
            if name in segment.succession:
                id = SegmentId(self.plan.plan_digest, i)
                node.held[id] = Held(FakeSegment(i, i == len(self.segments) - 1), self.plan)
        self.nodes[name] = node
        node.plane = DataPlane(
            me=name,
            boot=Boot(1),
            view=lambda: self.views[name],
            holder=node.held.get,
            signatures=lambda deployed: Signature((PORT_IN,), (PORT_OUT,)) if deployed == self.name else None,
            links=node.links,
            hints=node,
            cores=cores,
        )

    def _make_view(self, me: NodeId) -> View:
        members = {
            n: Member(n, n, state, Boot(1), 0, (Address("h", 1),), holdings=self._holdings(n))
            for n, state in sorted(self.states.items())
        }
        order = tuple(
            tuple(sorted(s.succession, key=lambda n: self.states[n] is not State.ALIVE)) for s in self.segments
        )
        served = Served(self.name, self.plan.model, 1, Digest("r" * 64), Policy(), self.plan, self.plan, order)
        return View(1, me, Boot(1), MappingProxyType(members), MappingProxyType({self.name: served}))

    def _holdings(self, node: NodeId) -> tuple[Holding, ...]:
        held = [i for i, s in enumerate(self.segments) if node in s.succession]
        return tuple(Holding(SegmentId(self.plan.plan_digest, i), Hold.READY, self.item_us) for i in held)

    def is_linked(self, a: str, b: str) -> bool:
        return a not in self.dead and b not in self.dead and frozenset((a, b)) not in self.cut

    @property
    def door(self) -> FakeNode:
        return self.nodes[self.entry]

    def infer(self, value: float = 0.0, batch: int = 1, deadline_us: int = 0) -> Any:
        """Send one request; returns the array that came back."""
        x = np.full((batch, WIDTH), value, np.float32)
        out = self.door.plane.infer(self.name, [x.tobytes()], batch, deadline_us)
        return np.frombuffer(out.raw[0], np.float32).reshape(out.batch, WIDTH)

    def expected(self, value: float = 0.0) -> float:
        n = len(self.segments)
        return value + n * (n + 1) / 2

    def kill(self, name: str) -> None:
        """Its links close; what it still computes reaches nobody."""
        self.dead[name] = None
        for other in self.nodes.values():
            if other.name != name and other.name not in self.dead:
                other.plane.link_changed(NodeId(name), False)

    def suspect(self, name: str) -> None:
        self.states[NodeId(name)] = State.SUSPECT
        for node in self.nodes.values():
            if node.name not in self.dead:
                self.views[node.name] = self._make_view(node.name)
                node.plane.view_changed(self.views[node.name])

    def close(self) -> None:
        for node in self.nodes.values():
            node.plane.close()
        for node in self.nodes.values():
            node.links.close()

"""The data planes of a simulated mesh: the shell around `core/journey`, with links, one worker a machine, and no bytes.

A payload is the tuple of (plan, segment) it was computed by, so that a wrong answer is seen as such.

Rule 1: nothing is decided here; what a request does next is `Journey`'s effect, as in the daemon's data plane.
Rule 2: a link loses nothing and keeps order, or it closes: at once when a process dies, else after `SILENT_US`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from meshd.config import MS, S
from meshd.core import events
from meshd.core.ids import Digest, NodeId, SegmentId
from meshd.core.journey.effects import Carry, Compute, Effect, Finish, Hint, Keep, Pair, Release, Respond, Send
from meshd.core.journey.frames import Answer, Forward, Frame, Leg
from meshd.core.journey.hop import Backlog
from meshd.core.journey.journey import Journey
from meshd.core.view import Hold, State, View
from meshd.sim.cluster import Cluster
from meshd.sim.links import HANDSHAKE_DELAYS, SILENT_US
from meshd.sim.machine import Machine
from meshd.sim.workload import CROSSING_BYTES
from meshd.wire.codec_frames import decode_frame, encode_frame

Payload = tuple[tuple[Digest, int], ...]
AGAIN_US = 1 * S
"""A dial that failed is tried again after this."""
HELD_UP_US = 20 * MS
"""How often what waits for a path, or for a stopped process, looks again."""
MEASURE_US = 10 * S
"""Links are measured, and the control plane told, this often."""

Watch = Callable[["Plane", Effect, Payload], None]


@dataclass(slots=True)
class _Link:
    """Between two planes, one queue for each receiver."""

    planes: tuple["Plane", "Plane"]
    closed: bool = False
    queues: dict[int, deque[tuple[bytes, Payload, int]]] = field(default_factory=dict)
    arrives_us: dict[int, int] = field(default_factory=dict)
    left_us: dict[int, int] = field(default_factory=dict)
    """Receiver → when what was sent last will have left."""

    def other(self, plane: "Plane") -> "Plane":
        return self.planes[1] if self.planes[0] is plane else self.planes[0]


class Planes:
    """All of a cluster's. Add `watch` to `cluster.watchers`; `watchers` here see every effect of every journey."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.watchers: list[Watch] = []
        self.of: dict[int, Plane] = {}
        self._rng = Random(f"{cluster.seed}/planes")
        self._links: dict[tuple[int, int], _Link] = {}
        self._dialing: dict[tuple[int, int], None] = {}

    def watch(self, machine: Machine, input: events.Input, effects: list[events.Effect]) -> None:
        """After one step of one node: its plane sees the View that came of it."""
        published = any(isinstance(effect, events.Publish) for effect in effects)
        if not published or machine.view is None or machine.index >= len(self.cluster.machines):
            return
        plane = self.of.get(machine.index)
        if plane is None or not plane.alive:
            plane = self.of[machine.index] = Plane(self, machine)
            self.cluster.clock.after(MEASURE_US, plane.measure)
        for node, member in machine.view.members.items():
            if member.state is State.ALIVE and node != machine.node_id:
                self.dial(machine.index, self.cluster.by_id[node].index)
        plane.perform(plane.journey.view_changed(machine.local_us()))

    def crashed(self, index: int) -> None:
        """A machine is about to go down: its links close, sooner or later."""
        plane = self.of.pop(index, None)
        for pair, link in list(self._links.items()):
            if plane is not None and index in pair:
                soon = self.cluster.dies_loudly and self._passes(*pair)
                self.cluster.clock.after(self.delay_us() if soon else SILENT_US, self.close, link)

    # ------------------------------------------------------------ links

    def delay_us(self) -> int:
        """One way, drawn here, so that requests shift no draw of the control plane's."""
        weather = self.cluster.network.weather
        return weather.delay_us + (self._rng.randrange(weather.jitter_us) if weather.jitter_us else 0)

    def link(self, a: int, b: int) -> _Link | None:
        """The one between two machines."""
        return self._links.get((min(a, b), max(a, b)))

    def _passes(self, a: int, b: int) -> bool:
        network = self.cluster.network
        if clog := self.cluster.links.clogged.get((min(a, b), max(a, b))):
            network.on_fault(clog)
            return False
        return network.reaches(a, b) and network.reaches(b, a)

    def dial(self, a: int, b: int) -> None:
        """Open a link unless there is one."""
        pair = (min(a, b), max(a, b))
        if pair not in self._links and pair not in self._dialing:
            self._dialing[pair] = None
            self.cluster.clock.after(HANDSHAKE_DELAYS * self.delay_us(), self._opened, pair)

    def _opened(self, pair: tuple[int, int]) -> None:
        del self._dialing[pair]
        one, two = (self.of.get(index) for index in pair)
        if one is None or two is None:
            return  # Its next View dials again.
        if pair in self._links or not self._passes(*pair):
            self.cluster.clock.after(AGAIN_US, self.dial, *pair)
            return
        self._links[pair] = _Link((one, two))
        for plane, other in ((one, two), (two, one)):
            plane.perform(plane.journey.link_changed(other.me, True, plane.now_us))

    def close(self, link: _Link) -> None:
        """Both ends that still live hear of it, and dial again."""
        if link.closed:
            return
        link.closed = True
        one, two = link.planes
        pair = (one.machine.index, two.machine.index)
        del self._links[pair]
        for plane, other in ((one, two), (two, one)):
            if plane.alive:
                plane.perform(plane.journey.link_changed(other.me, False, plane.now_us))
        self.cluster.clock.after(AGAIN_US, self.dial, *pair)

    def send(self, source: "Plane", peer: NodeId, frame: Frame, payload: Payload) -> bool:
        """False where there is no link."""
        to = self.cluster.by_id.get(peer)
        link = None if to is None else self.link(source.machine.index, to.index)
        if to is None or link is None or source not in link.planes:
            return False
        clock, data = self.cluster.clock, encode_frame(frame)
        link.queues.setdefault(to.index, deque()).append((data, payload, clock.now_us))
        size = len(data) + (sum(frame.sizes) if isinstance(frame, Forward | Answer) else 0)
        left_us = clock.now_us + self.cluster.network.crossing_us(source.machine.index, to.index, size)
        link.left_us[to.index] = left_us
        at_us = max(link.arrives_us.get(to.index, 0) + 1, left_us + self.delay_us())
        link.arrives_us[to.index] = at_us
        clock.at(at_us, self._arrive, link, source)
        return True

    def leaves_in_us(self, source: "Plane", peer: NodeId) -> int:
        """From now until what was sent last to `peer` has left."""
        to = self.cluster.by_id[peer].index
        link = self.link(source.machine.index, to)
        return 0 if link is None else max(0, link.left_us.get(to, 0) - self.cluster.clock.now_us)

    def _arrive(self, link: _Link, source: "Plane") -> None:
        """The first that waits arrives, or waits on: for the path (TCP sends again), or for its receiver."""
        plane = link.other(source)
        if link.closed or not plane.alive:
            return
        queue, clock = link.queues[plane.machine.index], self.cluster.clock
        if not self._passes(source.machine.index, plane.machine.index):
            if clock.now_us - queue[0][2] > SILENT_US:
                self.close(link)
            else:
                clock.after(HELD_UP_US, self._arrive, link, source)
            return
        if plane.machine.stalled:
            clock.after(HELD_UP_US, self._arrive, link, source)
            return
        data, payload, _ = queue.popleft()
        frame = decode_frame(data)
        self.cluster.trace.event(clock.now_us, plane.machine.index, f"frame {source.me} {type(frame).__name__}", data)
        plane.perform(plane.journey.receive(source.me, frame, plane.now_us), payload)  # type: ignore[arg-type]


class Plane:
    """One machine's, for one of its lives; it is its own `Wire`."""

    def __init__(self, planes: Planes, machine: Machine) -> None:
        self.planes, self.machine, self.life, self.me = planes, machine, machine.life, machine.node_id
        self._seen: View | None = machine.view
        self._free_us = 0
        self._kept: dict[Leg, Payload] = {}
        self._leaves_us: dict[Leg, int] = {}
        """Kept payloads that were sent: when the last byte leaves, by this machine's clock."""
        self._alarm_us: int | None = None
        self.journey = Journey(self._view, self._backlog, self)

    @property
    def alive(self) -> bool:
        """Is its process the one that runs?"""
        return self.machine.up and self.machine.life == self.life

    @property
    def now_us(self) -> int:
        """By its machine's clock."""
        return self.machine.local_us()

    def _view(self) -> View:
        assert self.machine.view is not None, "a plane exists from the first View on"
        return self.machine.view

    def _backlog(self, segment: SegmentId, batch: int) -> Backlog | None:
        assert self.machine.node is not None
        for holding in self.machine.node.intent.holdings():
            if holding.segment == segment and holding.state in {Hold.READY, Hold.DRAINING}:
                return Backlog(max(0, self._free_us - self.now_us), batch * holding.measured_us)
        return None

    # ------------------------------------------------------------ wire

    def left_us(self, leg: Leg) -> int:
        """See `Wire`."""
        at_us = self._leaves_us.get(leg, 0)
        return at_us if at_us <= self.now_us else 0

    def progress_us(self, leg: Leg) -> int:
        """See `Wire`: a slow wire carries all the time, so until it left, bytes left just now."""
        return min(self._leaves_us.get(leg, 0), self.now_us)

    def rtt_us(self, peer: NodeId) -> int:
        """See `Wire`."""
        weather = self.planes.cluster.network.weather
        return 2 * weather.delay_us + weather.jitter_us

    def bandwidth_bps(self, peer: NodeId) -> int:
        """See `Wire`."""
        cluster = self.planes.cluster
        return cluster.network.bandwidth_bps(self.machine.index, cluster.by_id[peer].index)

    def measure(self) -> None:
        """Tell the control plane of every link, again and again."""
        if not self.alive:
            return
        cluster = self.planes.cluster
        for other in cluster.machines:
            if other is not self.machine and self.planes.link(self.machine.index, other.index) is not None:
                peer = other.node_id
                measured = events.LinkMeasured(peer, self.rtt_us(peer), 8 * self.bandwidth_bps(peer))
                self.machine.give_in(0, measured)
        cluster.clock.after(MEASURE_US, self.measure)

    # ------------------------------------------------------------ effects

    def perform(self, effects: list[Effect], payload: Payload = ()) -> None:
        """Do what the journey said, and wake it when it wants to be."""
        for effect in effects:
            for watch in self.planes.watchers:
                watch(self, effect, payload)
            self._do(effect, payload)
        self._set_alarm()

    def _do(self, effect: Effect, payload: Payload) -> None:
        match effect:
            case Send(peer, frame):
                self.planes.send(self, peer, frame, ())
            case Respond(peer, answer):
                self.planes.send(self, peer, answer, payload)
            case Keep(leg):
                self._kept[leg] = payload
            case Release(leg):
                self._kept.pop(leg, None)
                self._leaves_us.pop(leg, None)
            case Carry(peer, forward):
                if self.planes.send(self, peer, forward, self._kept.get(forward.leg, ())):
                    self._leaves_us[forward.leg] = self.now_us + self.planes.leaves_in_us(self, peer)
                else:
                    self.perform(self.journey.unsent(peer, forward.leg, self.now_us))
            case Compute(forward, _, _, cost_us, local):
                value = self._kept.pop(forward.leg, ()) if local else payload
                self._free_us = max(self._free_us, self.now_us) + cost_us
                self.planes.cluster.clock.after(self._free_us - self.now_us, self._computed, effect, value)
            case Hint(peer):
                self.machine.give_in(0, events.Hinted(peer))
            case Pair(peer, ok):
                self.machine.give_in(0, events.PairUnreachable(peer, ok))
            case Finish():
                pass  # Whoever counts requests watches for it.

    def _computed(self, compute: Compute, value: Payload) -> None:
        if not self.alive:
            return
        if self.machine.stalled:
            self.planes.cluster.clock.after(HELD_UP_US, self._computed, compute, value)
            return
        if not self.journey.is_wanted(compute, self.now_us):
            return
        done: Forward = compute.forward
        spent = replace(done.spent, compute_us=done.spent.compute_us + compute.cost_us)
        self.perform(
            self.journey.computed(compute, (CROSSING_BYTES,), spent, self.now_us), (*value, (done.plan, done.segment))
        )

    def _set_alarm(self) -> None:
        due_us = self.journey.next_due_us()
        if due_us is not None and (self._alarm_us is None or due_us < self._alarm_us):
            self._alarm_us = due_us
            # One more: clocks run apart, and what fires early would only be set again.
            self.planes.cluster.clock.after(max(0, due_us - self.now_us) + 2, self._due, due_us)

    def _due(self, due_us: int) -> None:
        if not self.alive or self._alarm_us != due_us:
            return
        if self.machine.stalled:
            self.planes.cluster.clock.after(HELD_UP_US, self._due, due_us)
            return
        self._alarm_us = None
        self.perform(self.journey.due(self.now_us))

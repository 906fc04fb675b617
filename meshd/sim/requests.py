"""Requests on a simulated mesh: 20 a second a deployment, what became of each, and the invariants E1, E4, E5 and E6.

A request is *disturbed* if it took 5 ms longer than the slowest of the calm before the faults; what was *added* to it is its
latency less the calm's median. One whose entry dies is nobody's to answer: counted apart (`orphaned`), not as failed.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from meshd.config import HOPS_MAX, MS
from meshd.core.events import Effect as NodeEffect
from meshd.core.events import Input, Loaded, Unloaded
from meshd.core.ids import Digest, SegmentId
from meshd.core.journey.effects import Carry, Compute, Effect, Finish
from meshd.core.journey.frames import Answer, RequestId
from meshd.sim.checkers import BrokenError
from meshd.sim.machine import Machine
from meshd.sim.meter import quantile
from meshd.sim.plane import Payload, Plane, Planes
from meshd.sim.workload import CROSSING_BYTES

EVERY_US = 50 * MS
DISTURBED_US = 5 * MS
"""The calm is short: by less than this the slowest of the rest may exceed its slowest with no fault at all."""
DEADLINE_US = 30_000 * MS
ENDED_MAX = 100_000
"""Remembered, to see that none is answered twice: of 64 deployments all of the last minute."""


@dataclass(slots=True)
class Requests:
    """Of the deployments `names`. Add `watch_node` to `cluster.watchers` and `watch` to `planes.watchers`."""

    planes: Planes
    names: list[str]
    sent: int = 0
    wrong: int = 0
    orphaned: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Why requests failed."""
    checked: Counter[str] = field(default_factory=Counter)
    calm_us: list[int] = field(default_factory=list)
    """Latencies before the faults."""
    latency_us: list[int] = field(default_factory=list)
    """Latencies since."""
    is_calm: bool = True
    running: bool = False
    _started: dict[RequestId, int] = field(default_factory=dict)
    _plans: dict[RequestId, dict[int, Digest]] = field(default_factory=dict)
    _hops: dict[RequestId, dict[tuple[int, int, int], int]] = field(default_factory=dict)
    """Request → (machine, attempt, segment) → the hop budget with which it was computed there."""
    _held: dict[tuple[int, int], dict[SegmentId, None]] = field(default_factory=dict)
    """(machine, life) → what it loaded and has not unloaded."""
    _ended: dict[RequestId, None] = field(default_factory=dict)

    # ------------------------------------------------------------ sending

    def start(self) -> None:
        """Send from now on, until `running` is unset."""
        self.running = True
        rng = Random(f"{self.planes.cluster.seed}/requests")
        for name in self.names:
            self.planes.cluster.clock.after(rng.randrange(EVERY_US), self._send, name, rng)

    def _send(self, name: str, rng: Random) -> None:
        if not self.running:
            return
        cluster = self.planes.cluster
        cluster.clock.after(EVERY_US, self._send, name, rng)
        self.sent += 1
        if self.sent % 512 == 0:
            self._orphans()
        able = [plane for _, plane in sorted(self.planes.of.items()) if _is_ready(plane, name)]
        if not able:
            self.failures["no node is ready"] += 1
            return
        plane = able[rng.randrange(len(able))]
        id = RequestId(plane.me, plane.machine.boot, self.sent)
        self._started[id] = cluster.clock.now_us
        plane.perform(plane.journey.enter(id, name, 1, (CROSSING_BYTES,), DEADLINE_US, plane.now_us))

    def stop(self) -> None:
        """Count those whose entry is gone; nobody else is left once the deadline has passed."""
        self.running = False
        self._orphans()

    def _orphans(self) -> None:
        """Requests whose entry is not there any more are nobody's to answer."""
        for id in list(self._started):
            plane = self.planes.of.get(self.planes.cluster.by_id[id.entry].index)
            if plane is None or plane.machine.boot != id.boot:
                self.orphaned += 1
                del self._started[id]
                self._plans.pop(id, None)
                self._hops.pop(id, None)

    @property
    def failed(self) -> int:
        """All that did not end with an answer, orphans apart."""
        return self.failures.total()

    def added_us(self) -> list[int]:
        """What was added to each disturbed request."""
        usual = quantile(self.calm_us, 0.5) or 0
        slowest = max(self.calm_us, default=0) + DISTURBED_US
        return [latency - usual for latency in self.latency_us if latency > slowest]

    # ------------------------------------------------------------ watching

    def watch_node(self, machine: Machine, input: Input, effects: list[NodeEffect]) -> None:
        """What a machine holds, by what its loader said."""
        if isinstance(input, Loaded):
            life = (machine.index, machine.life)
            if life not in self._held:
                self._held = {old: held for old, held in self._held.items() if old[0] != machine.index}
            self._held.setdefault(life, {})[input.segment] = None
        elif isinstance(input, Unloaded):
            self._held.get((machine.index, machine.life), {}).pop(input.segment, None)

    def watch(self, plane: Plane, effect: Effect, payload: Payload) -> None:
        """Before an effect of a journey is performed."""
        match effect:
            case Compute(forward):
                self._note_plan(plane, forward.request, forward.attempt, forward.plan)
                if forward.request in self._started:
                    at = (plane.machine.index, forward.attempt, forward.segment)
                    self._hops.setdefault(forward.request, {})[at] = forward.hops_left
                self.checked["E5"] += 1
                if forward.segment_id not in self._held.get((plane.machine.index, plane.life), {}):
                    what = f"computes segment {forward.segment} of {forward.deployment}, which it does not hold"
                    raise BrokenError("E5", plane.machine, what)
            case Carry(_, forward):
                self._note_plan(plane, forward.request, forward.attempt, forward.plan)
                before = (plane.machine.index, forward.attempt, forward.segment - 1)
                left = self._hops.get(forward.request, {}).get(before, HOPS_MAX)
                self.checked["E4"] += 1
                if not 0 <= forward.hops_left < left:
                    what = f"request {forward.request.number} goes on with {forward.hops_left} hops left of {left}"
                    raise BrokenError("E4", plane.machine, what)
            case Finish(request, outcome, _):
                self._finished(plane, request, outcome if isinstance(outcome, Answer) else None, payload)
                if not isinstance(outcome, Answer):
                    self.failures[outcome.reason.value] += 1

    def _note_plan(self, plane: Plane, request: RequestId, attempt: int, plan: Digest) -> None:
        if request in self._started:
            self._plans.setdefault(request, {}).setdefault(attempt, plan)

    def _finished(self, plane: Plane, request: RequestId, answer: Answer | None, payload: Payload) -> None:
        self.checked["E6"] += 1
        if request in self._ended:
            raise BrokenError("E6", plane.machine, f"request {request.number} is answered twice")
        self._ended[request] = None
        self._hops.pop(request, None)
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        latency_us = self.planes.cluster.clock.now_us - self._started.pop(request)
        plans = self._plans.pop(request, {})
        if answer is None:
            return
        (self.calm_us if self.is_calm else self.latency_us).append(latency_us)
        asked = plans.get(answer.attempt)
        self.checked["E1"] += 1
        if answer.plan != asked or any(plan != asked for plan, _ in payload):
            raise BrokenError(
                "E1", plane.machine, f"request {request.number} asked {asked}, was answered {answer.plan}"
            )
        self.wrong += [segment for _, segment in payload] != list(range(len(payload))) or not payload


def _is_ready(plane: Plane, name: str) -> bool:
    """Would a client that looks for a ready node come here?"""
    view = plane.machine.view
    served = None if view is None else view.deployments.get(name)
    return plane.alive and not plane.machine.stalled and served is not None and served.plan is not None

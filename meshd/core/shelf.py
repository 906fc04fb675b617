"""What this node has loaded, is loading, or has promised memory to: NONE → RESERVED → LOADING → READY → DRAINING → NONE.

Rule 1: reserved + loading + ready memory never exceeds the budget (P1); layers that two segments share count once.
Rule 2: a segment that failed to load waits, twice as long each time, and is then NONE again.
Rule 3: a reservation ends by a plan that names the node, by a later award, or by time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshd.config import LOAD_RETRY_MAX_US, LOAD_RETRY_US
from meshd.core.events import Effect, Load, Report, Unload
from meshd.core.ids import NodeId, SegmentId
from meshd.core.plan import LayerCost, Plan
from meshd.core.view import Hold, Holding


@dataclass(slots=True)
class Item:
    """One segment here."""

    deployment: str
    start: int
    sizes: tuple[int, ...]
    """Loaded size of each of its layers, as the deployment's record states it."""
    state: Hold = Hold.LOADING
    more_bytes: int = 0
    """What it really takes beyond that."""
    measured_us: int = 0
    ready_at_us: int = 0
    failures: int = 0
    retry_at_us: int = 0
    reason: str = ""
    unloading: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory promised to a planner."""

    planner: NodeId
    number: int
    layers: tuple[tuple[int, int], ...]
    """(layer, bytes) it would add."""
    made_us: int
    until_us: int


@dataclass(slots=True)
class Shelf:
    """Segments by id, and reservations by deployment."""

    budget_bytes: int = 0
    draining: bool = False
    drained_by_us: int = 0
    """When what is still held is let go, whatever plans say."""
    items: dict[SegmentId, Item] = field(default_factory=dict)
    reserved: dict[str, Reservation] = field(default_factory=dict)

    # ---------------------------------------------------------------- memory

    def used_bytes(self, deployment: str | None = None, but: str | None = None) -> int:
        """Memory that loaded and loading segments take: of one deployment, or of all but one."""
        layers: dict[tuple[str, int], int] = {}
        more = 0
        for item in self._taking():
            if item.deployment == but or deployment not in {None, item.deployment}:
                continue
            more += item.more_bytes
            for at, size in enumerate(item.sizes, item.start):
                layers[item.deployment, at] = size
        return more + sum(layers.values())

    def reserved_bytes(self, but: str | None = None) -> int:
        """Memory promised, to all deployments but one."""
        total = 0
        for deployment, promise in sorted(self.reserved.items()):
            if deployment != but:
                there = self._layers_of(deployment)
                total += sum(size for at, size in promise.layers if at not in there)
        return total

    def room_for(self, deployment: str) -> int:
        """Budget for `deployment`, what it holds included."""
        return max(0, self.budget_bytes - self.used_bytes(but=deployment) - self.reserved_bytes(but=deployment))

    def held(self, deployment: str) -> tuple[tuple[int, int], ...]:
        """Layer ranges of `deployment` loaded or loading."""
        return tuple(sorted((i.start, i.start + len(i.sizes)) for i in self._taking() if i.deployment == deployment))

    def _taking(self) -> Iterable[Item]:
        return (item for _, item in sorted(self.items.items()) if item.state is not Hold.FAILED)

    def _layers_of(self, deployment: str) -> set[int]:
        return {at for start, end in self.held(deployment) for at in range(start, end)}

    def reserve(self, deployment: str, wanted: Reservation) -> bool:
        """Promise memory, in place of what was promised to this deployment before. False where it does not fit."""
        there = self._layers_of(deployment)
        adds = sum(size for at, size in dict(wanted.layers).items() if at not in there)
        if self.used_bytes(deployment) + adds > self.room_for(deployment):
            return False
        self.reserved[deployment] = wanted
        return True

    def fits_alone(self, deployment: str, wanted: Reservation) -> bool:
        """Whether it would fit in place of all that `deployment` holds. Reserves nothing: what it needs is still taken."""
        return sum(size for _, size in dict(wanted.layers).items()) <= self.room_for(deployment)

    def lacks_room(self, segment: SegmentId, plan: Plan, layers: tuple[LayerCost, ...]) -> bool:
        """Whether a segment of `plan` is not here and does not fit beside what is."""
        before = self.items.get(segment)
        if before is not None and before.state is not Hold.FAILED:
            return False
        return self._used_with(segment, plan, layers) > self.room_for(plan.deployment)

    def _used_with(self, segment: SegmentId, plan: Plan, layers: tuple[LayerCost, ...]) -> int:
        span, there = plan.segments[segment.index], self._layers_of(plan.deployment)
        adds = sum(layers[at].resident_bytes for at in range(span.start, span.end) if at not in there)
        return self.used_bytes(plan.deployment) + adds

    def expire(self, now_us: int) -> None:
        """Forget promises that were not called in."""
        self.reserved = {d: r for d, r in self.reserved.items() if r.until_us > now_us}

    # ---------------------------------------------------------------- loading

    def load(self, segment: SegmentId, plan: Plan, layers: tuple[LayerCost, ...], now_us: int) -> list[Effect]:
        """Begin to load a segment of `plan`, if it is not here and fits; else nothing, and it is asked again later."""
        before = self.items.get(segment)
        if before is not None and (before.state is not Hold.FAILED or before.retry_at_us > now_us):
            return []
        span = plan.segments[segment.index]
        sizes = tuple(layer.resident_bytes for layer in layers[span.start : span.end])
        if self._used_with(segment, plan, layers) > self.room_for(plan.deployment):
            return []
        failures = 0 if before is None else before.failures
        self.items[segment] = Item(plan.deployment, span.start, sizes, failures=failures)
        return [Load(segment, plan)]

    def loaded(self, segment: SegmentId, resident_bytes: int, measured_us: int, now_us: int) -> list[Effect]:
        """A segment serves from now on."""
        item = self.items.get(segment)
        if item is None or item.state is not Hold.LOADING:
            return []
        item.state = Hold.DRAINING if self.draining else Hold.READY
        item.more_bytes = max(0, resident_bytes - sum(item.sizes))
        item.measured_us, item.ready_at_us, item.failures = measured_us, now_us, 0
        detail: dict[str, str | int] = {
            "deployment": item.deployment,
            "segment": segment.index,
            "measured_us": measured_us,
        }
        return [Report("segment.ready", segment.plan, detail)]

    def failed(self, segment: SegmentId, reason: str, now_us: int) -> list[Effect]:
        """A segment could not be loaded."""
        item = self.items.get(segment)
        if item is None or item.state is not Hold.LOADING:
            return []
        item.state, item.reason = Hold.FAILED, reason[:200]
        item.retry_at_us = now_us + min(LOAD_RETRY_US << min(item.failures, 16), LOAD_RETRY_MAX_US)
        item.failures += 1
        detail: dict[str, str | int] = {"deployment": item.deployment, "segment": segment.index, "reason": item.reason}
        return [Report("segment.failed", segment.plan, detail)]

    def unload(self, segment: SegmentId) -> list[Effect]:
        """Let a segment go: it is published as DRAINING, and gone when the shell says so."""
        item = self.items[segment]
        if item.state is Hold.FAILED:
            del self.items[segment]
            return []
        if item.unloading or item.state is Hold.LOADING:
            return []
        item.state, item.unloading = Hold.DRAINING, True
        return [Unload(segment)]

    def unloaded(self, segment: SegmentId) -> None:
        """Its memory is free."""
        self.items.pop(segment, None)

    def drain(self, on: bool, by_us: int) -> None:
        """Publish what is READY as DRAINING, or take that back; `by_us` is when patience ends."""
        self.draining, self.drained_by_us = on, by_us
        before, after = (Hold.READY, Hold.DRAINING) if on else (Hold.DRAINING, Hold.READY)
        for item in self.items.values():
            if item.state is before and not item.unloading:
                item.state = after

    def holdings(self) -> tuple[Holding, ...]:
        """What to publish."""
        return tuple(
            Holding(segment, item.state, item.measured_us, item.ready_at_us, item.reason)
            for segment, item in sorted(self.items.items())
        )

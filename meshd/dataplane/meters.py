"""What the data plane counts, for metrics and for ModelStatistics. Label sets are closed or bounded by the deployments.

Plain sums, each written under the plane's lock; readers take a copy and may see one request half counted.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from meshd.core.journey.frames import Spent


@dataclass(slots=True)
class Tally:
    """How often and how long (nanoseconds)."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """One deployment, as this entry saw it. Times of all hops are summed."""

    success: Tally = field(default_factory=Tally)
    fail: Tally = field(default_factory=Tally)
    queue: Tally = field(default_factory=Tally)
    compute_infer: Tally = field(default_factory=Tally)
    compute_input: Tally = field(default_factory=Tally)
    """Reading and checking the request."""
    compute_output: Tally = field(default_factory=Tally)
    """Everything else: links, encoding, waiting for the answer."""
    items: int = 0
    """Successful items: a batch of eight is eight."""
    last_ms: int = 0
    """Wall clock of the last request, milliseconds since 1970."""


PHASE_BOUNDS_US: Final = (
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
)  # fmt: skip
"""Upper bounds of the buckets: from a tiny model on one node to a rescue on a bad network; past the last is one more."""
PHASES: Final = ("queue", "compute", "transit", "total")


@dataclass(slots=True)
class Histogram:
    """How many took how long; `counts[i]` are those up to `PHASE_BOUNDS_US[i]` and past the bound before."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(PHASE_BOUNDS_US) + 1))
    sum_us: int = 0

    def add(self, us: int) -> None:
        self.counts[bisect_left(PHASE_BOUNDS_US, us)] += 1
        self.sum_us += us


class Meters:
    """Statistics by deployment, and by phase of all together."""

    def __init__(self) -> None:
        self._statistics: dict[str, Statistics] = {}
        self._phases = {phase: Histogram() for phase in PHASES}

    def succeeded(self, deployment: str, batch: int, took_ns: int, spent: Spent, wall_ms: int) -> None:
        seen = self._statistics.setdefault(deployment, Statistics())
        seen.success.add(took_ns)
        seen.queue.add(spent.queue_us * 1000)
        seen.compute_infer.add(spent.compute_us * 1000)
        seen.compute_output.add(max(0, took_ns - (spent.queue_us + spent.compute_us) * 1000))
        seen.items += batch
        seen.last_ms = wall_ms
        total_us = took_ns // 1000
        transit_us = max(0, total_us - spent.queue_us - spent.compute_us)
        for phase, us in zip(PHASES, (spent.queue_us, spent.compute_us, transit_us, total_us), strict=True):
            self._phases[phase].add(us)

    def phases(self) -> dict[str, Histogram]:
        """A copy; `transit` is all that is neither queue nor compute: links, encoding, waiting for the answer."""
        return {phase: Histogram(list(seen.counts), seen.sum_us) for phase, seen in self._phases.items()}

    def failed(self, deployment: str, took_ns: int, wall_ms: int) -> None:
        seen = self._statistics.setdefault(deployment, Statistics())
        seen.fail.add(took_ns)
        seen.last_ms = wall_ms

    def of(self, deployment: str) -> Statistics:
        """A copy; all zero for what was never asked for."""
        seen = self._statistics.get(deployment, Statistics())
        tallies = ("success", "fail", "queue", "compute_infer", "compute_input", "compute_output")
        return replace(seen, **{name: replace(getattr(seen, name)) for name in tallies})

    def keep(self, deployments: Iterable[str]) -> None:
        """Forget all others."""
        kept = dict.fromkeys(deployments)
        for name in [n for n in self._statistics if n not in kept]:
            del self._statistics[name]

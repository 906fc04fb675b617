"""What the data plane counts, for metrics and for ModelStatistics. Label sets are closed or bounded by the deployments.

Plain sums, each written under the plane's lock; readers take a copy and may see one request half counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

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


class Meters:
    """Statistics by deployment."""

    def __init__(self) -> None:
        self._statistics: dict[str, Statistics] = {}

    def succeeded(self, deployment: str, batch: int, took_ns: int, spent: Spent, wall_ms: int) -> None:
        seen = self._statistics.setdefault(deployment, Statistics())
        seen.success.add(took_ns)
        seen.queue.add(spent.queue_us * 1000)
        seen.compute_infer.add(spent.compute_us * 1000)
        seen.compute_output.add(max(0, took_ns - (spent.queue_us + spent.compute_us) * 1000))
        seen.items += batch
        seen.last_ms = wall_ms

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

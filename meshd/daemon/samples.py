"""What the metrics tell: counted in the rooms, gathered here on each scrape, on trio's thread."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from meshd.config import S
from meshd.core.view import Hold, State
from meshd.dataplane.meters import PHASE_BOUNDS_US, Histogram

if TYPE_CHECKING:
    from meshd.daemon.supervisor import Supervisor


def samples(daemon: "Supervisor") -> Iterator[Metric]:
    """All metrics of one daemon. No label holds what a stranger chose: deployments are numbers, nodes are states."""
    view = daemon.board.view
    me = view.members.get(view.me)
    states = [member.state for member in view.members.values()]
    yield _gauges("meshd_members", "Members by state, as this node sees them.", "state",
                  {state.name.lower(): states.count(state) for state in State})  # fmt: skip
    held = [holding.state for holding in me.holdings] if me else []
    yield _gauges("meshd_segments_held", "Segments by state.", "state", {hold.value: held.count(hold) for hold in Hold})
    served = sum(each.plan is not None for each in view.deployments.values())
    yield GaugeMetricFamily("meshd_deployments", "Deployments known.", len(view.deployments))
    yield GaugeMetricFamily("meshd_deployments_served", "Of which a plan serves.", served)
    if me is not None:
        yield GaugeMetricFamily("meshd_memory_budget_bytes", "Budget for models.", me.capacity.memory_bytes)
        yield GaugeMetricFamily("meshd_memory_free_bytes", "Of which free.", me.capacity.free_bytes)
    for name, count in sorted(daemon.driver.counts.items()):
        yield CounterMetricFamily(
            f"meshd_driver_{name}", "Driver: steps, datagrams taken in, late wakes, batches kept.", count
        )
    yield GaugeMetricFamily("meshd_driver_inbox", "Inputs that wait for the driver.", len(daemon.driver.inbox))
    yield _counters("meshd_gossip", "Datagrams and bytes by what became of them.", ("what",), daemon.peers.tallies())
    yield _counters("meshd_gossip_refused", "Datagrams refused, by reason.", ("reason",), daemon.peers.refused())
    yield _counters(
        "meshd_links", "Links and their frames: what happened, by kind.", ("kind", "what"), daemon.peers.link_counts()
    )
    if daemon.servers is not None:
        for role, refused in daemon.servers.refused().items():
            yield CounterMetricFamily(f"meshd_{role}_refused", "Connections past the limit to this port.", refused)
    if daemon.plane is not None:
        yield from _requests(daemon.plane.counts())
        yield phases(daemon.plane.phases())


def _requests(counts: Mapping[str, int]) -> Iterator[Metric]:
    told = "Data plane: requests, frames and attempts by what became of them."
    failed = {name.removeprefix("failed "): count for name, count in counts.items() if name.startswith("failed ")}
    yield _counters("meshd_requests_failed", "Requests without an answer, by reason.", ("reason",), failed)
    for name, count in sorted(counts.items()):
        if name in ("in_flight", "payloads_kept"):
            yield GaugeMetricFamily(f"meshd_requests_{name}", told, count)
        elif not name.startswith("failed "):
            yield CounterMetricFamily(f"meshd_requests_{name}", told, count)


def phases(seen: Mapping[str, Histogram]) -> Metric:
    """Answered requests that entered here, by phase; seconds, as Prometheus has it."""
    family = HistogramMetricFamily(
        "meshd_request_seconds", "Answered requests that entered here: where their time went.", labels=("phase",)
    )
    for phase, histogram in seen.items():
        below, buckets = 0, []
        for bound_us, count in zip((*PHASE_BOUNDS_US, None), histogram.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound_us is None else str(bound_us / S), below))
        family.add_metric((phase,), buckets, histogram.sum_us / S)
    return family


def _gauges(name: str, told: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _counters(
    name: str, told: str, labels: tuple[str, ...], counts: Mapping[str, int] | Mapping[tuple[str, str], int]
) -> Metric:
    family = CounterMetricFamily(name, told, labels=labels)
    items: Iterable[tuple[str | tuple[str, str], int]] = counts.items()
    for values, count in sorted(items):
        family.add_metric((values,) if isinstance(values, str) else values, count)
    return family

"""What the metrics tell: counted in the rooms, gathered here on each scrape."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshd.core.view import Hold, State
from meshd.daemon.metrics import Sample

if TYPE_CHECKING:
    from meshd.daemon.supervisor import Supervisor


def samples(daemon: "Supervisor") -> Iterator[Sample]:
    """All samples of one daemon. No label holds what a stranger chose: deployments are numbers, nodes are states."""
    view = daemon.board.view
    me = view.members.get(view.me)
    for state in State:
        count = sum(member.state is state for member in view.members.values())
        yield Sample("meshd_members", count, "Members by state, as this node sees them.", {"state": state.name.lower()})
    held = [holding.state for holding in me.holdings] if me else []
    for hold in Hold:
        yield Sample("meshd_segments_held", held.count(hold), "Segments by state.", {"state": hold.value})
    served = sum(each.plan is not None for each in view.deployments.values())
    yield Sample("meshd_deployments", len(view.deployments), "Deployments known.")
    yield Sample("meshd_deployments_served", served, "Of which a plan serves.")
    if me is not None:
        yield Sample("meshd_memory_budget_bytes", me.capacity.memory_bytes, "Budget for models.")
        yield Sample("meshd_memory_free_bytes", me.capacity.free_bytes, "Of which free.")
    for name, count in sorted(daemon.driver.counts.items()):
        yield Sample(
            f"meshd_driver_{name}_total", count, "Driver: steps, datagrams taken in, late wakes, batches kept."
        )
    yield Sample("meshd_driver_inbox", len(daemon.driver.inbox), "Inputs that wait for the driver.")
    for name, count in sorted(daemon.peers.tallies().items()):
        yield Sample("meshd_gossip_total", count, "Datagrams and bytes by what became of them.", {"what": name})
    for name, count in sorted(daemon.peers.refused().items()):
        yield Sample("meshd_gossip_refused_total", count, "Datagrams refused, by reason.", {"reason": name})
    for (kind, what), count in sorted(daemon.peers.link_counts().items()):
        yield Sample("meshd_links_total", count, "Links: what happened, by kind.", {"kind": kind, "what": what})
    yield Sample("meshd_metrics_refused_total", daemon.metrics.refused, "Requests to this port that were none.")
    if daemon.plane is not None:
        for name, count in sorted(daemon.plane.counts().items()):
            kind = "" if name in ("in_flight", "payloads_kept") else "_total"
            yield Sample(
                f"meshd_requests_{name}{kind}",
                count,
                "Data plane: requests, frames and attempts by what became of them.",
            )

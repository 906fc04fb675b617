"""SimReport: what a run found, as the versioned document that `meshd sim -o json` prints."""

from typing import Any

from meshd.config import MS
from meshd.sim.meter import quantile
from meshd.sim.requests import Requests
from meshd.sim.run import Outcome


def document(outcome: Outcome) -> dict[str, Any]:
    """The report. Times in milliseconds; null where nothing was measured."""
    meter, cluster, watch = outcome.meter, outcome.cluster, outcome.stopwatch
    nodes = outcome.options.nodes
    per_node = [count / nodes for count in meter.bytes_by_second] or [0.0]
    hours = meter.node_us / 3.6e9
    return {
        "apiVersion": "meshd/v1",
        "kind": "SimReport",
        "nodes": nodes,
        "profile": outcome.options.profile,
        "seed": outcome.options.seed,
        "deployments": outcome.options.deployments,
        "virtual_s": round(cluster.clock.now_us / 1e6, 3),
        "events": cluster.trace.events,
        "trace_hash": cluster.trace.digest(),
        "suspect_ms": _quantiles(meter.suspect_us),
        "dead_all_ms": _quantiles(meter.dead_all_us),
        "false_dead": meter.false_dead,
        "false_dead_an_hour_max": round((meter.false_dead or 3) / hours, 6) if hours else None,
        "node_hours": round(hours, 4),
        "bytes_per_s": {
            "idle": round(outcome.idle_bytes_per_s, 1),
            "mean": round(sum(per_node) / len(per_node), 1),
            "peak": round(max(per_node), 1),
        },
        "view_sizes": len(meter.sizes),
        "rumour_ticks": _quantiles(watch.rumour_us, cluster.timers.gossip_period_us),
        "heal_ms": _quantiles(meter.heal_us),
        "reelect_ms": _quantiles(watch.reelect_us),
        "plan_ms": _quantiles(watch.plan_us),
        "requests": _requests(outcome.requests),
        "faults": {name: outcome.course.happened[name] for name in outcome.options.faults},
        "invariants": {
            "checked": outcome.checked().total(),
            "broken": outcome.broken,
        },
        "replay": outcome.options.command(),
    }


def _requests(requests: Requests) -> dict[str, Any]:
    """`added_ms` is over the disturbed ones only: over all of them its median would be nothing."""
    return {
        "sent": requests.sent,
        "failed": requests.failed,
        "wrong": requests.wrong,
        "orphaned": requests.orphaned,
        "added_ms": _quantiles(requests.added_us()),
        "failures": dict(sorted(requests.failures.items())),
    }


def _quantiles(values: list[int], unit_us: int = MS) -> dict[str, float | int | None]:
    def shown(share: float) -> float | None:
        value = quantile(values, share)
        return None if value is None else round(value / unit_us, 1)

    return {"count": len(values), "p50": shown(0.5), "p99": shown(0.99)}

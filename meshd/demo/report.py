"""What a demo run showed: observations in, a `DemoReport` out. Pure.

*lost*: no answer, or an error. *wrong*: bytes differ from the model run in one piece on this machine. *added*:
latency of a request that lived through the kill, less the median before it. `ok` only if nothing was lost or wrong,
the accuracy is the card's, every request-side goal was met and the mesh repaired itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

ADDED_MS_MAX = 1_000.0
"""A killed owner may cost a request this much at the most."""
IN_FLIGHT_MIN = 8
"""A kill with fewer requests in flight proves little."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: when it was sent and answered (seconds, one clock), what came of it."""

    sent_s: float
    ended_s: float
    answered: bool
    right: bool
    """The answer's bytes are those of the whole model run here."""
    correct: bool
    """The answer names the label."""
    survived: bool = False
    """The node it was on vanished: at least one hop of it was sent again."""
    error: str = ""

    @property
    def latency_ms(self) -> float:
        """From sent to answered or failed."""
        return (self.ended_s - self.sent_s) * 1e3


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One segment of the plan that served. `kernels` counts layers by the class of kernel that runs them."""

    start: int
    end: int
    owner: str
    standbys: tuple[str, ...]
    crossing_bytes: int
    kernels: dict[str, int]


@dataclass(frozen=True, slots=True)
class Failover:
    """The kill as the mesh saw it; times in seconds on the requests' clock, None where it never happened."""

    killed: str
    killed_s: float
    suspect_s: float | None
    repaired_s: float | None
    returned_s: float | None
    took_over: str


@dataclass(frozen=True, slots=True)
class Run:
    """Everything observed."""

    nodes: int
    discovery_s: float
    segments: tuple[SegmentReport, ...]
    outcomes: tuple[Outcome, ...]
    failover: Failover | None
    single_ms: float
    """What one node alone would take, median."""
    accuracy_expected: float
    """Of the same images, by the model run in one piece; the card says the same."""


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def phases(run: Run) -> dict[str, tuple[float, float]]:
    """Latency p50 and p99 in ms before, during and after the kill.

    *during* is what was in flight at the kill or sent in the first second after it.
    """
    killed = run.failover.killed_s if run.failover else float("inf")
    parts: dict[str, list[float]] = {"before": [], "during": [], "after": []}
    for outcome in run.outcomes:
        if outcome.ended_s <= killed:
            parts["before"].append(outcome.latency_ms)
        elif outcome.sent_s <= killed + 1.0:
            parts["during"].append(outcome.latency_ms)
        else:
            parts["after"].append(outcome.latency_ms)
    return {name: (percentile(values, 0.5), percentile(values, 0.99)) for name, values in parts.items()}


def added_ms_max(run: Run) -> float:
    """The most that the kill cost a request."""
    if run.failover is None:
        return 0.0
    killed = run.failover.killed_s
    before = [o.latency_ms for o in run.outcomes if o.ended_s <= killed]
    usual = median(before) if before else 0.0
    return max((o.latency_ms - usual for o in run.outcomes if o.ended_s > killed), default=0.0)


def problems(run: Run) -> list[str]:
    """Every way in which the run fell short, in words; empty is success."""
    found = []
    lost = [o for o in run.outcomes if not o.answered]
    wrong = [o for o in run.outcomes if o.answered and not o.right]
    if lost:
        found.append(f"{len(lost)} requests lost; the first: {lost[0].error}")
    if wrong:
        found.append(f"{len(wrong)} answers differ from the model run in one piece")
    if run.outcomes and (accuracy := _accuracy(run)) != run.accuracy_expected:
        found.append(f"accuracy {accuracy:.4f} is not the card's {run.accuracy_expected:.4f} on the same images")
    if run.failover is None:
        found.append("no owner was killed")
        return found
    if (flying := _in_flight(run)) < IN_FLIGHT_MIN:
        found.append(f"only {flying} requests were in flight at the kill, not {IN_FLIGHT_MIN}")
    if not any(o.survived for o in run.outcomes):
        found.append("no request was on the killed node")
    if (added := added_ms_max(run)) > ADDED_MS_MAX:
        found.append(f"the kill cost a request {added:.0f} ms, more than {ADDED_MS_MAX:.0f}")
    for name, value in (
        ("suspected", run.failover.suspect_s),
        ("repaired", run.failover.repaired_s),
        ("taken in again", run.failover.returned_s),
    ):
        if value is None:
            found.append(
                f"the killed node's loss was never {name}"
                if name != "taken in again"
                else "the killed node did not come back"
            )
    return found


def _accuracy(run: Run) -> float:
    return round(sum(o.correct for o in run.outcomes) / len(run.outcomes), 6)


def _in_flight(run: Run) -> int:
    assert run.failover is not None
    return sum(o.sent_s <= run.failover.killed_s < o.ended_s for o in run.outcomes)


def document(run: Run) -> dict[str, Any]:
    """The `DemoReport`: field names and units are a contract."""
    latencies = [o.latency_ms for o in run.outcomes if o.answered]
    failover = run.failover

    def since_kill(moment: float | None) -> float | None:
        return None if moment is None or failover is None else round((moment - failover.killed_s) * 1e3, 1)

    return {
        "apiVersion": "meshd/v1",
        "kind": "DemoReport",
        "nodes": run.nodes,
        "discovery_s": round(run.discovery_s, 3),
        "plan": {"segments": [asdict(s) | {"standbys": list(s.standbys)} for s in run.segments]},
        "accuracy": _accuracy(run) if run.outcomes else 0.0,
        "requests": {
            "sent": len(run.outcomes),
            "answered": sum(o.answered for o in run.outcomes),
            "lost": sum(not o.answered for o in run.outcomes),
            "wrong": sum(o.answered and not o.right for o in run.outcomes),
            "in_flight_at_kill": _in_flight(run) if failover else 0,
            "on_killed": sum(o.survived for o in run.outcomes),
        },
        "latency_ms": {"p50": round(percentile(latencies, 0.5), 3), "p99": round(percentile(latencies, 0.99), 3)},
        "single_node_ms": round(run.single_ms, 3),
        "failover": {
            "killed": failover.killed if failover else None,
            "took_over": failover.took_over if failover else None,
            "added_ms_max": round(added_ms_max(run), 1),
            "suspect_ms": since_kill(failover.suspect_s) if failover else None,
            "repaired_ms": since_kill(failover.repaired_s) if failover else None,
            "returned_ms": since_kill(failover.returned_s) if failover else None,
        },
        "problems": problems(run),
        "ok": not problems(run),
    }

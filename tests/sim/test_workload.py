"""Deployments under faults keep their invariants, and each rule that is broken on purpose is seen to break."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from meshd.core import repair, settling, telling
from meshd.core.negotiation import Run
from meshd.core.placement import Solution
from meshd.core.plan import Plan
from meshd.core.plans import Plans
from meshd.core.shelf import Shelf
from meshd.sim.run import Options, run

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("seed", range(4))
def test_deployments_under_crashes_and_loss_keep_their_invariants(seed: int) -> None:
    outcome = run(Options(6, 1, seed, {"crash": 3.0, "loss": 0.1}, deployments=2))
    assert outcome.broken == []
    assert outcome.missing == []
    assert all(outcome.intent_checkers.checked[name] for name in ("P1", "P2", "P3", "P4", "R4", "E2") if name != "P4")


def _unloads_at_once(patch: Patch) -> None:
    """What the target does not list goes when the target comes."""
    patch.setattr(settling, "unload_after", lambda listed, *rest: -1 if listed else 0)


def _memory_is_endless(patch: Patch) -> None:
    """Everybody bids, reserves and loads beyond its budget."""
    patch.setattr(Shelf, "room_for", lambda self, deployment: 1 << 50)


def _forgets_the_end(patch: Patch) -> None:
    """Plans lack their last segment, and nobody looks."""
    drafted = Run._drafted

    def short(self: Run, solution: Solution, epoch: int) -> Plan:
        plan = drafted(self, solution, epoch)
        return replace(plan, segments=plan.segments[1:] or plan.segments)

    patch.setattr(Run, "_drafted", short)
    patch.setattr(telling, "plausible", lambda plan, name, record: True)


def _keeps_the_last_only(patch: Patch) -> None:
    """A plan that is told takes the place of all there were."""
    merge = Plans.merge

    def alone(self: Plans, plan: Plan) -> bool:
        fresh = merge(self, plan)
        if fresh:
            self._plans = {plan.record: plan}
        return fresh

    patch.setattr(Plans, "merge", alone)


def _nobody_plans(patch: Patch) -> None:
    """No need is ever seen."""
    patch.setattr(repair, "need", lambda *rest: None)


CALM = Options(5, 0.2, deployments=2)
ROUGH = Options(6, 2, faults={"crash": 4.0, "gone": 0.0}, deployments=2)


@pytest.mark.parametrize(
    ("breaks", "mutate", "options"),
    [
        ("P1", _memory_is_endless, CALM),
        ("P3", _forgets_the_end, CALM),
        ("P5", _nobody_plans, CALM),
        ("P4", _unloads_at_once, ROUGH),
        ("P2", _keeps_the_last_only, ROUGH),
    ],
)
def test_a_broken_rule_is_noticed(
    breaks: str, mutate: Callable[[Patch], None], options: Options, monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    seen = []
    for seed in range(40):
        seen.append(run(replace(options, seed=seed)).invariant)
        if seen[-1] == breaks:
            return
    raise AssertionError(f"{breaks} was never seen to break, only {sorted(set(seen))}")

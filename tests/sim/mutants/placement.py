"""Rules of placement: memory, plans, unloading, planning, moving, cost."""

from dataclasses import replace
from typing import Any

from meshd.config import S, Timers
from meshd.core import negotiation, placement, repair, settling, telling
from meshd.core.events import Effect
from meshd.core.negotiation import Run
from meshd.core.placement import Solution
from meshd.core.plan import Plan
from meshd.core.planning import Planning
from meshd.core.plans import Plans
from meshd.core.shelf import Shelf
from meshd.sim.run import Options
from tests.sim.mutants.mutant import Mutant, Patch


def _memory_is_endless(patch: Patch) -> None:
    """Everybody bids, reserves and loads beyond its budget."""
    patch.setattr(Shelf, "room_for", lambda self, deployment: 1 << 50)


def _keeps_the_last_only(patch: Patch) -> None:
    """A plan that is told takes the place of all there were."""
    merge = Plans.merge

    def alone(self: Plans, plan: Plan) -> bool:
        fresh = merge(self, plan)
        if fresh:
            self._plans = {plan.record: plan}
        return fresh

    patch.setattr(Plans, "merge", alone)


def _forgets_the_start(patch: Patch) -> None:
    """Plans lack their first segment, and nobody looks."""
    drafted = Run._drafted

    def short(self: Run, solution: Solution, epoch: int) -> Plan:
        plan = drafted(self, solution, epoch)
        return replace(plan, segments=plan.segments[1:] or plan.segments)

    patch.setattr(Run, "_drafted", short)
    patch.setattr(telling, "plausible", lambda plan, name, record: True)


def _unloads_at_once(patch: Patch) -> None:
    """What the target does not list goes when the target comes."""
    patch.setattr(settling, "unload_after", lambda listed, *rest: -1 if listed else 0)


def _nobody_plans(patch: Patch) -> None:
    """No need is ever seen."""
    patch.setattr(repair, "need", lambda *rest: None)


def _never_satisfied(patch: Patch) -> None:
    """Every move is worth it, and that it moved before is forgotten."""
    after = Planning._after

    def forgets(self: Planning, name: str, *rest: Any) -> list[Effect]:
        effects = after(self, name, *rest)
        self._ledger.matters[name].moved_us = None
        return effects

    patch.setattr(negotiation, "_worth_moving", lambda before, after: True)
    patch.setattr(Planning, "_after", forgets)


def _first_come(patch: Patch) -> None:
    """The target is the plan that came first, not the greatest."""

    def first(self: Plans, effective: Any) -> Plan | None:
        return next((plan for plan in self._plans.values() if plan.deployment_record == effective), None)

    patch.setattr(Plans, "target", first)


def _always_cuts(patch: Patch) -> None:
    """Everything on one node is not looked at."""
    search = placement.search
    patch.setattr(placement, "search", lambda tables, wanted: search(tables, max(2, wanted)))


CALM = Options(5, 0.2, deployments=2)
ROUGH = Options(5, 1, faults={"crash": 6.0, "gone": 0.0}, deployments=1)
RESTLESS = replace(Timers(), optimise_after_us=5 * S)
MANY = Options(4, 0.3, faults={"deploys": 12.0}, deployments=1)
MUTANTS = {
    "memory is endless": Mutant("P1", _memory_is_endless, CALM),
    "only the last plan is kept": Mutant("P2", _keeps_the_last_only, MANY),
    "plans lack their start": Mutant("P3", _forgets_the_start, MANY),
    "what is not listed goes at once": Mutant("P4", _unloads_at_once, ROUGH),
    "nobody plans": Mutant("P5", _nobody_plans, CALM),
    "every move is worth it": Mutant(
        "P6", _never_satisfied, Options(4, 0.1, deployments=1, quiet_minutes=2, timers=RESTLESS)
    ),
    "the first plan is the target": Mutant(
        "P7", _first_come, Options(4, 0.5, faults={"split": 0.0, "crash": 4.0}, deployments=1), seed=1
    ),
    "a model is always cut": Mutant("P8", _always_cuts, CALM),
}

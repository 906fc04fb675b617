"""The plan register of one deployment: which plan holders load for, and which a node keeps.

Rule 1: a plan record never changes and has no state: the register is a set, and merging is union (P2).
Rule 2: the *target* is the greatest: first those of the effective deployment record, then by `Plan.order`.
Rule 3: kept are the target, and every plan of which some live node holds a segment, at most four.
"""

from collections.abc import Callable, Iterable

from meshd.config import PLANS_PER_DEPLOYMENT_MAX
from meshd.core.ids import Digest
from meshd.core.plan import Plan


class Plans:
    """Plans of one deployment."""

    def __init__(self, plans: Iterable[Plan] = (), epoch: int = 0) -> None:
        self._plans: dict[Digest, Plan] = {plan.record: plan for plan in plans}
        self.epoch = max([epoch, *(plan.epoch for plan in self._plans.values())])
        """The greatest ever seen here."""

    def all(self, effective: Digest | None) -> list[Plan]:
        """Every plan kept, greatest first."""
        return sorted(self._plans.values(), key=lambda p: (p.deployment_record == effective, p.order), reverse=True)

    def target(self, effective: Digest | None) -> Plan | None:
        """The greatest plan of the effective record, if there is one."""
        return max(
            (p for p in self._plans.values() if p.deployment_record == effective), key=lambda p: p.order, default=None
        )

    def merge(self, plan: Plan) -> bool:
        """Take a plan in; True if it was new."""
        self.epoch = max(self.epoch, plan.epoch)
        if plan.record in self._plans:
            return False
        self._plans[plan.record] = plan
        return True

    def prune(self, effective: Digest | None, worth: Callable[[Plan], int]) -> bool:
        """Forget what nobody needs; True if something went.

        Parameters
        ----------
        worth : 0 for a plan no live node holds anything of, more for one that is worth more (a servable one)
        """
        target = self.target(effective)
        rest = [plan for plan in self.all(effective) if plan is not target and worth(plan)]
        rest.sort(key=worth, reverse=True)
        room = PLANS_PER_DEPLOYMENT_MAX - (target is not None)
        kept = ([] if target is None else [target]) + rest[:room]
        changed = len(kept) < len(self._plans)
        if changed:
            self._plans = {plan.record: plan for plan in kept}
        return changed

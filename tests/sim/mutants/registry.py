"""Rules of the register of deployment records."""

from typing import Any

from meshd.core import registry, telling
from meshd.core.ledger import Ledger
from meshd.core.registry import Record, Registry
from meshd.sim.run import Options
from tests.sim.mutants.mutant import Mutant, Patch


def _the_last_heard_counts(patch: Patch) -> None:
    """Among concurrent records the one that came last is the effective one."""
    merge = Registry.merge

    def latest(self: Registry, record: Record) -> bool:
        fresh = merge(self, record)
        heads = self._heads.get(record.name, ())
        if fresh:
            self._heads[record.name] = (record, *(head for head in heads if head != record))
        return fresh

    patch.setattr(Registry, "merge", latest)


def _clocks_decide(patch: Patch) -> None:
    """Records do not dominate each other, and a clock is not raised past those seen."""
    patch.setattr(registry, "_dominates", lambda later, earlier: False)
    patch.setattr(Registry, "_clock", lambda self, name, wall_us: wall_us)


def _anything_is_signed(patch: Patch) -> None:
    """Signatures are not looked at."""
    made = Registry.__init__

    def init(self: Registry, verify: Any) -> None:
        made(self, lambda *arguments: True)

    patch.setattr(Registry, "__init__", init)


def _counts_one_record(patch: Patch) -> None:
    """The generation is the sum of the effective record's own vector."""

    def alone(self: Registry, name: str) -> int:
        record = self.effective(name)
        return 0 if record is None else sum(count for _, count in record.vector)

    patch.setattr(Registry, "generation", alone)


def _keeps_it_to_itself(patch: Patch) -> None:
    """What is new is told to nobody, and nobody asks."""
    patch.setattr(Ledger, "tell_at_once", lambda self, name, first=(): [])
    patch.setattr(telling, "heard", lambda *arguments: [])


BUSY = Options(4, 0.6, faults={"deploys": 12.0, "clock_jump": 0.0}, deployments=1)
APART = Options(4, 0.6, faults={"deploys": 20.0, "clock_jump": 0.0, "three_ways": 0.0}, deployments=1)
MUTANTS = {
    "the last record heard counts": Mutant("R1", _the_last_heard_counts, BUSY),
    "clocks decide": Mutant("R2", _clocks_decide, BUSY),
    "anything is signed": Mutant("R3", _anything_is_signed, Options(4, 0.5, faults={"forged": 0.0}, deployments=1)),
    "the generation is one record's": Mutant("R4", _counts_one_record, APART, seed=1),
    "records are told to nobody": Mutant("R5", _keeps_it_to_itself, Options(4, 0.1, deployments=1)),
}

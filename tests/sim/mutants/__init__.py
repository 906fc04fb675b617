"""Rules broken on purpose, at least one for each invariant: the simulator must notice each within 200 seeds.

A mutant is a function that breaks one rule of the core through pytest's monkeypatch, the invariant that must be seen to break,
and the run in which it shows. `python -m tests.sim.mutants` looks for each among all 200 seeds.
"""

from tests.sim.mutants import journeys, membership, placement, registry
from tests.sim.mutants.mutant import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: dict[str, Mutant] = {
    **membership.MUTANTS,
    **registry.MUTANTS,
    **placement.MUTANTS,
    **journeys.MUTANTS,
}

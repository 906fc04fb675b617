"""Every invariant has a checker and a mutant; each mutant is noticed; the rules as they are never break.

The seeds here are known to notice; `python -m tests.sim.mutants` looks through all 200.
"""

from dataclasses import replace

import pytest

from meshd.sim.invariants import INVARIANTS
from meshd.sim.run import Options, run
from tests.sim.mutants import MUTANTS


def test_every_invariant_has_a_mutant() -> None:
    assert {mutant.breaks for mutant in MUTANTS.values()} == set(INVARIANTS)


def test_every_invariant_is_checked_and_holds() -> None:
    faults = {"crash": 4.0, "loss": 0.1, "replay": 0.0, "deploys": 4.0, "busy": 0.0}
    outcome = run(Options(5, 1, 1, faults, deployments=2))
    assert outcome.broken == []
    assert set(outcome.checked()) == set(INVARIANTS)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    assert run(replace(mutant.options, seed=mutant.seed)).broken == [], "the rule as it is"
    mutant.apply(monkeypatch)
    assert run(replace(mutant.options, seed=mutant.seed)).invariant == mutant.breaks

"""Each broken rule is noticed within 200 seeds, as the invariant it breaks; the rule as it is never is."""

from dataclasses import replace

import pytest

from meshd.sim.run import run
from tests.sim.mutants import MUTANTS, Mutant

SEEDS = 200


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    mutant.apply(monkeypatch)
    seen = []
    for seed in range(SEEDS):
        outcome = run(replace(mutant.options, seed=seed))
        if outcome.invariant:
            seen.append(outcome.invariant)
        if mutant.breaks in seen:
            return
    raise AssertionError(f"{mutant.breaks} was never seen to break, only {sorted(set(seen))}")


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_the_rules_as_they_are_hold_in_the_same_runs(mutant: Mutant) -> None:
    for seed in range(2):
        assert run(replace(mutant.options, seed=seed)).broken == []

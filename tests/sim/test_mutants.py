"""Every invariant has a checker and a mutant; each mutant is noticed; the rules as they are never break.

Each mutant names a seed that notices it, tried first: after a change of the core it may be another. `python -m tests.sim.mutants`
tells which do.
"""

from dataclasses import replace
from functools import cache

import pytest

from meshd.sim.invariants import INVARIANTS
from meshd.sim.run import Options, run
from tests.sim.mutants import MUTANTS

SEEDS = 200


def test_every_invariant_has_a_mutant() -> None:
    assert {mutant.breaks for mutant in MUTANTS.values()} == set(INVARIANTS)


def test_every_invariant_is_checked_and_holds() -> None:
    faults = {"crash": 4.0, "loss": 0.1, "replay": 0.0, "deploys": 4.0, "busy": 0.0}
    outcome = run(Options(5, 1, 1, faults, deployments=2))
    assert outcome.broken == []
    assert set(outcome.checked()) == set(INVARIANTS)


@cache
def _as_it_is(name: str) -> list[str]:
    """What breaks in a mutant's run without the mutation; mutants that share a run, share this."""
    mutant = MUTANTS[name]
    return run(replace(mutant.options, seed=mutant.seed)).broken


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    options = replace(mutant.options, seed=mutant.seed)
    same = next(n for n, other in MUTANTS.items() if replace(other.options, seed=other.seed) == options)
    assert _as_it_is(same) == []
    mutant.apply(monkeypatch)
    seen = []
    for seed in (mutant.seed, *range(SEEDS)):
        seen.append(run(replace(options, seed=seed)).invariant)
        if seen[-1] == mutant.breaks:
            return
    raise AssertionError(f"{mutant.breaks} was never seen to break, only {sorted(set(seen))}")

"""Deployments under faults keep their invariants, and each rule that is broken on purpose is seen to break."""

import pytest

from meshd.sim.run import Options, run

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("seed", range(4))
def test_deployments_under_crashes_and_loss_keep_their_invariants(seed: int) -> None:
    outcome = run(Options(6, 1, seed, {"crash": 3.0, "loss": 0.1}, deployments=2))
    assert outcome.broken == []
    assert outcome.missing == []
    assert all(outcome.intent_checkers.checked[name] for name in ("P1", "P2", "P3", "P4", "R4", "E2") if name != "P4")

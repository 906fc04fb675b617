"""One seed, one history: byte for byte, in any process; and what breaks is shrunk to what it takes to break it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshd.cli.meshd import main
from meshd.sim.faults import FAULTS
from meshd.sim.run import Options, run, shrink
from tests.sim.mutants import MUTANTS

PROGRAM = """
from tests.sim.test_replay import history
print(history(11))
"""
LONG = ("gone", "strangers")
"""Left out below: the one takes a machine away, the other much time."""


def history(seed: int) -> str:
    """Of a run with every fault there is."""
    faults = {name: 0.0 for name in FAULTS if name not in LONG}
    return run(Options(3, 0.2, seed, faults, deployments=1)).cluster.trace.digest()


def test_the_same_seed_gives_the_same_history_under_any_hash_seed() -> None:
    root = Path(__file__).resolve().parents[2]
    hashes = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=root, env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for hash_seed in ("0", "4242")
    }  # fmt: skip
    assert len(hashes) == 1


def test_another_seed_gives_another_history() -> None:
    options = Options(3, 0.1, 1, {"loss": 0.1})
    assert run(options).cluster.trace.digest() != run(replace(options, seed=2)).cluster.trace.digest()


def test_faults_that_have_nothing_to_do_with_it_are_shrunk_away(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS["strangers pile up"].apply(monkeypatch)
    whole = Options(3, 1, 2, {"skew": 0.0, "strangers": 0.0, "hints": 0.0, "garbage": 0.0})
    assert run(whole).invariant == "M9"
    small = shrink(whole, "M9")
    assert set(small.faults) == {"strangers"}
    assert run(small).invariant == "M9"


def test_a_broken_invariant_ends_with_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS["nobody is buried"].apply(monkeypatch)
    result = CliRunner().invoke(main, ["sim", "--nodes", "3", "--minutes", "0.2", "--seed", "4", "--faults", "hints"])
    assert result.exit_code == 1
    assert "M6 at " in result.stderr
    command = result.stderr.strip().splitlines()[-1].partition("replay it with: ")[2]
    assert command == "meshd sim --nodes 3 --minutes 0.1 --seed 4"
    again = CliRunner().invoke(main, command.split()[1:])
    assert "M6 at " in again.stderr

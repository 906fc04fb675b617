"""The whole hunt: for each mutant the first seeds in which it is noticed.

    python -m tests.sim.mutants [--seeds 200] [--most 3] [NAME ...]

Exit 1 if one is not noticed, or the seed that the tests run is none of those that notice it.
"""

import argparse
import sys
from dataclasses import replace

import pytest

from meshd.sim.run import run
from tests.sim.mutants import MUTANTS, Mutant


def caught(mutant: Mutant, seeds: int, most: int) -> tuple[list[int], list[str]]:
    """The first `most` seeds that notice it, and which other invariants broke in others."""
    found: list[int] = []
    others: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        mutant.apply(patch)
        for seed in range(seeds):
            broken = run(replace(mutant.options, seed=seed)).invariant
            if broken == mutant.breaks:
                found.append(seed)
            elif broken:
                others.append(f"{seed}: {broken}")
            if len(found) >= most:
                break
    return found, others


def main() -> int:
    """Hunt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--most", type=int, default=1)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.names or MUTANTS:
        mutant = MUTANTS[name]
        found, others = caught(mutant, arguments.seeds, arguments.most)
        failed += not found
        print(f"{mutant.breaks}  {name:<40} seeds {found or 'NONE'}   known {mutant.seed}   {others[:4]}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

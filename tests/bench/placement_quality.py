"""How far the solver is from the exact optimum, over random clusters of published boards.

python -m tests.bench.placement_quality [--clusters 600] [--objective throughput]
"""

import argparse
import time
from collections.abc import Sequence

from meshd.core.placement import Infeasible, solve
from meshd.core.plan import Objective
from tests.bench.placement_boards import cluster
from tests.bench.placement_oracle import optimum


def main() -> None:
    """Print one line an objective."""
    words = argparse.ArgumentParser()
    words.add_argument("--clusters", type=int, default=600)
    words.add_argument("--objective", choices=[o.value for o in Objective], action="append")
    asked = words.parse_args()
    for objective in [Objective(o) for o in asked.objective or [o.value for o in Objective]]:
        print(_row(objective, asked.clusters), flush=True)


def _row(objective: Objective, clusters: int) -> str:
    ratios, took, infeasible, above_single, missed = [], [], 0, 0, []
    for seed in range(clusters):
        problem = cluster(seed, objective)
        start = time.thread_time()
        found = solve(problem)
        took.append(time.thread_time() - start)
        best = optimum(problem)
        if isinstance(found, Infeasible) or best is None:
            infeasible += best is None and isinstance(found, Infeasible)
            if best is not None or not isinstance(found, Infeasible):
                missed.append(seed)
            continue
        ratios.append((found.cost / best, seed))
        assert found.lower_bound_us <= best <= found.cost, (seed, found, best)
        above_single += found.best_single_us is not None and found.cost > found.best_single_us
    ratios.sort()
    values, took = [r for r, _ in ratios], sorted(took)
    return (
        f"{objective.value:10} clusters {len(ratios)} infeasible {infeasible} missed {missed} | to the exact optimum: median"
        f" {_at(values, 0.5):.4f} p99 {_at(values, 0.99):.4f} max {values[-1]:.4f} (seed {ratios[-1][1]})"
        f" | above best single {above_single} | solver ms p50 {1e3 * _at(took, 0.5):.1f} p99 {1e3 * _at(took, 0.99):.1f}"
        f" max {1e3 * took[-1]:.1f}"
    )


def _at(values: Sequence[float], quantile: float) -> float:
    return values[min(len(values) - 1, int(quantile * len(values)))]


if __name__ == "__main__":
    main()

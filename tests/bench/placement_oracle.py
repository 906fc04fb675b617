"""The exact optimum of a placement, slowly: every subset and order of kinds of nodes, every cut.

Written apart from the solver it judges: dense tables in NumPy over (count used of each kind, last kind, cut), no pruning.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from meshd.core.placement import Problem, Site
from meshd.core.plan import Objective

INFINITE = np.int64(1) << 60


def optimum(problem: Problem, segments_min: int = 1) -> int | None:
    """Least objective of any chain of at least `segments_min` stages on different nodes, or None where none fits."""
    kinds: list[tuple[Site, int]] = []
    for site in problem.sites:
        alike = [n for n, (s, _) in enumerate(kinds) if _same(s, site)]
        if alike:
            kinds[alike[0]] = (kinds[alike[0]][0], kinds[alike[0]][1] + 1)
        else:
            kinds.append((site, 1))
    layers = len(problem.memory_bytes)
    throughput = problem.objective is Objective.THROUGHPUT
    stage = [_stage_costs(problem, site) for site, _ in kinds]
    link = [[_link_costs(problem, a, b) for b, _ in kinds] for a, _ in kinds]
    best: dict[tuple[tuple[int, ...], int], NDArray[np.int64]] = {}
    result = int(INFINITE)
    for used in sorted(product(*(range(n + 1) for _, n in kinds)), key=sum):
        for k in range(len(kinds)):
            if used[k] == 0:
                continue
            before = tuple(n - (i == k) for i, n in enumerate(used))
            if sum(before) == 0:
                row = stage[k][0].copy()
            else:
                row = np.full(layers + 1, INFINITE)
                for a in range(len(kinds)):
                    if (before, a) in best:
                        come = best[before, a]
                        come = np.maximum(come, link[a][k]) if throughput else come + link[a][k]
                        ways = np.maximum(come[:, None], stage[k]) if throughput else come[:, None] + stage[k]
                        row = np.minimum(row, ways.min(axis=0))
            row = np.minimum(row, INFINITE)
            best[used, k] = row
            if sum(used) >= segments_min:
                result = min(result, int(row[layers]))
    return None if result >= INFINITE else result


def _same(a: Site, b: Site) -> bool:
    return (a.layer_us, a.memory_bytes, a.bandwidth_bps, a.milliwatts, a.rtt_us) == (
        b.layer_us, b.memory_bytes, b.bandwidth_bps, b.milliwatts, b.rtt_us,
    )  # fmt: skip


def _stage_costs(problem: Problem, site: Site) -> NDArray[np.int64]:
    """Cost of `[start, end)` on `site`, infinite where it does not fit."""
    layers, copies = len(problem.memory_bytes), problem.activation_copies
    table = np.full((layers + 1, layers + 1), INFINITE)
    for start in range(layers):
        for end in range(start + 1, layers + 1):
            need = sum(problem.memory_bytes[start:end]) + copies * problem.crossing_bytes[end]
            need += (copies if start else min(copies, 1)) * problem.crossing_bytes[start]
            if need <= site.memory_bytes:
                took = sum(site.layer_us[start:end])
                table[start, end] = took * site.milliwatts if problem.objective is Objective.ENERGY else took
    return table


def _link_costs(problem: Problem, a: Site, b: Site) -> NDArray[np.int64]:
    if problem.objective is Objective.ENERGY:
        return np.zeros(len(problem.crossing_bytes), np.int64)
    bandwidth = min(a.bandwidth_bps, b.bandwidth_bps)
    rtt = 0 if problem.objective is Objective.THROUGHPUT else max(a.rtt_us, b.rtt_us) // 2
    return np.array([-(-size * 8_000_000 // bandwidth) + rtt for size in problem.crossing_bytes], np.int64)

"""Optimal brain surgery on one layer: which units to drop, and how the kept weights take over.

Dropping weight p of a row w costs ``w[p]^2 / inv(H)[p, p]``, and the rest moves by ``-w[p] / inv(H)[p, p] * inv(H)[p]``;
of a unit of several rows the costs add up. `trace` drops greedily, a few units at a time, until none is left, and writes down
what each cost: from that the mask for every sparsity follows, whatever its rows' shares. `refit` then solves for the kept
weights exactly.

Source: Hassibi and Stork 1992; Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022 (algorithm 1 and the traces
over rows); the targets of the network as it was and inputs of the network as it is, after their section 5's sequential mode.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from meshd.compress.moments import Moments
from meshd.compress.pattern import Bools, Pattern

Doubles = NDArray[np.float64]

AT_ONCE = 64
"""One of so many of the units that are left is dropped in a step: what the step's units do to each other is solved exactly."""
WORK_MAX = 3e13
"""Multiplications a layer's trace may take (about ten minutes of a core); past it units are ranked once, without updates."""
TERMS_MAX = 6_144
"""Terms a row: H of so many is 0.3 GB, and half a dozen of its like are at work. A longer layer needs another method."""
DAMPINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of H's mean diagonal that hold the weights to what they were; the one that errs least on held-out items wins."""
TRACE_DAMPING = 0.1
"""Of the order in which units are dropped. NB on a layer with more terms than items, where it matters, *measured* best."""


class Problem:
    """One matrix: its weights as they were, the moments of its inputs, damped."""

    def __init__(self, weight: NDArray[np.float32], moments: Moments, damping: float) -> None:
        self.weight = np.asarray(weight, np.float64)
        self.hessian = moments.hessian()
        least = damping * max(float(np.diagonal(self.hessian).mean()), 1e-12)
        self.hessian[np.diag_indices_from(self.hessian)] += least
        self.target = moments.cross() + least * self.weight
        """Of the damped problem: where data say nothing the weight stays what it was."""

    def refit(self, pattern: Pattern, kept: Bools) -> Doubles:
        """The weights (outputs, k) that err least with only the units `kept`."""
        made = np.zeros_like(self.weight)
        for unit, mask in enumerate(kept):
            at = np.flatnonzero(mask)
            rows = slice(unit * pattern.block, (unit + 1) * pattern.block)
            if len(at):
                made[rows, at] = np.linalg.solve(self.hessian[np.ix_(at, at)], self.target[rows, at].T).T
        return made


def trace(problem: Problem, pattern: Pattern) -> Doubles:
    """What dropping each unit costs once everything cheaper is gone: (outputs / block, k), higher is to be kept longer."""
    inverse: Doubles = np.linalg.inv(problem.hessian).astype(np.float64, copy=False)
    start = problem.target @ inverse
    groups, terms = len(start) // pattern.block, start.shape[1]
    if groups * float(terms) ** 3 > WORK_MAX:
        return pattern.sums(np.square(start) / np.diagonal(inverse))
    return np.stack([_group(rows.copy(), inverse.copy()) for rows in start.reshape(groups, pattern.block, terms)])


def _group(w: Doubles, inverse: Doubles) -> Doubles:
    """Costs of one group's units, (k,)."""
    costs = np.zeros(w.shape[1])
    left = np.arange(w.shape[1])
    highest = 0.0
    while len(left):
        each = np.square(w).sum(0) / np.maximum(np.diagonal(inverse), 1e-30)
        count = max(1, len(left) // AT_ONCE)
        drop = np.argpartition(each, count - 1)[:count]
        drop = drop[np.argsort(each[drop], kind="stable")]
        # A later one is never cheaper than an earlier one: masks of rising sparsity lie within one another.
        highest_of = np.maximum.accumulate(np.maximum(each[drop], highest))
        costs[left[drop]], highest = highest_of, float(highest_of[-1])
        if count == len(left):
            break
        solved = np.linalg.solve(inverse[np.ix_(drop, drop)], inverse[drop])
        stay = np.delete(np.arange(len(left)), drop)
        w = w[:, stay] - w[:, drop] @ solved[:, stay]
        inverse = inverse[np.ix_(stay, stay)] - inverse[np.ix_(stay, drop)] @ solved[:, stay]
        left = left[stay]
    return costs


def reconstruct(
    weight: NDArray[np.float32], learnt: Moments, held: Moments, pattern: Pattern, kept: Bools
) -> tuple[Doubles, float]:
    """Refit with the damping that errs least on held-out items, then with all items.

    Returns
    -------
    The weights, and the held-out error as a share of the outputs' variance.
    """
    tried = []
    for damping in DAMPINGS:
        tried.append((held.error(Problem(weight, learnt, damping).refit(pattern, kept)), damping))
    error, damping = min(tried)
    return Problem(weight, learnt + held, damping).refit(pattern, kept), error

"""One budget over all layers: who gives how much, so that the whole loses least.

Each layer has a curve: what it costs and what it damages at some sparsities. Only the lower convex hull of a curve is worth
stepping on; steps are taken in order of damage for what they save until the budget holds, and the last one only as far as
needed. On convex curves that is the optimum (Lagrange; Shoham and Gersho 1988).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from meshd.errors import ConflictError


@dataclass(frozen=True, slots=True)
class Point:
    """A layer at one sparsity: `cost` in the budget's unit, `damage` to the network's outputs."""

    sparsity: float
    cost: float
    damage: float


Curve = Sequence[Point]
Of = Callable[[str, float], float]
HALVINGS = 30


def allocate(curves: Mapping[str, Curve], budget: float, unit: str, of: Of | None = None) -> dict[str, float]:
    """Sparsity of each layer, the cheapest damage whose costs sum to `budget` or less.

    Parameters
    ----------
    curves : by layer, the first point is the layer as it is; any order after it
    budget : in the points' unit
    unit : names it in the error
    of : (layer, sparsity) to cost, falling, for what lies between two points; without it a straight line

    Raises
    ------
    ConflictError
        If the budget cannot be met; says what can.
    """
    hulls = {name: _hull(curve) for name, curve in curves.items()}
    least, spent = sum(h[-1].cost for h in hulls.values()), sum(h[0].cost for h in hulls.values())
    if least > budget * (1 + 1e-9):
        raise ConflictError(f"the target cannot be met: {budget:,.6g} {unit} asked, {least:,.6g} is the least possible")
    steps = [(b, a, name) for name, hull in hulls.items() for a, b in itertools.pairwise(hull)]
    # Along a hull steps get dearer, so the order of all steps keeps each layer's own.
    steps.sort(key=lambda s: ((s[0].damage - s[1].damage) / (s[1].cost - s[0].cost), s[2], s[0].sparsity))
    chosen = {name: hull[0].sparsity for name, hull in hulls.items()}
    for to, at, name in steps:
        over = spent - budget
        if over <= 0:
            break
        saved = at.cost - to.cost
        chosen[name] = to.sparsity if over >= saved else _between(at, to, at.cost - over, of and partial(of, name))
        spent -= min(over, saved)
    return chosen


def _between(at: Point, to: Point, cost: float, of: Callable[[float], float] | None) -> float:
    """The least sparsity between two points that costs no more than this."""
    if of is None:
        return at.sparsity + (at.cost - cost) / (at.cost - to.cost) * (to.sparsity - at.sparsity)
    low, high = at.sparsity, to.sparsity
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if of(middle) <= cost else (middle, high)
    return high


def _hull(curve: Curve) -> list[Point]:
    """From the layer as it is: points where each further saving is dearer than the one before."""
    hull = [curve[0]]
    for point in sorted(curve[1:], key=lambda p: -p.cost):
        if point.cost >= hull[0].cost:
            continue
        while len(hull) > 1 and _slope(hull[-1], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        if point.cost < hull[-1].cost:
            hull.append(point)
    return hull


def _slope(a: Point, b: Point) -> float:
    return (b.damage - a.damage) / max(a.cost - b.cost, 1e-300)

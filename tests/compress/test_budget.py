"""One budget over layers: convex curves are spent in order of slope, and what cannot be met is said."""

import itertools

import numpy as np
import pytest

from meshd.compress.budget import Point, allocate
from meshd.errors import ConflictError


def _curve(size: float, damages: list[float]) -> list[Point]:
    levels = np.linspace(0, 0.9, len(damages) + 1)
    return [Point(float(s), size * (1 - float(s)), d) for s, d in zip(levels, [0.0, *damages], strict=True)]


def test_the_layer_that_minds_least_gives_most() -> None:
    found = allocate({"tough": _curve(100, [0.1, 0.2, 0.3]), "tender": _curve(100, [1.0, 2.0, 3.0])}, 110, "weights")
    assert found["tough"] == pytest.approx(0.9)
    assert found["tender"] == pytest.approx(0.0)


def test_the_last_step_goes_only_as_far_as_needed() -> None:
    found = allocate({"a": _curve(100, [0.1, 0.2, 0.3])}, 55, "weights")
    assert found["a"] == pytest.approx(0.45)


def test_no_choice_of_levels_does_less_damage_at_no_more_cost() -> None:
    rng = np.random.default_rng(5)
    curves = {n: _curve(100, sorted(np.cumsum(np.sort(rng.random(3))).tolist())) for n in "abc"}
    found = allocate(curves, 150, "weights")

    def at(curve: list[Point], sparsity: float) -> tuple[float, float]:
        xs = [p.sparsity for p in curve]
        return tuple(float(np.interp(sparsity, xs, [getattr(p, k) for p in curve])) for k in ("cost", "damage"))  # type: ignore[return-value]

    cost = sum(at(curves[n], s)[0] for n, s in found.items())
    damage = sum(at(curves[n], s)[1] for n, s in found.items())
    assert cost == pytest.approx(150)
    for points in itertools.product(*curves.values()):
        if sum(p.cost for p in points) <= 150:
            assert damage <= sum(p.damage for p in points) + 1e-9


def test_what_cannot_be_met_is_said_with_what_can() -> None:
    with pytest.raises(ConflictError, match=r"5 weights asked, 10 is the least possible"):
        allocate({"a": _curve(100, [1.0])}, 5, "weights")


def test_between_two_points_the_cost_is_asked_for() -> None:
    curves = {"a": _curve(100, [0.1, 0.2, 0.3])}

    def of(name: str, sparsity: float) -> float:
        """Nothing is saved up to 0.2."""
        return min(100.0, 100 * (1 - sparsity) * 1.25)

    for budget in (95, 55):
        found = allocate(curves, budget, "bytes", of)["a"]
        assert of("a", found) == pytest.approx(budget)

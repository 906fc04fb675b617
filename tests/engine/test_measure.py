"""Rates of this device: one for every class that layers are booked under."""

from collections.abc import Callable
from typing import Any

import pytest

from meshd.engine import measure
from meshd.engine.step import ArrayStep, KernelStep
from meshd.kernels import registry
from tests.kernels.driving import needs_numba


def test_every_class_has_a_rate_and_the_numeric_class_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SPEND_S", 0.01)
    found = measure.rates()
    assert set(found.rates) == {"binary", "sparse", "int8", "dense", "memory", "steps"}
    assert all(isinstance(r, int) and r > 0 for r in found.rates.values())
    assert found.numeric == ("fma" if registry.compiled() else "numpy")


@needs_numba
@pytest.mark.parametrize("made", [measure._binary, measure._dense, measure._sparse, measure._int8])
def test_the_rate_of_a_class_is_that_of_its_kernels(made: Callable[[], Any]) -> None:
    kind, segment, _ = made()
    names = [step.kernel.name for step in segment.steps if isinstance(step, KernelStep)]
    assert any(name.startswith(f"{kind}.conv3x3") for name in names), names
    assert not [step.name for step in segment.steps if isinstance(step, ArrayStep)]

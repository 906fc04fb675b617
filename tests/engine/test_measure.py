"""Rates of this device: one for every class that layers are booked under."""

import pytest

from meshd.engine import measure
from meshd.kernels import registry


def test_every_class_has_a_rate_and_the_numeric_class_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SPEND_S", 0.01)
    found = measure.rates()
    assert set(found.rates) == {"binary", "sparse", "int8", "dense", "memory", "steps"}
    assert all(isinstance(r, int) and r > 0 for r in found.rates.values())
    assert found.numeric == ("fma" if registry.compiled() else "numpy")

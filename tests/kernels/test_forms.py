"""Rates of forms: measured once, kept, and believed only while they make sense."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshd.kernels import forms, registry, timing
from tests.kernels.driving import needs_numba

pytestmark = needs_numba


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: Any) -> Any:
    """A file of rates of this test's own."""
    path = tmp_path / forms.FILE
    monkeypatch.setattr(forms, "_path", lambda: path)
    forms.rates.cache_clear()
    yield path
    forms.rates.cache_clear()


def test_measured_rates_are_kept_and_decide(kept: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(timing, "SPEND_S", 0.001)
    assert forms.rates().items() > forms.default_rates().items()
    measured = forms.measure()
    assert measured == json.loads(kept.read_text())
    assert forms.rates().items() > measured.items()
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    weight[np.random.default_rng(1).random((64, 64)) < 0.6] = 0
    for form in (0, 1, 16):
        kept.write_text(json.dumps({name: 1e9 if name == f"product.{form}" else 1e-9 for name in measured}))
        forms.rates.cache_clear()
        kernel = registry.product(weight)
        assert kernel.name == ("dense.product" if form == 0 else f"sparse.product.b{form}")


@pytest.mark.parametrize("content", ["", "[1]", '{"conv.1": 3}', "nan"])
def test_a_file_that_makes_no_sense_is_ignored(kept: Path, content: str) -> None:
    kept.write_text(content)
    assert forms.rates().items() > forms.default_rates().items()
    kept.write_text(json.dumps(dict.fromkeys(forms.default_rates(), -1)))
    forms.rates.cache_clear()
    assert forms.rates().items() > forms.default_rates().items()


def test_what_is_stored_smaller_goes_by_float32_until_it_is_measured(kept: Path) -> None:
    base = dict.fromkeys(forms.default_rates(), 10.0)
    kept.write_text(json.dumps(base))
    assert forms.rates()["product.16.float16"] == pytest.approx(12.5)
    assert forms.rates()["product.n:4.int8"] == pytest.approx(9.2)
    kept.write_text(json.dumps({**base, "product.16.float16": 3.0}))
    forms.rates.cache_clear()
    assert forms.rates()["product.16.float16"] == 3.0


def test_break_even_is_where_fewer_slower_terms_cost_the_same() -> None:
    assert forms.break_even(dense=20.0, form=2.0) == pytest.approx(0.9)
    assert forms.break_even(dense=20.0, form=40.0) == 0.0

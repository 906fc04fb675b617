"""N:M patterns: the format keeps every weight, and its product has the bits of the dense one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.kernels import n_of_m, reference, registry
from meshd.kernels.forms import Form
from meshd.kernels.kernel import Tail
from tests.kernels.driving import needs_numba, run, signs

SIZES = [(1, 4), (3, 8), (31, 9), (63, 33), (64, 64), (65, 127), (130, 31), (129, 257)]


def patterned(rng: Any, outputs: int, k: int, n: int, period: int) -> Any:
    """Random weights, at most `n` of each `period`; some groups keep fewer."""
    weight = rng.standard_normal((outputs, k)).astype(np.float32)
    for start in range(0, k, period):
        width = min(period, k - start)
        rank = rng.random((outputs, width)).argsort(1).argsort(1)
        weight[:, start : start + period] *= rank < rng.integers(0, n + 1, (outputs, 1))
    return weight


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("n", "period"), [(1, 4), (2, 4), (3, 4), (4, 8), (2, 8)])
def test_what_is_encoded_is_decoded(size: Any, n: int, period: int) -> None:
    outputs, k = size[0], max(size[1], period)
    weight = patterned(np.random.default_rng(k), outputs, k, n, period)
    assert n_of_m.kept(weight != 0, period) <= n
    value, choice = n_of_m.encode(weight, n, period)
    np.testing.assert_array_equal(n_of_m.decode(value, choice, period, outputs, k), weight)
    rows = np.random.default_rng(1).standard_normal((3, k)).astype(np.float32)
    got = reference.product(rows, n_of_m.decode(value, choice, period, outputs, k))
    np.testing.assert_array_equal(got, reference.product(rows, weight))


@needs_numba
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("n", "period"), [(2, 4), (3, 8)])
def test_an_n_of_m_product_has_the_bits_of_the_dense_one(size: Any, n: int, period: int) -> None:
    from meshd.kernels import packing

    outputs, k = size[0], max(size[1], period)
    rng = np.random.default_rng(outputs)
    weight = patterned(rng, outputs, k, n, period)
    rows = rng.standard_normal((9, k, 1, 1)).astype(np.float32)
    bare = run(packing.pack(weight, Tail().checked(outputs), Form(0)), rows)
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    residual = rng.standard_normal(bare.shape).astype(np.float32)
    for tail in (Tail(), Tail(scale, bias, residual=True, low=-1.0, high=1.0)):
        after = reference.apply_tail(bare, tail, residual)
        kernel = packing.pack(weight, tail.checked(outputs), Form(0, period=period))
        assert kernel.name.endswith(f":{period}")
        packed = packing.pack(weight, replace(tail, bits=True).checked(outputs), Form(0, period=period))
        for count in (1, 3, 4, 9):
            np.testing.assert_array_equal(run(kernel, rows[:count], residual[:count], pieces=count), after[:count])
            got = run(packed, rows[:count], residual[:count], pieces=3, junk=-1.0)
            np.testing.assert_array_equal(got, signs(after[:count]))


@needs_numba
def test_the_registry_sees_the_pattern_where_it_pays(monkeypatch: Any) -> None:
    from meshd.kernels import packing

    # Only the choice is looked at.
    monkeypatch.setattr(packing, "DenseProduct", lambda name, *_, **__: name)
    monkeypatch.setattr(packing, "PeriodicProduct", lambda name, *_, **__: name)
    weight = patterned(np.random.default_rng(0), 64, 66, 2, 4)
    slow = dict.fromkeys(packing.rates(), 0.001)
    for best, name in (("product.n:4", "sparse.product.2:4"), ("product.0", "dense.product")):
        monkeypatch.setattr(packing, "rates", lambda best=best: slow | {best: 1e3})
        assert registry.product(weight) == name
    monkeypatch.setattr(packing, "rates", lambda: slow | {"product.n:4": 1e3, "product.n:8": 1e3})
    full = np.ones((8, 16), np.float32)
    assert registry.product(full) == "dense.product"
    # Fewer inputs than a group has.
    monkeypatch.setattr(packing, "SparseProduct", lambda name, *_, **__: name)
    assert "n:" not in registry.product(weight[:, :3].copy())

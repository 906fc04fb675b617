"""Products with constant matrices equal their reference: dense and every block width, one row and many."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.kernels import reference, registry
from meshd.kernels.kernel import Tail
from tests.kernels.driving import needs_numba, run, signs

pytestmark = needs_numba

SIZES = [(1, 1), (10, 33), (63, 64), (64, 65), (65, 127), (130, 31), (200, 3), (16, 129)]


def _make(outputs: int, k: int, zeros: float, block: int) -> Any:
    rng = np.random.default_rng(outputs * 1000 + k)
    weight = rng.standard_normal((outputs, k)).astype(np.float32)
    return weight * np.repeat(rng.random((-(-outputs // block), k)) >= zeros, block, axis=0)[:outputs], rng


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("zeros", "block"), [(0.0, 1), (0.97, 1), (0.9, 4), (0.9, 16)])
def test_a_product_equals_its_reference_whatever_the_rows_and_tail(size: Any, zeros: float, block: int) -> None:
    weight, rng = _make(*size, zeros, block)
    outputs, k = size
    rows = rng.standard_normal((13, k, 1, 1)).astype(np.float32)
    expected = reference.product(rows[:, :, 0, 0], weight)[:, :, None, None]
    bare = run(registry.product(weight), rows)
    np.testing.assert_allclose(bare, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())), rtol=1e-5)
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    tail = Tail(scale, bias, residual=True, low=-1.0, high=1.0)
    residual = rng.standard_normal(bare.shape).astype(np.float32)
    after = reference.apply_tail(bare, tail, residual)
    kernel, packed = registry.product(weight, tail=tail), registry.product(weight, tail=replace(tail, bits=True))
    for n in (1, 2, 6, 13):
        np.testing.assert_array_equal(run(kernel, rows[:n], residual[:n], pieces=n), after[:n])
        np.testing.assert_array_equal(run(packed, rows[:n], residual[:n], pieces=3, junk=-1.0), signs(after[:n]))


def test_dense_and_every_sparse_form_agree_bit_for_bit() -> None:
    from meshd.kernels import packing
    from meshd.kernels.forms import Form

    weight, rng = _make(77, 90, 0.8, 1)
    rows = rng.standard_normal((7, 90, 1, 1)).astype(np.float32)
    answers = []
    for form in (0, 1, 4, 8, 16):
        kernel = packing.pack(weight, Tail(), Form(form))
        assert kernel.name == ("dense.product" if form == 0 else f"sparse.product.b{form}")
        answers.append(run(kernel, rows))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])

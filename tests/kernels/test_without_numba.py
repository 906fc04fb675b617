"""Without Numba the references serve: the same results, by another numeric class."""

import subprocess
import sys
from typing import Any

import numpy as np

from meshd.kernels import registry
from meshd.kernels.kernel import Tail
from tests.kernels.driving import needs_numba, run, signs


def _everything(rng: Any) -> Any:
    """(kernel, images, residual) of every family and way out."""
    weight = rng.standard_normal((20, 6, 3, 3)).astype(np.float32)
    images = rng.standard_normal((2, 6, 9, 8)).astype(np.float32)
    residual = rng.standard_normal((2, 20, 9, 8)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 20)).astype(np.float32)
    matrix, rows = (
        rng.standard_normal((20, 40)).astype(np.float32),
        rng.standard_normal((7, 40, 1, 1)).astype(np.float32),
    )
    added = rng.standard_normal((7, 20, 1, 1)).astype(np.float32)
    for bits in (False, True):
        for binary in (False, True):
            tail = Tail(scale, bias, residual=True, low=-1.0, high=1.0, bits=bits)
            yield registry.convolution(weight, 9, 8, pads=(1, 1, 1, 1), tail=tail, signs=binary), images, residual
            yield registry.product(matrix, tail=tail, signs=binary), rows, added


@needs_numba
def test_the_fallback_agrees_with_the_compiled_kernels(monkeypatch: Any) -> None:
    fast = list(_everything(np.random.default_rng(4)))
    monkeypatch.setenv("MESHD_NUMBA", "0")
    slow = list(_everything(np.random.default_rng(4)))
    for (kernel, images, residual), (other, _, _) in zip(fast, slow, strict=True):
        assert (kernel.family, other.numeric) == (other.family, "numpy")
        # float32 sums of 54 terms in another order; signs of sums that small could differ, but none of these does.
        np.testing.assert_allclose(run(kernel, images, residual), run(other, images, residual), atol=1e-5, rtol=1e-5)


def test_a_binary_layer_without_numba_is_exact(monkeypatch: Any) -> None:
    monkeypatch.setenv("MESHD_NUMBA", "0")
    rng = np.random.default_rng(6)
    weight, rows = (
        rng.standard_normal((9, 100)).astype(np.float32),
        rng.standard_normal((3, 100, 1, 1)).astype(np.float32),
    )
    got = run(registry.product(weight, signs=True), rows)[:, :, 0, 0]
    np.testing.assert_array_equal(got, signs(rows)[:, :, 0, 0] @ signs(weight).T)


def test_the_door_imports_no_numba_until_a_kernel_is_asked_for() -> None:
    code = "import sys; from meshd.kernels import registry; assert 'numba' not in sys.modules and 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

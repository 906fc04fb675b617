"""Random layers: they equal the fallback, however cut into tiles, and touch nothing outside their arrays."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.kernels.layout import Bits
from tests.kernels.driving import needs_numba, run
from tests.kernels.shapes import random_kernel, random_move, reference_of

pytestmark = needs_numba


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), pieces=st.integers(1, 9))
def test_a_random_layer_equals_the_fallback_however_cut(monkeypatch: Any, seed: int, pieces: int) -> None:
    kernel, images, residual = random_kernel(seed)
    whole = run(kernel, images, residual)
    np.testing.assert_array_equal(run(kernel, images, residual, pieces=pieces), whole)
    other = reference_of(seed, monkeypatch)
    other.write_to(kernel.output_layout, kernel.residual_layout)
    expected = run(other, images, residual)
    if isinstance(kernel.output_layout, Bits) and kernel.numeric == "fma":
        # The sign of a sum near zero may differ between orders of addition: few may.
        assert (whole != expected).mean() < 0.01
    else:
        tolerance = 1e-5 * max(1.0, float(np.abs(expected).max())) * 4
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("seed", range(40))
def test_a_random_move_equals_the_fallback_however_cut(seed: int, monkeypatch: Any) -> None:
    kernel, images = random_move(seed)
    whole = run(kernel, images, pieces=1, junk=-7.0)
    np.testing.assert_array_equal(run(kernel, images, pieces=3), whole)
    monkeypatch.setenv("MESHD_NUMBA", "0")
    other, _ = random_move(seed)
    np.testing.assert_allclose(whole, run(other, images), rtol=1e-5, atol=1e-5)


def test_no_kernel_touches_memory_outside_its_arrays() -> None:
    words = [sys.executable, "-m", "tests.kernels.guarded", "0", "120"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1] + done.stderr[-2000:]

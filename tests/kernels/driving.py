"""Driving a kernel in tests: ordinary arrays in and out, any layouts, any split into tiles, guard zones around the output."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from meshd.kernels import registry
from meshd.kernels.kernel import Kernel
from meshd.kernels.layout import Bits

needs_numba = pytest.mark.skipif(
    not registry.compiled(), reason="NOT TESTED: compiled kernels, for there is no Numba here, or MESHD_NUMBA=0"
)

GUARD = 256
"""Elements before and after an output that no kernel may touch."""


def inputs(kernel: Kernel, images: Any, residual: Any, junk: float = np.nan) -> tuple[Any, Any]:
    """(input, residual) in the kernel's layouts; slack is junk."""
    rows = len(images)
    x = _junk(kernel.input_layout.empty(rows), junk)
    kernel.input_layout.store(x, images)
    if kernel.residual_layout is None:
        return x, None
    added = _junk(kernel.residual_layout.empty(rows), junk)
    kernel.residual_layout.store(added, residual)
    return x, added


def run(kernel: Kernel, images: Any, residual: Any = None, *, pieces: int = 1, junk: float = np.nan) -> Any:
    """The kernel's answer. Outputs, scratch and slack start as junk, so that what was never written shows."""
    rows = len(images)
    x, added = inputs(kernel, images, residual, junk)
    size = rows * kernel.output_layout.size + kernel.output_layout.slack
    whole = _junk(np.zeros(size + 2 * GUARD, kernel.output_layout.dtype), junk)
    guard = whole[0].copy()
    out = whole[GUARD : len(whole) - GUARD]
    scratch = np.full(kernel.scratch_size, junk, np.float32)
    kernel.check(x, out, added, scratch, rows)
    edges = np.linspace(0, kernel.tiles(rows), pieces + 1).astype(int)
    # Backwards: no tile may count on an earlier one.
    for first, last in list(pairwise(edges))[::-1]:
        if first < last:
            kernel.run(x, out, added, scratch, rows, int(first), int(last))
    ends = np.concatenate([whole[:GUARD], whole[len(whole) - GUARD :]])
    assert ends.tobytes() == np.full(2 * GUARD, guard).tobytes(), f"{kernel.name} wrote outside its output"
    result = kernel.output_layout.load(out, rows)
    again = kernel.output_layout.empty(rows)
    kernel.output_layout.store(again, result)
    used = rows * kernel.output_layout.size
    np.testing.assert_array_equal(
        out[:used], again[:used], f"{kernel.name} left pads undefined in {kernel.output_layout}"
    )
    return result


def _junk(flat: Any, value: float) -> Any:
    junk = {"float32": value, "uint64": 0xDEADBEEFDEADBEEF, "uint8": 0xDE, "int8": -0x22}
    flat[:] = junk[flat.dtype.name]
    return flat


def signs(images: Any) -> Any:
    """-1 where negative, else 1."""
    return np.where(images < 0, np.float32(-1), np.float32(1))


def bits_like(kernel: Kernel) -> bool:
    """Whether the kernel writes signs."""
    return isinstance(kernel.output_layout, Bits)

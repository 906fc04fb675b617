"""Kernels know no threads: tiles computed on any number of them, in any pieces and order, give the same bits."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from meshd.kernels.kernel import Kernel
from tests.kernels.driving import inputs, needs_numba, run
from tests.kernels.shapes import random_kernel, random_move

pytestmark = needs_numba


def _on_threads(pool: ThreadPoolExecutor, kernel: Kernel, images: Any, residual: Any, pieces: int) -> Any:
    """The answer by pieces of tiles, dealt out shuffled, each with scratch of its own."""
    rows = len(images)
    (x, added), out = inputs(kernel, images, residual), kernel.output_layout.empty(rows)
    edges = np.unique(np.linspace(0, kernel.tiles(rows), pieces + 1).astype(int))

    def do(piece: int) -> None:
        scratch = np.full(kernel.scratch_size, np.nan, np.float32)
        kernel.run(x, out, added, scratch, rows, int(edges[piece]), int(edges[piece + 1]))

    order = np.random.default_rng(pieces).permutation(len(edges) - 1)
    list(pool.map(do, (int(piece) for piece in order)))
    return kernel.output_layout.load(out, rows)


@pytest.mark.parametrize("seed", range(12))
def test_threads_and_pieces_change_no_bit(seed: int) -> None:
    make: Any = random_move if seed % 3 == 0 else random_kernel
    kernel, images, residual = (*make(seed), None)[:3]
    whole = run(kernel, images, residual, junk=-7.0)
    for threads, pieces in ((2, 2), (3, 7), (4, 50)):
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(3):
                np.testing.assert_array_equal(_on_threads(pool, kernel, images, residual, pieces), whole, kernel.name)

"""How fast a packed kernel is here, neighbours or not: the best of many short runs, one thread."""

import math
import time

import numpy as np

from meshd.kernels.kernel import Kernel

SPEND_S = 0.03
"""For each kernel: thousands of runs of ten microseconds, the best of which no neighbour disturbed."""


def rate(kernel: Kernel, rows: int = 1) -> float:
    """Multiply-accumulates a nanosecond on `rows` rows of zeros."""
    x, out = kernel.input_layout.empty(rows), kernel.output_layout.empty(rows)
    scratch, last = np.zeros(kernel.scratch_size, np.float32), kernel.tiles(rows)
    best, end = math.inf, time.perf_counter() + SPEND_S
    while time.perf_counter() < end:
        begun = time.perf_counter()
        kernel.run(x, out, None, scratch, rows, 0, last)
        best = min(best, time.perf_counter() - begun)
    return kernel.macs * rows / best / 1e9

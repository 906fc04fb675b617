"""Kernels by the reference: what serves where Numba does not. Slower, allocating, and equal in result."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from meshd.kernels import reference
from meshd.kernels.kernel import Flat, Kernel, Tail
from meshd.kernels.layout import Floats

Compute = Callable[[Floats], Floats]


@dataclass(eq=False)
class ReferenceKernel(Kernel):
    """Loads images from their layout, computes in NumPy, stores them in theirs. A tile is an image."""

    compute: Compute = np.asarray
    """(images, channels, h, w) → the accumulators (images, outputs, oh, ow)."""
    tail: Tail = field(default_factory=Tail)

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        for row in range(first, last):
            images = self.input_layout.load(x[row * self.input_layout.size :])
            added = None
            if self.residual_layout is not None and residual is not None:
                added = self.residual_layout.load(residual[row * self.residual_layout.size :])
            value = reference.apply_tail(self.compute(images), self.tail, added)
            self.output_layout.store(out[row * self.output_layout.size :], value)

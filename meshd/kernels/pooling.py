"""Pooling of planes and of signs: max, average, and max of signs as AND of words (bit 1 is negative).

Averages are summed in float64 in order of rows and columns, and rounded once: the same bits everywhere. NaN wins a max.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from meshd.kernels.jit import F4, INT, U8, jit, numba, record
from meshd.kernels.kernel import Flat, Kernel
from meshd.kernels.layout import Bits, Planes
from meshd.kernels.strips import PLACE, clear_pads, fill_pads, place, row_start

INFINITY = np.float32(np.inf)


class Pooling(NamedTuple):
    """A sliding window: `average` 0 max, 1 over what is inside, 2 over the whole window."""

    average: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    top: int
    left: int
    bottom: int


POOLING = record(Pooling)


@jit(F4, F4, F4, numba.types.float32, POOLING, PLACE, PLACE, INT, INT)
def pool_planes(x, out, scratch, fill, w, come, to, first, last):
    """Channels `[first, last)` of all images' channels. scratch: two rows of output."""
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        if c == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        source = image * come.size + c * come.plane
        target = image * to.size + c * to.plane
        for i in range(to.height):
            y0 = i * w.sh - w.top
            if w.average:
                for j in range(to.width):
                    x0 = j * w.sw - w.left
                    total, count = 0.0, 0
                    for y in range(max(y0, 0), min(y0 + w.kh, come.height)):
                        row = source + row_start(come, y, 0)
                        for column in range(max(x0, 0), min(x0 + w.kw, come.width)):
                            total += x[row + column]
                            count += 1
                    if w.average == 2:
                        count = w.kh * w.kw
                    out[target + row_start(to, i, j)] = np.float32(total / count)
                continue
            for j in range(to.width):
                scratch[j] = -INFINITY
            for ky in range(w.kh):
                y = y0 + ky * w.dh
                if y < 0 or y >= come.height:
                    continue
                row = source + row_start(come, y, 0)
                for kx in range(w.kw):
                    shift = kx * w.dw - w.left
                    begin = max(0, (-shift + w.sw - 1) // w.sw)
                    end = min(to.width, (come.width - shift + w.sw - 1) // w.sw)
                    if w.sw == 1:
                        for j in range(begin, end):
                            v = x[row + j + shift]
                            scratch[j] = v if v > scratch[j] or v != v else scratch[j]  # noqa: PLR0124 - NaN
                    else:
                        for j in range(begin, end):
                            v = x[row + j * w.sw + shift]
                            scratch[j] = v if v > scratch[j] or v != v else scratch[j]  # noqa: PLR0124 - NaN
            if to.sw == 1:
                line = target + row_start(to, i, 0)
                for j in range(to.width):
                    out[line + j] = scratch[j]
            else:
                for j in range(to.width):
                    out[target + row_start(to, i, j)] = scratch[j]


@jit(U8, U8, POOLING, PLACE, PLACE, INT, INT)
def pool_bits(x, out, w, come, to, first, last):
    """Rows `[first, last)` of all images' rows."""
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            clear_pads(out, image * to.size, to, w.bottom)
        for j in range(to.width):
            target = image * to.size + row_start(to, i, j) * to.words
            for word in range(to.words):
                value = ~np.uint64(0)
                for ky in range(w.kh):
                    y = i * w.sh - w.top + ky * w.dh
                    for kx in range(w.kw):
                        column = j * w.sw - w.left + kx * w.dw
                        if 0 <= y < come.height and 0 <= column < come.width:
                            value &= x[image * come.size + row_start(come, y, column) * come.words + word]
                out[target + word] = value


@dataclass(eq=False)
class Pool(Kernel):
    """Pooling, packed: nothing but numbers."""

    pooling: Pooling = field(default_factory=lambda: Pooling(0, 1, 1, 1, 1, 1, 1, 0, 0, 0))

    def __post_init__(self) -> None:
        self.scratch_size = self.output_layout.width

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times channels, of bits images times rows."""
        to = self.output_layout
        return rows * (to.height if isinstance(to, Bits) else to.channels)

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        come, to = self.input_layout, self.output_layout
        if isinstance(to, Planes):
            pool_planes(x, out, scratch, to.fill, self.pooling, place(come), place(to), first, last)
        else:
            pool_bits(x, out, self.pooling._replace(bottom=to.bottom), place(come), place(to), first, last)

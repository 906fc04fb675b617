"""Pooling of planes and of signs: max, average, and max of signs as AND of words (bit 1 is negative).

Averages are summed in float32, down the columns and then along: the same bits everywhere. NaN wins a max.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, I8, INT, U8, jit, late, numba, record, to_fixed_tuple
from meshd.kernels.kernel import Flat, Kernel
from meshd.kernels.layout import Bits, Layout, Planes
from meshd.kernels.simd import (
    add,
    gather,
    greatest,
    load,
    load_every,
    load_first,
    splat,
    store,
    store_first,
)  # fmt: skip
from meshd.kernels.strips import (
    PLACE,
    PLACE_FIELDS,
    Place,
    clear_pads,
    copy_run,
    fill_pads,
    place,
    row_start,
    scatter_run,
)


class Pooling(NamedTuple):
    """A sliding window. `whole`: an average divides by the window's size, whatever of it lies in pads."""

    whole: int
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
POOLING_FIELDS = len(Pooling._fields)


@cache
def pool_planes(average: bool, step: int) -> Any:
    """The kernel for max or average and a horizontal stride of 1 or 2; 0 for any other."""
    least = np.float32(0) if average else np.float32(-np.inf)

    @jit(F4, F4, F4, numba.types.float32, I8, INT, INT)
    def pool(x, out, scratch, fill, numbers, first, last):
        """Channels `[first, last)` of all images' channels.

        First down the columns of a window's rows, into a line with pads; then along it. scratch: the line, and a row.
        """
        w = Pooling(*to_fixed_tuple(numbers, POOLING_FIELDS))
        come = Place(*to_fixed_tuple(numbers[POOLING_FIELDS:], PLACE_FIELDS))
        to = Place(*to_fixed_tuple(numbers[POOLING_FIELDS + PLACE_FIELDS :], PLACE_FIELDS))
        line = w.left + (to.width + 16) * w.sw + w.kw * w.dw + come.width + 32
        nothing = splat(1, 16, least)
        for tile in range(first, last):
            image, c = tile // to.channels, tile % to.channels
            if c == 0:
                fill_pads(out, image * to.size, to.channels, to, fill, 0)
            source = image * come.size + c * come.plane
            target = image * to.size + c * to.plane
            for k in range(0, line, 16):
                store(scratch, k, nothing)
            for i in range(to.height):
                y0 = i * w.sh - w.top
                # The taps inside: a pad is never counted, nor read.
                begin = (max(0, -y0) + w.dh - 1) // w.dh
                end = min(w.kh, (come.height - y0 + w.dh - 1) // w.dh)
                start = source + row_start(come, 0, 0)
                for column in range(0, come.width, 16):
                    n = min(16, come.width - column)
                    acc = nothing
                    for ky in range(begin, end):
                        value = load_first(1, 16, x, start + (y0 + ky * w.dh) * come.pitch + column, 0, n)
                        acc = add(acc, value) if average else greatest(acc, value)
                    store_first(scratch, w.left + column, 0, n, acc)
                for column in range(0, to.width, 16):
                    n = min(16, to.width - column)
                    acc = nothing
                    for kx in range(w.kw):
                        place = column * w.sw + kx * w.dw
                        if step == 1:
                            value = load(16, scratch, place)
                        elif step == 2:
                            value = load_every(16, 2, scratch, place)
                        else:
                            value = gather(np.float32(0), 16, scratch, place, w.sw, n)
                        acc = add(acc, value) if average else greatest(acc, value)
                    store(scratch, line + column, acc)
                if average:
                    for column in range(to.width):
                        x0 = column * w.sw - w.left
                        inside = min(x0 + w.kw, come.width) - max(x0, 0)
                        count = w.kh * w.kw if w.whole else inside * (end - begin)
                        scratch[line + column] /= np.float32(count)
                if to.sw == 1:
                    copy_run(scratch, line, out, target + row_start(to, i, 0), to.width)
                else:
                    scatter_run(scratch, line, out, target, to.width, to, i, 0)

    return pool


@late(U8, U8, POOLING, PLACE, PLACE, INT, INT)
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

    average: bool = False

    def __post_init__(self) -> None:
        to, come, w = self.output_layout, self.input_layout, self.pooling
        line = w.left + (to.width + 16) * w.sw + w.kw * w.dw + come.width + 32
        self.scratch_size = line + to.width + 32
        if isinstance(to, Planes):
            self._pool = pool_planes(self.average, w.sw if w.sw in {1, 2} else 0)
        self._plan()

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`."""
        super().write_to(output, residual)
        self._plan()

    def _plan(self) -> None:
        come, to = self.input_layout, self.output_layout
        self._numbers = np.array([*self.pooling, *place(come), *place(to)], np.int64)

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times channels, of bits images times rows."""
        to = self.output_layout
        return rows * (to.height if isinstance(to, Bits) else to.channels)

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        come, to = self.input_layout, self.output_layout
        if isinstance(to, Planes):
            self._pool(x, out, scratch, to.fill, self._numbers, first, last)
        else:
            assert isinstance(to, Bits)
            pool_bits()(x, out, self.pooling._replace(bottom=to.bottom), place(come), place(to), first, last)

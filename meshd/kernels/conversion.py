"""From one layout to another: copies between planes, signs of floats as bits, bits as floats of 1 and -1."""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meshd.kernels.jit import F4, I8, INT, U1, U8, jit, late, numba, to_fixed_tuple
from meshd.kernels.kernel import Flat, Kernel
from meshd.kernels.layout import Bits, Layout, OctetPlanes, Octets, Planes
from meshd.kernels.octets import converter
from meshd.kernels.simd import (
    add,
    bit_and,
    bit_or,
    convert,
    div,
    equal,
    gather,
    load,
    load_alternate,
    load_first,
    maximum,
    minimum,
    mul,
    rint,
    scatter,
    select,
    shift_left,
    shift_right,
    splat,
    store,
    store_first,
    sub,
)  # fmt: skip
from meshd.kernels.strips import (
    PLACE,
    PLACE_FIELDS,
    Place,
    clear_pads,
    copy_run,
    fill_octets,
    fill_pads,
    fill_run,
    pack_strip,
    place,
    put_strip,
    row_start,
    scatter_run,
)


@jit(F4, INT, F4, INT, PLACE, PLACE, inner=True)
def deal_plane(x, source, out, target, come, to):
    """One channel, whose first element is `x[source]`, into planes of two phases a row; their rows may have two as well."""
    odd, below = to.left & 1, to.sh - 1
    first = (to.left >> 1) + odd * to.phase
    second = ((to.left + 1) >> 1) + (1 - odd) * to.phase
    many, fewer = (to.width + 1) >> 1, to.width >> 1
    for i in range(to.height):
        u = i + to.top
        line = target + (u & below) * 2 * to.phase + (u >> below) * to.pitch
        for c in range(0, many, 16):
            n = min(16, many - c)
            store_first(out, line + first + c, 0, n, load_alternate(16, x, source + 2 * c, n))
        for c in range(0, fewer, 16):
            n = min(16, fewer - c)
            store_first(out, line + second + c, 0, n, load_alternate(16, x, source + 2 * c + 1, n))
        source += come.pitch


@late(F4, F4, numba.types.float32, I8, INT, INT)
def copy_planes(x, out, fill, numbers, first, last):
    """Channels `[first, last)` of all images' channels. `numbers`: the places it comes from and goes to."""
    come = Place(*to_fixed_tuple(numbers, PLACE_FIELDS))
    to = Place(*to_fixed_tuple(numbers[PLACE_FIELDS:], PLACE_FIELDS))
    flat = come.plane == to.plane == come.height * come.width and come.sh * come.sw * to.sh * to.sw == 1
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        source, target = image * come.size + c * come.plane, image * to.size + c * to.plane
        if flat:
            copy_run(x, source, out, target, to.plane)
            continue
        if to.plane > to.height * to.width:
            # Cheaper than the pads alone, row by row: a plane lies in the fastest cache.
            fill_run(out, target, target + to.plane, fill)
        if come.sw * come.sh == 1 and to.sw == 2 and to.sh <= 2:
            deal_plane(x, source + row_start(come, 0, 0), out, target, come, to)
            continue
        for i in range(to.height):
            if come.sw > 1:
                for j in range(to.width):
                    out[target + row_start(to, i, j)] = x[source + row_start(come, i, j)]
            elif to.sw == 1:
                copy_run(x, source + row_start(come, i, 0), out, target + row_start(to, i, 0), to.width)
            else:
                scatter_run(x, source + row_start(come, i, 0), out, target, to.width, to, i, 0)


@late(F4, U8, PLACE, PLACE, INT, INT, INT)
def pack_planes(x, out, come, to, bottom, first, last):
    """Rows `[first, last)` of all images' rows; `come` has one phase."""
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            clear_pads(out, image * to.size, to, bottom)
        source = image * come.size + row_start(come, i, 0)
        target = image * to.size + row_start(to, i, 0) * to.words
        for word in range(to.words):
            c = word * 64
            n = min(64, to.channels - c)
            pack_strip(x, source + c * come.plane, come.plane, n, to.width, out, target + word, to.words)


@late(F4, U8, PLACE, PLACE, INT, INT)
def pack_rows(x, out, come, to, first, last):
    """Matrix rows `[first, last)`: channels lie side by side."""
    for row in range(first, last):
        for word in range(to.words):
            c = word * 64
            bits = np.uint64(0)
            for b in range(min(64, to.channels - c)):
                if x[row * come.size + c + b] < 0:
                    bits |= np.uint64(1) << np.uint64(b)
            out[row * to.size + word] = bits


@late(U8, F4, F4, numba.types.float32, PLACE, PLACE, INT, INT)
def unpack_bits(x, out, scratch, fill, come, to, first, last):
    """Rows `[first, last)` of all images' rows."""
    one, two = splat(1, 16, np.float32(1)), splat(1, 16, np.float32(2))
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        source = image * come.size + row_start(come, i, 0) * come.words
        for j in range(0, to.width, 16):
            n = min(16, to.width - j)
            for c in range(to.channels):
                if c % 64 == 0:
                    word = gather(np.uint64(0), 16, x, source + j * come.words + c // 64, come.words, n)
                bit = bit_and(shift_right(word, splat(1, 16, np.uint64(c % 64))), splat(1, 16, np.uint64(1)))
                value = sub(one, mul(two, convert(np.float32(0), convert(np.int32(0), bit))))
                store(scratch, 0, value)
                put_strip(scratch, 0, i * to.width + j, n, to.width, to.width, out, image * to.size + c * to.plane, to)


@late(U8, U8, PLACE, PLACE, INT, INT, INT)
def copy_bits(x, out, come, to, bottom, first, last):
    """Rows `[first, last)` of all images' rows."""
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            clear_pads(out, image * to.size, to, bottom)
        source = image * come.size + row_start(come, i, 0) * come.words
        target = image * to.size + row_start(to, i, 0) * to.words
        for k in range(to.width * to.words):
            out[target + k] = x[source + k]


@late(F4, U1, F4, numba.types.float32, PLACE, PLACE, INT, INT, INT, INT)
def quantise(x, out, scratch, scale, come, to, bottom, zero, first, last):
    """Rows `[first, last)` of all images' rows, as ONNX QuantizeLinear: nearest, ties to even, saturated; NaN to zero."""
    low, high = splat(1, 16, np.float32(-zero)), splat(1, 16, np.float32(255 - zero))
    nought, step = splat(1, 16, np.float32(0)), splat(1, 16, scale)
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            fill_octets(out, image * to.size, to, bottom, zero)
        target = image * to.size + row_start(to, i, 0) * to.words
        for j in range(0, to.width, 16):
            n = min(16, to.width - j)
            for four in range(0, to.channels, 4):
                word = splat(1, 16, np.int32(0))
                for b in range(4):
                    q = splat(1, 16, np.int32(zero))
                    if four + b < to.channels:
                        source = image * come.size + (four + b) * come.plane
                        if come.sw == 1:
                            value = load_first(1, 16, x, source + row_start(come, i, j), 0, n)
                        else:
                            for k in range(n):
                                scratch[k] = x[source + row_start(come, i, j + k)]
                            value = load(16, scratch, 0)
                        steps = rint(div(value, step))
                        steps = minimum(maximum(select(equal(steps, steps), steps, nought), low), high)
                        q = add(convert(np.int32(0), steps), q)
                    word = bit_or(word, shift_left(q, splat(1, 16, np.int32(8 * b))))
                scatter(out, target + j * to.words + four, to.words, n, word)


@late(U1, F4, F4, numba.types.float32, numba.types.float32, PLACE, PLACE, INT, INT, INT)
def dequantise(x, out, scratch, fill, scale, come, to, zero, first, last):
    """Rows `[first, last)` of all images' rows."""
    octet, none, step = splat(1, 16, np.int32(255)), splat(1, 16, np.int32(zero)), splat(1, 16, scale)
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        source = image * come.size + row_start(come, i, 0) * come.words
        for j in range(0, to.width, 16):
            n = min(16, to.width - j)
            for four in range(0, to.channels, 4):
                word = gather(np.int32(0), 16, x, source + j * come.words + four, come.words, n)
                for c in range(four, min(four + 4, to.channels)):
                    q = bit_and(shift_right(word, splat(1, 16, np.int32(8 * (c - four)))), octet)
                    value = mul(convert(np.float32(0), sub(q, none)), step)
                    store(scratch, 0, value)
                    put_strip(
                        scratch, 0, i * to.width + j, n, to.width, to.width, out, image * to.size + c * to.plane, to
                    )


def _in_graphs_order(source: Layout, target: Layout) -> bool:
    """Whether `octets` has the loop."""
    both = isinstance(source, Octets) and isinstance(target, Octets)
    return both or isinstance(source, OctetPlanes) or isinstance(target, OctetPlanes)


@dataclass(eq=False)
class Conversion(Kernel):
    """A copy from `input_layout` to `output_layout`. Its numbers are settled with its layouts, at its first run."""

    _settled: tuple[Any, tuple[Any, ...], bool] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.scratch_size = 16
        if isinstance(self.output_layout, Octets | OctetPlanes):
            self.also_writes = (Octets, OctetPlanes)

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times channels, or times rows where bits or octets are involved."""
        to, between_planes = self.output_layout, isinstance(self.input_layout, Planes)
        if _in_graphs_order(self.input_layout, to):
            return rows * (to.channels if between_planes or isinstance(to, Planes) else to.height)
        return rows * (to.channels if isinstance(to, Planes) and between_planes else to.height)

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`."""
        super().write_to(output, residual)
        self._settled = None

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        if self._settled is None:
            self._settled = self._settle()
        loop, numbers, scratched = self._settled
        if x.dtype.kind == "i" or out.dtype.kind == "i":
            x, out = (a.view(np.uint8) if a.dtype.kind == "i" else a for a in (x, out))
        if scratched:
            loop(x, out, scratch, *numbers, first, last)
        else:
            loop(x, out, *numbers, first, last)

    def _settle(self) -> tuple[Any, tuple[Any, ...], bool]:
        """(compiled loop, its numbers, whether it needs scratch)."""
        source, target = self.input_layout, self.output_layout
        come, to = place(source), place(target)
        if _in_graphs_order(source, target):
            return *converter(source, target), False
        if isinstance(target, Planes):
            if isinstance(source, Planes):
                return copy_planes(), (target.fill, np.array([*come, *to], np.int64)), False
            if isinstance(source, Octets):
                return dequantise(), (target.fill, source.scale, come, to, source.zero), True
            return unpack_bits(), (target.fill, come, to), True
        if isinstance(target, Octets):
            return quantise(), (target.scale, come, to, target.bottom, target.zero), True
        assert isinstance(target, Bits)
        if isinstance(source, Bits):
            return copy_bits(), (come, to, target.bottom), False
        if isinstance(source, Planes) and source.plane == 1 and target.size == target.words:
            return pack_rows(), (come, to), False
        return pack_planes(), (come, to, target.bottom), False

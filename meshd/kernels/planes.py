"""Convolution of padded planes without im2col: sparse, dense and depthwise float layers are one loop.

A plane's positions are flat, so one kept weight is one offset from the output position into the input, and `lanes`
positions are computed at once; columns past the row's end are garbage that is replaced by the pad's value on its way out.
Channels of a block share their positions: every input loaded serves `rows` outputs. Dense is the block with nothing left
out; depthwise is blocks of one output. Weights are stored as float32, float16 or int8, and multiplied as float32.

Numeric class `fma`: an output accumulates its weights in ascending (channel, ky, kx), one fma each, whatever the tile. A
weight of zero changes nothing (unless it meets infinity or NaN), so all densities agree.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, I4, I8, INT, U8, VALUES, jit, numba, record, to_fixed_tuple
from meshd.kernels.simd import (
    add,
    at,
    column,
    less,
    load,
    load_rows,
    maximum,
    minimum,
    mul,
    outer,
    select,
    splat,
    store_rows,
)  # fmt: skip
from meshd.kernels.strips import (
    PLACE,
    PLACE_FIELDS,
    Place,
    clear_pads,
    fill_pads,
    get_strip,
    pack_strip,
    put_strip,
    row_start,
)

GROUP = 64
"""Outputs that leave together: those of one word of bits."""
DIRECT, FETCHED = 1, 2
"""Where a residual is read: in planes of the same pitch, or from scratch, where its strips were brought."""
LEAKY, HARD_SIGMOID, HARD_SWISH = 1, 2, 3
"""See `kernel.Bend`."""
PLAIN, STAGED, BITS = 0, 1, 2
"""How a tile leaves: straight into planes of the same pitch, strip by strip into any planes, or as bits."""


class Work(NamedTuple):
    """The numbers of one convolution."""

    tiles: int
    """Position tiles an image and chunk: wide ones, then narrow ones."""
    wide: int
    positions: int
    width: int
    pitch: int
    outputs: int
    blocks: int
    chunk: int
    """Blocks a chunk."""
    chunks: int
    x_size: int
    mode: int
    residual: int
    """0 for none, DIRECT, or FETCHED."""
    scaled: int
    clips: int
    """1 at the low end, 2 at the high end, 3 at both."""
    bend: int
    """0 for none, LEAKY, HARD_SIGMOID, HARD_SWISH."""
    masked: int
    """Whether rows hold garbage columns."""
    out_bottom: int


WORK = record(Work)
WORK_FIELDS = len(Work._fields)


@jit(F4, F4, INT, INT, INT, INT, INT, WORK, PLACE, INT, inner=True)
def fetch(residual, scratch, lanes, o, channels, t, count, w, come, image):
    """Bring the residual of `channels` outputs from `o` on into the second half of the scratch, a row each."""
    for c in range(channels):
        base = image * come.size + (o + c) * come.plane
        get_strip(residual, base, come, scratch, (GROUP + c) * lanes, t, count, w.pitch, w.width)


@jit(F4, F4, U8, INT, INT, INT, INT, INT, WORK, PLACE, INT, inner=True)
def leave(scratch, out, bits, lanes, o, channels, t, count, w, to, image):
    """Store a tile of `channels` outputs from `o` on, a row of scratch each, strip by strip or as words of signs."""
    if w.mode == STAGED:
        for c in range(channels):
            base = image * to.size + (o + c) * to.plane
            put_strip(scratch, c * lanes, t, count, w.pitch, w.width, out, base, to)
        return
    q = t
    while q < t + count:
        i, j = q // w.pitch, q % w.pitch
        m = min(w.width - j, t + count - q)
        if m > 0:
            target = image * to.size + row_start(to, i, j) * to.words + o // GROUP
            pack_strip(scratch, q - t, lanes, channels, m, bits, target, to.words)
        q += w.pitch - j


@numba.njit(inline="always")
def bent(lanes, value, kind, a, b):
    """`value` after the tail's bend (`Work.bend`): leaky by the slope `a`, hard sigmoid of `a * value + b`, hard swish."""
    if kind == LEAKY:
        value = maximum(value, mul(value, splat(1, lanes, a)))
    elif kind != 0:
        part = add(mul(value, splat(1, lanes, a)), splat(1, lanes, b))
        part = minimum(maximum(part, splat(1, lanes, np.float32(0))), splat(1, lanes, np.float32(1)))
        value = mul(value, part) if kind == HARD_SWISH else part
    return value


@numba.njit(inline="always")
def blocks(
    rows, lanes, x, out, residual, scratch, start, offset, value, scale, bias, bend_a, bend_b, low, high, fill,
    inside, w, to, come, image, first, last, t,
):  # fmt: skip
    """Blocks `[first, last)` of a tile, into planes or into rows of scratch. Inlined: rows and lanes must be literals."""
    base = image * w.x_size + t
    for block in range(first, last):
        acc = splat(rows, lanes, np.float32(0))
        for k in range(at(start, block), at(start, block + 1)):
            acc = outer(acc, value, rows * k, load(lanes, x, base + at(offset, k)))
        o = block * rows
        n = min(rows, w.outputs - o)
        if w.scaled:
            acc = mul(acc, column(rows, lanes, scale, o, 1))
        acc = add(acc, column(rows, lanes, bias, o, 1))
        slot = (block - first) * rows
        if w.residual == DIRECT:
            r = image * come.size + o * come.plane + come.top * w.pitch + come.left + t
            acc = add(acc, load_rows(rows, lanes, residual, r, come.plane))
        elif w.residual == FETCHED:
            acc = add(acc, load_rows(rows, lanes, scratch, (GROUP + slot) * lanes, lanes))
        acc = bent(lanes, acc, w.bend, bend_a, bend_b)
        if w.clips & 1:
            acc = maximum(acc, splat(1, lanes, low))
        if w.clips & 2:
            acc = minimum(acc, splat(1, lanes, high))
        if w.mode == PLAIN:
            if w.masked:
                acc = select(less(load(lanes, inside, t), splat(1, lanes, np.int32(0))), acc, splat(1, lanes, fill))
            store_rows(out, image * to.size + o * to.plane + to.top * w.pitch + to.left + t, to.plane, n, acc)
        else:
            store_rows(scratch, slot * lanes, lanes, rows, acc)


@cache
def block_convolution(rows: int, lanes: int, narrow: int, storage: str) -> Any:
    """The kernel for blocks of `rows` outputs and tiles of `lanes` positions, `narrow` ones for what remains."""
    step = GROUP // rows

    @jit(
        F4, F4, U8, F4, F4, I8, I4, VALUES[storage], F4, F4, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, I4, I8, INT, INT
    )  # fmt: skip
    def convolve(
        x, out, bits, residual, scratch, start, offset, value, scale, bias, bend_a, bend_b, low, high, fill,
        inside, numbers, first, last,
    ):  # fmt: skip
        """Tiles `[first, last)` of images x chunks of outputs x positions. scratch: 2 x 64 x lanes floats."""
        w = Work(*to_fixed_tuple(numbers, WORK_FIELDS))
        to = Place(*to_fixed_tuple(numbers[WORK_FIELDS:], PLACE_FIELDS))
        come = Place(*to_fixed_tuple(numbers[WORK_FIELDS + PLACE_FIELDS :], PLACE_FIELDS))
        for tile in range(first, last):
            p = tile % w.tiles
            chunk = tile // w.tiles % w.chunks
            image = tile // (w.tiles * w.chunks)
            if p == 0 and chunk == 0:
                if w.mode == BITS:
                    clear_pads(bits, image * to.size, to, w.out_bottom)
                else:
                    fill_pads(out, image * to.size, w.outputs, to, fill, w.positions if w.mode == PLAIN else 0)
            # The last tile is moved back to end with the plane: what two tiles compute is the same bits.
            if p < w.wide:
                width, t = lanes, min(p * lanes, w.positions - lanes)
            else:
                width, t = narrow, min(w.wide * lanes + (p - w.wide) * narrow, max(w.positions - narrow, 0))
            count = min(width, w.positions - t)
            end = min((chunk + 1) * w.chunk, w.blocks)
            for begin in range(chunk * w.chunk, end, step):
                until = min(begin + step, end)
                channels = min(until * rows, w.outputs) - begin * rows
                if w.residual == FETCHED:
                    fetch(residual, scratch, width, begin * rows, channels, t, count, w, come, image)
                if p < w.wide:
                    blocks(
                        rows, lanes, x, out, residual, scratch, start, offset, value, scale, bias, bend_a, bend_b, low,
                        high, fill, inside, w, to, come, image, begin, until, t,
                    )  # fmt: skip
                else:
                    blocks(
                        rows, narrow, x, out, residual, scratch, start, offset, value, scale, bias, bend_a, bend_b, low,
                        high, fill, inside, w, to, come, image, begin, until, t,
                    )  # fmt: skip
                if w.mode != PLAIN:
                    leave(scratch, out, bits, width, begin * rows, channels, t, count, w, to, image)

    return convolve

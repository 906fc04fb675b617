"""Convolution of padded planes without im2col: sparse, dense and depthwise float layers are one loop.

A plane's positions are flat, so one kept weight is one offset from the output position into the input, and `lanes`
positions are computed at once; columns past the row's end are garbage that is replaced by the pad's value on its way out.
Channels of a block share their positions: every input loaded serves `rows` outputs. Dense is the block with nothing left
out; depthwise is blocks of one output.

Numeric class `fma`: an output accumulates its weights in ascending (channel, ky, kx), one fma each, whatever the tile. A
weight of zero changes nothing (unless it meets infinity or NaN), so all densities agree.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, I4, I8, INT, U8, jit, record
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
    rank1,
    select,
    splat,
    store_rows,
)  # fmt: skip
from meshd.kernels.strips import PLACE, clear_pads, fill_pads, get_strip, pack_strip, put_strip, row_start

PLAIN, STAGED, BITS = 0, 1, 2
"""How a tile leaves: straight into planes of the same pitch, strip by strip into any planes, or as bits."""


class Work(NamedTuple):
    """The numbers of one convolution and one tile width."""

    tiles: int
    """Position tiles an image and chunk, over all widths."""
    first: int
    last: int
    """Which of them have this width."""
    start: int
    """Position of tile `first`."""
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
    """0 none, 1 planes of the same pitch, 2 any planes."""
    scaled: int
    clips: int
    """1 at the low end, 2 at the high end, 3 at both."""
    masked: int
    """Whether rows hold garbage columns."""
    out_bottom: int


WORK = record(Work)


@cache
def block_convolution(rows: int, lanes: int) -> Any:
    """The kernel for blocks of `rows` outputs and tiles of `lanes` positions."""

    @jit(F4, F4, U8, F4, F4, I8, I4, F4, F4, F4, FLOAT, FLOAT, FLOAT, I4, WORK, PLACE, PLACE, INT, INT)
    def convolve(
        x,
        out,
        bits,
        residual,
        scratch,
        start,
        offset,
        value,
        scale,
        bias,
        low,
        high,
        fill,
        inside,
        w,
        to,
        add_from,
        first,
        last,
    ):
        """Tiles `[first, last)`; see `Work` and `strips.Place`. scratch: (64 + rows) x lanes floats."""
        for tile in range(first, last):
            p = tile % w.tiles
            chunk = tile // w.tiles % w.chunks
            image = tile // (w.tiles * w.chunks)
            if p < w.first or p >= w.last:
                continue
            if p == 0 and chunk == 0:
                if w.mode == BITS:
                    clear_pads(bits, image * to.size, to, w.out_bottom)
                else:
                    fill_pads(out, image * to.size, w.outputs, to, fill, w.positions if w.mode == PLAIN else 0)
            # The last tile is moved back to end with the plane: what two tiles compute is the same bits.
            t = min(w.start + (p - w.first) * lanes, max(w.positions - lanes, 0))
            count = min(lanes, w.positions - t)
            base = image * w.x_size + t
            for block in range(chunk * w.chunk, min((chunk + 1) * w.chunk, w.blocks)):
                acc = splat(rows, lanes, np.float32(0))
                for k in range(at(start, block), at(start, block + 1)):
                    acc = rank1(acc, value, rows * k, 1, load(lanes, x, base + at(offset, k)))
                o = block * rows
                n = min(rows, w.outputs - o)
                if w.scaled:
                    acc = mul(acc, column(rows, lanes, scale, o, 1))
                acc = add(acc, column(rows, lanes, bias, o, 1))
                if w.residual == 1 and n == rows:
                    r = image * add_from.size + o * add_from.plane + add_from.top * w.pitch + add_from.left + t
                    acc = add(acc, load_rows(rows, lanes, residual, r, add_from.plane))
                elif w.residual:
                    for c in range(n):
                        r = image * add_from.size + (o + c) * add_from.plane
                        get_strip(residual, r, add_from, scratch, (64 + c) * lanes, t, count, w.pitch, w.width)
                    acc = add(acc, load_rows(rows, lanes, scratch, 64 * lanes, lanes))
                if w.clips & 1:
                    acc = maximum(acc, splat(1, lanes, low))
                if w.clips & 2:
                    acc = minimum(acc, splat(1, lanes, high))
                if w.mode == PLAIN:
                    if w.masked:
                        keep = less(load(lanes, inside, t), splat(1, lanes, np.int32(0)))
                        acc = select(keep, acc, splat(1, lanes, fill))
                    target = image * to.size + o * to.plane + to.top * w.pitch + to.left + t
                    store_rows(out, target, to.plane, n, acc)
                elif w.mode == STAGED:
                    store_rows(scratch, 0, lanes, rows, acc)
                    for c in range(n):
                        target = image * to.size + (o + c) * to.plane
                        put_strip(scratch, c * lanes, t, count, w.pitch, w.width, out, target, to)
                else:
                    slot = o % 64
                    store_rows(scratch, slot * lanes, lanes, rows, acc)
                    if slot + rows >= 64 or o + rows >= w.outputs:
                        q = t
                        while q < t + count:
                            i, j = q // w.pitch, q % w.pitch
                            m = min(w.width - j, t + count - q)
                            target = image * to.size + row_start(to, i, j) * to.words + o // 64
                            if m > 0:
                                pack_strip(scratch, q - t, lanes, slot + n, m, bits, target, to.words)
                            q += w.pitch - j

    return convolve

"""Products of packed signs: `n - 2 * popcount(x ^ w)`, exact, for convolutions and matrices alike.

Lanes run along outputs, sixteen 64-bit words of sixteen filters side by side; every word of input is broadcast to them. An
output position is where its window starts in the input, an input word is an offset from there: so strides, dilation and
padding cost nothing, and a product is the convolution whose positions are rows.

With groups, a panel's window is narrowed to the words in which its groups lie; where these are not all of the words' bits, or
a panel holds outputs of several groups, each filter has a mask of the bits that are its own.

Words that pad with 0 count as +1; what such pads add is known beforehand, so it is taken out of the base from which
the count is subtracted (one base for each set of taps that can lie outside).

References: Rastegari et al., "XNOR-Net", ECCV 2016, section 3 (the product); Bannink et al., "Larq Compute Engine", MLSys
2021 (thresholds in place of batch normalisation).
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, I4, I8, INT, U8, jit, record
from meshd.kernels.simd import (
    add,
    at,
    at_least,
    convert,
    count_differing,
    count_differing_within,
    fma,
    gather_rows,
    less,
    load,
    load_first,
    load_rows,
    maximum,
    minimum,
    mul,
    scatter_mask,
    splat,
    store_first,
    store_rows,
)  # fmt: skip
from meshd.kernels.strips import PLACE, clear_pads, fill_pads

LANES = 16
"""Filters side by side: two 512-bit registers, and two bytes of an output word."""
SPAN = 8
"""Groups of positions a tile."""
THRESHOLD, SIGN, ROWS, PLANES = 0, 1, 2, 3
"""How a tile leaves: bits by comparing counts, bits by the sign of the tail, floats in rows, floats in planes."""


class Work(NamedTuple):
    """The numbers of one binary layer."""

    window: int
    """1 for a convolution (positions of an image), 0 for a product (positions are rows)."""
    positions: int
    words: int
    """Words a panel of outputs sees of a window."""
    outputs: int
    panels: int
    x_size: int
    mode: int
    scaled: int
    clips: int
    residual: int
    bottom: int


WORK = record(Work)


@cache
def binary_layer(rows: int, masked: bool = False) -> Any:
    """The kernel for `rows` positions at once; `masked`: with a mask beside each filter."""

    @jit(
        U8, F4, U8, F4, F4, I8, I4, U8, U8, I8, I8, I8, I8, U8, F4, F4, F4, FLOAT, FLOAT, FLOAT, WORK, PLACE, PLACE, INT, INT, INT
    )  # fmt: skip
    def compute(
        x,
        out,
        bits,
        residual,
        scratch,
        starts,
        offset,
        filters,
        masks,
        panel_start,
        classes,
        targets,
        sources,
        threshold,
        base,
        scale,
        bias,
        low,
        high,
        fill,
        w,
        to,
        add_from,
        n_rows,
        first,
        last,
    ):
        """Tiles `[first, last)` of images x panels x spans of positions.

        panel_start: for each panel its first word of a position. starts, targets, sources, classes: for each position its
        first input word, output byte or float, residual float, and row in threshold and base.
        """
        positions = w.positions if w.window else n_rows
        groups = (positions + rows - 1) // rows
        spans = (groups + SPAN - 1) // SPAN
        for tile in range(first, last):
            span = tile % spans
            panel = tile // spans % w.panels
            image = tile // (spans * w.panels)
            o = panel * LANES
            n = min(LANES, w.outputs - o)
            if w.window and span == 0 and panel == 0:
                if w.mode == PLANES:
                    fill_pads(out, image * to.size, w.outputs, to, fill, 0)
                else:
                    clear_pads(bits, image * to.size, to, w.bottom)
            shift = image * w.x_size + at(panel_start, panel)
            for group in range(span * SPAN, min((span + 1) * SPAN, groups)):
                # The last group is moved back: what two groups compute is the same bits.
                m = min(group * rows, positions - rows)
                p = m if w.window else 0
                begin = load_rows(rows, 1, starts, p, 1)
                if w.window == 0:
                    shift = m * w.words
                acc = splat(rows, LANES, np.uint64(0))
                f = panel * w.words * LANES
                for k in range(w.words if n > 0 else 0):
                    word, own = shift + at(offset, k), load(LANES, filters, f + k * LANES)
                    if masked:
                        acc = count_differing_within(acc, x, begin, word, own, load(LANES, masks, f + k * LANES))
                    else:
                        acc = count_differing(acc, x, begin, word, own)
                row_class = load_rows(rows, 1, classes, p, 1)
                byte = image * to.size * 8 + 2 * panel + (0 if w.window else m * to.words * 8)
                if w.mode == THRESHOLD:
                    negative = at_least(acc, gather_rows(LANES, threshold, row_class, o))
                    scatter_mask(bits, load_rows(rows, 1, targets, p, 1), byte, negative)
                    continue
                # Whole numbers up to 2**24: floats hold them, and twice them, exactly.
                count = convert(np.float32(0), convert(np.int32(0), acc))
                value = fma(count, splat(1, LANES, np.float32(-2)), gather_rows(LANES, base, row_class, o))
                if w.scaled:
                    value = mul(value, load(LANES, scale, o))
                value = add(value, load(LANES, bias, o))
                if w.residual:
                    if w.window:
                        for r in range(rows):
                            from_row = image * add_from.size + at(sources, m + r)
                            for c in range(LANES):
                                scratch[r * LANES + c] = residual[from_row + (o + c) * add_from.plane] if c < n else 0
                        value = add(value, load_rows(rows, LANES, scratch, 0, LANES))
                    else:
                        value = add(value, load_first(rows, LANES, residual, m * w.outputs + o, w.outputs, n))
                if w.clips:
                    value = minimum(maximum(value, splat(1, LANES, low)), splat(1, LANES, high))
                if w.mode == SIGN:
                    # Filters past the last have a base so high that they are never negative.
                    scatter_mask(
                        bits, load_rows(rows, 1, targets, p, 1), byte, less(value, splat(1, LANES, np.float32(0)))
                    )
                elif w.mode == ROWS and n == LANES:
                    store_rows(out, m * w.outputs + o, w.outputs, rows, value)
                elif w.mode == ROWS:
                    store_first(out, m * w.outputs + o, w.outputs, n, value)
                else:
                    store_rows(scratch, 0, LANES, rows, value)
                    for r in range(rows):
                        to_row = image * to.size + at(targets, m + r)
                        for c in range(n):
                            out[to_row + (o + c) * to.plane] = scratch[r * LANES + c]

    return compute

"""Products of bytes: unsigned activations times signed weights, exact in int32, for convolutions and matrices alike.

The loop is `binary`'s with four channels for a word: lanes run along outputs, four weights in each; four bytes of input are
broadcast to all. What a zero point adds is a constant of each output, taken out of the base the accumulator starts from.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, I4, I8, INT, U1, jit, record
from meshd.kernels.planes import bent
from meshd.kernels.simd import (
    add,
    at,
    convert,
    div,
    dot_octets,
    gather_rows,
    load,
    load_first,
    load_rows,
    maximum,
    minimum,
    mul,
    rint,
    scatter_rows,
    splat,
    store,
    store_first,
    store_rows,
    sub,
)  # fmt: skip
from meshd.kernels.strips import PLACE, fill_octets, fill_pads

SPAN = 8
"""Groups of positions a tile."""
ROWS, PLANES, OCTETS = 0, 1, 2
"""How a tile leaves: floats in rows of a matrix, floats in planes, quantised bytes."""
NONE, FLOATS, BYTES = 0, 1, 2
"""What is added: nothing, floats, quantised bytes."""


class Work(NamedTuple):
    """The numbers of one int8 layer."""

    window: int
    depthwise: int
    """Whether an output sees one channel, its own: lanes run along channels of the input too."""
    positions: int
    words: int
    """Groups of four bytes a window sees; of a depthwise one, bytes of each output."""
    outputs: int
    panels: int
    panels_a_group: int
    group_octets: int
    x_size: int
    x_stride: int
    mode: int
    scaled: int
    residual: int
    residual_zero: int
    bend: int
    """As `planes.Work.bend`."""
    bottom: int
    zero: int


WORK = record(Work)


@cache
def int8_layer(rows: int, lanes: int) -> Any:
    """The kernel for `rows` positions and `lanes` outputs at once."""

    @jit(
        U1, F4, U1, F4, U1, F4, I8, I4, I4, I8, I8, I4, F4, F4, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, WORK, PLACE,
        PLACE, INT, INT, INT
    )  # fmt: skip
    def compute(
        x, out, octets, residual, added, scratch, starts, offset, filters, targets, sources, base, scale, bias, bend_a, bend_b,
        low, high, fill, step, added_step, w, to, add_from, n_rows, first, last,
    ):  # fmt: skip
        """Tiles `[first, last)` of images x panels x spans of positions; `step` is the scale of what is written, `added_step` of
        the bytes in `added`."""
        positions = w.positions if w.window else n_rows
        groups = (positions + rows - 1) // rows
        spans = (groups + SPAN - 1) // SPAN
        for tile in range(first, last):
            span = tile % spans
            panel = tile // spans % w.panels
            image = tile // (spans * w.panels)
            o = panel * lanes
            n = min(lanes, w.outputs - o)
            if w.window and span == 0 and panel == 0:
                if w.mode == PLANES:
                    fill_pads(out, image * to.size, w.outputs, to, fill, 0)
                else:
                    fill_octets(octets, image * to.size, to, w.bottom, w.zero)
            shift = image * w.x_size + (o if w.depthwise else panel // w.panels_a_group * w.group_octets)
            for group in range(span * SPAN, min((span + 1) * SPAN, groups)):
                # The last group is moved back: what two groups compute is the same bits.
                m = min(group * rows, positions - rows)
                p = m if w.window else 0
                begin = load_rows(rows, 1, starts, p, 1)
                if w.window == 0:
                    shift = m * w.x_stride
                acc = add(splat(rows, lanes, np.int32(0)), load(lanes, base, o))
                f = panel * w.words * lanes
                if w.depthwise:
                    for k in range(w.words):
                        one = convert(np.int32(0), gather_rows(lanes, x, begin, shift + at(offset, k)))
                        acc = add(acc, mul(one, load(lanes, filters, f + k * lanes)))
                else:
                    for k in range(w.words):
                        acc = dot_octets(acc, x, begin, shift + at(offset, k), load(lanes, filters, f + k * lanes))
                value = convert(np.float32(0), acc)
                if w.scaled:
                    value = mul(value, load(lanes, scale, o))
                value = add(value, load(lanes, bias, o))
                if w.residual == BYTES:
                    nought, worth = splat(1, lanes, np.float32(w.residual_zero)), splat(1, lanes, added_step)
                    for r in range(rows):
                        start = (m + r) * add_from.words
                        if w.window:
                            start = image * add_from.size + at(sources, m + r)
                        small = (
                            load(lanes, added, start + o)
                            if n == lanes
                            else load_first(1, lanes, added, start + o, 0, n)
                        )
                        steps = convert(np.float32(0), convert(np.int32(0), small))
                        store(scratch, r * lanes, mul(sub(steps, nought), worth))
                    value = add(value, load_rows(rows, lanes, scratch, 0, lanes))
                elif w.residual == FLOATS:
                    if w.window:
                        for r in range(rows):
                            from_row = image * add_from.size + at(sources, m + r)
                            for c in range(lanes):
                                scratch[r * lanes + c] = residual[from_row + (o + c) * add_from.plane] if c < n else 0
                        value = add(value, load_rows(rows, lanes, scratch, 0, lanes))
                    else:
                        value = add(value, load_first(rows, lanes, residual, m * w.outputs + o, w.outputs, n))
                value = bent(lanes, value, w.bend, bend_a, bend_b)
                value = minimum(maximum(value, splat(1, lanes, low)), splat(1, lanes, high))
                if w.mode == OCTETS:
                    quotient = rint(div(value, splat(1, lanes, step)))
                    quotient = maximum(quotient, splat(1, lanes, np.float32(-w.zero)))
                    quotient = minimum(quotient, splat(1, lanes, np.float32(255 - w.zero)))
                    whole = add(convert(np.int32(0), quotient), splat(1, lanes, np.int32(w.zero)))
                    octet = convert(np.uint8(0), whole)
                    if w.window:
                        scatter_rows(octets, load_rows(rows, 1, targets, p, 1), image * to.size + o, n, octet)
                    else:
                        store_first(octets, m * to.words + o, to.words, n, octet)
                        if o + lanes >= w.outputs:
                            for r in range(rows):
                                start = (m + r) * to.words
                                octets[start + w.outputs : start + to.words] = np.uint8(w.zero)
                elif w.mode == ROWS:
                    store_first(out, m * w.outputs + o, w.outputs, n, value)
                else:
                    store_rows(scratch, 0, lanes, rows, value)
                    for r in range(rows):
                        to_row = image * to.size + at(targets, m + r)
                        for c in range(n):
                            out[to_row + (o + c) * to.plane] = scratch[r * lanes + c]

    return compute

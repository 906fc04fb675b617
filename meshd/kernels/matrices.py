"""Rows of floats times a constant matrix, dense or sparse: lanes run along outputs, so nothing is summed across lanes.

Dense weights lie in panels of `lanes` outputs, ascending k. Sparse ones in blocks of `lanes` outputs that share their
positions; four blocks are computed at once, because one alone would wait four cycles for each of its additions.

Numeric class `fma`: each output accumulates ascending k, one fma a term; what is zero in the sparse form is left out.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, I4, I8, INT, U8, VALUES, jit, numba, record, to_fixed_tuple
from meshd.kernels.simd import (
    add,
    at,
    less,
    load,
    load_first,
    load_real,
    maximum,
    minimum,
    mul,
    rank1,
    splat,
    store,
    store_first,
    store_mask,
    store_rows,
)  # fmt: skip

SPAN = 64
"""Outputs a sparse tile covers: one word of bits."""


class Work(NamedTuple):
    """The numbers of one product and one panel width."""

    k: int
    outputs: int
    first_output: int
    bits: int
    scaled: int
    residual: int
    words: int


WORK = record(Work)
WORK_FIELDS = len(Work._fields)


@numba.njit(inline="always")
def leave(rows, lanes, acc, out, words, residual, scale, bias, low, high, w, m, o, p):
    """The tail of a tile from row `m` and output `o` on; its scale and bias are at `p`. Inlined: both sizes are literals."""
    n = min(lanes, w.outputs - o)
    if w.scaled:
        acc = mul(acc, load(lanes, scale, p))
    acc = add(acc, load(lanes, bias, p))
    if w.residual:
        acc = add(acc, load_first(rows, lanes, residual, m * w.outputs + o, w.outputs, n))
    acc = minimum(maximum(acc, splat(1, lanes, low)), splat(1, lanes, high))
    if w.bits:
        store_mask(words, m * w.words * 8 + o // 8, w.words * 8, rows, less(acc, splat(1, lanes, np.float32(0))))
    elif n == lanes:
        store_rows(out, m * w.outputs + o, w.outputs, rows, acc)
    else:
        store_first(out, m * w.outputs + o, w.outputs, n, acc)


@cache
def dense_product(rows: int, lanes: int, panel: int, storage: str) -> Any:
    """The kernel for `rows` rows and `lanes` outputs at once, of panels of `panel` outputs."""
    parts = panel // lanes

    @jit(F4, F4, U8, F4, VALUES[storage], F4, F4, FLOAT, FLOAT, I8, INT, INT, INT)
    def multiply(x, out, words, residual, value, scale, bias, low, high, numbers, n_rows, first, last):
        """Tiles `[first, last)` of parts of panels x groups of rows; n_rows >= rows."""
        w = Work(*to_fixed_tuple(numbers, WORK_FIELDS))
        groups = (n_rows + rows - 1) // rows
        for tile in range(first, last):
            part = tile // groups
            # The last group is moved back: what two groups compute is the same bits.
            m = min(tile % groups * rows, n_rows - rows)
            acc = splat(rows, lanes, np.float32(0))
            p = part * lanes
            start = part // parts * w.k * panel + part % parts * lanes
            for k in range(w.k):
                acc = rank1(acc, x, m * w.k + k, w.k, load_real(lanes, value, start + k * panel))
            leave(rows, lanes, acc, out, words, residual, scale, bias, low, high, w, m, w.first_output + p, p)

    return multiply


@cache
def sparse_product(rows: int, lanes: int, storage: str) -> Any:
    """The kernel for `rows` rows at once and blocks of `lanes` outputs that share their positions."""

    @jit(F4, F4, U8, F4, F4, I8, I4, VALUES[storage], F4, F4, FLOAT, FLOAT, I8, INT, INT, INT)
    def multiply(
        x, out, words, residual, scratch, start, index, value, scale, bias, low, high, numbers, n_rows, first, last
    ):
        """Tiles `[first, last)` of spans of 64 outputs x groups of rows; n_rows >= rows. scratch: rows x 64 floats."""
        w = Work(*to_fixed_tuple(numbers, WORK_FIELDS))
        groups = (n_rows + rows - 1) // rows
        zero = splat(rows, lanes, np.float32(0))
        for tile in range(first, last):
            span = tile // groups
            m = min(tile % groups * rows, n_rows - rows)
            here = m * w.k
            for block in range(span * (SPAN // lanes), (span + 1) * (SPAN // lanes), 4):
                k0, k1, k2, k3 = at(start, block), at(start, block + 1), at(start, block + 2), at(start, block + 3)
                n0, n1, n2, n3 = k1 - k0, k2 - k1, k3 - k2, at(start, block + 4) - k3
                a0, a1, a2, a3 = zero, zero, zero, zero
                together = min(n0, n1, n2, n3)
                for i in range(together):
                    a0 = rank1(a0, x, here + at(index, k0 + i), w.k, load_real(lanes, value, (k0 + i) * lanes))
                    a1 = rank1(a1, x, here + at(index, k1 + i), w.k, load_real(lanes, value, (k1 + i) * lanes))
                    a2 = rank1(a2, x, here + at(index, k2 + i), w.k, load_real(lanes, value, (k2 + i) * lanes))
                    a3 = rank1(a3, x, here + at(index, k3 + i), w.k, load_real(lanes, value, (k3 + i) * lanes))
                for k in range(k0 + together, k0 + n0):
                    a0 = rank1(a0, x, here + at(index, k), w.k, load_real(lanes, value, k * lanes))
                for k in range(k1 + together, k1 + n1):
                    a1 = rank1(a1, x, here + at(index, k), w.k, load_real(lanes, value, k * lanes))
                for k in range(k2 + together, k2 + n2):
                    a2 = rank1(a2, x, here + at(index, k), w.k, load_real(lanes, value, k * lanes))
                for k in range(k3 + together, k3 + n3):
                    a3 = rank1(a3, x, here + at(index, k), w.k, load_real(lanes, value, k * lanes))
                o = block % (SPAN // lanes) * lanes
                store_rows(scratch, o, SPAN, rows, a0)
                store_rows(scratch, o + lanes, SPAN, rows, a1)
                store_rows(scratch, o + 2 * lanes, SPAN, rows, a2)
                store_rows(scratch, o + 3 * lanes, SPAN, rows, a3)
            o = span * SPAN
            n = min(SPAN, w.outputs - o)
            for r in range(rows):
                acc = load(SPAN, scratch, r * SPAN)
                if w.scaled:
                    acc = mul(acc, load(SPAN, scale, o))
                acc = add(acc, load(SPAN, bias, o))
                place = (m + r) * w.outputs + o
                if w.residual:
                    acc = add(acc, load_first(1, SPAN, residual, place, 0, n))
                acc = minimum(maximum(acc, splat(1, SPAN, low)), splat(1, SPAN, high))
                if w.bits:
                    negative = less(acc, splat(1, SPAN, np.float32(0)))
                    store_mask(words, ((m + r) * w.words + span) * 8, 0, 1, negative)
                elif n == SPAN:
                    store(out, place, acc)
                else:
                    store_first(out, place, 0, n, acc)

    return multiply

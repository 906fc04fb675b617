"""Blocks of SIMD registers as values inside Numba functions.

A `Block(element, rows, lanes)` is a small matrix held in registers: `rows` times `lanes` elements, each row in as many
registers as this machine needs for it. Kernels say what they compute (`acc = rank1(acc, w, i, 1, load(lanes, x, j))`) and
leave the registers to this file, and the instructions to LLVM: vpopcntq on AVX-512, pshufb on AVX2, cnt on NEON.

Rule 1: nothing is checked here: not bounds, not overlap. The caller pads.
Rule 2: no fast-math: every operation rounds once, and in the order written.
Rule 3: rows, lanes and element types are literals: a block's shape is part of its type.

In binary operations a block of one row stands for all rows.
"""

from meshd.kernels.simd.arithmetic import (
    add,
    at_least,
    bit_and,
    bit_or,
    bit_xor,
    column,
    convert,
    count_differing,
    count_differing_within,
    div,
    dot_octets,
    equal,
    fma,
    greater,
    greatest,
    less,
    maximum,
    minimum,
    mul,
    popcount,
    rank1,
    rint,
    select,
    shift_left,
    shift_right,
    splat,
    sub,
    total,
)
from meshd.kernels.simd.block import REGISTER_BYTES, Block
from meshd.kernels.simd.memory import (
    at,
    gather,
    gather_rows,
    load,
    load_alternate,
    load_every,
    load_first,
    load_rows,
    scatter,
    scatter_mask,
    scatter_rows,
    store,
    store_first,
    store_mask,
    store_rows,
)
from meshd.kernels.simd.stored import load_real, outer, pick

__all__ = [
    "REGISTER_BYTES",
    "Block",
    "add",
    "at",
    "at_least",
    "bit_and",
    "bit_or",
    "bit_xor",
    "column",
    "convert",
    "count_differing",
    "count_differing_within",
    "div",
    "dot_octets",
    "equal",
    "fma",
    "gather",
    "gather_rows",
    "greater",
    "greatest",
    "less",
    "load",
    "load_alternate",
    "load_every",
    "load_first",
    "load_real",
    "load_rows",
    "maximum",
    "minimum",
    "mul",
    "outer",
    "pick",
    "popcount",
    "rank1",
    "rint",
    "scatter",
    "scatter_mask",
    "scatter_rows",
    "select",
    "shift_left",
    "shift_right",
    "splat",
    "store",
    "store_first",
    "store_mask",
    "store_rows",
    "sub",
    "total",
]

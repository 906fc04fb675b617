"""Moving strips of elements between a kernel's tile and any layout: the slow way out, used where shapes do not agree.

A tile is a run of flat positions of a plane with rows `pitch` apart; only the first `width` columns of a row are elements.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from typing import NamedTuple

import numpy as np

from meshd.kernels.jit import F4, INT, U1, U8, jit, numba, record
from meshd.kernels.layout import Bits, OctetPlanes, Octets, Planes
from meshd.kernels.simd import (
    bit_or,
    convert,
    less,
    load_alternate,
    load_first,
    scatter,
    select,
    shift_left,
    splat,
    store_first,
)


class Place(NamedTuple):
    """A layout as numbers; `step` is what divides rows and columns into phases."""

    size: int
    plane: int
    phase: int
    pitch: int
    top: int
    left: int
    sh: int
    sw: int
    words: int
    channels: int
    height: int
    width: int


def place(layout: Planes | Bits | Octets | OctetPlanes | None) -> Place:
    """The numbers of a layout; all zero for none."""
    if layout is None:
        return Place(*[0] * 12)
    shape = (layout.channels, layout.height, layout.width)
    if isinstance(layout, Bits):
        return Place(layout.size, 0, 0, layout.pitch, layout.top, layout.left, 1, 1, layout.words, *shape)
    if isinstance(layout, Octets):
        return Place(layout.size, 0, 0, layout.pitch, layout.top, layout.left, 1, 1, layout.stride, *shape)
    if isinstance(layout, OctetPlanes):
        return Place(layout.size, layout.height * layout.width, 0, layout.width, 0, 0, 1, 1, 0, *shape)
    sh, sw = layout.strides
    return Place(layout.size, layout.plane, layout.phase, layout.pitch, layout.top, layout.left, sh, sw, 0, *shape)


PLACE = record(Place)
PLACE_FIELDS = len(Place._fields)
"""NB a kernel that Python calls takes its numbers as one array: taking a record apart costs a microsecond, an array 0.07."""


@jit(PLACE, INT, INT, result=INT, inner=True)
def row_start(p, i, j):
    """Index of element (0, i, j)."""
    u, v = i + p.top, j + p.left
    if p.sh <= 2 and p.sw <= 2:
        # Masks and shifts: four divisions took longer than a row of elements.
        a, b = p.sh - 1, p.sw - 1
        return ((u & a) * p.sw + (v & b)) * p.phase + (u >> a) * p.pitch + (v >> b)
    return ((u % p.sh) * p.sw + v % p.sw) * p.phase + (u // p.sh) * p.pitch + v // p.sw


@jit(F4, INT, F4, INT, INT, inner=True)
def copy_run(x, source, out, target, count):
    """`count` consecutive floats."""
    for c in range(0, count, 16):
        n = min(16, count - c)
        store_first(out, target + c, 0, n, load_first(1, 16, x, source + c, 0, n))


@jit(F4, INT, INT, numba.types.float32, inner=True)
def fill_run(out, target, end, fill):
    """`fill` into `[target, end)`."""
    value = splat(1, 16, fill)
    for c in range(target, end, 16):
        store_first(out, c, 0, min(16, end - c), value)


@jit(F4, INT, F4, INT, INT, PLACE, INT, INT, inner=True)
def scatter_run(x, source, out, base, count, p, i, j):
    """`count` consecutive floats to row i from column j of the channel at `base`, whose columns are in `p.sw` phases."""
    if p.sw == 2:
        # NB no division: one takes as long as a whole store.
        target = base + row_start(p, i, j)
        for part in range(min(2, count)):
            run = (count - part + 1) >> 1
            for c in range(0, run, 16):
                n = min(16, run - c)
                store_first(out, target + c, 0, n, load_alternate(16, x, source + part + 2 * c, n))
            target += 1 - p.phase if (j + p.left) & 1 else p.phase
        return
    for part in range(min(p.sw, count)):
        target = base + row_start(p, i, j + part)
        run = (count - part + p.sw - 1) // p.sw
        for c in range(run):
            out[target + c] = x[source + part + c * p.sw]


@jit(F4, INT, INT, INT, INT, INT, F4, INT, PLACE, inner=True)
def put_strip(tile, t0, first, count, pitch, width, out, base, p):
    """Copy positions `[first, first + count)`, held from `tile[t0]`, to one channel of a layout that begins at `base`."""
    q, end = first, first + count
    while q < end:
        i, j = q // pitch, q % pitch
        n = min(width - j, end - q)
        source = t0 + q - first
        if n > 0:
            if p.sw == 1:
                copy_run(tile, source, out, base + row_start(p, i, j), n)
            else:
                scatter_run(tile, source, out, base, n, p, i, j)
        q += pitch - j


@jit(F4, INT, PLACE, F4, INT, INT, INT, INT, INT, inner=True)
def get_strip(x, base, p, tile, t0, first, count, pitch, width):
    """The inverse of `put_strip`; positions that are no elements keep what the tile held."""
    q, end = first, first + count
    while q < end:
        i, j = q // pitch, q % pitch
        n = min(width - j, end - q)
        target = t0 + q - first
        if p.sw == 1:
            copy_run(x, base + row_start(p, i, j), tile, target, n)
        else:
            for c in range(n):
                tile[target + c] = x[base + row_start(p, i, j + c)]
        q += pitch - j


@jit(F4, INT, INT, PLACE, numba.types.float32, INT, inner=True)
def fill_pads(out, base, channels, p, fill, inner):
    """Write `fill` between the elements of an image at `base`.

    With `inner` > 0 only before the first element and after the next `inner` positions of each plane: what a kernel that
    stores whole positions, garbage columns included, leaves over.
    """
    if inner > 0:
        lead = p.top * p.pitch + p.left
        for c in range(channels):
            start = base + c * p.plane
            fill_run(out, start, start + lead, fill)
            fill_run(out, start + lead + inner, start + p.plane, fill)
        return
    if p.plane == p.height * p.width:
        return
    rows = p.phase // p.pitch
    for c in range(channels):
        for a in range(p.sh):
            for b in range(p.sw):
                start = base + c * p.plane + (a * p.sw + b) * p.phase
                left = (p.left - b + p.sw - 1) // p.sw
                right = (p.left + p.width - b + p.sw - 1) // p.sw
                for r in range(rows):
                    i = r * p.sh + a - p.top
                    line = start + r * p.pitch
                    if i < 0 or i >= p.height:
                        fill_run(out, line, line + p.pitch, fill)
                    else:
                        fill_run(out, line, line + left, fill)
                        fill_run(out, line + right, line + p.pitch, fill)
                fill_run(out, start + rows * p.pitch, start + p.phase, fill)
        fill_run(out, base + c * p.plane + p.sh * p.sw * p.phase, base + (c + 1) * p.plane, fill)


@jit(U8, INT, PLACE, INT, inner=True)
def clear_pads(out, base, p, bottom):
    """Write zero words between the positions of an image of bits at `base`."""
    w = p.words
    for r in range(p.top + p.height + bottom):
        line = base + r * p.pitch * w
        if r < p.top or r >= p.top + p.height:
            out[line : line + p.pitch * w] = 0
        else:
            out[line : line + p.left * w] = 0
            out[line + (p.left + p.width) * w : line + p.pitch * w] = 0


@jit(U1, INT, PLACE, INT, INT, inner=True)
def fill_octets(out, base, p, bottom, zero):
    """Write the zero point between the positions of an image of octets at `base`, and after each one's last channel."""
    s = p.words
    octet = np.uint8(zero)
    for r in range(p.top + p.height + bottom):
        line = base + r * p.pitch * s
        if r < p.top or r >= p.top + p.height:
            out[line : line + p.pitch * s] = octet
        else:
            out[line : line + p.left * s] = octet
            out[line + (p.left + p.width) * s : line + p.pitch * s] = octet
            if s > p.channels:
                for j in range(p.width):
                    start = line + (p.left + j) * s
                    out[start + p.channels : start + s] = octet


@jit(F4, INT, INT, INT, INT, U8, INT, INT, inner=True)
def pack_strip(x, start, stride, channels, count, out, target, words):
    """Signs of `count` positions, `channels` (at most 64) of them `stride` apart, as words `words` apart from `target`."""
    zero, none = splat(1, 16, np.float32(0)), splat(1, 16, np.uint32(0))
    for q in range(0, count, 16):
        n = min(16, count - q)
        low, high = none, none
        for c in range(min(channels, 32)):
            x0 = load_first(1, 16, x, start + c * stride + q, 0, n)
            low = bit_or(low, select(less(x0, zero), splat(1, 16, np.uint32(1 << c)), none))
        for c in range(32, channels):
            x0 = load_first(1, 16, x, start + c * stride + q, 0, n)
            high = bit_or(high, select(less(x0, zero), splat(1, 16, np.uint32(1 << (c - 32))), none))
        word = bit_or(convert(np.uint64(0), low), shift_left(convert(np.uint64(0), high), splat(1, 16, np.uint64(32))))
        if words == 1:
            store_first(out, target + q, 0, n, word)
        else:
            scatter(out, target + q * words, words, n, word)

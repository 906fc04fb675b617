"""Quantised bytes on the move: between the graph's order and channels side by side, to floats and back, pooled, added.

A row of positions is one run of bytes in every `Octets` of the same channels, whatever its pads.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels.jit import F4, FLOAT, INT, U1, late, record
from meshd.kernels.kernel import INFINITY, Flat, Kernel
from meshd.kernels.layout import Layout, OctetPlanes, Octets, Planes
from meshd.kernels.pooling import POOLING, Pooling
from meshd.kernels.simd import (
    add,
    convert,
    div,
    load,
    load_first,
    maximum,
    minimum,
    mul,
    rint,
    splat,
    store,
    store_first,
    sub,
)  # fmt: skip
from meshd.kernels.strips import PLACE, fill_octets, fill_pads, place, row_start


class Lie(NamedTuple):
    """Where byte (channel, row, column) of an image lies: `base` and a stride each. `zero` is the byte of 0.0."""

    size: int
    base: int
    channel: int
    row: int
    column: int
    zero: int
    bottom: int


LIE = record(Lie)


def lie(layout: Octets | OctetPlanes) -> Lie:
    """The numbers of a layout. NB int8 is moved as it is stored: its zero point modulo 256."""
    if isinstance(layout, OctetPlanes):
        plane = layout.height * layout.width
        return Lie(layout.size, 0, plane, layout.width, 1, layout.zero_point % 256, 0)
    s = layout.stride
    base = (layout.top * layout.pitch + layout.left) * s
    return Lie(layout.size, base, 1, layout.pitch * s, s, layout.zero, layout.bottom)


def _flip(layout: Octets | OctetPlanes) -> int:
    """What makes a stored byte the unsigned one of `Octets`."""
    return 128 if isinstance(layout, OctetPlanes) and layout.signed else 0


@late(U1, U1, LIE, LIE, PLACE, INT, INT, INT)
def move(x, out, come, to, p, flip, first, last):
    """Rows `[first, last)` of all images' rows; `p` is the place of the target where that is `Octets`."""
    other = np.uint8(flip)
    for tile in range(first, last):
        image, i = tile // p.height, tile % p.height
        if i == 0 and p.words > 0:
            fill_octets(out, image * to.size, p, to.bottom, to.zero)
        source = image * come.size + come.base + i * come.row
        target = image * to.size + to.base + i * to.row
        if to.channel == 1:
            for j in range(p.width):
                a, b = source + j * come.column, target + j * to.column
                for c in range(p.channels):
                    out[b + c] = x[a + c * come.channel] ^ other
        else:
            for c in range(p.channels):
                a, b = source + c * come.channel, target + c * to.channel
                for j in range(p.width):
                    out[b + j] = x[a + j * come.column] ^ other


@late(F4, U1, FLOAT, FLOAT, FLOAT, FLOAT, INT, PLACE, INT, INT)
def quantise_planes(x, out, scale, zero, low, high, flip, come, first, last):
    """Channels `[first, last)` of all images' channels to the graph's order, as ONNX QuantizeLinear; NaN to zero.

    `low` and `high` are steps from zero; the byte is the step plus `zero`, all unsigned, then flipped.
    """
    other = np.uint8(flip)
    for tile in range(first, last):
        image, c = tile // come.channels, tile % come.channels
        for i in range(come.height):
            source = image * come.size + c * come.plane
            target = (tile * come.height + i) * come.width
            start = source + row_start(come, i, 0)
            for j in range(come.width):
                v = x[start + j] if come.sw == 1 else x[source + row_start(come, i, j)]
                t = np.rint(v / scale)
                t = np.float32(0) if np.isnan(t) else t
                t = t if t > low else low
                t = high if t > high else t
                out[target + j] = np.uint8(np.int32(t + zero)) ^ other


@late(U1, F4, FLOAT, FLOAT, FLOAT, INT, PLACE, INT, INT)
def dequantise_planes(x, out, scale, zero, fill, flip, to, first, last):
    """Channels `[first, last)` of all images' channels, from the graph's order."""
    other = np.uint8(flip)
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        if c == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        for i in range(to.height):
            target = image * to.size + c * to.plane
            source = (tile * to.height + i) * to.width
            start = target + row_start(to, i, 0)
            for j in range(to.width):
                v = (np.float32(x[source + j] ^ other) - zero) * scale
                if to.sw == 1:
                    out[start + j] = v
                else:
                    out[target + row_start(to, i, j)] = v


@late(U1, U1, POOLING, LIE, LIE, PLACE, PLACE, INT, INT)
def pool_octets(x, out, w, come, to, source, target, first, last):
    """Rows `[first, last)` of all images' rows: the greatest byte of each window; a pad is never read."""
    for tile in range(first, last):
        image, i = tile // target.height, tile % target.height
        if i == 0:
            fill_octets(out, image * to.size, target, to.bottom, to.zero)
        for j in range(target.width):
            b = image * to.size + to.base + i * to.row + j * to.column
            for c in range(0, target.channels, 32):
                n = min(32, target.channels - c)
                greatest = splat(1, 32, np.uint8(0))
                for ky in range(w.kh):
                    y = i * w.sh - w.top + ky * w.dh
                    for kx in range(w.kw):
                        v = j * w.sw - w.left + kx * w.dw
                        if 0 <= y < source.height and 0 <= v < source.width:
                            a = image * come.size + come.base + y * come.row + v * come.column + c
                            if n == 32:
                                greatest = maximum(greatest, load(32, x, a))
                            else:
                                greatest = maximum(greatest, load_first(1, 32, x, a, 0, n))
                if n == 32:
                    store(out, b + c, greatest)
                else:
                    store_first(out, b + c, 0, n, greatest)


@late(U1, U1, U1, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, LIE, LIE, LIE, PLACE, INT, INT)
def add_octets(x, y, out, x_scale, y_scale, scale, low, high, come, also, to, p, first, last):
    """Rows `[first, last)` of all images' rows: two dequantised, added, clipped to `[low, high]`, quantised."""
    x_zero, y_zero, zero = np.float32(come.zero), np.float32(also.zero), np.float32(to.zero)
    least, most = -zero, np.float32(255) - zero
    for tile in range(first, last):
        image, i = tile // p.height, tile % p.height
        if i == 0:
            fill_octets(out, image * to.size, p, to.bottom, to.zero)
        a = image * come.size + come.base + i * come.row
        b = image * also.size + also.base + i * also.row
        c = image * to.size + to.base + i * to.row
        count = p.width * p.words
        for k in range(0, count, 16):
            n = min(16, count - k)
            left, right = load_first(1, 16, x, a + k, 0, n), load_first(1, 16, y, b + k, 0, n)
            one = mul(
                sub(convert(np.float32(0), convert(np.int32(0), left)), splat(1, 16, x_zero)), splat(1, 16, x_scale)
            )
            two = mul(
                sub(convert(np.float32(0), convert(np.int32(0), right)), splat(1, 16, y_zero)), splat(1, 16, y_scale)
            )
            value = minimum(maximum(add(one, two), splat(1, 16, low)), splat(1, 16, high))
            steps = rint(div(value, splat(1, 16, scale)))
            steps = minimum(maximum(steps, splat(1, 16, least)), splat(1, 16, most))
            whole = convert(np.int32(0), add(steps, splat(1, 16, zero)))
            store_first(out, c + k, 0, n, convert(np.uint8(0), whole))


def converter(source: Layout, to: Layout) -> tuple[Any, tuple[Any, ...]]:
    """(kernel, its numbers) of a conversion with `OctetPlanes` on a side, or between two kinds of bytes; bytes as uint8.

    Between bytes nothing is rescaled: a scale says what a byte means, not what it is.
    """
    if isinstance(source, Planes):
        assert isinstance(to, OctetPlanes)
        zero = to.zero_point + _flip(to)
        return quantise_planes(), (to.scale, zero, -zero, 255 - zero, _flip(to), place(source))
    if isinstance(to, Planes):
        assert isinstance(source, OctetPlanes)
        zero = source.zero_point + _flip(source)
        return dequantise_planes(), (source.scale, zero, to.fill, _flip(source), place(to))
    assert isinstance(source, Octets | OctetPlanes)
    assert isinstance(to, Octets | OctetPlanes)
    return move(), (lie(source), lie(to), place(to), _flip(source) ^ _flip(to))


@late(U1, U1, U1, LIE, LIE, PLACE, INT, INT)
def look_up(x, out, table, come, to, p, first, last):
    """Rows `[first, last)` of all images' rows: each byte by the table."""
    for tile in range(first, last):
        image, i = tile // p.height, tile % p.height
        if i == 0:
            fill_octets(out, image * to.size, p, to.bottom, to.zero)
        a = image * come.size + come.base + i * come.row
        b = image * to.size + to.base + i * to.row
        for _ in range(p.width):
            for c in range(p.channels):
                out[b + c] = table[x[a + c]]
            a += come.column
            b += to.column


@dataclass(eq=False)
class OctetKernel(Kernel):
    """A kernel of bytes alone. Its numbers are settled with its layouts, at its first run."""

    _settled: tuple[Any, tuple[Any, ...]] | None = field(default=None, init=False, repr=False)

    def settle(self, source: Octets, to: Octets) -> tuple[Any, tuple[Any, ...]]:
        """(compiled loop, what it takes between its arrays and its tiles)."""
        raise NotImplementedError

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`."""
        super().write_to(output, residual)
        self._settled = None

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times rows."""
        return rows * self.output_layout.height

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        if self._settled is None:
            source, to = self.input_layout, self.output_layout
            assert isinstance(source, Octets)
            assert isinstance(to, Octets)
            self._settled = self.settle(source, to)
        loop, numbers = self._settled
        if residual is None:
            loop(x, out, *numbers, first, last)
        else:
            loop(x, residual, out, *numbers, first, last)


@dataclass(eq=False)
class OctetPool(OctetKernel):
    """Max pooling of quantised bytes: exact, for a greater byte is a greater value."""

    pooling: Pooling = field(default_factory=lambda: Pooling(0, 1, 1, 1, 1, 1, 1, 0, 0, 0))

    def settle(self, source: Octets, to: Octets) -> tuple[Any, tuple[Any, ...]]:
        """See `OctetKernel.settle`."""
        return pool_octets(), (self.pooling, lie(source), lie(to), place(source), place(to))


@dataclass(eq=False)
class OctetSum(OctetKernel):
    """The sum of two quantised tensors (the other one is the residual), clipped, quantised again."""

    low: float = -INFINITY
    high: float = INFINITY

    def settle(self, source: Octets, to: Octets) -> tuple[Any, tuple[Any, ...]]:
        """See `OctetKernel.settle`."""
        other = self.residual_layout
        assert isinstance(other, Octets)
        scales = source.scale, other.scale, to.scale
        return add_octets(), (*scales, self.low, self.high, lie(source), lie(other), lie(to), place(to))


@dataclass(eq=False)
class Lookup(OctetKernel):
    """A function of one byte, by its table."""

    table: Any = None

    def settle(self, source: Octets, to: Octets) -> tuple[Any, tuple[Any, ...]]:
        """See `OctetKernel.settle`."""
        return look_up(), (self.table, lie(source), lie(to), place(to))

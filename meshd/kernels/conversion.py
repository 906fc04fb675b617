"""From one layout to another: copies between planes, signs of floats as bits, bits as floats of 1 and -1."""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass

import numpy as np

from meshd.kernels.jit import F4, INT, U1, U8, jit, numba
from meshd.kernels.kernel import Flat, Kernel
from meshd.kernels.layout import Bits, Octets, Planes
from meshd.kernels.strips import PLACE, clear_pads, fill_octets, fill_pads, pack_strip, place, row_start


@jit(F4, F4, numba.types.float32, PLACE, PLACE, INT, INT)
def copy_planes(x, out, fill, come, to, first, last):
    """Channels `[first, last)` of all images' channels."""
    flat = come.plane == to.plane == come.height * come.width and come.sh * come.sw * to.sh * to.sw == 1
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        source, target = image * come.size + c * come.plane, image * to.size + c * to.plane
        if flat:
            for i in range(to.plane):
                out[target + i] = x[source + i]
            continue
        if c == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        for i in range(to.height):
            if come.sw == 1 and to.sw == 1:
                a, b = source + row_start(come, i, 0), target + row_start(to, i, 0)
                for j in range(to.width):
                    out[b + j] = x[a + j]
            elif come.sw == 1 and to.sw == 2:
                a = source + row_start(come, i, 0)
                # Every other element goes to the same phase.
                for half in range(min(2, to.width)):
                    b = target + row_start(to, i, half)
                    for j in range((to.width - half + 1) // 2):
                        out[b + j] = x[a + half + 2 * j]
            else:
                for j in range(to.width):
                    out[target + row_start(to, i, j)] = x[source + row_start(come, i, j)]


@jit(F4, U8, PLACE, PLACE, INT, INT, INT)
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


@jit(F4, U8, PLACE, PLACE, INT, INT)
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


@jit(U8, F4, numba.types.float32, PLACE, PLACE, INT, INT)
def unpack_bits(x, out, fill, come, to, first, last):
    """Channels `[first, last)` of all images' channels."""
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        if c == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        shift = np.uint64(c % 64)
        for i in range(to.height):
            source = image * come.size + row_start(come, i, 0) * come.words + c // 64
            for j in range(to.width):
                bit = (x[source + j * come.words] >> shift) & np.uint64(1)
                out[image * to.size + c * to.plane + row_start(to, i, j)] = np.float32(1) - np.float32(2) * np.float32(
                    bit
                )


@jit(U8, U8, PLACE, PLACE, INT, INT, INT)
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


@jit(F4, U1, numba.types.float32, PLACE, PLACE, INT, INT, INT, INT)
def quantise(x, out, scale, come, to, bottom, zero, first, last):
    """Rows `[first, last)` of all images' rows, as ONNX QuantizeLinear: nearest, ties to even, saturated; NaN to zero."""
    for tile in range(first, last):
        image, i = tile // to.height, tile % to.height
        if i == 0:
            fill_octets(out, image * to.size, to, bottom, zero)
        target = image * to.size + row_start(to, i, 0) * to.words
        for c in range(to.channels):
            source = image * come.size + c * come.plane
            for j in range(to.width):
                q = np.rint(x[source + row_start(come, i, j)] / scale)
                q = min(max(q, np.float32(-zero)), np.float32(255 - zero)) if q == q else np.float32(0)  # noqa: PLR0124
                out[target + j * to.words + c] = np.uint8(np.int32(q) + zero)


@jit(U1, F4, numba.types.float32, numba.types.float32, PLACE, PLACE, INT, INT, INT)
def dequantise(x, out, fill, scale, come, to, zero, first, last):
    """Channels `[first, last)` of all images' channels."""
    for tile in range(first, last):
        image, c = tile // to.channels, tile % to.channels
        if c == 0:
            fill_pads(out, image * to.size, to.channels, to, fill, 0)
        for i in range(to.height):
            source = image * come.size + row_start(come, i, 0) * come.words + c
            target = image * to.size + c * to.plane
            for j in range(to.width):
                out[target + row_start(to, i, j)] = np.float32(np.int32(x[source + j * come.words]) - zero) * scale


@dataclass(eq=False)
class Conversion(Kernel):
    """A copy from `input_layout` to `output_layout`."""

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times channels, to bits images times rows."""
        to = self.output_layout
        return rows * (to.channels if isinstance(to, Planes) else to.height)

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        source, target = self.input_layout, self.output_layout
        come, to = place(source), place(target)
        if isinstance(target, Planes):
            if isinstance(source, Planes):
                copy_planes(x, out, target.fill, come, to, first, last)
            elif isinstance(source, Octets):
                dequantise(x, out, target.fill, source.scale, come, to, source.zero, first, last)
            else:
                unpack_bits(x, out, target.fill, come, to, first, last)
        elif isinstance(target, Octets):
            quantise(x, out, target.scale, come, to, target.bottom, target.zero, first, last)
        elif isinstance(source, Bits):
            copy_bits(x, out, come, to, target.bottom, first, last)
        elif isinstance(source, Planes) and source.plane == 1 and target.size == target.words:
            pack_rows(x, out, come, to, first, last)
        else:
            pack_planes(x, out, come, to, target.bottom, first, last)

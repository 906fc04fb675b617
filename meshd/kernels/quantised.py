"""The door to what is done to quantised bytes without multiplying: pooling, adding, functions of one element.

See `registry` for layers and conversions.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError
from meshd.kernels import reference
from meshd.kernels.fallback import ReferenceKernel
from meshd.kernels.kernel import INFINITY, Kernel, Tail
from meshd.kernels.layout import Floats, Octets
from meshd.kernels.reference import Pads, Pair, output_size
from meshd.kernels.registry import NO_PADS, ONE, compiled


def pool_octets(
    source: Octets, kernel: Pair, *, strides: Pair = ONE, pads: Pads = NO_PADS, dilations: Pair = ONE
) -> Kernel:
    """Max pooling of `source`; writes `Octets` with any pads, of the same scale and zero point. Exact.

    Raises
    ------
    MisuseError
        If a window does not fit.
    """
    source = replace(source, scale=1.0)
    oh = output_size(source.height, kernel[0], strides[0], pads[0], pads[2], dilations[0])
    ow = output_size(source.width, kernel[1], strides[1], pads[1], pads[3], dilations[1])
    if min(oh, ow) < 1:
        raise MisuseError(
            f"kernel {kernel} does not fit into height {source.height}, width {source.width}, pads {pads}"
        )
    to = replace(source, height=oh, width=ow, top=0, left=0, bottom=0, pitch=ow)
    if compiled():
        from meshd.kernels.octets import OctetPool
        from meshd.kernels.pooling import Pooling

        pooling = Pooling(0, *kernel, *strides, *dilations, pads[0], pads[1], 0)
        return OctetPool("other.pool.octets", "other", source, to, numeric="exact", pooling=pooling)

    def compute(x: Floats) -> Floats:
        return reference.pool_max(x, kernel, strides, pads, dilations)

    return ReferenceKernel("other.pool.octets", "other", source, to, compute=compute)


def add_octets(a: Octets, b: Octets, to: Octets, low: float = -INFINITY, high: float = INFINITY) -> Kernel:
    """`a + b` in real values (b is the residual of `run`), clipped to `[low, high]`, quantised as `to`; any pads."""
    shapes = {(o.channels, o.height, o.width) for o in (a, b, to)}
    if len(shapes) != 1 or not low <= high:
        raise MisuseError(f"{a} and {b} do not add up to {to}, clipped to {low} and {high}")
    if compiled():
        from meshd.kernels.octets import OctetSum

        return OctetSum("other.add.octets", "other", a, to, b, numeric="fma", low=low, high=high)
    tail = Tail(residual=True, low=low, high=high)
    return ReferenceKernel("other.add.octets", "other", a, to, b, compute=lambda x: x, tail=tail)


def look_up(source: Octets, to: Octets, table: NDArray[np.uint8]) -> Kernel:
    """A function of one element, by its table: `table[b]` is the byte written where `source` holds b, both unsigned.

    Raises
    ------
    MisuseError
        If the shapes differ, or the table is not 256 bytes.
    """
    if (source.channels, source.height, source.width) != (to.channels, to.height, to.width):
        raise MisuseError(f"{source} and {to} differ in shape")
    if table.shape != (256,) or table.dtype != np.uint8:
        raise MisuseError(f"table is {table.dtype} {table.shape}: it must be 256 bytes")
    if compiled():
        from meshd.kernels.octets import Lookup

        return Lookup("other.look_up", "other", source, to, numeric="exact", table=np.array(table))

    def compute(x: Floats) -> Floats:
        steps = table[np.rint(x / np.float32(source.scale)).astype(np.int32) + source.zero].astype(np.int32)
        real: Floats = (steps - to.zero).astype(np.float32) * np.float32(to.scale)
        return real

    return ReferenceKernel("other.look_up", "other", source, to, compute=compute)

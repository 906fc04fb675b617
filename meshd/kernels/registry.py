"""The door to the kernels: (operation, weights, shape) → a packed kernel, the fastest that applies on this machine.

The contract with the engine
----------------------------
1. At load, ask for a kernel of each weighted operation: `convolution`, `product`, `pool`, `convert`. Each checks its
   arguments, chooses a family, packs weights, compiles what is not compiled yet, and returns a `kernel.Kernel`.
2. A kernel says which layout it reads (`input_layout`) and which it would write (`output_layout`). Tell a kernel to write
   what its only reader wants with `write_to(reader.input_layout)`; with several readers that differ, put a `convert` before
   the others. Every kernel here writes any `Planes` of its shape (or any `Bits`, where its tail says bits), so a
   `convert` is only needed between floats and bits, or for a second reader. Cheapest is when `output_layout.pitch` is the
   kernel's own: neighbouring 3x3 and 1x1 convolutions agree on it if you pass the same `pitch` to both.
3. Plan one arena: `rows * layout.size + layout.slack` elements of `layout.dtype` for each tensor, 64-byte aligned slices;
   nothing must be zeroed beforehand: a kernel writes the whole of its output, pads included.
4. Per request: `kernel.run(x, out, residual, scratch, rows, first, last)` over tiles, on as many threads as pay.
   No kernel allocates. Arrays are flat, writable and C-order; a read-only array is refused.

Binary layers: `product` and `convolution` with `signs=True` read `Bits` (the sign of their input, packed) and take weights
of which only the sign counts. `Tail(bits=True)` makes any kernel write `Bits`, so binary layers pass bits on. Flatten
followed by a binary product is `convolution` with the weight as (outputs, channels, height, width): on bits no Flatten exists.

Numeric classes: `Kernel.numeric`. All `fma` kernels give the same bits on every machine, whatever tile, thread or layout.
"""

import os
import warnings
from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError
from meshd.kernels import reference
from meshd.kernels.fallback import ReferenceKernel
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Bits, Floats, Layout, OctetPlanes, Octets, Planes, Weights
from meshd.kernels.reference import Pads, Pair, output_size

NO_PADS: Pads = (0, 0, 0, 0)
ONE: Pair = (1, 1)
STORAGES = ("float32", "float16", "int8")
Whole = NDArray[np.int8] | NDArray[np.int16]
"""Weights in steps."""


def compiled() -> bool:
    """Whether compiled kernels serve: Numba imports, and MESHD_NUMBA is not 0."""
    return os.environ.get("MESHD_NUMBA", "1") != "0" and _numba_imports()


@cache
def _numba_imports() -> bool:
    try:
        from meshd.kernels import jit
    except ImportError as error:
        warnings.warn(f"no Numba ({error}): NumPy computes, many times slower", RuntimeWarning, stacklevel=3)
        return False
    return bool(jit.numba)


def convolution(
    weight: Weights,
    height: int,
    width: int,
    *,
    strides: Pair = ONE,
    pads: Pads = NO_PADS,
    dilations: Pair = ONE,
    groups: int = 1,
    tail: Tail | None = None,
    signs: bool = False,
    pad_sign: Literal[0, 1] = 0,
    structure: str = "",
    pitch: int = 0,
    source: Layout | None = None,
) -> Kernel:
    """A convolution over images of `height` x `width`.

    Parameters
    ----------
    weight : (outputs, channels / groups, kernel height, kernel width), float32; float16, and stored so; or int8, of which
        `tail.scale` makes real values. NB int8 here meets floats; quantised images meet it in `convolution_int8`
    strides, dilations : vertical, horizontal
    pads : top, left, bottom, right
    tail : see `kernel.Tail`; the residual has the output's shape
    signs : read `Bits`; only the weights' signs count (negative is -1, everything else +1)
    pad_sign : what a binary layer's pads count as: 0 (as ONNX) or +1; other layers pad with 0
    structure : what the importer found (`graph.Weight.structure`), a hint; zeros are looked for anyway
    pitch : elements between rows of input and output planes, where the caller wants more than needed; 0 for least
    source : a layout in which the input lies anyway (another reader asked for it): read if it has the pads needed, else ignored

    Raises
    ------
    MisuseError
        Naming the argument: wrong rank, dtype, group or tail, not finite, empty, or a window larger than the padded image.
    """
    tail = _checked_tail(tail, weight, 4)
    outputs, inner, kh, kw = weight.shape
    oh, ow = _check_window(weight, height, width, strides, pads, dilations, groups)
    channels = inner * groups
    if compiled() and not signs:
        from meshd.kernels import convolution as convolutions

        window = convolutions.Window(height, width, (kh, kw), strides, pads, dilations, groups)
        return convolutions.pack(weight, window, tail, pitch, source if isinstance(source, Planes) else None)
    name = f"conv{kh}x{kw}"
    if signs:
        _straight(tail)
        weight = _signs(weight)
        bits = padded_bits(channels, height, width, pads)
        if isinstance(source, Bits) and _pads_suffice(source, height, width, pads):
            bits = source
        read: Layout = bits
        if compiled():
            from meshd.kernels import binary_layer
            from meshd.kernels import convolution as convolutions

            window = convolutions.Window(height, width, (kh, kw), strides, pads, dilations, groups)
            return binary_layer.pack_convolution(weight, window, tail, pad_sign, bits)
    else:
        read = Planes.plain(channels, height, width)
    fill = float(pad_sign) if signs else 0.0
    weight = weight.astype(np.float32)
    return ReferenceKernel(
        f"{'binary' if signs else 'dense'}.{name}.reference",
        "binary" if signs else "dense",
        read,
        Bits(outputs, oh, ow, pitch=ow) if tail.bits else Planes.plain(outputs, oh, ow),
        Planes.plain(outputs, oh, ow) if tail.residual else None,
        macs=int(np.count_nonzero(weight)) * oh * ow,
        resident_bytes=weight.nbytes,
        compute=lambda x: reference.convolution(x, weight, strides, pads, dilations, groups, fill),
        tail=tail,
    )


def product(weight: Weights, *, tail: Tail | None = None, signs: bool = False, structure: str = "") -> Kernel:
    """Rows of k times the transpose of `weight`, i.e. Gemm with transB, or MatMul with a constant, transposed.

    Parameters
    ----------
    weight : (outputs, k), of a type as in `convolution`
    tail, signs, structure : as in `convolution`

    Returns
    -------
    Kernel
        Reads `Planes.plain(k)` (or `Bits(k)`), writes `Planes.plain(outputs)` (or `Bits(outputs)`); `rows` of `run` are the
        matrix's rows.

    Raises
    ------
    MisuseError
        Naming the argument.
    """
    _straight(tail)
    tail = _checked_tail(tail, weight, 2)
    outputs, k = weight.shape
    if compiled() and not signs:
        from meshd.kernels import packing

        return packing.pack(weight, tail)
    if signs:
        weight = _signs(weight)
        if compiled():
            from meshd.kernels import binary_layer

            return binary_layer.pack_product(weight, tail)
    weight = weight.astype(np.float32)
    return ReferenceKernel(
        f"{'binary' if signs else 'dense'}.product.reference",
        "binary" if signs else "dense",
        Bits(k) if signs else Planes.plain(k),
        Bits(outputs) if tail.bits else Planes.plain(outputs),
        Planes.plain(outputs) if tail.residual else None,
        macs=int(np.count_nonzero(weight)),
        resident_bytes=weight.nbytes,
        compute=lambda x: reference.product(x.reshape(len(x), -1), weight)[:, :, None, None],
        tail=tail,
    )


def convolution_int8(
    weight: Whole,
    source: Octets,
    *,
    strides: Pair = ONE,
    pads: Pads = NO_PADS,
    dilations: Pair = ONE,
    groups: int = 1,
    tail: Tail | None = None,
    residual: Octets | None = None,
) -> Kernel:
    """A convolution of quantised images: `tail(sum((x - zero point) * w))`, exact up to the tail; writes floats or `Octets`.

    Parameters
    ----------
    weight : int8, (outputs, channels / groups, kernel height, kernel width), its zero point taken out; int16 from -255 to 255
        where that leaves more than 8 bits
    source : shape, scale and zero point of the input; pads as needed are in the kernel's `input_layout`
    tail : its scale must be input scale times weight scale, to make accumulators real values; no bits
    residual : what the tail adds, where that is quantised; None for floats

    Returns
    -------
    Kernel
        `output_layout` is `Planes`; `write_to(Octets(...))` makes it quantise. NB where groups are neither depthwise nor hold
        whole fours of inputs and whole tiles of outputs, a float kernel is returned: its `input_layout` and `output_layout` are
        `Planes`.

    Raises
    ------
    MisuseError
        Naming the argument.
    """
    tail = _checked_int8(tail, weight, 4)
    outputs, inner, kh, kw = weight.shape
    height, width = source.height, source.width
    floats = weight.astype(np.float32)
    _check_window(floats, height, width, strides, pads, dilations, groups)
    if source.channels != inner * groups:
        raise MisuseError(
            f"source has {source.channels} channels; weight {weight.shape} with {groups} groups needs {inner * groups}"
        )
    if groups > 1 and not int8_fits(weight, groups):
        scale = np.ones(outputs, np.float32) if tail.scale is None else tail.scale
        real = floats * (scale / np.float32(source.scale)).reshape(-1, 1, 1, 1)
        return convolution(
            real,
            height,
            width,
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=groups,
            tail=replace(tail, scale=None),
        )
    top, left, bottom, right = pads
    read = source
    if not _pads_suffice(source, height, width, pads):
        read = replace(source, top=top, left=left, bottom=bottom, pitch=left + width + right)
    oh = output_size(height, kh, strides[0], top, bottom, dilations[0])
    ow = output_size(width, kw, strides[1], left, right, dilations[1])
    plain = Planes.plain(outputs, oh, ow)
    added = (residual or plain) if tail.residual else None
    if compiled():
        from meshd.kernels import convolution as convolutions
        from meshd.kernels.int8_layer import Int8Layer, is_depthwise

        window = convolutions.Window(height, width, (kh, kw), strides, pads, dilations, groups)
        kind = "depthwise" if is_depthwise(weight, groups) else "conv"
        return Int8Layer(
            f"int8.{kind}{kh}x{kw}", "int8", read, plain, added, numeric="exact", macs=weight.size * oh * ow,
            weight=weight, window=window, tail=tail,
        )  # fmt: skip

    def compute(x: Floats) -> Floats:
        whole = np.rint(x / np.float32(source.scale)).astype(np.float64)
        return reference.convolution(whole, floats.astype(np.float64), strides, pads, dilations, groups)

    return ReferenceKernel(
        f"int8.conv{kh}x{kw}.reference", "int8", read, plain, added, macs=weight.size * oh * ow,
        resident_bytes=weight.nbytes, also_writes=(Octets,), compute=compute, tail=tail,
    )  # fmt: skip


def product_int8(weight: Whole, source: Octets, *, tail: Tail | None = None, residual: Octets | None = None) -> Kernel:
    """Quantised rows times the transpose of an int8 matrix (outputs, k); otherwise as `convolution_int8`."""
    tail = _checked_int8(tail, weight, 2)
    outputs, k = weight.shape
    if (source.channels, source.height, source.width) != (k, 1, 1) or source.size != source.stride:
        raise MisuseError(f"source must be Octets({k}) without pads for weight {weight.shape}; it is {source}")
    plain = Planes.plain(outputs)
    added = (residual or plain) if tail.residual else None
    if compiled():
        from meshd.kernels.int8_layer import Int8Layer

        return Int8Layer(
            "int8.product", "int8", source, plain, added, numeric="exact", macs=weight.size,
            weight=weight[:, :, None, None], tail=tail,
        )  # fmt: skip

    def compute(x: Floats) -> Floats:
        whole = np.rint(x.reshape(len(x), -1) / np.float32(source.scale)).astype(np.float64)
        return np.asarray(whole @ weight.T.astype(np.float64), np.float32)[:, :, None, None]

    return ReferenceKernel(
        "int8.product.reference", "int8", source, plain, added, macs=weight.size, resident_bytes=weight.nbytes,
        also_writes=(Octets,), compute=compute, tail=tail,
    )  # fmt: skip


def pool(
    kind: Literal["max", "average"],
    channels: int,
    height: int,
    width: int,
    kernel: Pair,
    *,
    strides: Pair = ONE,
    pads: Pads = NO_PADS,
    dilations: Pair = ONE,
    count_pads: bool = False,
    ceil: bool = False,
    bits: bool = False,
    source: Layout | None = None,
) -> Kernel:
    """Max or average pooling; on `Bits` (max only) with `bits`. Global pooling is a kernel of (height, width).

    Reads plain layouts, or `source`, any layout of the shape without phases.

    `count_pads` is ONNX's count_include_pad; `ceil` its ceil_mode (the window may hang over the end, what hangs over
    is not counted).

    Raises
    ------
    MisuseError
        Naming the argument.
    """
    if min(channels, height, width, *kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise MisuseError(
            f"pool: channels, sizes, kernel {kernel}, strides {strides} must be at least 1, pads {pads} at least 0"
        )
    if kind == "average" and (bits or dilations != ONE):
        raise MisuseError("pool: averages are of floats, without dilation")
    if ceil:
        pads, over = _hanging(height, width, kernel, strides, pads, dilations), pads
        if count_pads and pads != over:
            raise MisuseError(
                "pool: ceil together with count_pads is not offered where windows hang over; import it as a Pad"
            )
    oh = output_size(height, kernel[0], strides[0], pads[0], pads[2], dilations[0])
    ow = output_size(width, kernel[1], strides[1], pads[1], pads[3], dilations[1])
    if min(oh, ow) < 1:
        raise MisuseError(f"kernel {kernel} does not fit into height {height}, width {width}, pads {pads}")

    def compute(x: Floats) -> Floats:
        if kind == "max":
            return reference.pool_max(x, kernel, strides, pads, dilations)
        return reference.pool_average(x, kernel, strides, pads, count_pads)

    read: Layout = Bits(channels, height, width, pitch=width) if bits else Planes.plain(channels, height, width)
    if source is not None and type(source) is type(read) and not (isinstance(source, Planes) and source.strides != ONE):
        read = source
    write: Layout = Bits(channels, oh, ow, pitch=ow) if bits else Planes.plain(channels, oh, ow)
    if compiled():
        from meshd.kernels.pooling import Pool, Pooling

        pooling = Pooling(int(count_pads), *kernel, *strides, *dilations, pads[0], pads[1], 0)
        numeric = "exact" if bits else "fma"
        return Pool(
            f"other.pool.{kind}", "other", read, write, numeric=numeric, pooling=pooling, average=kind == "average"
        )
    return ReferenceKernel(f"other.pool.{kind}", "other", read, write, compute=compute)


def convert(source: Layout, target: Layout) -> Kernel:
    """Copy between layouts of one shape: plain to padded, floats to their signs (`Bits`), bits to floats of -1 and 1,
    floats quantised to `Octets` or `OctetPlanes` and back (ONNX QuantizeLinear, DequantizeLinear), bytes from one order to
    another (as they are: scales count for nothing then).

    Raises
    ------
    MisuseError
        If the shapes differ.
    """
    shapes = [(layout.channels, layout.height, layout.width) for layout in (source, target)]
    if shapes[0] != shapes[1]:
        raise MisuseError(f"source {shapes[0]} and target {shapes[1]}: a conversion keeps channels, height and width")
    kind = "sign" if isinstance(target, Bits) else "copy"
    phased = isinstance(source, Planes) and source.strides != ONE
    from_bytes, to_bytes = (isinstance(layout, Octets | OctetPlanes) for layout in (source, target))
    if (from_bytes or to_bytes) and any(isinstance(layout, Bits) for layout in (source, target)):
        raise MisuseError(f"source {source} and target {target}: octets are converted from and to floats only")
    if compiled() and not (phased and isinstance(target, Bits)):
        from meshd.kernels.conversion import Conversion

        return Conversion(f"other.convert.{kind}", "other", source, target, numeric="exact")
    if isinstance(source, Octets | OctetPlanes) and isinstance(target, Octets | OctetPlanes):
        source, target = replace(source, scale=1.0), replace(target, scale=1.0)
    also = (Octets, OctetPlanes) if to_bytes else ()
    return ReferenceKernel(f"other.convert.{kind}", "other", source, target, also_writes=also, compute=lambda x: x)


def padded_bits(channels: int, height: int, width: int, pads: Pads) -> Bits:
    """The `Bits` a binary convolution with these pads reads."""
    top, left, bottom, right = pads
    return Bits(channels, height, width, top, left, bottom, left + width + right)


def _check_window(
    weight: Weights, height: int, width: int, strides: Pair, pads: Pads, dilations: Pair, groups: int
) -> Pair:
    """The output's rows and columns, or MisuseError naming the argument that leaves none."""
    outputs, _, kh, kw = weight.shape
    if groups < 1 or outputs % groups:
        raise MisuseError(f"groups is {groups}: it must divide the {outputs} outputs of weight {weight.shape}")
    for name, pair in (("strides", strides), ("dilations", dilations)):
        if min(pair) < 1:
            raise MisuseError(f"{name} is {pair}: each must be at least 1")
    if min(pads) < 0 or min(height, width) < 1:
        raise MisuseError(f"pads {pads}, height {height}, width {width}: pads at least 0 and sizes at least 1")
    oh = output_size(height, kh, strides[0], pads[0], pads[2], dilations[0])
    ow = output_size(width, kw, strides[1], pads[1], pads[3], dilations[1])
    if min(oh, ow) < 1:
        raise MisuseError(
            f"weight {weight.shape} with dilations {dilations} does not fit into height {height}, width {width}, pads {pads}"
        )
    return oh, ow


def _checked_int8(tail: Tail | None, weight: Whole, rank: int) -> Tail:
    if weight.ndim != rank or weight.dtype not in (np.int8, np.int16) or weight.size == 0:
        raise MisuseError(
            f"weight is {weight.dtype} {weight.shape}: it must be int8 or int16, of rank {rank} and not empty"
        )
    if weight.dtype == np.int16 and np.abs(weight).max() > 255:
        raise MisuseError("weight holds more than a byte less a zero point: at most 255 either way")
    if tail is not None and tail.bits:
        raise MisuseError("tail.bits: an int8 layer writes floats or Octets; convert to Bits with registry.convert")
    return (tail or Tail()).checked(weight.shape[0])


def int8_fits(weight: Whole, groups: int) -> bool:
    """Whether bytes are multiplied as bytes with this grouping, on this machine."""
    if not compiled():
        return True
    from meshd.kernels import int8_layer

    return int8_layer.fits(weight, groups)


def _pads_suffice(source: Bits | Octets, height: int, width: int, pads: Pads) -> bool:
    top, left, bottom, right = pads
    return (
        (source.height, source.width) == (height, width)
        and source.top >= top
        and source.left >= left
        and source.bottom >= bottom
        and source.pitch >= source.left + width + right
    )


def _checked_tail(tail: Tail | None, weight: Weights, rank: int) -> Tail:
    if weight.ndim != rank or weight.dtype.name not in STORAGES or weight.size == 0:
        raise MisuseError(
            f"weight is {weight.dtype} {weight.shape}: it must be {' or '.join(STORAGES)}, of rank {rank} and not empty"
        )
    if not np.isfinite(weight).all():
        raise MisuseError("weight holds NaN or infinity")
    return (tail or Tail()).checked(weight.shape[0])


def _straight(tail: Tail | None) -> None:
    if tail is not None and tail.bend is not None:
        raise MisuseError(f"tail.bend: only float convolutions and int8 layers bend their outputs, {tail.bend}")


def _signs(weight: Weights) -> Floats:
    return np.where(weight < 0, np.float32(-1), np.float32(1))


def _hanging(height: int, width: int, kernel: Pair, strides: Pair, pads: Pads, dilations: Pair) -> Pads:
    """The pads with which floor division gives the count of windows that ceil division gives."""
    top, left, bottom, right = pads
    more = []
    for size, k, s, before, after, d in zip(
        (height, width), kernel, strides, (top, left), (bottom, right), dilations, strict=True
    ):
        span = d * (k - 1) + 1
        count = -(-(size + before + after - span) // s) + 1
        if (count - 1) * s >= size + before:
            count -= 1  # NB a window that would start in the far pad is not one.
        more.append(max(after, (count - 1) * s + span - size - before))
    return top, left, more[0], more[1]

"""The slow truth: every operation in plain NumPy on ordinary C-order arrays.

What the compiled kernels are tested against, and what serves where Numba is not. Integer results are the same bit for bit.
Float products go through NumPy's matmul, whose order of additions is BLAS's own: another numeric class, equal within 1e-5
of the sum of magnitudes.
"""

import numpy as np
from numpy.typing import NDArray

from meshd.kernels.kernel import Bend, Tail
from meshd.kernels.layout import Floats, Words

Ints = NDArray[np.int32]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right: ONNX's order."""


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Positions of a sliding window of `kernel` taps, `dilation` apart, over `size` and its pads."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def windows(
    images: Floats, kernel: Pair, strides: Pair, pads: Pads, dilations: Pair = (1, 1), fill: float = 0
) -> Floats:
    """What each position of a sliding window sees: a view (images, channels, out rows, out columns, ky, kx)."""
    top, left, bottom, right = pads
    padded = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return seen[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def apply_tail(accumulator: Floats, tail: Tail, residual: Floats | None = None, axis: int = 1) -> Floats:
    """Scale, bias, residual, bend, clip, in this order; outputs along `axis`. See `kernel.Tail`; `bits` is left to the layout."""
    column = [1] * accumulator.ndim
    column[axis] = -1
    out = np.asarray(accumulator, np.float32)
    if tail.scale is not None:
        out = out * tail.scale.reshape(column)
    if tail.bias is not None:
        out = out + tail.bias.reshape(column)
    if tail.residual:
        assert residual is not None, "a tail with a residual needs one"
        out = out + residual
    if tail.bend is not None:
        out = bent(out, tail.bend)
    return clip(out, tail.low, tail.high)


def bent(x: Floats, bend: Bend) -> Floats:
    """See `kernel.Bend`."""
    part = x * np.float32(bend.a)
    if bend.kind == "leaky":
        return np.where(x < part, part, x)
    part = clip(part + np.float32(bend.b), 0.0, 1.0)
    return x * part if bend.kind == "hard_swish" else part


def clip(x: Floats, low: float, high: float) -> Floats:
    """`low` where x < low, `high` where x > high; NaN stays NaN and -0.0 stays -0.0."""
    out: Floats = np.where(x < np.float32(low), np.float32(low), x)
    return np.where(out > np.float32(high), np.float32(high), out)


def convolution(
    images: Floats,
    weight: Floats,
    strides: Pair = (1, 1),
    pads: Pads = (0, 0, 0, 0),
    dilations: Pair = (1, 1),
    groups: int = 1,
    fill: float = 0.0,
) -> Floats:
    """Cross-correlate (images, channels, h, w) with (outputs, channels / groups, kh, kw); pads hold `fill`.

    Signs are ordinary floats here: sums of up to 2**24 products of ±1 are exact in float32.
    """
    outputs, inner, kh, kw = weight.shape
    seen = windows(images, (kh, kw), strides, pads, dilations, fill)
    n, _, oh, ow = seen.shape[:4]
    columns = seen.reshape(n, groups, inner, oh, ow, kh, kw).transpose(0, 1, 3, 4, 2, 5, 6)
    columns = columns.reshape(n, groups, oh * ow, inner * kh * kw)
    matrices = weight.reshape(groups, outputs // groups, inner * kh * kw)
    product = np.matmul(columns, matrices.transpose(0, 2, 1))
    return np.ascontiguousarray(product.transpose(0, 1, 3, 2)).reshape(n, outputs, oh, ow)


def product(x: Floats, weight: Floats) -> Floats:
    """(rows, k) times the transpose of (outputs, k)."""
    return np.asarray(np.matmul(x, weight.T), np.float32)


def pack_signs(x: Floats) -> Words:
    """(rows, n) → (rows, words): bit i of a row is 1 where x[i] < 0; padding bits are 0."""
    rows, n = x.shape
    bits = np.zeros((rows, -(-n // 64) * 64), np.uint8)
    bits[:, :n] = x < 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def binary_product(x: Words, weight: Words, n_bits: int) -> Ints:
    """`n_bits - 2 * popcount(x[i] ^ weight[j])` for packed signs (rows, words) and (outputs, words)."""
    differing = np.bitwise_count(x[:, None] ^ weight[None]).sum(-1, dtype=np.int32)
    return np.asarray(n_bits - 2 * differing, np.int32)


def pool_max(images: Floats, kernel: Pair, strides: Pair, pads: Pads, dilations: Pair = (1, 1)) -> Floats:
    """The greatest of each window; pads never win."""
    seen = windows(images, kernel, strides, pads, dilations, -np.inf)
    return np.ascontiguousarray(seen.max((4, 5)))


def pool_average(images: Floats, kernel: Pair, strides: Pair, pads: Pads, count_pads: bool = False) -> Floats:
    """The mean of each window, in float64, over the elements in it, or over the whole window with `count_pads`."""
    total = windows(images.astype(np.float64), kernel, strides, pads).sum((4, 5))
    if count_pads:
        return np.asarray(total / (kernel[0] * kernel[1]), np.float32)
    ones = np.ones((1, 1, *images.shape[2:]))
    return np.asarray(total / windows(ones, kernel, strides, pads).sum((4, 5)), np.float32)

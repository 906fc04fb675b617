"""Convolutions and pooling by NumPy, any rank, any element type: where the compiled kernels do not serve."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed


def windows(
    x: Array, kernel: Sequence[int], attributes: Any, fill: Any, overhang: Sequence[int] | None = None
) -> Array:
    """What each place of a window sees: a view (N, C, *places, *kernel)."""
    space = len(kernel)
    pads, strides, dilations = attributes["pads"], attributes["strides"], attributes["dilations"]
    over = overhang or (0,) * space
    grown = [(0, 0), (0, 0), *((pads[i], pads[space + i] + over[i]) for i in range(space))]
    padded = np.pad(x, grown, constant_values=fill) if any(map(any, grown)) else x
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + space)))
    steps = (slice(None),) * 2 + tuple(slice(None, None, s) for s in strides)
    return seen[(*steps, *(slice(None, None, d) for d in dilations))]


def convolve(x: Array, w: Array, attributes: Any, fill: Any = 0) -> Array:
    """Cross-correlation of (N, C, *space) with (O, C/group, *kernel): one matrix product a group."""
    kernel, group = w.shape[2:], attributes["group"]
    seen = windows(x, kernel, attributes, fill)
    places = seen.shape[2 : 2 + len(kernel)]
    n, each = seen.shape[0], w.shape[0] // group
    out = np.empty((n, w.shape[0], prod(places)), np.result_type(x, w))
    depth = w.shape[1] * prod(kernel)
    for g in range(group):
        part = seen[:, g * w.shape[1] : (g + 1) * w.shape[1]]
        order = (0, *range(2, 2 + len(kernel)), 1, *range(2 + len(kernel), 2 + 2 * len(kernel)))
        columns = part.transpose(order).reshape(n, prod(places), depth)
        rows = w[g * each : (g + 1) * each].reshape(each, depth)
        out[:, g * each : (g + 1) * each] = np.matmul(columns, rows.T).transpose(0, 2, 1)
    return out.reshape(n, w.shape[0], *places)


def _bias(y: Array, bias: Array | None) -> Array:
    return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))


def _conv(c: Call) -> Bind:
    return computed(lambda x, w, b=None: _bias(convolve(x, w, c.attributes), b))(c)


def _conv_transpose(c: Call) -> Bind:
    a, out_shape = c.attributes, c.outputs[0].item
    group, space = a["group"], len(out_shape) - 2

    def function(x: Array, w: Array, b: Array | None = None) -> Any:
        each, kernel = w.shape[1], w.shape[2:]
        full = [
            a["strides"][i] * (x.shape[2 + i] - 1) + (kernel[i] - 1) * a["dilations"][i] + 1 + a["output_padding"][i]
            for i in range(space)
        ]
        wide = np.zeros((x.shape[0], group, each, *full), x.dtype)
        inner = x.shape[1] // group
        parts = x.reshape(x.shape[0], group, inner, -1)
        weights = w.reshape(group, inner, each, *kernel)
        for place in np.ndindex(*kernel):
            term = np.matmul(weights[(slice(None), slice(None), slice(None), *place)].transpose(0, 2, 1), parts)
            at = tuple(
                slice(p * d, p * d + s * (n - 1) + 1, s)
                for p, d, s, n in zip(place, a["dilations"], a["strides"], x.shape[2:], strict=True)
            )
            wide[(slice(None),) * 3 + at] += term.reshape(*term.shape[:3], *x.shape[2:])
        wide = wide.reshape(x.shape[0], group * each, *full)
        begin = a["pads"][:space]
        cut = tuple(slice(p, p + n) for p, n in zip(begin, out_shape[2:], strict=True))
        short = [max(p + n - f, 0) for p, n, f in zip(begin, out_shape[2:], full, strict=True)]
        if any(short):
            wide = np.pad(wide, [(0, 0), (0, 0), *((0, s) for s in short)])
        return _bias(wide[(slice(None), slice(None), *cut)], b)

    return computed(function)(c)


def _axes(c: Call) -> tuple[int, ...]:
    rank = len(c.shape(0))
    return tuple(range(rank, 2 * rank - 2))


def _max_pool(c: Call) -> Bind:
    a, axes = c.attributes, _axes(c)
    low = -np.inf if c.dtype.kind == "f" else np.iinfo(c.dtype).min
    return computed(lambda x: windows(x, a["kernel"], a, low, a["overhang"]).max(axis=axes))(c)


def _average_pool(c: Call) -> Bind:
    a, axes, shape = c.attributes, _axes(c), c.shape(0)
    ones = np.ones((1, 1, *shape[2:]))
    if a["count_include_pad"]:
        space = len(shape) - 2
        ones = np.pad(
            ones, [(0, 0), (0, 0), *((a["pads"][i], a["pads"][space + i]) for i in range(space))], constant_values=1
        )
        bare = {**a, "pads": (0,) * 2 * space}
        count = windows(ones, a["kernel"], bare, 0, a["overhang"]).sum(axis=axes)
    else:
        count = windows(ones, a["kernel"], a, 0, a["overhang"]).sum(axis=axes)
    return computed(lambda x: windows(x.astype(np.float64), a["kernel"], a, 0, a["overhang"]).sum(axis=axes) / count)(c)


def _lp_pool(c: Call) -> Bind:
    a, axes, p = c.attributes, _axes(c), c.attributes["p"]

    def function(x: Array) -> Any:
        powers = np.abs(x.astype(np.float64)) ** p
        return windows(powers, a["kernel"], a, 0, a["overhang"]).sum(axis=axes) ** (1.0 / p)

    return computed(function)(c)


def _lrn(c: Call) -> Bind:
    a, channels = c.attributes, c.shape(0)[1]
    before, after = (a["size"] - 1) // 2, a["size"] // 2

    def function(x: Array) -> Any:
        square = np.square(x)
        total = np.cumsum(
            np.pad(square.astype(np.float64), [(0, 0), (before + 1, after), *[(0, 0)] * (x.ndim - 2)]), axis=1
        )
        near = total[:, a["size"] :][:, :channels] - total[:, : -a["size"]][:, :channels]
        return x / ((a["bias"] + (a["alpha"] / a["size"]) * near) ** a["beta"])

    return computed(function)(c)


def _gemm(c: Call) -> Bind:
    return computed(lambda x, w, b=None: np.matmul(x, w.T) if b is None else np.matmul(x, w.T) + b)(c)


def _matmul(c: Call) -> Bind:
    return lambda ins, outs: lambda: np.copyto(outs[0], np.matmul(ins[0], ins[1]))


ROWS: dict[str, Row] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "LRN": _lrn,
    "Gemm": _gemm,
    "MatMul": _matmul,
}

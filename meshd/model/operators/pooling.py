"""Pooling over windows, channels first, and local response normalisation.

Windows may hang over the end by `overhang` places (ONNX's `ceil_mode`, settled); what hangs over counts for nothing.
"""

from meshd.model.graph import TensorType
from meshd.model.operators.convolution import WINDOW, check_window, window_outputs
from meshd.model.operators.spec import FLOATS, NUMBERS, Attributes, Operator, Types, dims, dtype, require, tensor

_POOL = {**WINDOW, "kernel": "ints", "overhang": "ints"}


def _pool(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    space = len(x) - 2
    check_window(space, a)
    require(
        len(a["kernel"]) == space and len(a["overhang"]) == space, "kernel and overhang have one value a spatial axis"
    )
    require(all(0 <= o < 2**31 for o in a["overhang"]), "overhang is not negative")
    reach = [(k - 1) * d + 1 for k, d in zip(a["kernel"], a["dilations"], strict=True)]
    require(all(p < r for p, r in zip(a["pads"], reach + reach, strict=True)), "pads must be smaller than the window")
    wide = tuple(size + over for size, over in zip(x[2:], a["overhang"], strict=True))
    return (tensor(dtype(ts[0], NUMBERS), (*x[:2], *window_outputs(wide, a["kernel"], a))),)


def _average(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    dtype(ts[0], FLOATS)
    require(a["count_include_pad"] in (0, 1), "count_include_pad is 0 or 1")
    return _pool(ts, a)


def _lp(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    dtype(ts[0], FLOATS)
    require(a["p"] > 0, "p is positive")
    return _pool(ts, a)


def _lrn(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(len(x) >= 2 and a["size"] > 0, "LRN takes channels in axis 1 and a positive size")
    return (tensor(dtype(ts[0], FLOATS), x),)


ROWS = {
    "MaxPool": Operator((1, 1), _pool, _POOL),
    "AveragePool": Operator((1, 1), _average, {**_POOL, "count_include_pad": "int"}),
    "LpPool": Operator((1, 1), _lp, {**_POOL, "p": "int"}),
    "LRN": Operator((1, 1), _lrn, {"size": "int", "alpha": "float", "beta": "float", "bias": "float"}),
}

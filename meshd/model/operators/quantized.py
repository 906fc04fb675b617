"""Integers with a scale: quantise, dequantise, and the products and convolutions on them. Accumulators are int32, exact."""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.convolution import WINDOW, check_window, window_outputs
from meshd.model.operators.product import product_shape
from meshd.model.operators.spec import FLOATS, Attributes, Macs, Operator, Types, axis_of, dims, dtype, require, tensor

BYTES = frozenset({"int8", "uint8"})
_STORED = BYTES | {"int16", "uint16", "int32"}


def _scaled(ts: Types, a: Attributes) -> tuple[int, ...]:
    """Check scale and zero point: one, or one for each place on `axis`."""
    x, scale = dims(ts[0]), dims(ts[1])
    require(
        prod(scale) == 1 or scale == (x[axis_of(a["axis"], len(x))],), "one scale, or one for each place on the axis"
    )
    require(len(ts) < 3 or ts[2] is None or dims(ts[2]) == scale, "zero points go with scales")
    return x


def _quantize(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = _scaled(ts, a)
    dtype(ts[0], frozenset({"float32", "int32"})), dtype(ts[1], FLOATS)
    require(a["to"] in _STORED - {"int32"}, f"quantised to {a['to']!r}")
    require(
        len(ts) < 3 or ts[2] is None or dtype(ts[2]) == a["to"], "the zero point has the element type of the result"
    )
    return (tensor(a["to"], x),)


def _dequantize(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = _scaled(ts, a)
    kind = dtype(ts[0], _STORED)
    require(len(ts) < 3 or ts[2] is None or dtype(ts[2]) == kind, "the zero point has the element type of the input")
    return (tensor(dtype(ts[1], frozenset({"float32"})), x),)


def _dynamic(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    dtype(ts[0], frozenset({"float32"}))
    return (tensor("uint8", dims(ts[0])), tensor("float32", ()), tensor("uint8", ()))


def _conv(x: tuple[int, ...], w: tuple[int, ...], a: Attributes) -> tuple[int, ...]:
    require(len(x) >= 3 and len(w) == len(x), f"input {list(x)} and weights {list(w)} are not one convolution")
    check_window(len(x) - 2, a)
    group = a["group"]
    require(
        group > 0 and x[1] == w[1] * group and w[0] % group == 0, f"{x[1]} channels, weights {list(w)}, {group} groups"
    )
    return (x[0], w[0], *window_outputs(x[2:], w[2:], a))


def _zero(t: TensorType | None, kind: str, *sizes: int) -> None:
    require(t is None or (dtype(t) == kind and prod(dims(t)) in sizes), f"a zero point is {kind}, {sizes} elements")


def _conv_integer(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    out = _conv(dims(ts[0]), dims(ts[1]), a)
    _zero(ts[2] if len(ts) > 2 else None, dtype(ts[0], BYTES), 1)
    _zero(ts[3] if len(ts) > 3 else None, dtype(ts[1], BYTES), 1, out[1])
    return (tensor("int32", out),)


def _matmul_integer(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    a, b = dims(ts[0]), dims(ts[1])
    out = product_shape(a, b)
    _zero(ts[2] if len(ts) > 2 else None, dtype(ts[0], BYTES), 1, a[-2] if len(a) > 1 else 1)
    _zero(ts[3] if len(ts) > 3 else None, dtype(ts[1], BYTES), 1, b[-1])
    return (tensor("int32", out),)


def _qlinear(ts: Types, outputs: int) -> str:
    """The eight scalars of a QLinear operator: x, sx, zx, w, sw, zw, sy, zy."""
    kind = dtype(ts[7], BYTES)
    for i in (1, 4, 6):
        require(
            dtype(ts[i], frozenset({"float32"})) != "" and prod(dims(ts[i])) in {1, outputs if i == 4 else 1},
            "bad scales",
        )
    _zero(ts[2], dtype(ts[0], BYTES), 1)
    _zero(ts[5], dtype(ts[3], BYTES), 1, outputs)
    _zero(ts[7], kind, 1)
    return kind


def _qlinear_conv(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    out = _conv(dims(ts[0]), dims(ts[3]), a)
    bias = ts[8] if len(ts) > 8 else None
    require(
        bias is None or (bias.dtype == "int32" and dims(bias) == (out[1],)), f"the bias is int32, {out[1]} elements"
    )
    return (tensor(_qlinear(ts, out[1]), out),)


def _qlinear_matmul(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    b = dims(ts[3])
    out = product_shape(dims(ts[0]), b)
    return (tensor(_qlinear(ts, b[-1]), out),)


def _macs(weights: int, conv: bool) -> Macs:
    def macs(ts: Types, a: Attributes, out: tuple[TensorType, ...]) -> int:
        return prod(dims(out[0])) * (prod(dims(ts[weights])[1:]) if conv else dims(ts[0])[-1])

    return macs


_CONV = {**WINDOW, "group": "int"}
ROWS = {
    "QuantizeLinear": Operator((2, 3), _quantize, {"axis": "int", "to": "str"}),
    "DequantizeLinear": Operator((2, 3), _dequantize, {"axis": "int"}),
    "DynamicQuantizeLinear": Operator((1, 1), _dynamic),
    "ConvInteger": Operator((2, 4), _conv_integer, _CONV, _macs(1, True)),
    "MatMulInteger": Operator((2, 4), _matmul_integer, {}, _macs(1, False)),
    "QLinearConv": Operator((8, 9), _qlinear_conv, _CONV, _macs(3, True)),
    "QLinearMatMul": Operator((8, 8), _qlinear_matmul, {}, _macs(3, False)),
}

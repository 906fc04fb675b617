"""Rows: functions of one element, arithmetic with broadcasting, casts."""

import math
from collections.abc import Mapping

import numpy as np

from meshd.model.onnx_import.node import Node, Row, Value

_INFINITY = math.inf


def _same(n: Node) -> Value:
    """Operators without attributes whose name is the graph's."""
    return n.emit(n.op, [n.value(0)])


def _with(**defaults: float) -> Row:
    def row(n: Node) -> Value:
        return n.emit(n.op, [n.value(0)], **{name: n.real(name, value) for name, value in defaults.items()})

    return row


def identity(n: Node) -> Value:
    return n.value(0)


def dropout(n: Node) -> Value | list[Value]:
    training = n.optional(2)
    if training is not None and (training.constant is None or bool(training.constant)):
        n.refuse("it is in training mode", "export with model.eval()")
    if len([o for o in n.outputs if o]) > 1:
        x = n.value(0)
        return [x, n.constant(np.ones(x.shape, np.bool_))]
    return n.value(0)


def clip(n: Node) -> Value:
    x = n.value(0)
    if n.opset < 11:
        low, high = n.real("min", -_INFINITY), n.real("max", _INFINITY)
        return n.emit("Clip", [x], low=low, high=high)
    bounds = [n.optional(1), n.optional(2)]
    if all(b is None or b.constant is not None for b in bounds):
        low, high = (
            float(b.constant.reshape(-1)[0])
            if b is not None and b.constant is not None and b.constant.size == 1
            else default
            for b, default in zip(bounds, (-_INFINITY, _INFINITY), strict=True)
        )
        if (
            max(abs(v) for v in (low, high) if not math.isinf(v)) < 2**53
            if not (math.isinf(low) and math.isinf(high))
            else True
        ):
            # NB where low is above high everything becomes high, as Min after Max would have it.
            return n.emit("Clip", [x], low=min(low, high), high=high)
    for op, bound in zip(("Max", "Min"), bounds, strict=True):
        x = x if bound is None else n.emit(op, [x, bound])
    return x


def cast(n: Node) -> Value:
    to = DTYPES.get(n.integer("to", 0))
    if to is None:
        n.refuse(f"a cast to element type {n.integer('to', 0)}", "cast to a type of NumPy's")
    x = n.value(0)
    return x if x.type.dtype == to else n.emit("Cast", [x], to=to)


def cast_like(n: Node) -> Value:
    x, to = n.value(0), n.value(1).type.dtype
    return x if x.type.dtype == to else n.emit("Cast", [x], to=to)


DTYPES: Mapping[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""ONNX's TensorProto.DataType."""


def sign(n: Node) -> Value:
    return n.emit("Sign", [n.value(0)], zero=0)


def gelu(n: Node) -> Value:
    return n.emit("Gelu", [n.value(0)], tanh=int(n.text("approximate", "none") == "tanh"))


def is_inf(n: Node) -> Value:
    return n.emit(
        "IsInf", [n.value(0)], negative=n.integer("detect_negative", 1), positive=n.integer("detect_positive", 1)
    )


def swish(n: Node) -> Value:
    return n.emit("Swish", [n.value(0)], alpha=n.real("alpha", 1.0))


def binary(n: Node) -> Value:
    return n.emit(n.op, [n.value(0), n.value(1)])


def variadic(n: Node) -> Value:
    """Sum, Mean, Min and Max of any number."""
    given = [v for v in n.inputs if v is not None]
    if n.op in {"Max", "Min"} and len(given) == 2 and (found := _bounded(n, given)) is not None:
        return found
    op = {"Sum": "Add", "Mean": "Add"}.get(n.op, n.op)
    out = n.value(0)
    for value in given[1:]:
        out = n.emit(op, [out, value])
    if n.op == "Mean" and len(given) > 1:
        out = n.emit("Div", [out, n.constant(np.asarray(len(given), out.type.dtype))])
    return out


def _bounded(n: Node, given: list[Value]) -> Value | None:
    """Max or Min with one constant number: a Clip."""
    for x, bound in (given, given[::-1]):
        c = bound.constant
        if (
            c is not None
            and c.size == 1
            and c.dtype.kind == "f"
            and len(bound.shape) <= len(x.shape)
            and np.isfinite(c).all()
        ):
            low, high = (float(c.reshape(-1)[0]), _INFINITY) if n.op == "Max" else (-_INFINITY, float(c.reshape(-1)[0]))
            return n.emit("Clip", [x], low=low, high=high)
    return None


def mod(n: Node) -> Value:
    return n.emit("Mod", [n.value(0), n.value(1)], fmod=n.integer("fmod", 0))


def where(n: Node) -> Value:
    return n.emit("Where", [n.value(0), n.value(1), n.value(2)])


_ONE = (
    "Relu Neg Abs Sigmoid Tanh HardSwish Softplus Softsign Mish Erf Exp Log Sqrt Reciprocal Sin Cos Tan Asin Acos Atan Sinh "
    "Cosh Asinh Acosh Atanh Floor Ceil Round Not BitwiseNot IsNaN"
)
_TWO = (
    "Add Sub Mul Div Pow Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor PRelu"
)

ROWS: dict[str, Row] = {
    **dict.fromkeys(_ONE.split(), _same),
    **dict.fromkeys(_TWO.split(), binary),
    **dict.fromkeys(("Sum", "Mean", "Min", "Max"), variadic),
    "Identity": identity,
    "Dropout": dropout,
    "Clip": clip,
    "Cast": cast,
    "CastLike": cast_like,
    "Sign": sign,
    "Gelu": gelu,
    "IsInf": is_inf,
    "Swish": swish,
    "Mod": mod,
    "Where": where,
    "LeakyRelu": _with(alpha=0.01),
    "Elu": _with(alpha=1.0),
    "Celu": _with(alpha=1.0),
    "ThresholdedRelu": _with(alpha=1.0),
    "HardSigmoid": _with(alpha=0.2, beta=0.5),
    "Selu": _with(alpha=1.6732631921768188, gamma=1.0507010221481323),
    "Shrink": _with(lambd=0.5, bias=0.0),
}

"""Functions of one element: activations, elementary functions, casts.

`Sign` has `zero`: what a zero becomes, 0 as in ONNX, or 1 where only a binary layer reads it (a bit has no third value).
"""

from meshd.model.graph import DTYPES, TensorType
from meshd.model.operators.spec import FLOATS, NUMBERS, Attributes, Operator, Types, dims, dtype, require, tensor


def _row(attributes: dict[str, str] | None = None, kinds: frozenset[str] = FLOATS, out: str = "") -> Operator:
    def infer(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
        kind = dtype(ts[0], kinds)
        return (tensor(out or kind, dims(ts[0])),)

    return Operator((1, 1), infer, attributes or {})


def _cast(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    require(a["to"] in DTYPES, f"cast to {a['to']!r}")
    dtype(ts[0])
    return (tensor(a["to"], dims(ts[0])),)


def _sign(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    require(a["zero"] in (0, 1), "zero becomes 0 or 1")
    return (tensor(dtype(ts[0], NUMBERS), dims(ts[0])),)


_ALPHA = {"alpha": "float"}
_PLAIN = "Sigmoid Tanh HardSwish Softplus Softsign Mish Erf Exp Log Sqrt Reciprocal"
_MORE = "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Floor Ceil Round"

ROWS = {
    **{name: _row() for name in f"{_PLAIN} {_MORE}".split()},
    **{name: _row(kinds=NUMBERS) for name in ("Relu", "Neg", "Abs")},
    **{name: _row(_ALPHA) for name in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish")},
    "Clip": _row({"low": "float", "high": "float"}, NUMBERS),
    "HardSigmoid": _row({"alpha": "float", "beta": "float"}),
    "Selu": _row({"alpha": "float", "gamma": "float"}),
    "Shrink": _row({"lambd": "float", "bias": "float"}),
    "Gelu": _row({"tanh": "int"}),
    "IsNaN": _row(out="bool"),
    "IsInf": _row({"negative": "int", "positive": "int"}, out="bool"),
    "Not": _row(kinds=frozenset({"bool"})),
    "BitwiseNot": _row(kinds=NUMBERS - FLOATS),
    "Cast": Operator((1, 1), _cast, {"to": "str"}),
    "Sign": Operator((1, 1), _sign, {"zero": "int"}),
}

"""Functions of two or three tensors, element by element, with broadcasting.

`Affine(x, scale, shift)` is `x * scale + shift`, two roundings: a BatchNormalization that found no layer to fold into.
"""

from meshd.model.graph import TensorType
from meshd.model.operators.spec import (
    ANY,
    FLOATS,
    INTEGERS,
    NUMBERS,
    Attributes,
    Operator,
    Types,
    broadcast,
    dims,
    dtype,
    require,
    same_dtype,
    tensor,
)


def _row(kinds: frozenset[str] = NUMBERS, out: str = "", attributes: dict[str, str] | None = None) -> Operator:
    def infer(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
        kind = same_dtype(ts, kinds)
        return (tensor(out or kind, broadcast([dims(t) for t in ts])),)

    return Operator((2, 2), infer, attributes or {})


def _pow(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    dtype(ts[1], NUMBERS)
    return (tensor(dtype(ts[0], NUMBERS), broadcast([dims(ts[0]), dims(ts[1])])),)


def _where(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    dtype(ts[0], frozenset({"bool"}))
    return (tensor(same_dtype(ts[1:]), broadcast([dims(t) for t in ts])),)


def _affine(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(broadcast([dims(t) for t in ts]) == x, "scale and shift do not widen what they scale")
    return (tensor(same_dtype(ts, FLOATS), x),)


def _prelu(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(broadcast([x, dims(ts[1])]) == x, "the slope does not widen what it scales")
    return (tensor(same_dtype(ts, NUMBERS), x),)


_BOOL = frozenset({"bool"})
ROWS = {
    **{name: _row() for name in ("Add", "Sub", "Mul", "Div", "Min", "Max")},
    **{name: _row(out="bool") for name in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{name: _row(_BOOL) for name in ("And", "Or", "Xor")},
    **{name: _row(INTEGERS) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "Equal": _row(ANY, "bool"),
    "Mod": _row(attributes={"fmod": "int"}),
    "Pow": Operator((2, 2), _pow),
    "PRelu": Operator((2, 2), _prelu),
    "Where": Operator((3, 3), _where),
    "Affine": Operator((3, 3), _affine),
}

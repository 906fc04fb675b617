"""What folds an axis: reductions, softmax, normalisations, arg max. Axes are non-negative and sorted."""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.spec import (
    FLOATS,
    NUMBERS,
    Attributes,
    Operator,
    Types,
    axis_of,
    broadcast,
    dims,
    dtype,
    require,
    same_dtype,
    tensor,
)


def _reduce(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axes = {axis_of(i, len(x)) for i in a["axes"]}
    require(len(axes) == len(a["axes"]) and a["keepdims"] in (0, 1), "axes are given once; keepdims is 0 or 1")
    kept = [1 if i in axes else d for i, d in enumerate(x) if i not in axes or a["keepdims"]]
    return (tensor(dtype(ts[0], NUMBERS | {"bool"}), kept),)


def _arg(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axis = axis_of(a["axis"], len(x))
    require(x[axis] > 0, "arg max of nothing")
    require(a["keepdims"] in (0, 1) and a["select_last_index"] in (0, 1), "keepdims and select_last_index are 0 or 1")
    dtype(ts[0], NUMBERS)
    return (tensor("int64", [1 if i == axis else d for i, d in enumerate(x) if i != axis or a["keepdims"]]),)


def _along(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axis_of(a["axis"], len(x))
    return (tensor(dtype(ts[0], FLOATS), x),)


def _cumsum(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axis_of(a["axis"], len(x))
    return (tensor(dtype(ts[0], NUMBERS), x),)


def _layer_norm(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axis = axis_of(a["axis"], len(x))
    tail = x[axis:]
    require(prod(tail) > 0, "normalising nothing")
    for t in ts[1:]:
        require(t is None or broadcast([tail, dims(t)]) == tail, "scale and bias do not widen what they scale")
    return (tensor(same_dtype(ts, FLOATS), x),)


def _group_norm(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    groups = a["groups"]
    require(len(x) >= 2 and groups > 0 and x[1] % groups == 0, f"{groups} groups of {list(x)}")
    require(prod(x) > 0, "normalising nothing")
    for t in ts[1:]:
        require(dims(t) == (x[1],), f"scale and bias have {x[1]} elements")
    return (tensor(same_dtype(ts, FLOATS), x),)


def _lp_norm(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    require(a["p"] in (1, 2), "p is 1 or 2")
    return _along(ts, a)


_REDUCE = {"axes": "ints", "keepdims": "int"}
_ARG = {"axis": "int", "keepdims": "int", "select_last_index": "int"}
_NAMES = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"

ROWS = {
    **{f"Reduce{name}": Operator((1, 1), _reduce, _REDUCE) for name in _NAMES.split()},
    **{name: Operator((1, 1), _arg, _ARG) for name in ("ArgMax", "ArgMin")},
    **{name: Operator((1, 1), _along, {"axis": "int"}) for name in ("Softmax", "LogSoftmax", "Hardmax")},
    "CumSum": Operator((1, 1), _cumsum, {"axis": "int", "exclusive": "int", "reverse": "int"}),
    "LayerNormalization": Operator((2, 3), _layer_norm, {"axis": "int", "epsilon": "float"}),
    "RMSNormalization": Operator((2, 2), _layer_norm, {"axis": "int", "epsilon": "float"}),
    "GroupNormalization": Operator((3, 3), _group_norm, {"groups": "int", "epsilon": "float"}),
    "LpNormalization": Operator((1, 1), _lp_norm, {"axis": "int", "p": "int"}),
}

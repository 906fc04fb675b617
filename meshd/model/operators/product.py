"""Matrix products.

`Gemm(x [..., K], w [N, K], b? [N])`, a fully connected layer over the last axis, weights one row an output;
`MatMul(a [..., M, K], b [..., K, N])`, NumPy's rule, both may be activations.
"""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.spec import (
    FLOATS,
    INTEGERS,
    Attributes,
    Operator,
    Types,
    broadcast,
    dims,
    require,
    same_dtype,
    tensor,
)

_KINDS = FLOATS | (INTEGERS & {"int32", "int64", "uint32", "uint64"})


def _gemm(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    x, w = dims(ts[0]), dims(ts[1])
    require(len(x) >= 1 and len(w) == 2 and x[-1] == w[1], f"input {list(x)} does not meet weights {list(w)}")
    require(len(ts) < 3 or ts[2] is None or dims(ts[2]) == (w[0],), f"the bias must have {w[0]} elements")
    return (tensor(same_dtype(ts, FLOATS), (*x[:-1], w[0])),)


def _gemm_macs(ts: Types, a: Attributes, out: tuple[TensorType, ...]) -> int:
    return prod(dims(out[0])) * dims(ts[0])[-1]


def product_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of `numpy.matmul(a, b)`, or InvalidError."""
    require(bool(a) and bool(b), "a product of scalars")
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    require(left[-1] == right[-2], f"shapes {list(a)} and {list(b)} do not multiply")
    lead = broadcast([left[:-2], right[:-2]])
    rows = (left[-2],) if len(a) > 1 else ()
    columns = (right[-1],) if len(b) > 1 else ()
    return (*lead, *rows, *columns)


def _matmul(ts: Types, _: Attributes) -> tuple[TensorType, ...]:
    return (tensor(same_dtype(ts, _KINDS), product_shape(dims(ts[0]), dims(ts[1]))),)


ROWS = {
    "Gemm": Operator((2, 3), _gemm, {}, _gemm_macs),
    "MatMul": Operator((2, 2), _matmul, {}, _gemm_macs),
}

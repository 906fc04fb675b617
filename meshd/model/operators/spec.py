"""What a row of the operator table says, and the checks that rows share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from meshd.config import TENSOR_RANK_MAX
from meshd.errors import InvalidError
from meshd.model.graph import DTYPES, TensorType

Types = Sequence[TensorType | None]
Attributes = Mapping[str, Any]
"""Checked against the row's kinds before `infer` sees them, hence `Any`."""

Macs = Callable[[Types, Attributes, tuple[TensorType, ...]], int]

ELEMENTS_MAX = 2**31 - 1
"""Kernels index one tensor with int32 offsets."""

FLOATS = frozenset({"float32", "float64", "float16"})
INTEGERS = frozenset(d for d in DTYPES if "int" in d)
NUMBERS = FLOATS | INTEGERS
ANY = frozenset(DTYPES)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes
    ----------
    arity : fewest and most inputs; an input past the fewest may be absent
    infer : types of the outputs; raises InvalidError
    attributes : name → kind (`int`, `float`, `str`, `ints`, `floats`, `strs`); all must be there, and no other
    macs : multiply-accumulates of one item; 0 for what only moves or touches memory
    """

    arity: tuple[int, int]
    infer: Callable[[Types, Attributes], tuple[TensorType, ...]]
    attributes: Mapping[str, str] = field(default_factory=dict)
    macs: Macs | None = None


_KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,)}


def fits(kind: str, value: object) -> bool:
    """Whether an attribute's value is of the kind its row names."""
    if kind in _KINDS:
        return isinstance(value, _KINDS[kind]) and not isinstance(value, bool)
    return isinstance(value, tuple) and all(fits(kind[:-1], v) for v in value)


def tensor(dtype: str, shape: Sequence[int]) -> TensorType:
    """A type within the limits, or InvalidError."""
    if len(shape) > TENSOR_RANK_MAX:
        raise InvalidError(f"rank {len(shape)} is past the limit of {TENSOR_RANK_MAX}")
    if any(d < 0 for d in shape) or prod(shape) > ELEMENTS_MAX:
        raise InvalidError(f"shape {list(shape)} is negative or past {ELEMENTS_MAX} elements")
    return TensorType(dtype, tuple(int(d) for d in shape))


def dims(t: TensorType | None) -> tuple[int, ...]:
    """The shape of one item: the batch counts as 1."""
    require(t is not None, "an input that must be there is absent")
    assert t is not None
    return t.item


def dtype(t: TensorType | None, allowed: frozenset[str] = ANY) -> str:
    require(t is not None, "an input that must be there is absent")
    assert t is not None
    require(t.dtype in allowed, f"element type {t.dtype} is not supported here; it takes {', '.join(sorted(allowed))}")
    return t.dtype


def same_dtype(ts: Types, allowed: frozenset[str] = ANY) -> str:
    kinds = {dtype(t, allowed) for t in ts if t is not None}
    require(len(kinds) == 1, f"inputs differ in element type: {', '.join(sorted(kinds))}")
    return kinds.pop()


def require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidError(message)


def axis_of(axis: int, rank: int) -> int:
    """A non-negative axis, or InvalidError."""
    require(-rank <= axis < rank, f"axis {axis} is outside rank {rank}")
    return axis % rank


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """NumPy's rule, as ONNX has it."""
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    out = []
    for column in zip(*padded, strict=True):
        wide = {d for d in column if d != 1}
        require(len(wide) <= 1, f"shapes {[list(s) for s in shapes]} do not broadcast")
        out.append(wide.pop() if wide else 1)
    return tuple(out)

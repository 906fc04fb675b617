"""What a row sees of an ONNX node, and what it builds with: values in, operations of the graph out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from meshd.config import MODEL_OPERATIONS_MAX, NAME_CHARS_MAX
from meshd.errors import InvalidError
from meshd.model.check import infer_types
from meshd.model.graph import Attribute, Operation, TensorType
from meshd.model.onnx_import.refusal import RefusedError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Where real constants come from: bytes, less a zero point, times a scale. `axis` is where scales differ, if any do.

    octets : int8 or uint8
    scale : float32, one element, or one for each place on `axis`
    zero : of the type of `octets`, as many as scales; None for 0
    """

    octets: Array
    scale: Array
    zero: Array | None
    axis: int

    @classmethod
    def of(cls, octets: Array, scale: Array, zero: Array | None, axis: int) -> "Steps | None":
        """As int8 around 0 where 8 bits hold that; None where it is not bytes with one scale, or one for each place."""
        if octets.dtype not in (np.int8, np.uint8) or scale.dtype != np.float32 or octets.ndim == 0:
            return None
        axis %= octets.ndim
        if scale.size != 1 and scale.shape != (octets.shape[axis],):
            return None
        if zero is not None:
            wide = [1] * octets.ndim
            wide[axis] = -1
            less = octets.astype(np.int16) - zero.astype(np.int16).reshape(wide if zero.size > 1 else ())
            if less.size and less.min() >= -128 and less.max() <= 127:
                octets, zero = less.astype(np.int8), None
        elif octets.dtype == np.uint8 and octets.max(initial=0) <= 127:
            octets = octets.astype(np.int8)
        return cls(octets, scale.reshape(()) if scale.size == 1 else scale, zero, axis)

    def transposed(self, perm: Sequence[int]) -> "Steps":
        """The same, its axes in another order."""
        octets = np.ascontiguousarray(self.octets.transpose(perm))
        return Steps(octets, self.scale, self.zero, list(perm).index(self.axis))

    def times(self, factor: Array) -> "Steps | None":
        """The same times one number for each place on axis 0; None where the scales lie along another."""
        if self.axis != 0 and self.scale.size > 1:
            return None
        scale = np.asarray(self.scale * factor, np.float32)
        zero = self.zero
        if zero is not None and zero.size != scale.size:
            zero = np.full(scale.shape, zero.reshape(-1)[0], zero.dtype)
        return Steps(self.octets, scale, zero, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor while importing: its type for one item, and its elements where they are known."""

    name: str
    type: TensorType
    constant: Array | None = None
    steps: Steps | None = None
    """Where known elements were dequantised: from what."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.item


def constant(name: str, array: Array, steps: Steps | None = None) -> Value:
    """A value whose elements are known."""
    # NB ascontiguousarray would make a scalar one-dimensional.
    array = np.asarray(array, order="C")
    return Value(name, TensorType(array.dtype.name, array.shape), array, steps)


@dataclass(slots=True)
class Builder:
    """Operations so far. Names are unique and within the limit."""

    operations: list[Operation] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    steps: dict[str, Steps] = field(default_factory=dict)
    """Of those arrays that were dequantised."""
    _used: dict[str, int] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def name(self, wish: str) -> str:
        """A name close to the wish that nothing has yet."""
        wish = "".join(c if c.isprintable() else "_" for c in wish)[: NAME_CHARS_MAX - 12] or "unnamed"
        name = wish
        while name in self._taken:
            self._used[wish] = self._used.get(wish, 0) + 1
            name = f"{wish}.{self._used[wish]}"
        self._taken.add(name)
        return name

    def constant(self, array: Array, wish: str = "constant", steps: Steps | None = None) -> Value:
        """A new constant."""
        return constant(self.name(wish), array, steps)

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        wish: str = "",
    ) -> Value:
        """Append an operation of one output."""
        return self.emit_many(op, inputs, attributes, wish=wish)[0]

    def emit_many(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        count: int = 1,
        wish: str = "",
    ) -> list[Value]:
        """Append an operation; types of the outputs come from the operator table. Raises InvalidError."""
        if len(self.operations) >= MODEL_OPERATIONS_MAX:
            raise InvalidError(f"the model has more than {MODEL_OPERATIONS_MAX} operations")
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        wish = wish or op
        names = [self.name(wish if i == 0 else f"{wish}.{i}") for i in range(count)]
        operation = Operation(
            name=names[0],
            op=op,
            inputs=tuple(v.name if v else "" for v in given),
            outputs=tuple(names),
            attributes=dict(attributes or {}),
        )
        kinds = infer_types(operation, tuple(v.type if v else None for v in given))
        for value in given:
            if value is not None and value.constant is not None:
                self.arrays[value.name] = value.constant
                self.types[value.name] = value.type
                if value.steps is not None:
                    self.steps[value.name] = value.steps
        self.operations.append(operation)
        self.types.update(zip(names, kinds, strict=True))
        return [Value(n, t) for n, t in zip(names, kinds, strict=True)]


@dataclass(slots=True)
class Node:
    """An ONNX node: its operator, inputs as values, attributes by kind with defaults."""

    op: str
    name: str
    opset: int
    inputs: list[Value | None]
    outputs: list[str]
    attributes: Mapping[str, Any]
    builder: Builder

    def refuse(self, why: str, remedy: str = "replace it before export") -> NoReturn:
        raise RefusedError(why, remedy)

    def value(self, index: int) -> Value:
        """An input that must be there."""
        found = self.optional(index)
        if found is None:
            raise InvalidError(f"{self.name} ({self.op}): input {index} is missing")
        return found

    def optional(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def array(self, index: int, what: str) -> Array:
        """Elements of an input that must be constant here."""
        found = self.value(index)
        if found.constant is None:
            self.refuse(
                f"{what} is computed while running", f"make {what} a constant (onnxsim often can), or fix dimensions"
            )
        return found.constant

    def integers(self, index: int, what: str) -> tuple[int, ...]:
        """A constant input as a flat tuple of ints."""
        array = self.array(index, what).reshape(-1)
        if array.dtype.kind not in "iu" or array.size > 4096:
            raise InvalidError(f"{self.name} ({self.op}): {what} must be a short list of whole numbers")
        return tuple(int(v) for v in array)

    def ints(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(v) for v in self._get(name, default, (list, tuple)))

    def integer(self, name: str, default: int) -> int:
        return int(self._get(name, default, (int,)))

    def real(self, name: str, default: float) -> float:
        return float(self._get(name, default, (int, float)))

    def text(self, name: str, default: str) -> str:
        value = self._get(name, default, (str, bytes))
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def has(self, name: str) -> bool:
        return name in self.attributes

    def _get(self, name: str, default: Any, kinds: tuple[type, ...]) -> Any:
        value = self.attributes.get(name, default)
        if not isinstance(value, kinds):
            raise InvalidError(f"{self.name} ({self.op}): attribute {name} is {type(value).__name__}")
        return value

    def emit(self, op: str, inputs: Sequence[Value | None], **attributes: Attribute) -> Value:
        """Append an operation named after this node's first output."""
        return self.builder.emit(op, inputs, attributes, wish=self.wish)

    def emit_many(self, op: str, inputs: Sequence[Value | None], count: int, **attributes: Attribute) -> list[Value]:
        return self.builder.emit_many(op, inputs, attributes, count=count, wish=self.wish)

    def constant(self, array: Array) -> Value:
        return self.builder.constant(array, f"{self.wish}.c")

    @property
    def wish(self) -> str:
        return next((o for o in self.outputs if o), self.name or self.op)


Row = Callable[[Node], Value | list[Value]]

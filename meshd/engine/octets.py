"""Bytes with a scale between layers: quantise, dequantise, and what is done to bytes as they are.

Where bytes say exactly what floats would, floats are not made: the greatest of a window is the greatest byte, a function of one
element is a table of 256, a sum is rounded once.
"""

from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import numpy as np

from meshd.engine.context import Array, Context
from meshd.engine.operators import ROWS, Call
from meshd.engine.packed import kernel_step, pair
from meshd.engine.step import KernelStep, Step
from meshd.errors import MisuseError
from meshd.kernels import quantised, registry
from meshd.kernels.kernel import Kernel
from meshd.kernels.layout import Layout, OctetPlanes, Octets, Planes
from meshd.model.graph import Operation, TensorType
from meshd.model.quantised import BYTES, one_step

UNARY = frozenset(
    [
        "Relu",
        "LeakyRelu",
        "Clip",
        "HardSwish",
        "Swish",
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "Elu",
        "Selu",
        "Celu",
        "Gelu",
        "Erf",
        "Mish",
        "Softplus",
        "Softsign",
        "Neg",
        "Abs",
        "Exp",
    ]
)
"""Functions of one element that a table holds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Of a tensor of bytes: `(q - zero) * step`."""

    step: np.float32
    zero: int
    signed: bool

    @classmethod
    def of(cls, context: Context, o: Operation) -> "Scale | None":
        """Of a QuantizeLinear or DequantizeLinear; None where it is not one finite scale for all, known here, of bytes."""
        named = o.outputs[0] if o.op == "QuantizeLinear" else o.inputs[0]
        dtype = context.type_of(named).dtype
        if dtype not in BYTES or named in context.constants or not one_step(context.graph, o):
            return None
        values = [context.constants.get(n) for n in o.inputs[1:] if n]
        if values[0] is None or values[-1] is None or values[0].dtype != np.float32:
            return None
        step, zero = values[0].reshape(-1)[0], int(values[-1].reshape(-1)[0]) if len(values) > 1 else 0
        return cls(step, zero, dtype == "int8") if isfinite(step) and step > 0 else None

    def octets(self, channels: int, height: int = 1, width: int = 1) -> Octets:
        """Channels side by side, without pads."""
        return Octets(channels, height, width, 0, 0, 0, width, float(self.step), self.zero, self.signed)

    def seen(self, source: Octets) -> Octets:
        """Bytes that lie as `source` says, and mean what this scale says: pads too, which hold another's zero point perhaps."""
        return replace(source, scale=float(self.step), zero_point=self.zero, signed=self.signed)

    def planes(self, channels: int, height: int = 1, width: int = 1) -> OctetPlanes:
        """As the graph has them."""
        return OctetPlanes(channels, height, width, float(self.step), self.zero, self.signed)

    def rounded(self, x: Array) -> Array:
        """Unsigned bytes of real values, as `kernels.octets` rounds them."""
        zero = self.zero + 128 * self.signed
        return np.asarray(np.clip(np.rint(np.nan_to_num(x / self.step)), -zero, 255 - zero) + zero, np.uint8)


def image_of(t: TensorType) -> tuple[int, int, int] | None:
    """(channels, height, width) of a tensor of one image; None where it is none."""
    shape = t.item
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or prod(shape) == 0:
        return None
    return {2: (shape[1], 1, 1), 3: (shape[1], 1, shape[-1]), 4: (shape[1], *shape[2:])}[len(shape)]  # type: ignore[return-value]


def floats_of(
    name: str, layer: int, x: str, out: str, scale: Scale, shape: tuple[int, ...], rows: int = 1
) -> KernelStep:
    """Dequantise: bytes in whatever order they are, to planes as they are wanted."""

    def make(source: Layout | None) -> Kernel:
        read: Any = scale.seen(source) if isinstance(source, Octets) else scale.planes(*shape)
        return registry.convert(read, Planes.plain(*shape))

    step = kernel_step(name, layer, make, x, out, rows=rows)
    step.adapts = (Octets,)
    return step


@dataclass(slots=True)
class OctetSteps:
    """Operations `[first, last)` of one layer; those it takes are added to `done`."""

    context: Context
    index: int
    first: int
    last: int
    done: set[int]

    def lower(self, i: int) -> tuple[int, Step] | None:
        """(the operation it is done at, a step) of one operation; None for what is left to floats."""
        o = self.context.graph.operations[i]
        make = {"QuantizeLinear": self._quantise, "DequantizeLinear": self._dequantise, "MaxPool": self._pool}.get(o.op)
        return make(i, o) if make is not None else None

    def _inside(self, at: int) -> bool:
        return self.first <= at < self.last and at not in self.done

    def _reader(self, name: str) -> int:
        """The only reader of a tensor, in this layer; -1 if there is none such."""
        readers = self.context.readers.get(name, [])
        return readers[0] if len(readers) == 1 and self._inside(readers[0]) else -1

    def _quantise(self, i: int, o: Operation) -> tuple[int, Step] | None:
        scale, shape = Scale.of(self.context, o), image_of(self.context.type_of(o.inputs[0]))
        if scale is None or shape is None or self.context.type_of(o.inputs[0]).dtype != "float32":
            return None
        if o.inputs[0] in self.context.constants:
            return None

        def make(source: Layout | None) -> Kernel:
            read = source if isinstance(source, Planes) else Planes.plain(*shape)
            return registry.convert(read, scale.planes(*shape))

        return i, kernel_step(o.name, self.index, make, o.inputs[0], o.outputs[0])

    def _dequantise(self, i: int, o: Operation) -> tuple[int, Step] | None:
        scale, shape = Scale.of(self.context, o), image_of(self.context.type_of(o.inputs[0]))
        if scale is None or shape is None:
            return None
        return self._table(o, scale, shape) or (
            i,
            floats_of(o.name, self.index, o.inputs[0], o.outputs[0], scale, shape),
        )

    def _table(self, o: Operation, scale: Scale, shape: tuple[int, int, int]) -> tuple[int, Step] | None:
        """Functions of one element between bytes and bytes."""
        operations, taken, last = self.context.graph.operations, [], o
        values = (np.arange(256) - (scale.zero + 128 * scale.signed)).astype(np.float32) * scale.step
        while (at := self._reader(last.outputs[0])) >= 0 and operations[at].op in UNARY:
            last = operations[at]
            taken.append(at)
            if len(last.inputs) != 1:
                return None
            t, out = TensorType("float32", (256,)), np.empty(256, np.float32)
            with np.errstate(all="ignore"):
                ROWS[last.op](Call(last.op, [t], [t], [None], last.attributes))([values], [out])()
            values = out
        to = Scale.of(self.context, operations[at]) if at >= 0 and operations[at].op == "QuantizeLinear" else None
        if to is None or not taken:
            return None
        table, wanted = to.rounded(values), to

        def make(source: Layout | None) -> Kernel:
            read = scale.seen(source) if isinstance(source, Octets) else scale.octets(*shape)
            return quantised.look_up(read, wanted.octets(*shape), table)

        self.done.update((*taken, at))
        return at, kernel_step(last.name, self.index, make, o.inputs[0], operations[at].outputs[0])

    def _pool(self, i: int, o: Operation) -> tuple[int, Step] | None:
        t = self.context.type_of(o.inputs[0])
        shape, flat = image_of(t), len(t.item) == 3
        if t.dtype not in BYTES or shape is None or not 3 <= len(t.item) <= 4 or o.inputs[0] in self.context.constants:
            return None
        names = ("kernel", "strides", "dilations", "pads")
        kernel, strides, dilations, pads = (pair(o.attributes[n], flat) for n in names)
        over: Any = (0, *o.attributes["overhang"]) if flat else o.attributes["overhang"]  # type: ignore[misc]
        pads = (pads[0], pads[1], pads[2] + over[0], pads[3] + over[1])
        own = Scale(np.float32(1), self._zero(o), t.dtype == "int8").octets(*shape)

        def make(source: Layout | None) -> Kernel:
            read = source if isinstance(source, Octets) else own
            return quantised.pool_octets(read, kernel, strides=strides, pads=pads, dilations=dilations)

        try:
            return i, kernel_step(o.name, self.index, make, o.inputs[0], o.outputs[0])
        except MisuseError:
            return None

    def _zero(self, o: Operation) -> int:
        """The zero point that those who write or read the bytes give them. Any would do: pads hold it, and nobody reads them."""
        writer = self.context.writer.get(o.inputs[0], -1)
        for at in (writer, *self.context.readers.get(o.outputs[0], [])):
            near = self.context.graph.operations[at] if 0 <= at < len(self.context.graph.operations) else o
            scale = Scale.of(self.context, near) if near.op in {"QuantizeLinear", "DequantizeLinear"} else None
            if scale is not None:
                return scale.zero
        return 0

    def add(self, o: Operation, i: int) -> tuple[int, Step] | None:
        """Two dequantised tensors, added, perhaps clipped, quantised again."""
        context, operations = self.context, self.context.graph.operations
        sides = [context.writer.get(n, -1) for n in o.inputs]
        if o.inputs[0] == o.inputs[1] or any(
            not self._inside(k) or self._reader(n) != i for n, k in zip(o.inputs, sides, strict=True)
        ):
            return None
        taken, low, high, at = [*sides, i], -np.inf, np.inf, self._reader(o.outputs[0])
        if at >= 0 and operations[at].op in {"Relu", "Clip"}:
            a: Any = operations[at].attributes
            low, high = (0.0, np.inf) if operations[at].op == "Relu" else (a["low"], a["high"])
            taken.append(at)
            at = self._reader(operations[at].outputs[0])
        if (
            at < 0
            or operations[at].op != "QuantizeLinear"
            or any(operations[k].op != "DequantizeLinear" for k in sides)
        ):
            return None
        left, right, to = (Scale.of(context, operations[k]) for k in (*sides, at))
        names = [operations[k].inputs[0] for k in sides]
        shape = image_of(context.type_of(o.outputs[0]))
        items = {context.type_of(n).item for n in (*names, o.outputs[0])}
        if left is None or right is None or to is None or shape is None or len(items) != 1 or not low <= high:
            return None
        one, two, wanted = left, right, to.octets(*shape)

        def make(source: Layout | None) -> Kernel:
            read = one.seen(source) if isinstance(source, Octets) else one.octets(*shape)
            return quantised.add_octets(read, two.octets(*shape), wanted, low, high)

        self.done.update((*taken, at))
        return at, kernel_step(o.name, self.index, make, names[0], operations[at].outputs[0], names[1])

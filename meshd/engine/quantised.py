"""Layers in 8 bits: bytes multiplied as bytes, and passed on as bytes to what reads them next.

A layer that `model.quantised` recognises is whole numbers until its tail: (byte - zero point) x weight, summed exactly, then
scaled once. So whichever kernel multiplies, every device gets the same bits: bytes on the int8 kernels, or, where groups are too
small for them or most weights are zero, whole numbers held as floats on the float kernels. Everything else around it (pooling,
adding, functions of one element) stays in bytes where bytes say exactly what floats would.

Rule: as in `lower`, nothing looks past the layer.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine.context import Array, Context
from meshd.engine.fuse import Fusion
from meshd.engine.octets import OctetSteps, Scale, floats_of
from meshd.engine.packed import kernel_step, pair
from meshd.engine.step import Step
from meshd.errors import MisuseError
from meshd.kernels import registry
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Layout, Octets
from meshd.model.graph import Operation, TensorType
from meshd.model.quantised import FLOAT_EXACT, SPARSE_FROM, QuantisedLayer

Placed = tuple[int, Step]
"""The operation it is done at, and the step."""


def real(context: Context, o: Operation) -> Array:
    """What a DequantizeLinear of constants gives; the same arithmetic as its row in the engine's table."""
    values = [context.constants[n] for n in o.inputs]
    axis: Any = o.attributes["axis"]
    each = (-1,) + (1,) * (values[0].ndim - 1 - axis)
    scale, *zero = (v.reshape(()) if v.size == 1 else v.reshape(each) for v in values[1:])
    whole = values[0].astype(np.int32) - (zero[0].astype(np.int32) if zero else 0)
    return np.asarray(whole.astype(np.float32) * scale, np.float32)


@dataclass(frozen=True, slots=True)
class _Found:
    """A layer as the graph has it, with what its kernel takes along."""

    operation: Operation
    x: str
    scale: Scale
    """Of `x`."""
    weight: NDArray[Any]
    """Less its zero points."""
    tail: Tail
    added: Scale | None
    """Of `residual`, where its bytes are added."""
    to: Scale | None
    """Of `out`, where it leaves in bytes."""
    out: str
    residual: str


@dataclass(slots=True)
class Quantised:
    """What is done in bytes of one layer; operations it takes are added to `done`, tensors it makes up to `inner`."""

    context: Context
    index: int
    first: int
    last: int
    done: set[int]
    inner: dict[str, TensorType]

    def layers(self) -> list[Placed]:
        """Convolutions and products, and sums of two quantised tensors."""
        found: list[Placed] = []
        for layer in self.context.quantised.within(self.first, self.last):
            try:
                found += self._layer(layer)
            except MisuseError:
                continue  # In floats, then.
        sums = OctetSteps(self.context, self.index, self.first, self.last, self.done)
        for i in range(self.first, self.last):
            o = self.context.graph.operations[i]
            placed = sums.add(o, i) if o.op == "Add" and i not in self.done else None
            if placed is not None:
                found.append(placed)
        return found

    def _layer(self, layer: QuantisedLayer) -> list[Placed]:
        context, operations = self.context, self.context.graph.operations
        o, source = operations[layer.index], operations[layer.source]
        x, scale = source.inputs[0], Scale.of(context, source)
        if scale is None:
            return []
        weight, steps = self._weight(operations[layer.weight])
        floats = self._as_floats(o, operations[layer.weight], weight)
        tail = Fusion(context, layer.index, self.last, bends=o.op == "Conv" or not floats)
        bias = np.zeros(len(weight), np.float32) if tail.value.bias is None else tail.value.bias
        tail.value = Tail(scale=np.asarray(steps * scale.step, np.float32), bias=bias)
        tail.grow()
        added, to = (None, None) if floats else (self._residual(tail), self._trailing(tail))
        taken = [layer.weight, layer.index, *tail.fused]
        if len(context.readers[source.outputs[0]]) == 1:
            taken.append(layer.source)
        out = tail.out
        residual = tail.residual
        if to is not None:
            at = context.readers[tail.out][0]
            taken.append(at)
            out = operations[at].outputs[0]
        if added is not None:
            at = context.writer[tail.residual]
            residual = operations[at].inputs[0]
            taken.append(at)
        made = _Found(o, x, scale, weight, tail.value, added, to, out, residual)
        steps_made = self._whole(made) if floats else self._octets(made)
        self.done.update(taken)
        return [(max(taken), step) for step in steps_made]

    def _weight(self, o: Operation) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """(weights less their zero points, scales of each output)."""
        constants = self.context.constants
        octets, scale = constants[o.inputs[0]], constants[o.inputs[1]]
        if len(o.inputs) > 2:
            zero = constants[o.inputs[2]].astype(np.int16)
            octets = octets.astype(np.int16) - (zero.reshape((-1,) + (1,) * (octets.ndim - 1)))
            if octets.min() >= -128 and octets.max() <= 127:
                octets = octets.astype(np.int8)
        elif octets.dtype == np.uint8:
            octets = octets.astype(np.int16)
        return octets, np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), (len(octets),)), np.float32)

    def _as_floats(self, o: Operation, dequantise: Operation, weight: NDArray[Any]) -> bool:
        """Whether the float kernels serve better, on whole numbers: as long as those stay exact."""
        if o.op == "Conv" and o.attributes["group"] != 1:
            return not registry.int8_fits(weight, int(o.attributes["group"]))  # type: ignore[arg-type]
        held = self.context.graph.weights[dequantise.inputs[0]]
        if not held.structure.startswith("block") or held.zeros < SPARSE_FROM:
            return False
        sums = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(1)
        return bool(sums.max() * 255 <= FLOAT_EXACT)

    def _residual(self, tail: Fusion) -> Scale | None:
        """The scale of a quantised tensor that the tail adds, where nobody else wants its floats."""
        at = self.context.writer.get(tail.residual, -1)
        if not self.first <= at < self.last or at in self.done:
            return None
        o = self.context.graph.operations[at]
        alone = len(self.context.readers[tail.residual]) == 1
        return Scale.of(self.context, o) if o.op == "DequantizeLinear" and alone else None

    def _trailing(self, tail: Fusion) -> Scale | None:
        """The scale that the tail's output is quantised with, where nobody else wants its floats."""
        readers = self.context.readers.get(tail.out, [])
        if len(readers) != 1 or readers[0] >= self.last:
            return None
        o = self.context.graph.operations[readers[0]]
        return Scale.of(self.context, o) if o.op == "QuantizeLinear" else None

    def _octets(self, found: _Found) -> list[Step]:
        """On bytes."""
        o, weight, to = found.operation, found.weight, found.to
        made = self.context.type_of(o.outputs[0]).item
        if o.op == "Gemm":
            shape: tuple[int, ...] = (made[-1],)
            rows = prod(made[:-1])
        else:
            shape, rows = (made[1], *((1, made[2]) if len(made) == 3 else made[2:])), made[0]

        def make(source: Layout | None) -> Kernel:
            beside = found.added.octets(*shape) if found.added else None
            if o.op == "Gemm":
                kernel = registry.product_int8(
                    weight, found.scale.octets(weight.shape[1]), tail=found.tail, residual=beside
                )
            else:
                window = _Window.of(self.context, o)
                read = found.scale.octets(*window.shape)
                if isinstance(source, Octets):
                    read = found.scale.seen(source)
                kernel = registry.convolution_int8(
                    window.weight(weight), read, tail=found.tail, residual=beside, **window.how
                )
            if to is not None:
                kernel.write_to(to.octets(*shape))
            return kernel

        fixed: Any = make(None) if o.op == "Gemm" else make
        return [kernel_step(o.name, self.index, fixed, found.x, found.out, found.residual, rows)]

    def _whole(self, found: _Found) -> list[Step]:
        """On whole numbers held as floats."""
        o, x = found.operation, found.x
        t = self.context.type_of(x)
        whole = f"{x}\0{self.index}"  # No graph has such a name.
        self.inner[whole] = TensorType("float32", t.item)
        unit, values = replace(found.scale, step=np.float32(1)), found.weight.astype(np.float32)
        if o.op == "Gemm":
            rows, k = prod(t.item[:-1]), t.item[-1]
            steps: list[Step] = [floats_of(f"{o.name} input", self.index, x, whole, unit, (k,), rows)]
            kernel = registry.product(values, tail=found.tail)
            return [*steps, kernel_step(o.name, self.index, kernel, whole, found.out, found.residual, rows)]
        window = _Window.of(self.context, o)

        def make(source: Layout | None) -> Kernel:
            _, height, width = window.shape
            return registry.convolution(
                window.weight(values), height, width, source=source, tail=found.tail, **window.how
            )

        steps = [floats_of(f"{o.name} input", self.index, x, whole, unit, window.shape, t.item[0])]
        return [*steps, kernel_step(o.name, self.index, make, whole, found.out, found.residual, t.item[0])]


@dataclass(frozen=True, slots=True)
class _Window:
    """How a convolution moves, one spatial axis made two."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    how: dict[str, Any]
    flat: bool

    @classmethod
    def of(cls, context: Context, o: Operation) -> "_Window":
        shape = context.type_of(o.inputs[0]).item
        flat = len(shape) == 3
        how = {n: pair(o.attributes[n], flat) for n in ("strides", "dilations", "pads")}
        return cls((shape[1], *((1, shape[2]) if flat else shape[2:])), {**how, "groups": o.attributes["group"]}, flat)  # type: ignore[arg-type]

    def weight(self, weight: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(weight[:, :, None] if self.flat else weight)

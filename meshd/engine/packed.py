"""Operations that compiled kernels serve: convolutions, products, pooling, signs. The rest is `lower`'s."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from meshd.engine.context import Context
from meshd.engine.fuse import Fusion
from meshd.engine.step import KernelStep, Step
from meshd.errors import MisuseError
from meshd.kernels import registry
from meshd.kernels.kernel import Kernel
from meshd.kernels.layout import Bits, Layout, Planes
from meshd.model.graph import Operation

Make = Callable[[Layout | None], Kernel]
"""Makes a kernel, to read a given layout if it can."""


def kernel_step(
    name: str, layer: int, make: Make | Kernel, x: str, out: str, residual: str = "", rows: int = 1
) -> KernelStep:
    """A kernel, or what makes it, as a step from tensor `x` to tensor `out`."""
    kernel = make if isinstance(make, Kernel) else make(None)
    return KernelStep(
        name,
        layer,
        [],
        [],
        family=kernel.family if kernel.family != "other" else "memory",
        resident_bytes=kernel.resident_bytes,
        macs=kernel.macs * rows,
        scratch_size=kernel.scratch_size,
        kernel=kernel,
        x=x,
        out=out,
        residual=residual,
        rows=rows,
        adapt=None if isinstance(make, Kernel) else make,
    )


@dataclass(slots=True)
class Packer:
    """Makes kernels of one graph's operations."""

    context: Context

    def lower(self, layer: int, i: int, last: int, done: set[int]) -> tuple[int, Step] | None:
        """The operation as a kernel with what follows fused into its tail; None where no kernel serves."""
        o = self.context.graph.operations[i]
        make = {"Conv": self._conv, "Gemm": self._gemm, "MaxPool": self._pool, "AveragePool": self._pool}.get(o.op)
        if o.op == "ReduceMean":
            make = self._mean
        if o.op == "Sign" and o.attributes["zero"] == 1:
            make = self._sign
        if make is None or any(self.context.type_of(n).dtype != "float32" for n in (*o.inputs, *o.outputs) if n):
            return None
        try:
            tail = Fusion(self.context, i, last, bends=self._bends(o))
            if o.op in {"Conv", "Gemm"}:
                tail.grow()
            step: Step | None = make(layer, o, tail)
        except MisuseError:
            return None  # NumPy has what the kernels refuse.
        if step is None:
            return None
        done.update(tail.fused)
        return max([i, *tail.fused]), step

    def _bends(self, o: Operation) -> bool:
        """Whether the kernel that serves it is a float convolution, whose tail may bend."""
        return o.op == "Conv" and self.context.binary(o) is None and not self._sees_all(o)

    def _sees_all(self, o: Operation) -> bool:
        """A convolution whose window is the whole image: a product of one row."""
        seen, window = self.context.type_of(o.inputs[0]).item[2:], self.context.type_of(o.inputs[1]).item[2:]
        return o.attributes["group"] == 1 and seen == window and not any(o.attributes["pads"])  # type: ignore[arg-type]

    def _step(self, layer: int, o: Operation, make: Make | Kernel, x: str, tail: Fusion, rows: int = 1) -> Step:
        return kernel_step(o.name, layer, make, x, tail.out, tail.residual, rows)

    def _conv(self, layer: int, o: Operation, tail: Fusion) -> Step | None:
        shape, weight = self.context.type_of(o.inputs[0]).item, self.context.constants.get(o.inputs[1])
        if weight is None or len(shape) > 4 or o.inputs[0] in self.context.constants:
            return None
        a, flat = o.attributes, len(shape) == 3
        strides, dilations, pads = (pair(a[n], flat) for n in ("strides", "dilations", "pads"))
        binary, pad_sign = self.context.binary(o), 0
        x = o.inputs[0]
        if binary is not None:
            x, more = binary
            if more:
                pads, pad_sign = pair(more, flat), 1
            shape = self.context.type_of(x).item
        _, _, height, width = (*shape[:2], 1, shape[2]) if flat else shape
        rows = np.ascontiguousarray(weight[:, :, None] if flat else weight)
        structure = self.context.graph.weights[o.inputs[1]].structure
        if binary is None and self._sees_all(o):
            flat_rows = rows.reshape(len(rows), -1)
            return self._step(
                layer, o, registry.product(flat_rows, tail=tail.value, structure=structure), x, tail, shape[0]
            )
        pitch = 0 if flat else max(self.context.pitches.get(size, 0) for size in self._sizes(o, strides))

        def make(source: Layout | None) -> Kernel:
            return registry.convolution(
                rows,
                height,
                width,
                strides=strides,
                pads=pads,
                dilations=dilations,
                groups=a["group"],  # type: ignore[arg-type]
                pitch=pitch,
                source=source,
                tail=tail.value,
                signs=binary is not None,
                pad_sign=pad_sign,  # type: ignore[arg-type]
                structure=structure,
            )

        return self._step(layer, o, make, x, tail, shape[0])

    def _sizes(self, o: Operation, strides: Any) -> list[tuple[int, int]]:
        """Sizes of the planes whose pitch a convolution shares: of its output, and at stride 1 of its input."""
        names = [o.outputs[0], o.inputs[0]] if strides == (1, 1) else [o.outputs[0]]
        return [self.context.type_of(n).item[2:] for n in names]  # type: ignore[misc]

    def _gemm(self, layer: int, o: Operation, tail: Fusion) -> Step | None:
        weight, shape = self.context.constants.get(o.inputs[1]), self.context.type_of(o.inputs[0]).item
        if weight is None or o.inputs[0] in self.context.constants or weight.size == 0:
            return None
        structure = self.context.graph.weights[o.inputs[1]].structure
        signs = structure == "sign" and o.inputs[0] in self.context.signs
        kernel = registry.product(weight, tail=tail.value, signs=signs, structure=structure)
        return self._step(layer, o, kernel, o.inputs[0], tail, prod(shape[:-1]))

    def _pool(self, layer: int, o: Operation, tail: Fusion) -> Step | None:
        shape, a = self.context.type_of(o.inputs[0]).item, o.attributes
        flat = len(shape) == 3
        if len(shape) > 4 or o.inputs[0] in self.context.constants:
            return None
        kernel, strides, dilations, pads = (pair(a[n], flat) for n in ("kernel", "strides", "dilations", "pads"))
        over: Any = (0, *a["overhang"]) if flat else a["overhang"]  # type: ignore[misc]
        average = o.op == "AveragePool"
        counts = average and a["count_include_pad"] == 1
        if counts and any(over):
            return None
        pads = (pads[0], pads[1], pads[2] + over[0], pads[3] + over[1])
        bits = not average and o.inputs[0] in self.context.signs
        channels, height, width = (shape[1], 1, shape[2]) if flat else shape[1:]

        def make(source: Layout | None) -> Kernel:
            return registry.pool(
                "average" if average else "max",
                channels,
                height,
                width,
                kernel,
                strides=strides,
                pads=pads,
                dilations=dilations,
                count_pads=counts,
                bits=bits,
                source=source,
            )

        return self._step(layer, o, make, o.inputs[0], tail, shape[0])

    def _mean(self, layer: int, o: Operation, tail: Fusion) -> Step | None:
        """GlobalAveragePool, and its like without the two axes of 1 behind."""
        shape, a = self.context.type_of(o.inputs[0]).item, o.attributes
        if len(shape) != 4 or a["axes"] != (2, 3) or not a["keepdims"] or o.inputs[0] in self.context.constants:
            return None
        channels, height, width = shape[1:]

        def make(source: Layout | None) -> Kernel:
            return registry.pool("average", channels, height, width, (height, width), source=source)

        return self._step(layer, o, make, o.inputs[0], tail, shape[0])

    def _sign(self, layer: int, o: Operation, tail: Fusion) -> Step | None:
        shape = self.context.type_of(o.inputs[0]).item
        if not 2 <= len(shape) <= 4 or shape[0] != 1 or prod(shape) == 0:
            return None
        channels, height, width = {2: (*shape[1:], 1, 1), 3: (*shape[1:2], 1, shape[-1]), 4: shape[1:]}[len(shape)]
        target = Bits(channels, height, width, pitch=width)
        return self._step(layer, o, registry.convert(Planes.plain(channels, height, width), target), o.inputs[0], tail)


def pair(values: Any, flat: bool) -> Any:
    """Attributes of one spatial axis as those of two, the first of them 1 high."""
    if not flat:
        return tuple(values)
    return (0, values[0], 0, values[1]) if len(values) == 2 else (1, *values)

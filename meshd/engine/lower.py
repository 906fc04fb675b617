"""From the operations of one layer to steps: which kernel, which tail fused into it, what is left to NumPy.

Rule 1: a layer is lowered by itself, from the graph and its weights alone: never by what lies around it in a segment. That is
why answers are the same bit for bit however a model is cut.
Rule 2: an operation joins the tail of the kernel before it only where nobody else reads what lies between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine.context import Context
from meshd.engine.octets import OctetSteps
from meshd.engine.operators import ROWS, Call
from meshd.engine.packed import Packer
from meshd.engine.quantised import Quantised, real
from meshd.engine.step import ArrayStep, Form, KernelStep, PlaneStep, Rename, Step
from meshd.kernels import registry
from meshd.model.graph import Graph, Operation, TensorType, Weight

Array = NDArray[Any]

IN_PLACE = frozenset(
    {
        "Relu",
        "Clip",
        "Neg",
        "Abs",
        "Tanh",
        "Exp",
        "Sqrt",
        "Sigmoid",
        "HardSigmoid",
        "Add",
        "Sub",
        "Mul",
        "Min",
        "Max",
        "Affine",
    }
)
"""Rows that read an element before they write it, and never again."""

KEEPS_ZERO = frozenset(
    {
        *(
            "Relu",
            "LeakyRelu",
            "HardSwish",
            "Swish",
            "Tanh",
            "Neg",
            "Abs",
            "Elu",
            "Selu",
            "Celu",
            "Gelu",
            "Erf",
            "Mish",
        ),
        *("Softsign", "Sin", "Sinh", "Asinh", "Atan", "Tan", "Floor", "Ceil", "Round", "Clip"),
    }
)
"""Functions of one element that make zero of zero: they run on padded planes as they lie."""

JOINS = frozenset({"Add", "Sub", "Mul", "Min", "Max"})
"""Functions of two that make zero of zeros."""


@dataclass(slots=True)
class Lowering:
    """One graph; `constants` are the weights of the layers to be lowered."""

    graph: Graph
    constants: Mapping[str, Array]
    context: Context = field(init=False)
    inner: dict[str, TensorType] = field(default_factory=dict)
    """Tensors that steps pass each other and no graph knows."""

    def __post_init__(self) -> None:
        self.context = Context(self.graph, self.constants)

    @property
    def types(self) -> dict[str, TensorType]:
        """Of all tensors of the steps made so far."""
        return {**self.graph.tensors, **self.inner}

    def layer(self, index: int, first: int, last: int) -> list[Step]:
        """Steps of operations `[first, last)`, in order."""
        placed: list[tuple[int, Step]] = []
        done: set[int] = set()
        placed.extend(Quantised(self.context, index, first, last, done, self.inner).layers())
        self._dequantise(first, last, done)
        octets = OctetSteps(self.context, index, first, last, done)
        packer = Packer(self.context)
        for i in range(first, last):
            if i in done or self.context.absorbed(i, last):
                continue
            o = self.graph.operations[i]
            at, step = (
                packer.lower(index, i, last, done)
                or octets.lower(i)
                or (i, self._planes(index, o) or self._plain(index, o))
            )
            pad = self.context.writer.get(o.inputs[0], -1)
            if not isinstance(step, KernelStep) and first <= pad < i and self.context.absorbed(pad, last):
                placed.append((pad, self._plain(index, self.graph.operations[pad])))  # No kernel took it in after all.
            placed.append((at, step))
        return [step for _, step in sorted(placed, key=lambda p: p[0])]

    def _dequantise(self, first: int, last: int, done: set[int]) -> None:
        """Weights in 8 bits that no kernel of bytes took are weights in floats."""
        graph, found = self.graph, {}
        for i in range(first, last):
            o = graph.operations[i]
            if i not in done and o.op == "DequantizeLinear" and all(n in self.constants for n in o.inputs if n):
                found[o.outputs[0]] = real(self.context, o)
                done.add(i)
        if not found:
            return
        weights, tensors = dict(graph.weights), dict(graph.tensors)
        for name, array in found.items():
            t = tensors.pop(name)
            weights[name] = Weight(name, TensorType(t.dtype, t.item), "", 0)
            self.constants = {**self.constants, name: array}
        self.graph = replace(graph, weights=weights, tensors=tensors)
        self.context = Context(self.graph, self.constants)

    # What NumPy computes.

    def _plain(self, layer: int, o: Operation) -> Step:
        graph = self.graph
        outs = [Form(n) if n else None for n in o.outputs]
        reads = [Form(n) for n in o.inputs if n in graph.tensors]
        writes = [f for f in outs if f is not None]
        if o.op == "Reshape" and reads:
            return Rename(o.name, layer, reads, writes, alias=True)
        constants = [np.array(self.constants[n]) if n in graph.weights else None for n in o.inputs]
        operands: list[Form | Array | None] = [
            c if c is not None else (Form(n) if n else None) for n, c in zip(o.inputs, constants, strict=True)
        ]
        if o.op == "Reshape":
            return self._constant(layer, o, constants[0], writes)
        kinds = [graph.type_of(n) for n in o.inputs]
        made = [
            TensorType(graph.tensors[n].dtype, graph.tensors[n].item) if n else TensorType("bool", ())
            for n in o.outputs
        ]
        call = Call(o.op, kinds, made, constants, o.attributes)
        first, out = kinds[0], made[0]
        same = (
            first is not None and first.item == out.item and first.dtype == out.dtype and o.inputs[0] in graph.tensors
        )
        return ArrayStep(
            o.name,
            layer,
            reads,
            writes,
            resident_bytes=sum(c.nbytes for c in constants if c is not None),
            in_place=same and o.op in IN_PLACE,
            function=ROWS[o.op](call),
            operands=operands,
            outputs=outs,
        )

    # What runs on planes, pads and all.

    def _planes(self, layer: int, o: Operation) -> Step | None:
        """The operation on planes of any layout; None where it is not one that makes zero of zeros, channel by channel."""
        out = self.context.type_of(o.outputs[0])
        if out.dtype != "float32" or len(o.outputs) != 1 or len(out.item) not in {3, 4} or out.item[0] != 1:
            return None
        if any(not n or self.context.type_of(n).dtype != "float32" for n in o.inputs):
            return None
        if o.op == "Clip" and not o.attributes["low"] <= 0 <= o.attributes["high"]:  # type: ignore[operator]
            return None
        if o.op == "Concat":
            ranks = all(n in self.graph.tensors for n in o.inputs)
            if not ranks or o.attributes["axis"] != 1:
                return None
            operands: list[str | Array] = list(o.inputs)
            channels = [self.context.type_of(n).item[1] for n in o.inputs]
            call = Call(o.op, [], [TensorType("float32", (out.item[1], 1))], [], {"axis": 0})
        elif o.op in KEEPS_ZERO or o.op in JOINS:
            found = [self._operand(o.op, n, out.item) for n in o.inputs]
            if any(f is None for f in found) or not any(isinstance(f, tuple) and f[1] for f in found):
                return None
            operands = [f[0] if isinstance(f, tuple) else f for f in found if f is not None]
            channels = [f[1] for f in found if isinstance(f, tuple)]
            call = Call(o.op, [self.context.type_of(n) for n in o.inputs], [out], [None] * len(o.inputs), o.attributes)
        else:
            return None
        once = [c for c in operands if isinstance(c, str)].count(o.inputs[0]) == 1
        same = once and operands[0] is o.inputs[0] and channels[0] == out.item[1]
        fast = o.op in {"HardSwish", "LeakyRelu"} and registry.compiled()
        constants = sum(c.nbytes for c in operands if not isinstance(c, str))
        return PlaneStep(
            o.name,
            layer,
            [],
            [],
            resident_bytes=constants,
            in_place=same and (o.op in IN_PLACE or fast),
            function=ROWS[o.op](call),
            operands=operands,
            channels=channels,
            out=o.outputs[0],
        )

    def _operand(self, op: str, name: str, shape: tuple[int, ...]) -> tuple[str, int] | Array | None:
        """(tensor, its channels), or (tensor, 0) for one value a channel, or a constant as a column; None for anything else."""
        own = self.context.type_of(name).item
        wide = (1,) * (len(shape) - len(own)) + own
        column = wide[1:] == (shape[1],) + (1,) * (len(shape) - 2) and wide[0] == 1
        if name in self.constants:
            # A constant added to pads would not leave them zero; a product does.
            if op != "Mul" or not (column or prod(own) == 1) or not np.isfinite(self.constants[name]).all():
                return None
            return np.array(self.constants[name]).reshape(-1, 1)
        if own == shape:
            return name, shape[1]
        return (name, 0) if op == "Mul" and column and len(own) == len(shape) else None

    def _constant(self, layer: int, o: Operation, value: Array | None, writes: list[Form]) -> Step:
        assert value is not None
        shaped = value.reshape(self.graph.tensors[o.outputs[0]].item)
        return ArrayStep(
            o.name,
            layer,
            [],
            writes,
            resident_bytes=value.nbytes,
            function=lambda ins, outs: lambda: np.copyto(outs[0], ins[0]),
            operands=[shaped],
            outputs=writes,
        )

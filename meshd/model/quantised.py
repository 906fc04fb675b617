"""Layers in 8 bits: which convolutions and products of a graph multiply bytes by bytes.

The standard writes such a layer as DequantizeLinear(bytes) and DequantizeLinear(weight) → Conv or Gemm → what its tail takes
in → QuantizeLinear. Real values in between are never stored: sums are whole numbers, exact, scaled once.

Rule: what is recognised hangs on the graph alone, never on a device or a cut: everybody computes the same bits, whichever
kernel multiplies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from meshd.model.graph import Graph, Operation, TensorType

BYTES = frozenset({"int8", "uint8"})

SUM_MAX = 2**31 - 1
"""What int32 holds: no sum may reach past it, whatever the bytes."""

CLOSES = frozenset({"Relu", "Clip", "HardSwish", "HardSigmoid", "LeakyRelu"})
"""What ends a tail, but for quantising."""

SPARSE_FROM = 0.8
"""Share of zeros in blocks from which the sparse kernels, on whole numbers held as floats, beat multiplying all bytes."""

FLOAT_EXACT = 2**24
"""Whole numbers up to here are exact in float32, in whatever order they are added."""


@dataclass(frozen=True, slots=True)
class QuantisedLayer:
    """One layer, by operation index.

    Attributes
    ----------
    index : the Conv or Gemm
    source, weight : the DequantizeLinear of its input and of its weight
    tail : what follows and is done before anything is stored, in order: Add, one of `CLOSES`; last, a QuantizeLinear
    added : the DequantizeLinear of what the tail adds; -1 for none
    quantised : whether the tail ends in a QuantizeLinear, so that bytes come out
    """

    index: int
    source: int
    weight: int
    tail: tuple[int, ...] = ()
    added: int = -1
    quantised: bool = False

    @property
    def inside(self) -> tuple[int, ...]:
        """Operations that are done within the layer's kernel."""
        return tuple(i for i in (self.source, self.weight, self.added, *self.tail) if i >= 0)


@dataclass(frozen=True, slots=True)
class QuantisedLayers:
    """All of a graph, by the index of their Conv or Gemm."""

    layers: Mapping[int, QuantisedLayer]

    def within(self, first: int, last: int) -> Iterator[QuantisedLayer]:
        """Those of operations `[first, last)` that are there with all that makes them one."""
        for i in range(first, last):
            layer = self.layers.get(i)
            if layer is not None and layer.source >= first and layer.weight >= first:
                yield layer


def one_step(graph: Graph, operation: Operation) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear has one scale and one zero point for all, both known."""
    given = [n for n in operation.inputs[1:] if n]
    return all(n in graph.weights and prod(graph.weights[n].type.item) == 1 for n in given)


def quantised_layers(graph: Graph) -> QuantisedLayers:
    """Find the layers in 8 bits."""
    writer = {n: i for i, o in enumerate(graph.operations) for n in o.outputs if n}
    readers: dict[str, list[int]] = {}
    for i, o in enumerate(graph.operations):
        for n in o.inputs:
            readers.setdefault(n, []).append(i)
    outputs = {p.name for p in graph.outputs}

    def dequantised(name: str) -> int:
        """Who makes the tensor of bytes with one step; -1 if it is nothing of the kind."""
        i = writer.get(name, -1)
        o = graph.operations[i]
        fits = i >= 0 and o.op == "DequantizeLinear" and o.inputs[0] in graph.tensors and one_step(graph, o)
        return i if fits and graph.tensors[o.inputs[0]].dtype in BYTES else -1

    def tail_of(i: int) -> tuple[tuple[int, ...], int, bool]:
        name, added, clipped = graph.operations[i].outputs[0], -1, False
        found: list[int] = []
        while len(readers.get(name, ())) == 1 and name not in outputs:
            at = readers[name][0]
            o = graph.operations[at]
            if o.op == "QuantizeLinear" and one_step(graph, o) and o.attributes["to"] in BYTES:
                return (*found, at), added, True
            if o.op == "Add" and not clipped and added < 0:
                added = max(dequantised(n) for n in o.inputs)
                if added < 0 or len(readers[graph.operations[added].outputs[0]]) > 1:
                    break
            elif o.op not in CLOSES or clipped:
                break
            clipped = o.op != "Add"
            found.append(at)
            name = o.outputs[0]
        return tuple(found), added if any(graph.operations[k].op == "Add" for k in found) else -1, False

    made = {}
    for i, o in enumerate(graph.operations):
        if o.op not in {"Conv", "Gemm"} or (len(o.inputs) > 2 and o.inputs[2] and o.inputs[2] not in graph.weights):
            continue
        source, weight = dequantised(o.inputs[0]), writer.get(o.inputs[1], -1)
        grouped = o.op == "Conv" and o.attributes["group"] != 1
        if source >= 0 and weight >= 0 and _is_weight(graph, graph.operations[weight], grouped):
            made[i] = QuantisedLayer(i, source, weight, *tail_of(i))
    return QuantisedLayers(made)


def _is_weight(graph: Graph, o: Operation, grouped: bool) -> bool:
    """Whether it dequantises a constant that `weight_fits`."""
    if o.op != "DequantizeLinear" or any(n and n not in graph.weights for n in o.inputs):
        return False
    kind, scale = (graph.weights[n].type for n in o.inputs[:2])
    return weight_fits(kind, scale, len(o.inputs) > 2, o.attributes["axis"] == 0, grouped)


def weight_fits(kind: TensorType, scale: TensorType, has_zero: bool, by_output: bool, grouped: bool) -> bool:
    """Whether a weight has a scale for each output, or one for all, and no sum of its products can overflow.

    Groups too small for whole vectors are multiplied as floats that hold whole numbers: so must all be then, to be exact.
    """
    shape = kind.item
    if kind.dtype not in BYTES or not 2 <= len(shape) <= 4 or prod(shape) == 0:
        return False
    greatest = 128 if kind.dtype == "int8" and not has_zero else 255
    fits = prod(shape[1:]) * 255 * greatest <= (FLOAT_EXACT if grouped else SUM_MAX)
    return fits and (prod(scale.item) == 1 or by_output)

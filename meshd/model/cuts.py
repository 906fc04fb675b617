"""Where a graph may be cut, what crosses there, and what each layer costs.

A *cut* is a place in topological order where the set of live tensors is small. Layers are the runs between adjacent cuts;
a segment is `[start, end)` in layers. Deterministic: every node derives the same layers from the same topology.

Rule 1: between two operations that multiply there is one cut, at the place where the fewest bytes cross (the last of equals):
    activations, pooling and the like go with the layer that feeds them.
Rule 2: an engine compiles each layer by itself, so a cut never changes what a layer computes.
Rule 3: at most LAYERS_MAX layers; past it the cuts where most bytes cross go first.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod

from meshd.config import LAYERS_MAX, TENSORS_PER_REQUEST_MAX
from meshd.core.plan import Encoding, LayerCost
from meshd.model.check import infer, stored_bytes, tensor_bytes
from meshd.model.graph import Graph, Operation, Port, TensorType
from meshd.model.operators import OPERATORS
from meshd.model.quantised import BYTES, QuantisedLayer, quantised_layers
from meshd.model.quantised import SPARSE_FROM as OCTETS_SPARSE_FROM
from meshd.model.structure import sign_tensors

SPARSE_FROM = 0.5
"""Share of zeros from which a layer with a block pattern is booked as sparse; a device may still run it dense."""

DEPTHWISE = 4
"""What a multiplication of a depthwise convolution costs beside one of an ordinary one: inputs are used by one output only."""

ARENA_SHARES = 16
"""Layers that are taken to share one arena; see `_arena_shares`."""

SCRATCH_BYTES = 32 * 1024
"""What a convolution's kernel keeps beside the arena: a tile of 64 outputs and its residual."""

OCTET_LANES = 32
"""Outputs that an int8 kernel computes at once: weights are padded to whole ones."""

TAILS = frozenset({"Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Affine", "Add"})
"""What leaves with the convolution or product before it, where nobody else reads what lies between."""

_INTEGER = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


class _Lives:
    """Who writes and who reads each tensor, by operation index; -1 writes inputs, the end reads outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.born = {p.name: -1 for p in graph.inputs}
        self.read: dict[str, list[int]] = {name: [] for name in graph.tensors}
        for i, operation in enumerate(graph.operations):
            for name in operation.inputs:
                if name in graph.tensors:
                    self.read[name].append(i)
            self.born.update((name, i) for name in operation.outputs if name)
        for port in graph.outputs:
            self.read[port.name].append(len(graph.operations))
        self.last = {n: max(readers) for n, readers in self.read.items() if readers and max(readers) > self.born[n]}
        """The last reader of each tensor that anybody reads."""
        self.signs = self._signs()
        self.quantised = quantised_layers(graph)

    def _signs(self) -> set[str]:
        """Tensors of which only the sign counts, or which are nothing but signs."""
        graph, found = self.graph, sign_tensors(self.graph.operations)
        ends = len(graph.operations)
        for name, readers in self.read.items():
            signs = [
                i < ends and graph.operations[i].op == "Sign" and graph.operations[i].attributes["zero"] == 1
                for i in readers
            ]
            if readers and all(signs):
                found.add(name)
        return {n for n in found if graph.tensors[n].dtype == "float32"}

    def encoding(self, name: str) -> Encoding:
        if name in self.signs:
            return Encoding.SIGN_BITS
        dtype = self.graph.tensors[name].dtype
        return {"float32": Encoding.FLOAT32, "int8": Encoding.INT8}.get(dtype, Encoding.RAW)

    def crossing_bytes(self, name: str) -> int:
        return encoded_bytes(self.graph.tensors[name], self.encoding(name))

    def sweep(self, weigh: Callable[[str], int]) -> list[int]:
        """For each place, the sum of `weigh` over what crosses between operation `place - 1` and `place`."""
        change = [0] * (len(self.graph.operations) + 2)
        for name, last in self.last.items():
            weight = weigh(name)
            change[self.born[name] + 1] += weight
            change[last + 1] -= weight
        return list(accumulate(change))[:-1]


def encoded_bytes(t: TensorType, encoding: Encoding) -> int:
    """Bytes of one item of a crossing tensor."""
    return -(-prod(t.item) // 8) if encoding is Encoding.SIGN_BITS else tensor_bytes(t)


@lru_cache(maxsize=64)
def _lives(key: "_Key") -> _Lives:
    return _Lives(key.graph)


class _Key:
    """A graph by identity: graphs hold mappings, so they cannot be hashed by value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.graph is self.graph


@lru_cache(maxsize=64)
def _layers(key: _Key) -> tuple[tuple[int, int], ...]:
    graph, lives = key.graph, _lives(key)
    end = len(graph.operations)
    heavy = [works(o) for o in graph.operations]
    sizes, counts = lives.sweep(lives.crossing_bytes), lives.sweep(lambda _: 1)
    cuts: list[int] = []
    place, seen = 1, False
    while place < end:
        if heavy[place - 1]:
            seen = True
        gap = [place]
        while not heavy[place] and place + 1 < end:
            place += 1
            gap.append(place)
        if seen and heavy[place]:
            least = min(sizes[p] for p in gap)
            cuts.append(max(p for p in gap if sizes[p] == least))
        place += 1
    cuts = [c for c in cuts if sizes[c] > 0 and counts[c] <= TENSORS_PER_REQUEST_MAX]
    kept = sorted(cuts, key=lambda c: (sizes[c], c))[: LAYERS_MAX - 1]
    return tuple(pairwise([0, *sorted(kept), end]))


@lru_cache(maxsize=64)
def _crossings(key: _Key) -> tuple[tuple[str, ...], ...]:
    """Names that cross after each layer, in the order they are written."""
    lives, ends = _lives(key), [last for _, last in _layers(key)]
    found: list[list[str]] = [[] for _ in ends]
    for name, born in lives.born.items():
        if name in lives.last:
            # After layer i lies place ends[i]: it is crossed by what is written before and read from there on.
            for i in range(bisect_left(ends, born + 1), bisect_right(ends, lives.last[name])):
                found[i].append(name)
    found[-1] = []
    return tuple(tuple(names) for names in found)


def layers(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Operation ranges `[first, last)` of each layer; at most LAYERS_MAX (neighbours merged)."""
    return _layers(_Key(graph))


def crossing(graph: Graph, layer: int) -> tuple[tuple[str, str], ...]:
    """(tensor, encoding value) that cross the cut after `layer`, in topological order; see `core.plan.Encoding`.

    Empty after the last layer: what leaves there are the outputs.
    """
    lives = _lives(_Key(graph))
    return tuple((n, lives.encoding(n).value) for n in _crossings(_Key(graph))[layer])


def works(operation: Operation) -> bool:
    """Whether it multiplies and adds, rather than only moving or touching memory."""
    return OPERATORS[operation.op].macs is not None


def costs(graph: Graph) -> tuple[LayerCost, ...]:
    """What a planner needs of each layer."""
    lives, owner = _lives(_Key(graph)), _blob_owners(graph)
    return tuple(_cost(graph, lives, i, owner) for i in range(len(layers(graph))))


def _blob_owners(graph: Graph) -> dict[str, int]:
    """Each blob's first layer: a shared one weighs there."""
    owner: dict[str, int] = {}
    for i, (first, last) in enumerate(layers(graph)):
        for operation in graph.operations[first:last]:
            for name in operation.inputs:
                if name in graph.weights:
                    owner.setdefault(graph.weights[name].blob, i)
    return owner


def _cost(graph: Graph, lives: _Lives, layer: int, owner: dict[str, int]) -> LayerCost:
    first, last = layers(graph)[layer]
    macs: dict[str, int] = {}
    resident = 0
    open_end = ""
    """What a kernel writes, as long as the next operation may leave with it."""
    octets = {q.index: q for q in lives.quantised.within(first, last)}
    inside = {i for q in octets.values() for i in q.inside if not _shared(graph, lives, i)}
    for i, operation in enumerate(graph.operations[first:last], first):
        if operation.op == "Reshape" or i in inside:
            continue  # Another name for the same memory, or done by the layer's kernel.
        kind, count = _work(graph, operation, lives)
        weights = {n for n in operation.inputs if n in graph.weights}
        moved = [n for n in (*operation.inputs, *operation.outputs) if n in graph.tensors]
        joins = operation.op in TAILS and open_end in operation.inputs and len(lives.read[open_end]) == 1
        if joins:
            moved = [n for n in operation.inputs if n in graph.tensors and n != open_end]
        if joins or operation.op in {"Conv", "Gemm"}:
            open_end = operation.outputs[0]
        if i in octets:
            weights.update(n for n in graph.operations[octets[i].weight].inputs if n)
            kind, count = _octets_work(graph, operation, octets[i], count)
            moved = _moved(graph, octets[i])
        packed = sum(_resident(graph, operation, n, kind) for n in weights)
        for name, more in (
            ("steps", 0 if joins else 1),
            (kind, count),
            ("memory", packed + sum(tensor_bytes(graph.tensors[n]) for n in moved)),
        ):
            macs[name] = macs.get(name, 0) + more
        resident += packed
    return LayerCost(
        macs=tuple(sorted((k, v) for k, v in macs.items() if v)),
        weight_bytes=sum(graph.blobs.get(blob, 0) for blob, i in owner.items() if i == layer),
        resident_bytes=resident + _arena_shares(_Key(graph))[layer],
        crossing_bytes=sum(lives.crossing_bytes(n) for n, _ in crossing(graph, layer)),
    )


def _shared(graph: Graph, lives: _Lives, i: int) -> bool:
    """Whether somebody else reads what a DequantizeLinear inside a layer makes: then it is made after all."""
    o = graph.operations[i]
    return o.op == "DequantizeLinear" and len(lives.read[o.outputs[0]]) > 1


def _moved(graph: Graph, layer: QuantisedLayer) -> list[str]:
    """What a layer in 8 bits reads and writes: bytes, where bytes go in and come out."""
    made = graph.operations[layer.tail[-1] if layer.tail else layer.index].outputs[0]
    read = [graph.operations[k].inputs[0] for k in (layer.source, layer.added) if k >= 0]
    return [*read, made]


def _octets_work(graph: Graph, o: Operation, layer: QuantisedLayer, count: int) -> tuple[str, int]:
    """Cost class of a layer in 8 bits: int8, but for those that the float kernels serve on whole numbers."""
    weight = graph.weights[graph.operations[layer.weight].inputs[0]]
    if o.op == "Conv" and o.attributes["group"] != 1 and weight.type.shape[1] == 1:
        return "dense", count * DEPTHWISE
    if weight.structure.startswith("block") and weight.zeros >= OCTETS_SPARSE_FROM:
        return "sparse", round(count * (1.0 - weight.zeros))
    return "int8", count


@lru_cache(maxsize=64)
def _arena_shares(key: "_Key") -> tuple[int, ...]:
    """What each layer is booked of the arena.

    An arena is as large as the largest of its segment's layers, which no sum over layers can say. Booked so that all layers
    together come to the whole model's arena, or to a sixteenth of their sum where that is more: short segments of long models
    need a little more than is booked, long ones less.
    """
    graph, lives = key.graph, _lives(key)
    layers_in_octets = lives.quantised.layers.values()
    inside = {i for q in layers_in_octets for i in q.inside}
    made = {q.index: _moved(graph, q)[-1] for q in layers_in_octets}
    never = {n for i in inside for n in graph.operations[i].outputs} - set(made.values())
    raw = lives.sweep(lambda n: 0 if n in never else tensor_bytes(graph.tensors[n]))

    def beside(i: int) -> int:
        if i in made:
            o = graph.operations[i]
            each = graph.weights[graph.operations[lives.quantised.layers[i].weight].inputs[0]].type.item[1]
            # Narrow groups, but for depthwise ones, are served by the float kernels, which keep a tile beside.
            floats = o.op == "Conv" and o.attributes["group"] != 1 and each != 1
            return tensor_bytes(graph.tensors[made[i]]) + SCRATCH_BYTES * floats
        return 0 if i in inside else _beside(graph, i)

    own = [max(raw[i] + beside(i) for i in range(first, last)) for first, last in layers(graph)]
    peak, total = max(own), max(1, sum(own))
    return tuple(max(size // ARENA_SHARES, size * peak // total) for size in own)


def _beside(graph: Graph, i: int) -> int:
    """Bytes alive while an operation runs, beyond what was alive before it: its outputs, or its input in another layout."""
    o = graph.operations[i]
    made = sum(tensor_bytes(graph.tensors[n]) for n in o.outputs if n)
    if o.op in TAILS or o.op == "Reshape":
        return 0  # In place.
    if o.op != "Conv":
        return made
    strided = o.attributes["strides"] != (1,) * len(o.attributes["strides"])  # type: ignore[arg-type]
    copied = tensor_bytes(graph.tensors[o.inputs[0]]) if strided and o.inputs[0] in graph.tensors else 0
    return max(made, copied) + SCRATCH_BYTES


def _work(graph: Graph, operation: Operation, lives: _Lives) -> tuple[str, int]:
    """Cost class of an operation and its multiply-accumulates that count."""
    row = OPERATORS[operation.op]
    if row.macs is None:
        return "memory", 0
    types = tuple(graph.type_of(n) for n in operation.inputs)
    count = row.macs(types, operation.attributes, infer(graph, operation))
    if operation.op in _INTEGER:
        return "int8", count
    weight = graph.weights.get(operation.inputs[1])
    if weight is not None and weight.structure == "sign" and operation.inputs[0] in lives.signs:
        return "binary", count
    if weight is not None and weight.structure.startswith("block") and weight.zeros >= SPARSE_FROM:
        return "sparse", round(count * (1.0 - weight.zeros))
    if _depthwise(graph, operation):
        return "dense", count * DEPTHWISE
    return "dense", count


def _depthwise(graph: Graph, operation: Operation) -> bool:
    """A convolution whose outputs see one channel each."""
    weight = graph.weights.get(operation.inputs[1]) if operation.op == "Conv" else None
    return weight is not None and operation.attributes["group"] != 1 and weight.type.shape[1] == 1


def _resident(graph: Graph, operation: Operation, name: str, kind: str) -> int:
    """Bytes of a packed weight: signs in words, kept non-zeros with an offset for four of them, all else as it is."""
    weight = graph.weights[name]
    if weight.type.dtype in BYTES and kind == "int8" and len(weight.type.shape) > 1:
        outputs, inner, *taps = weight.type.item
        lanes = -(-outputs // OCTET_LANES) * OCTET_LANES
        return lanes * (
            prod(taps) * -(-inner // 4) * 4 + 12
        )  # Whole vectors of fours; scale, bias and base of each output.
    floats = 4 if weight.type.dtype in BYTES and kind != "int8" and len(weight.type.shape) > 1 else 1  # Held as floats.
    if kind == "dense" and len(weight.type.shape) > 2:
        # An int32 place for each eight of a convolution; in depthwise ones for each.
        return tensor_bytes(weight.type) * floats * (16 if _depthwise(graph, operation) else 9) // 8
    if kind == "binary":
        return -(-stored_bytes(weight) // 8) * 8
    if kind == "sparse":
        return round(tensor_bytes(weight.type) * floats * (1.0 - weight.zeros) * 1.25)
    return tensor_bytes(weight.type)


def segment_ports(graph: Graph, start: int, end: int) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """What goes into and comes out of layers `[start, end)`: the whole graph's ports at its ends.

    Where the batch is free every port has it leading: a tensor whose own leading dimension is not 1 gets one more axis.
    """
    last = len(layers(graph))
    if not 0 <= start < end <= last:
        raise IndexError(f"layers [{start}, {end}) of {last}")
    before = graph.inputs if start == 0 else tuple(_port(graph, n) for n, _ in crossing(graph, start - 1))
    after = graph.outputs if end == last else tuple(_port(graph, n) for n, _ in crossing(graph, end - 1))
    return before, after


def _port(graph: Graph, name: str) -> Port:
    t = graph.tensors[name]
    if not graph.batched or t.shape[:1] == (None,):
        return Port(name, t)
    return Port(name, TensorType(t.dtype, (None, *t.shape)))

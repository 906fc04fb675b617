"""Quantised models: bytes stay bytes, in the graph and in the blobs.

What only moves values moves bytes; a QuantizeLinear goes up to what writes its input and a DequantizeLinear down to each of its
readers, so that a cut between layers is crossed by bytes; weights that were dequantised beside a dequantised input are kept as
the bytes they were. See `model.quantised` for what that makes of a layer.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from meshd.model.graph import Operation, TensorType
from meshd.model.onnx_import.node import Builder, Steps
from meshd.model.quantised import BYTES, weight_fits

MOVES = frozenset({"MaxPool", "Reshape", "Transpose"})
"""Operators of one input whose results are among its elements, whatever the order of numbers below them."""


def quantise(builder: Builder, outputs: set[str]) -> None:
    """Run all passes; `outputs` are the graph's, which must stay."""
    if not any(o.op in {"QuantizeLinear", "DequantizeLinear"} for o in builder.operations):
        return
    _quantise_before_moves(builder, outputs)
    _move_bytes(builder, outputs)
    _settle(builder, outputs)
    _keep_bytes(builder)


def _one_step(builder: Builder, o: Operation) -> bool:
    return all(n in builder.arrays and builder.arrays[n].size == 1 for n in o.inputs[1:] if n)


def _is_quantiser(builder: Builder, o: Operation) -> bool:
    return o.op == "QuantizeLinear" and o.attributes["to"] in BYTES and _one_step(builder, o)


def _is_dequantiser(builder: Builder, o: Operation) -> bool:
    """Of a tensor of bytes with one step."""
    if o.op != "DequantizeLinear" or o.inputs[0] in builder.arrays or not _one_step(builder, o):
        return False
    return builder.types[o.inputs[0]].dtype in BYTES


def _numbers(builder: Builder, o: Operation, dtype: str) -> tuple[float, int, str]:
    """Scale, zero point and type of the bytes."""
    zero = builder.arrays[o.inputs[2]].item() if len(o.inputs) > 2 and o.inputs[2] else 0
    return builder.arrays[o.inputs[1]].item(), zero, dtype


def _alone(builder: Builder, outputs: set[str]) -> Callable[[str], bool]:
    """Whether a tensor has one reader and is no output of the graph."""
    count: dict[str, int] = {}
    for o in builder.operations:
        for n in o.inputs:
            count[n] = count.get(n, 0) + 1
    return lambda name: count.get(name, 0) == 1 and name not in outputs


def _quantise_before_moves(builder: Builder, outputs: set[str]) -> None:
    """`Move, Quantize` is `Quantize, Move`: rounding keeps the order of numbers."""
    alone = _alone(builder, outputs)
    at = {n: i for i, o in enumerate(builder.operations) for n in o.outputs if n}
    for place, quantiser in enumerate(builder.operations):
        if not _is_quantiser(builder, quantiser):
            continue
        i, o = place, quantiser
        while True:
            k = at.get(o.inputs[0], -1)
            move = builder.operations[k]
            if k < 0 or move.op not in MOVES or not alone(o.inputs[0]) or not alone(move.inputs[0]):
                break
            if move.inputs[0] not in at or builder.operations[at[move.inputs[0]]].op == "DequantizeLinear":
                break
            # The names stay with their places: the tensor between them now holds bytes of the move's input.
            between, dtype = o.inputs[0], str(o.attributes["to"])
            builder.types[between] = TensorType(dtype, builder.types[move.inputs[0]].shape)
            builder.operations[k] = replace(o, inputs=(move.inputs[0], *o.inputs[1:]), outputs=(between,))
            builder.operations[i] = replace(move, inputs=(between,), outputs=o.outputs)
            i, o = k, builder.operations[k]


def _move_bytes(builder: Builder, outputs: set[str]) -> None:
    """`Dequantize, moves, Quantize` with one scale and zero point are the moves, on bytes."""
    alone, by = _alone(builder, outputs), {n: o for o in builder.operations for n in o.outputs if n}
    gone: set[str] = set()
    other: dict[str, str] = {}

    def settled(name: str) -> str:
        while name in other:
            name = other[name]
        return name

    for o in list(builder.operations):
        if not _is_quantiser(builder, o) or o.outputs[0] in outputs:
            continue
        chain, name = [], o.inputs[0]
        while name in by and by[name].op in MOVES and alone(name):
            chain.append(by[name])
            name = by[name].inputs[0]
        start = by.get(name)
        if start is None or not _is_dequantiser(builder, start):
            continue
        dtype = builder.types[start.inputs[0]].dtype
        if _numbers(builder, start, dtype) != _numbers(builder, o, str(o.attributes["to"])):
            continue
        for move in chain:
            builder.types[move.outputs[0]] = TensorType(dtype, builder.types[move.outputs[0]].shape)
        if chain:
            first = replace(chain[-1], inputs=(start.inputs[0], *chain[-1].inputs[1:]))
            builder.operations = [first if p is chain[-1] else p for p in builder.operations]
            by.update((n, first) for n in first.outputs)
        gone.add(o.outputs[0])
        other[o.outputs[0]] = chain[0].outputs[0] if chain else start.inputs[0]
    builder.operations = [
        replace(o, inputs=tuple(settled(n) for n in o.inputs))
        for o in builder.operations
        if not gone.intersection(o.outputs)
    ]


def _settle(builder: Builder, outputs: set[str]) -> None:
    """Each QuantizeLinear right behind what writes its input, each DequantizeLinear right before its readers, one for each."""
    late = {o.outputs[0]: o for o in builder.operations if _is_dequantiser(builder, o) and o.outputs[0] not in outputs}
    early: dict[str, list[Operation]] = {}
    written = {n for o in builder.operations for n in o.outputs}
    for o in builder.operations:
        if _is_quantiser(builder, o) and o.inputs[0] in written and o.inputs[0] not in late:
            early.setdefault(o.inputs[0], []).append(o)
    raised = {q.outputs[0] for qs in early.values() for q in qs}
    settled: list[Operation] = []
    used: set[str] = set()
    for o in builder.operations:
        if o.outputs[0] in late or o.outputs[0] in raised:
            continue
        names = list(o.inputs)
        for name in dict.fromkeys(o.inputs):
            if name in late:
                own = builder.name(name) if name in used else name
                used.add(name)
                builder.types[own] = builder.types[name]
                settled.append(replace(late[name], name=own, outputs=(own,)))
                names = [own if n == name else n for n in names]
        settled.append(replace(o, inputs=tuple(names)))
        settled.extend(q for n in o.outputs for q in early.get(n, ()))
    builder.operations = settled


def _keep_bytes(builder: Builder) -> None:
    """Weights that meet dequantised bytes stay bytes."""
    by = {n: o for o in builder.operations for n in o.outputs if n}
    held: dict[str, tuple[str, ...]] = {}
    kept: list[Operation] = []
    for o in builder.operations:
        steps = builder.steps.get(o.inputs[1]) if o.op in {"Conv", "Gemm"} else None
        source = by.get(o.inputs[0]) if steps is not None else None
        known = len(o.inputs) < 3 or not o.inputs[2] or o.inputs[2] in builder.arrays
        if steps is not None and source is not None and known and _is_dequantiser(builder, source):
            grouped = o.op == "Conv" and o.attributes["group"] != 1
            kind, scale = (TensorType(a.dtype.name, a.shape) for a in (steps.octets, steps.scale))
            if weight_fits(kind, scale, steps.zero is not None, steps.axis == 0, grouped):
                names = held.setdefault(o.inputs[1], ()) or _constants(builder, o.inputs[1], steps)
                held[o.inputs[1]] = names
                out = builder.name(f"{o.inputs[1]}.floats")
                builder.types[out] = TensorType("float32", steps.octets.shape)
                kept.append(Operation(out, "DequantizeLinear", names, (out,), {"axis": 0}))
                kept.append(replace(o, inputs=(o.inputs[0], out, *o.inputs[2:])))
                continue
        kept.append(o)
    builder.operations = kept


def _constants(builder: Builder, wish: str, steps: Steps) -> tuple[str, ...]:
    """New weights: the bytes, their scales, and zero points where they have any."""
    zero = None
    if steps.zero is not None:
        zero = np.array(np.broadcast_to(steps.zero.reshape(-1), (steps.scale.size,))).reshape(steps.scale.shape)
    names = []
    for array, what in ((steps.octets, "octets"), (steps.scale, "step"), (zero, "zero")):
        if array is not None:
            value = builder.constant(array, f"{wish}.{what}")
            assert value.constant is not None
            builder.arrays[value.name], builder.types[value.name] = value.constant, value.type
            names.append(value.name)
    return tuple(names)

"""What makes the graph smaller and means the same: pads into convolutions, constants into weights, patterns into one operator.

Each pass takes the builder and rewrites its operations. They run in the order of `simplify`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.model.graph import Operation
from meshd.model.onnx_import.node import Builder
from meshd.model.structure import KEEPS_SIGNS, is_sign, pads_with_one, sign_tensors


def simplify(builder: Builder, outputs: set[str]) -> None:
    """Run all passes; `outputs` are the graph's, which must stay."""
    _drop_dead(builder, outputs)
    for rewrite in (_merge_pads, _mark_signs, _fold_scales, _join_activations):
        rewrite(builder, outputs)
        _drop_dead(builder, outputs)


@dataclass(slots=True)
class _Links:
    """Who writes and who reads each tensor."""

    writer: dict[str, Operation]
    readers: dict[str, list[Operation]]

    @classmethod
    def of(cls, builder: Builder) -> "_Links":
        links = cls({}, {})
        for o in builder.operations:
            links.writer.update((n, o) for n in o.outputs if n)
            for n in o.inputs:
                links.readers.setdefault(n, []).append(o)
        return links


def _drop_dead(builder: Builder, outputs: set[str]) -> None:
    wanted, kept = set(outputs), []
    for o in reversed(builder.operations):
        if wanted.intersection(o.outputs):
            kept.append(o)
            wanted.update(o.inputs)
    builder.operations = kept[::-1]


def _rewrite(builder: Builder, outputs: set[str], change: Callable[[Operation, "_Links"], Operation | None]) -> None:
    """Replace operations one after another, links kept up to date; `change` returns None to leave one alone."""
    links = _Links.of(builder)
    for i, o in enumerate(builder.operations):
        new = change(o, links)
        if new is None:
            continue
        builder.operations[i] = new
        links.writer.update((n, new) for n in new.outputs if n)
        for n in set(o.inputs) | set(new.inputs):
            links.readers[n] = [new if r is o else r for r in links.readers.get(n, []) if r is not o or n in new.inputs]
            if n in new.inputs and new not in links.readers[n]:
                links.readers[n].append(new)


def _alone(links: _Links, outputs: set[str], name: str) -> Operation | None:
    """The writer of a tensor that has one reader and is no output of the graph."""
    if name in outputs or len(links.readers.get(name, ())) != 1:
        return None
    return links.writer.get(name)


def _merge_pads(builder: Builder, outputs: set[str]) -> None:
    """Pad with zeros, then Conv: the convolution pads."""

    def change(o: Operation, links: _Links) -> Operation | None:
        pad = _alone(links, outputs, o.inputs[0]) if o.op == "Conv" else None
        if pad is None or pad.op != "Pad" or pad.attributes["mode"] != "constant" or pad.attributes["value"] != 0.0:
            return None
        pads: Any = pad.attributes["pads"]
        rank = len(pads) // 2
        if any(p < 0 for p in pads) or any(pads[i] or pads[rank + i] for i in (0, 1)):
            return None
        own: Any = o.attributes["pads"]
        merged = tuple(a + b for a, b in zip(own, (*pads[2:rank], *pads[rank + 2 :]), strict=True))
        return replace(o, inputs=(pad.inputs[0], *o.inputs[1:]), attributes={**o.attributes, "pads": merged})

    _rewrite(builder, outputs, change)


def _mark_signs(builder: Builder, outputs: set[str]) -> None:
    """A Sign that only layers with weights of ±1 read makes +1 of zero: one bit has no third value.

    NB ONNX's Sign(0) is 0. Binary training makes no zeros; a model that means them differs there, and only there.
    """
    links = _Links.of(builder)

    def binary(name: str) -> bool:
        if name in outputs or not links.readers.get(name):
            return False
        for r in links.readers[name]:
            weighted = r.op in {"Conv", "Gemm"} and r.inputs[0] == name and r.inputs.count(name) == 1
            if weighted and r.inputs[1] in builder.arrays and is_sign(builder.arrays[r.inputs[1]]):
                continue
            if not ((r.op in KEEPS_SIGNS or pads_with_one(r)) and binary(r.outputs[0])):
                return False
        return True

    builder.operations = [
        replace(o, attributes={"zero": 1})
        if o.op == "Sign" and builder.types[o.inputs[0]].dtype == "float32" and binary(o.outputs[0])
        else o
        for o in builder.operations
    ]


def _fold_scales(builder: Builder, outputs: set[str]) -> None:
    """A scale and a shift for each output after a layer go into its weights: BatchNorm, and Mul and Add of constants."""
    signs = sign_tensors(builder.operations)

    def change(o: Operation, links: _Links) -> Operation | None:
        layer = _alone(links, outputs, o.inputs[0]) if o.op in {"Affine", "Mul", "Add", "Sub", "Div"} else None
        if layer is None and o.op in {"Mul", "Add"} and len(o.inputs) == 2:
            layer = _alone(links, outputs, o.inputs[1])
            o = replace(o, inputs=(o.inputs[1], o.inputs[0]))
        if layer is None or layer.op not in {"Conv", "ConvTranspose", "Gemm"} or layer.inputs[1] not in builder.arrays:
            return None
        if len(layer.inputs) > 2 and layer.inputs[2] and layer.inputs[2] not in builder.arrays:
            return None
        pair = _scale_and_shift(builder, o, layer)
        if pair is None or (layer.inputs[0] in signs and is_sign(builder.arrays[layer.inputs[1]])):
            return None
        return _folded(builder, layer, o, *pair)

    _rewrite(builder, outputs, change)


def _scale_and_shift(builder: Builder, o: Operation, layer: Operation) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Of an operation after a layer: one value an output each, float64; None where it is anything else."""
    t = builder.types[layer.outputs[0]].item
    if builder.types[o.outputs[0]].item != t:
        return None
    axis = len(t) - 1 if layer.op == "Gemm" else 1
    found = []
    for name in o.inputs[1:]:
        array = builder.arrays.get(name)
        if array is None:
            return None
        wide = array.reshape((1,) * (len(t) - array.ndim) + array.shape) if array.ndim <= len(t) else None
        if wide is None or any(d != 1 for i, d in enumerate(wide.shape) if i != axis):
            return None
        found.append(np.broadcast_to(wide.reshape(-1).astype(np.float64), (t[axis],)))
    one, zero = np.ones(t[axis]), np.zeros(t[axis])
    scale, shift = one, zero
    if o.op in {"Affine", "Mul"}:
        scale = found[0]
    elif o.op == "Div":
        with np.errstate(all="ignore"):
            scale = one / found[0]
    if o.op == "Affine":
        shift = found[1]
    elif o.op in {"Add", "Sub"}:
        shift = found[0] if o.op == "Add" else -found[0]
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _folded(
    builder: Builder, layer: Operation, after: Operation, scale: NDArray[Any], shift: NDArray[Any]
) -> Operation:
    weight = builder.arrays[layer.inputs[1]]
    names = list(layer.inputs[:2])
    if not (scale == 1.0).all():
        if layer.op == "ConvTranspose":
            group: Any = layer.attributes["group"]
            each = scale.reshape(group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
            scaled = (weight.reshape(group, -1, *weight.shape[1:]) * each).reshape(weight.shape)
        else:
            scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        names[1] = _add(builder, scaled.astype(weight.dtype), layer.inputs[1])
        steps = builder.steps.get(layer.inputs[1]) if layer.op != "ConvTranspose" else None
        kept = steps and steps.times(scale.astype(np.float32))
        if kept is not None:
            builder.steps[names[1]] = kept
    bias = builder.arrays[layer.inputs[2]] if len(layer.inputs) > 2 and layer.inputs[2] else 0.0
    return replace(
        layer,
        inputs=(*names, _add(builder, (bias * scale + shift).astype(weight.dtype), f"{layer.name}.bias")),
        outputs=after.outputs,
    )


def _add(builder: Builder, array: NDArray[Any], wish: str) -> str:
    value = builder.constant(array, wish)
    builder.arrays[value.name] = array
    builder.types[value.name] = value.type
    return value.name


def _join_activations(builder: Builder, outputs: set[str]) -> None:
    """`x * Sigmoid(x)` is Swish, `x * HardSigmoid(x)` with HardSwish's numbers is HardSwish."""

    def change(o: Operation, links: _Links) -> Operation | None:
        if o.op != "Mul":
            return None
        for x, gate_name in (o.inputs, o.inputs[::-1]):
            gate = _alone(links, outputs, gate_name)
            if gate is None or gate.inputs[0] != x:
                continue
            if gate.op == "Sigmoid":
                return replace(o, op="Swish", inputs=(x,), attributes={"alpha": 1.0})
            sixth = gate.op == "HardSigmoid" and abs(float(gate.attributes["alpha"]) - 1 / 6) < 1e-6  # type: ignore[arg-type]
            if sixth and gate.attributes["beta"] == 0.5:
                return replace(o, op="HardSwish", inputs=(x,), attributes={})
        return None

    _rewrite(builder, outputs, change)

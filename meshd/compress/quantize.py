"""int8 after training: weights per output channel, activations static, written as standard QDQ ONNX.

A QuantizeLinear and a DequantizeLinear stand behind each tensor that a quantised layer reads or that is added to its output,
and behind what only moves values on the way there (pooling by maximum, reshaping), with the same scale, so that a runtime may
stay in integers. Weights are int8 behind a DequantizeLinear, biases int32 in steps of input times weight. Any runtime that
knows no integers computes the same model in floats.

Each bias takes over what rounding shifts on average (Nagel et al. 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from meshd.compress import calibration, layers
from meshd.compress.calibration import Data
from meshd.compress.layers import Layer, Network
from meshd.compress.moments import ROWS_MAX, patches_of, rows_of
from meshd.compress.progress import Progress
from meshd.compress.ranges import METHODS, Histogram, Scale, weight_octets, weight_steps
from meshd.compress.running import Runner
from meshd.errors import InvalidError, MisuseError
from meshd.model.onnx_import import import_bytes

OPSET_MIN = 13
"""The first whose DequantizeLinear knows channels."""
MOVES = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators whose results are among their inputs."""
BIAS_STEPS_MAX = 2**30

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How to quantise. `keep` names layers that stay float."""

    method: str = "mse"
    keep: tuple[str, ...] = ()
    dims: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Octets:
    """One layer in 8 bits."""

    layer: Layer
    weight: NDArray[np.int8]
    """(outputs, k)."""
    steps: NDArray[np.float32]
    """Of each output."""
    bias: NDArray[np.float64]
    """Real values, corrected."""


def quantize(source: Path, data: Path, target: Path, wish: Wish, tell: Tell = lambda _: None) -> list[str]:
    """Quantise a file; returns the names of the layers that are int8 now.

    Parameters
    ----------
    source, data : the model, and the calibration items; neither is touched
    target : what is written, whole or not at all
    tell : is told a line at each layer

    Raises
    ------
    MisuseError, InvalidError, NotFoundError
        Of what does not fit; nothing is written.
    """
    if wish.method not in METHODS:
        raise MisuseError(f"{wish.method!r} is no calibration: {', '.join(METHODS)}")
    layers.check_target(target, source, data)
    network = Network(source)
    unknown = set(wish.keep) - {layer.name for layer in network.layers}
    if unknown:
        raise MisuseError(f"no such layers to keep: {sorted(unknown)}; there are {[x.name for x in network.layers]}")
    chosen = [layer for layer in network.layers if layer.name not in wish.keep]
    if not chosen:
        raise MisuseError("all layers are kept as they are: nothing is left to quantise")
    if network.opset < OPSET_MIN:
        raise InvalidError(f"{source} is of opset {network.opset}; int8 by channel needs {OPSET_MIN}: export it anew")
    graph, _ = import_bytes(network.raw, source.stem, wish.dims, source.parent)
    items = calibration.read(data, graph.inputs)
    options = {"quantize": [wish.method, sorted(wish.keep), dict(wish.dims)], "version": 2}
    progress = Progress(target, [source, data], options)
    paths = {layer.name: list(_path(network.model, layer.source)) for layer in chosen}
    added = _added(network.model, {layer.out for layer in chosen})
    sums = {t: list(_path(network.model, t)) for t in added.values()}
    wanted = {p[-1] for p in (*paths.values(), *sums.values())}
    scales = _scales(network, sorted(wanted), items, wish, progress)
    made = []
    for layer in chosen:
        scale = scales[paths[layer.name][-1]]
        made.append(_octets(network, layer, scale, items, wish, progress))
        tell(f"{layer.name}: int8, inputs in steps of {scale.step:.4g} from {-scale.zero}")
    shared = {tensor: scales[path[-1]] for path in (*paths.values(), *sums.values()) for tensor in path}
    layers.save(written(network, made, shared, added), target, source, data)
    progress.done()
    return [layer.name for layer in chosen]


def _path(model: onnx.ModelProto, tensor: str) -> Iterator[str]:
    """A tensor, and back through what only moves values, to the one that was computed."""
    makers = {o: node for node in model.graph.node for o in node.output}
    while True:
        yield tensor
        maker = makers.get(tensor)
        if maker is None or maker.op_type not in MOVES or not maker.input:
            return
        tensor = maker.input[0]


def _added(model: onnx.ModelProto, outputs: set[str]) -> dict[str, str]:
    """Of each Add behind a quantised layer: the tensor on its other side, which it is to read in 8 bits.

    A skip then stays in bytes. Where both sides are layers it is the one that is there first; the other keeps what it has summed.
    """
    order = {o: i for i, node in enumerate(model.graph.node) for o in node.output}
    found = {}
    for node in model.graph.node:
        sides = [n for n in node.input if n in order]
        if node.op_type == "Add" and len(sides) == 2 and sides[0] != sides[1] and outputs & set(sides):
            layers_first = sorted(sides, key=lambda n: (n in outputs, order[n]))
            found[node.output[0]] = layers_first[0]
    return found


def _scales(network: Network, tensors: Sequence[str], items: Data, wish: Wish, progress: Progress) -> dict[str, Scale]:
    """The scale of each tensor, from all items."""

    def compute() -> dict[str, NDArray[Any]]:
        runner = Runner(network.model, tensors, wish.dims)
        bounds = [[np.inf, -np.inf] for _ in tensors]
        for arrays in runner.over(items):
            for b, a in zip(bounds, arrays, strict=True):
                b[0], b[1] = min(b[0], float(a.min(initial=np.inf))), max(b[1], float(a.max(initial=-np.inf)))
        for name, b in zip(tensors, bounds, strict=True):
            if not np.isfinite(b).all():
                raise InvalidError(f"tensor {name} reaches {b} on the calibration data: it cannot be quantised")
        histograms = [Histogram(*b) for b in bounds]
        for arrays in runner.over(items):
            for h, a in zip(histograms, arrays, strict=True):
                h.add(a)
        found = [h.scale(wish.method) for h in histograms]
        return {"step": np.array([s.step for s in found]), "zero": np.array([s.zero for s in found])}

    kept = progress.step("scales", compute)
    return {n: Scale(float(s), int(z)) for n, s, z in zip(tensors, kept["step"], kept["zero"], strict=True)}


def _octets(network: Network, layer: Layer, scale: Scale, items: Data, wish: Wish, progress: Progress) -> Octets:
    matrix = network.weight(layer)
    steps = weight_steps(matrix, wish.method)
    old = np.asarray(network.constants[layer.bias] if layer.bias else np.zeros(layer.outputs), np.float64)
    # A bias is a count of (input step x weight step): a channel of nearly nothing must still be able to hold it.
    steps = np.maximum(steps, (np.abs(old) / (scale.step * BIAS_STEPS_MAX)).astype(np.float32))
    octets = weight_octets(matrix, steps)

    def compute() -> dict[str, NDArray[Any]]:
        return {"shift": _shift(network, layer, scale, octets * steps[:, None], items, wish)}

    bias = old + progress.step(f"bias {layer.name}", compute)["shift"] if layer.op != "MatMul" else old
    return Octets(layer, octets, steps, bias)


def _shift(
    network: Network, layer: Layer, scale: Scale, rounded: NDArray[Any], items: Data, wish: Wish
) -> NDArray[np.float64]:
    """What each output loses on average by rounding, (outputs,)."""
    matrix, rows = network.weight(layer), layer.outputs // layer.groups
    sums = np.zeros((2, layer.groups, layer.terms))
    count = 0
    for (x,) in Runner(network.model, [layer.source], wish.dims).over(items):
        step = max(1, items.count * patches_of(layer, x.shape[1:]) // ROWS_MAX)
        for g in range(layer.groups):
            seen = rows_of(layer, x, g, step)
            sums[0, g] += seen.sum(0, dtype=np.float64)
            sums[1, g] += scale.rounded(seen).sum(0, dtype=np.float64)
        count += len(seen)
    means = np.repeat(sums / count, rows, axis=1)
    found: NDArray[np.float64] = (matrix * means[0]).sum(1) - (rounded * means[1]).sum(1)
    return found


# ---------------------------------------------------------------- the file


def written(
    network: Network, made: Sequence[Octets], scales: Mapping[str, Scale], added: Mapping[str, str]
) -> onnx.ModelProto:
    """The model with `made` in 8 bits.

    Parameters
    ----------
    scales : of every tensor that gets its pair of QuantizeLinear and DequantizeLinear
    added : by the output of an Add, the tensor that it reads in 8 bits
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    write = _Writer(model, scales)
    octets = {o.layer.out: o for o in made}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    constants = {t.name for t in model.graph.initializer}
    for info in model.graph.input:
        if info.name not in constants:
            write.pair(info.name)
    for node in nodes:
        if node.output and node.output[0] in octets:
            write.layer(node, octets[node.output[0]], scales)
        elif node.op_type in MOVES and node.output[0] in scales and node.input[0] in write.behind:
            node.input[0] = write.behind[node.input[0]]
            model.graph.node.append(node)
        elif node.op_type == "Add" and node.output[0] in added:
            side = list(node.input).index(added[node.output[0]])
            node.input[side] = write.behind[node.input[side]]
            model.graph.node.append(node)
        else:
            model.graph.node.append(node)
        for tensor in node.output:
            write.pair(tensor)
    used = {n for node in model.graph.node for n in node.input} | {o.name for o in model.graph.output}
    left = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)
    return model


class _Writer:
    """Appends nodes and constants under names nobody has yet."""

    def __init__(self, model: onnx.ModelProto, scales: Mapping[str, Scale]) -> None:
        self.graph, self.scales = model.graph, scales
        self.behind: dict[str, str] = {}
        """Tensor to what its DequantizeLinear gives."""
        self.taken = {n for node in model.graph.node for n in (*node.input, *node.output)}
        self.taken |= {t.name for t in model.graph.initializer}

    def name(self, wish: str) -> str:
        """`wish`, or `wish` with primes."""
        while wish in self.taken:
            wish += "'"
        self.taken.add(wish)
        return wish

    def constant(self, wish: str, array: NDArray[Any]) -> str:
        """A new initializer."""
        name = self.name(wish)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def pair(self, tensor: str) -> None:
        """A QuantizeLinear and DequantizeLinear behind a tensor that has a scale."""
        if tensor not in self.scales:
            return
        scale = self.scales[tensor]
        step = self.constant(f"{tensor}.step", np.array(scale.step, np.float32))
        zero = self.constant(f"{tensor}.zero", np.array(scale.zero, np.uint8))
        octets, floats = self.name(f"{tensor}.octets"), self.name(f"{tensor}.floats")
        self.node("QuantizeLinear", [tensor, step, zero], octets)
        self.node("DequantizeLinear", [octets, step, zero], floats)
        self.behind[tensor] = floats

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """A new node, named after its output."""
        self.graph.node.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))

    def layer(self, node: onnx.NodeProto, octets: Octets, scales: Mapping[str, Scale]) -> None:
        """A layer that reads 8 bits: its weight and bias behind DequantizeLinear."""
        layer = octets.layer
        axis = 1 if layer.flipped else 0
        step = self.constant(f"{layer.weight}.step", octets.steps)
        zero = self.constant(f"{layer.weight}.zero", np.zeros(layer.outputs, np.int8))
        stored = octets.weight.T if layer.flipped else octets.weight.reshape(layer.shape)
        weight = self.name(f"{layer.weight}.floats")
        self.node("DequantizeLinear", [self.constant(f"{layer.weight}.octets", stored), step, zero], weight, axis=axis)
        inputs = [self.behind[layer.source], weight]
        if layer.op != "MatMul":
            unit = (octets.steps * np.float32(scales[layer.source].step)).astype(np.float32)
            counts = np.clip(np.rint(octets.bias / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            wish = layer.bias or f"{layer.weight}.bias"
            names = [self.constant(f"{wish}.counts", counts), self.constant(f"{wish}.step", unit)]
            bias = self.name(f"{wish}.floats")
            self.node("DequantizeLinear", names, bias, axis=0)
            inputs.append(bias)
        del node.input[:]
        node.input.extend(inputs)
        self.graph.node.append(node)

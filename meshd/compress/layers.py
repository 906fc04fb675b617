"""The layers of an ONNX file whose weights can be made smaller: found, read as matrices, written back.

A layer is a Conv, Gemm or MatMul with a constant weight that nobody else reads, not of signs alone. Its weight is seen as a
matrix (outputs, k): a row makes one output, its k terms are input channels x taps. A convolution of groups is as many matrices.

Rule 1: the file is never written to: `written` makes a new model, `save` refuses the source's own path.
Rule 2: what is not a weight or bias of such a layer keeps its bytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from meshd.errors import InvalidError, MisuseError
from meshd.model.onnx_import import load

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with weights.

    Attributes
    ----------
    name : the node's name, or its output's where it has none
    op : Conv, Gemm or MatMul
    source, out : names of the tensors it reads and writes
    weight, bias : names of its constants; `""` without a bias
    shape : of the weight as stored
    flipped : whether it is stored (k, outputs)
    groups : of a convolution; 1 otherwise
    window : strides, dilations, pads (begins, then ends) or `auto_pad`; empty unless it is a convolution
    """

    name: str
    op: str
    source: str
    out: str
    weight: str
    bias: str
    shape: tuple[int, ...]
    flipped: bool = False
    groups: int = 1
    window: Mapping[str, Any] | None = None

    @property
    def outputs(self) -> int:
        """Rows of its matrix."""
        return self.shape[1] if self.flipped else self.shape[0]

    @property
    def taps(self) -> int:
        """Positions of a convolution's window; 1 otherwise. Terms of a row are channel by channel, taps within."""
        return int(np.prod(self.shape[2:])) if self.op == "Conv" else 1

    @property
    def terms(self) -> int:
        """Columns of its matrix."""
        return self.shape[0] if self.flipped else int(np.prod(self.shape[1:]))

    @property
    def size(self) -> int:
        """Count of weights."""
        return self.outputs * self.terms

    def matrix(self, array: Floats) -> Floats:
        """The weight as (outputs, k), a copy."""
        return np.array(array.T if self.flipped else array.reshape(self.outputs, -1), np.float32, order="C")

    def stored(self, matrix: NDArray[Any]) -> Floats:
        """The inverse of `matrix`."""
        found = matrix.astype(np.float32)
        return np.ascontiguousarray(found.T if self.flipped else found.reshape(self.shape))


class Network:
    """An ONNX file: the model, its layers, its constants by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw = load.read(path)
        self.model: onnx.ModelProto = load.parse(self.raw)
        self.opset = load.opset(self.model)
        for tensor in self.model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.CopyFrom(numpy_helper.from_array(load.array(tensor, path.parent), tensor.name))
        self.constants = dict(_constants(self.model))
        self.layers = list(_layers(self.model, self.constants))
        if not self.layers:
            raise InvalidError(
                f"{path} has no Conv, Gemm or MatMul with float weights of its own: there is nothing to compress"
            )

    def weight(self, layer: Layer) -> Floats:
        """A layer's matrix (outputs, k)."""
        return layer.matrix(self.constants[layer.weight])

    def written(self, changed: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
        """A copy of the model with some constants replaced by name; a bias that was missing is given to its layer.

        A new bias is asked for by the name `new_bias(layer)`.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        left = dict(changed)
        for tensor in model.graph.initializer:
            if tensor.name in left:
                tensor.CopyFrom(numpy_helper.from_array(left.pop(tensor.name), tensor.name))
        for node in model.graph.node:
            if node.op_type == "Constant" and node.output[0] in left:
                del node.attribute[:]
                node.attribute.append(
                    onnx.helper.make_attribute("value", numpy_helper.from_array(left.pop(node.output[0])))
                )
        makers = {node.output[0]: node for node in model.graph.node if node.output}
        for layer in self.layers:
            if new_bias(layer) in left:
                name = new_bias(layer)
                assert layer.op != "MatMul", "a MatMul has no place for a bias"
                del makers[layer.out].input[2:]
                makers[layer.out].input.append(name)
                model.graph.initializer.append(numpy_helper.from_array(left.pop(name), name))
        assert not left, f"no such constants: {sorted(left)}"
        return model


def new_bias(layer: Layer) -> str:
    """Name of the bias a layer has, or is given where it had none; `""` where it has no place for one."""
    return layer.bias or ("" if layer.op == "MatMul" else f"{layer.weight}.bias")


def save(model: onnx.ModelProto, path: Path, *sources: Path) -> None:
    """Write a model at once or not at all; never over one of the files it was made from.

    Raises
    ------
    MisuseError
        If `path` is one of `sources`, or its folder is missing.
    """
    check_target(path, *sources)
    part = path.with_name(path.name + ".part")
    part.write_bytes(model.SerializeToString(deterministic=True))
    os.replace(part, path)


def check_target(path: Path, *sources: Path) -> None:
    """Raise MisuseError where `path` must not or cannot be written."""
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise MisuseError(f"{path} would overwrite what it is made from: give another name to -o")
    if path.is_dir() or not path.parent.is_dir():
        raise MisuseError(f"{path} is no file in a folder that exists: make the folder {path.parent} first")


def _constants(model: onnx.ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
    for tensor in model.graph.initializer:
        yield tensor.name, load.array(tensor, None)
    for node in model.graph.node:
        if node.op_type == "Constant":
            for a in node.attribute:
                if a.name == "value":
                    yield node.output[0], load.array(a.t, None)


def _layers(model: onnx.ModelProto, constants: Mapping[str, NDArray[Any]]) -> Iterator[Layer]:
    reads = Counter(n for node in model.graph.node for n in node.input if n)
    for node in model.graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or node.domain not in {"", "ai.onnx"} or len(node.input) < 2:
            continue
        weight = constants.get(node.input[1])
        if weight is None or node.input[0] in constants or reads[node.input[1]] != 1 or weight.dtype != np.float32:
            continue
        a = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
        bias = node.input[2] if len(node.input) > 2 else ""
        named = (node.name or node.output[0], node.op_type, node.input[0], node.output[0], node.input[1])
        if weight.size < 2 or not np.isfinite(weight).all() or bool((np.abs(weight) == 1).all()):
            continue
        outputs = weight.shape[1] if node.op_type == "Gemm" and not a.get("transB", 0) else weight.shape[0]
        if bias and (bias not in constants or reads[bias] != 1 or constants[bias].shape != (outputs,)):
            continue  # A bias that is computed or shared cannot be corrected.
        if node.op_type == "Conv" and weight.ndim in {3, 4}:
            yield Layer(*named, bias, weight.shape, groups=int(a.get("group", 1)), window=a)
        elif node.op_type == "Gemm" and weight.ndim == 2 and not a.get("transA", 0):
            if a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0:
                yield Layer(*named, bias, weight.shape, flipped=not a.get("transB", 0))
        elif node.op_type == "MatMul" and weight.ndim == 2:
            yield Layer(*named, "", weight.shape, flipped=True)

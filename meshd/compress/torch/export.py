"""Export a trained chain of layers to plain ONNX, node by node.

The graph is built here and not traced: every tensor has the name of the layer that makes it, the bytes are the same for
the same weights, and nothing of the exporter's version gets in.

Rule 1: a BatchNorm after a float layer is folded into it; zeros stay zeros.
Rule 2: a binary convolution is ``Sign -> Pad with +1 -> Conv with weights of +-1``, all standard operators.
Rule 3: no Sign meets a zero (ONNX has Sign(0) = 0, a sign bit has no third state). Between two binary layers the
BatchNormalization is written as a threshold that the integers before it cannot hit: they all have one parity, the
threshold has the other. Behind a float layer a zero is a coincidence of rounding, and `keep_clear` moves the values an
empty input gives away from it.

Source: the ONNX operator specification, opset 17; folding after Jacob et al., 2018, section 3.2; thresholds after
Umuroglu et al., "FINN", FPGA 2017, section 4.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import nn

from meshd.compress.torch.binarize import BinaryConv2d, BinaryLinear, Sign

OPSET = 17
IR_VERSION = 8  # The oldest that holds opset 17: old runtimes read the file too.

_Floats = NDArray[np.float32]
_Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def to_onnx(
    model: nn.Sequential, shape: Sequence[int], *, name: str, input_name: str = "input", output_name: str = "output"
) -> ModelProto:
    """Write a chain of layers as an ONNX model.

    Parameters
    ----------
    model : nn.Sequential with named children
        In eval mode (its BatchNorm statistics are used). Conv2d, BinaryConv2d, BinaryLinear, Linear, BatchNorm1d,
        BatchNorm2d, ReLU, Sign, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten.
    shape : sequence of int
        Of one input, without the batch axis, which becomes the symbol ``N``.
    name : str
        Of the graph.
    input_name, output_name : str
        Of the graph's input and output; every other tensor is named after the layer that makes it.

    Returns
    -------
    onnx.ModelProto
        Checked; equal models give equal ``SerializeToString(deterministic=True)``.

    Raises
    ------
    ValueError
        Naming a layer that has no counterpart here.
    """
    chain = _Chain(input_name)
    layers = list(model.named_children())
    for (layer_name, layer), (_, follower) in zip(layers, [*layers[1:], ("", None)], strict=True):
        chain.append(layer_name, layer, follower)
    output_shape = _output_shape(model, shape)
    chain.nodes[-1].output[0] = output_name
    graph = helper.make_graph(
        chain.nodes,
        name,
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["N", *output_shape])],
        chain.initializers,
    )
    onnx_model = helper.make_model(
        graph, producer_name="meshd", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    checker.check_model(onnx_model, full_check=True)
    return onnx_model


def parity_threshold(batch_norm: _Norm, terms: int) -> tuple[_Floats, _Floats]:
    """Turn ``sign(batch_norm(z))`` for a binary layer's result z into ``sign(direction * (z - threshold))``.

    z is a sum of `terms` values of +-1: an integer of the parity of `terms`. The threshold returned is an integer of the
    other parity, so no z equals it, the difference is at least 1 whatever the rounding, and the answer is the same.

    Parameters
    ----------
    batch_norm : BatchNorm1d or BatchNorm2d in eval mode
    terms : int
        Products in each sum: input channels x rows x columns.

    Returns
    -------
    direction : float32 array, shape (channels,)
        +1 or -1.
    threshold : float32 array, shape (channels,)
        Integers in [-terms - 1, terms + 1].
    """
    scale, shift = (v.astype(np.float64) for v in _affine(batch_norm))
    direction = np.where(scale < 0, -1.0, 1.0)
    # A channel whose scale is zero says the sign of its shift always; a far threshold says that too.
    crossing = np.where(scale == 0, np.where(shift >= 0, -np.inf, np.inf), -shift / np.where(scale == 0, 1.0, scale))
    crossing = np.clip(crossing, -terms - 1, terms + 1)
    # z counts as +1 from the first value it can take at or past the crossing; with a falling line, up to the last.
    steps = np.where(direction > 0, np.ceil((crossing + terms) / 2), np.floor((crossing + terms) / 2))
    nearest = 2 * steps - terms
    threshold = np.clip(nearest - direction, -terms - 1, terms + 1)
    return direction.astype(np.float32), threshold.astype(np.float32)


@torch.no_grad()
def keep_clear(batch_norm: _Norm, values: torch.Tensor, margin: float = 1e-3) -> int:
    """Shift a BatchNorm in front of a Sign so that common values (an empty input's) are not next to zero, in place.

    Parameters
    ----------
    batch_norm : BatchNorm1d or BatchNorm2d, its bias written in place
    values : float tensor, shape (batch, channels, rows, columns)
        What it gives for the inputs that must be safe.
    margin : float
        Least distance from zero; far above float32 rounding, far below what a layer notices.

    Returns
    -------
    int : channels that were moved
    """
    moved = 0
    for channel, found in enumerate(values.transpose(0, 1).flatten(1)):
        for shift in (0.0, *(sign * k * margin for k in range(1, 64) for sign in (1.0, -1.0))):
            if float((found + shift).abs().min()) >= margin:
                break
        else:
            raise ValueError(
                f"channel {channel} has values on both sides of zero wherever it is shifted: lower the margin"
            )
        batch_norm.bias[channel] += shift
        moved += shift != 0.0
    return moved


class _Chain:
    """The graph under construction: nodes in order, and the tensor the next layer reads."""

    def __init__(self, input_name: str) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.last = input_name
        self.folded = False
        """The next BatchNorm is part of the layer before it."""
        self.terms = 0
        """The last tensor holds sums of this many values of +-1; 0 if it holds anything else."""

    def add(self, op: str, name: str, constants: dict[str, NDArray[np.generic]], **attributes: object) -> None:
        """Append one node that reads the last tensor and constants named after it."""
        inputs = [self.last]
        for suffix, array in constants.items():
            inputs.append(f"{name}.{suffix}")
            self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), inputs[-1]))
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.last = name

    def append(self, name: str, layer: nn.Module, follower: nn.Module | None) -> None:
        """Append what one layer becomes, knowing the layer that follows it."""
        terms, self.terms = self.terms, 0
        match layer:
            case BinaryConv2d():
                self._binary_convolution(name, layer)
            case BinaryLinear():
                self.terms = layer.in_features
                self.add("Gemm", name, {"weight": _signs(layer.weight)}, transB=1)
            case nn.Conv2d():
                rows, columns = (int(p) for p in layer.padding)
                self.add(
                    "Conv",
                    name,
                    self._folded(layer, follower),
                    kernel_shape=list(layer.kernel_size),
                    strides=list(layer.stride),
                    pads=[rows, columns, rows, columns],
                    dilations=list(layer.dilation),
                    group=layer.groups,
                )
            case nn.Linear():
                self.add("Gemm", name, self._folded(layer, follower), transB=1)
            case nn.BatchNorm1d() | nn.BatchNorm2d() if self.folded:
                self.folded = False
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                self._batch_norm(name, layer, terms if isinstance(follower, Sign) else 0)
            case nn.ReLU():
                self.add("Relu", name, {})
            case Sign():
                self.add("Sign", name, {})
            case nn.MaxPool2d():
                self.terms = terms  # The largest of some sums is one of them.
                self.add("MaxPool", name, {}, **_window(name, layer))
            case nn.AvgPool2d():
                self.add("AveragePool", name, {}, **_window(name, layer))
            case nn.AdaptiveAvgPool2d() if layer.output_size in (1, (1, 1)):
                self.add("GlobalAveragePool", name, {})
            case nn.Flatten():
                self.terms = terms
                self.add("Flatten", name, {}, axis=1)
            case _:
                raise ValueError(f"layer {name} ({type(layer).__name__}) has no ONNX form here: see export.to_onnx")

    def _folded(self, layer: nn.Conv2d | nn.Linear, follower: nn.Module | None) -> dict[str, NDArray[np.generic]]:
        """Return weight and bias of a float layer, with the BatchNorm that follows it, if one does, folded in."""
        weight = _array(layer.weight)
        bias = _array(layer.bias) if layer.bias is not None else np.zeros(weight.shape[0], np.float32)
        if isinstance(follower, nn.BatchNorm1d | nn.BatchNorm2d):
            self.folded = True
            scale, shift = _affine(follower)
            weight, bias = weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift
        return {"weight": weight, "bias": bias}

    def _binary_convolution(self, name: str, layer: BinaryConv2d) -> None:
        side = layer.ones_padding
        if side:
            pads = np.array([0, 0, side, side, 0, 0, side, side], dtype=np.int64)
            self.add("Pad", f"{name}.pad", {"pads": pads, "value": np.array(1.0, np.float32)}, mode="constant")
        self.terms = layer.in_channels * math.prod(layer.kernel_size)
        self.add("Conv", name, {"weight": _signs(layer.weight)}, kernel_shape=list(layer.kernel_size), strides=[1, 1])

    def _batch_norm(self, name: str, layer: _Norm, terms: int) -> None:
        """Append a BatchNorm that is not folded; `terms` other than 0 makes it the threshold in front of a Sign."""
        if terms:
            scale, mean = parity_threshold(layer, terms)
            shift, variance = np.zeros_like(mean), np.ones_like(mean)
        else:
            scale, shift = _affine(layer)
            mean, variance = np.zeros_like(scale), np.ones_like(scale)
        # The variance is folded into the scale: what is left of the division is exact in every runtime.
        constants: dict[str, NDArray[np.generic]] = {"scale": scale, "shift": shift, "mean": mean, "variance": variance}
        self.add("BatchNormalization", name, constants, epsilon=0.0)


def _array(parameter: torch.Tensor) -> _Floats:
    values: _Floats = parameter.detach().cpu().float().contiguous().numpy()
    return values


def _signs(parameter: torch.Tensor) -> _Floats:
    return np.where(_array(parameter) >= 0, np.float32(1), np.float32(-1))


def _affine(layer: _Norm) -> tuple[_Floats, _Floats]:
    """Return scale and shift, float32, shape (channels,): what the layer does in eval mode."""
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be exported: give it track_running_stats")
    mean, variance = (_array(v).astype(np.float64) for v in (layer.running_mean, layer.running_var))
    scale = _array(layer.weight) / np.sqrt(variance + layer.eps)
    return scale.astype(np.float32), (_array(layer.bias) - mean * scale).astype(np.float32)


def _window(name: str, layer: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int]]:
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    if _pair(layer.padding) != [0, 0] or layer.ceil_mode:
        raise ValueError(f"pooling layer {name} pads or rounds up: use a padding of 0 and ceil_mode=False")
    return {"kernel_shape": kernel, "strides": stride}


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


@torch.no_grad()
def _output_shape(model: nn.Sequential, shape: Sequence[int]) -> list[int]:
    return list(model(torch.zeros(1, *shape)).shape[1:])

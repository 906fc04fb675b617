"""Writes the few TensorFlow Lite files that two peers are timed with: sparse perceptrons and binary convolutions.

Their own converters need TensorFlow; a file of three operators does not. Tables are written by slot number, as the schema has
them.

Source: `tensorflow/compiler/mlir/lite/schema/schema.fbs` (slots, enums) and Larq Compute Engine's `mlir/ir/lce_ops.cc` (options).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT32, INT32 = 0, 2
FULLY_CONNECTED, CUSTOM = 9, 32
FULLY_CONNECTED_OPTIONS = 8
RELU = 1
BLOCK = 4
"""Inputs of one output that are kept or left out together: the only blocks LiteRT computes without expanding them."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; with `kept`, (outputs, inputs / BLOCK) truths, its data holds the kept blocks only."""

    shape: tuple[int, ...]
    kind: int
    data: NDArray[Any] | None = None
    kept: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator on tensors by number, -1 for none. `custom`: its name; `options`: of a custom operator."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: str = ""
    options: dict[str, int] = field(default_factory=dict)
    relu: bool = False


def perceptron(weights: list[NDArray[np.float32]]) -> bytes:
    """Fully connected layers with ReLU, their weights (outputs, inputs) in blocks of 1 x 4."""
    tensors = [Tensor((1, weights[0].shape[1]), FLOAT32)]
    operators = []
    for weight in weights:
        outputs, inputs = weight.shape
        blocks = weight.reshape(outputs, inputs // BLOCK, BLOCK)
        kept = np.asarray(blocks.any(2))
        first = len(tensors)
        tensors += [Tensor(weight.shape, FLOAT32, blocks[kept], kept), Tensor((1, outputs), FLOAT32)]
        operators.append(Operator((first - 1, first, -1), (first + 1,), relu=True))
    return model(tensors, operators)


def binary_convolution(weight: NDArray[np.float32], size: int) -> bytes:
    """Floats to bits, and a 3 x 3 convolution of bits to bits, padded with +1, of a square image."""
    outputs, inputs = weight.shape[:2]
    bits = np.packbits(weight.transpose(0, 2, 3, 1) < 0, axis=3, bitorder="little").view("<i4")
    thresholds = np.full(outputs, inputs * 9 // 2, np.int32)
    options = dict.fromkeys(("stride_height", "stride_width", "dilation_height_factor", "dilation_width_factor"), 1)
    options |= {"padding": 0, "pad_values": 1, "channels_in": inputs, "fused_activation_function": 0}
    tensors = [
        Tensor((1, size, size, inputs), FLOAT32),
        Tensor((1, size, size, inputs // 32), INT32),
        Tensor(bits.shape, INT32, bits),
        Tensor((outputs,), INT32, thresholds),
        Tensor((1, size, size, outputs // 32), INT32),
    ]
    return model(
        tensors,
        [Operator((0,), (1,), "LceQuantize"), Operator((1, 2, -1, -1, 3), (4,), "LceBconv2d", options)],
    )


def model(tensors: list[Tensor], operators: list[Operator]) -> bytes:
    """A model of one subgraph, from the first tensor to the last."""
    import flatbuffers  # type: ignore[import-untyped]

    b = flatbuffers.Builder(1 << 20)
    empty = _table(b)
    buffers, made = [empty], []
    for k, tensor in enumerate(tensors):
        if tensor.data is not None:
            buffers.append(_table(b, offsets={0: _octets(b, tensor.data.tobytes())}))
        number = len(buffers) - 1 if tensor.data is not None else 0
        offsets = {0: _ints(b, tensor.shape), 3: b.CreateString(f"t{k}")}
        if tensor.kept is not None:
            offsets[6] = _sparsity(b, tensor.kept)
        made.append(_table(b, octets={1: tensor.kind}, numbers={2: number}, offsets=offsets))
    names = sorted({operator.custom for operator in operators})
    codes = [
        _table(b, octets={0: CUSTOM}, numbers={2: 1, 3: CUSTOM}, offsets={1: b.CreateString(name)})
        if name
        else _table(b, octets={0: FULLY_CONNECTED}, numbers={2: 8, 3: FULLY_CONNECTED})
        for name in names
    ]
    steps = []
    for operator in operators:
        offsets = {1: _ints(b, operator.inputs), 2: _ints(b, operator.outputs)}
        octets = {}
        if operator.custom:
            offsets[5] = _octets(b, _flexible(operator.options))
        else:
            octets, offsets[4] = {3: FULLY_CONNECTED_OPTIONS}, _table(b, octets={0: RELU if operator.relu else 0})
        steps.append(_table(b, octets=octets, numbers={0: names.index(operator.custom)}, offsets=offsets))
    ends = {1: _ints(b, (0,)), 2: _ints(b, (len(tensors) - 1,))}
    graph = _table(b, offsets={0: _offsets(b, made), **ends, 3: _offsets(b, steps)})
    lists = {1: _offsets(b, codes), 2: _offsets(b, [graph]), 4: _offsets(b, buffers)}
    b.Finish(_table(b, numbers={0: 3}, offsets=lists), b"TFL3")
    return bytes(b.Output())


def _sparsity(b: Any, kept: NDArray[np.bool_]) -> int:
    segments = np.concatenate([[0], np.cumsum(kept.sum(1))])
    vectors = [_table(b, offsets={0: _ints(b, v)}) for v in (segments, np.nonzero(kept)[1])]
    rows = _table(b, numbers={1: len(kept)})
    columns = _table(b, octets={0: 1, 2: 1, 4: 1}, offsets={3: vectors[0], 5: vectors[1]})
    block = _table(b, numbers={1: BLOCK})
    return _table(b, offsets={0: _ints(b, (0, 1, 2)), 1: _ints(b, (1,)), 2: _offsets(b, [rows, columns, block])})


def _table(
    b: Any,
    octets: dict[int, int] | None = None,
    numbers: dict[int, int] | None = None,
    offsets: dict[int, int] | None = None,
) -> int:
    b.StartObject(8)
    for slot, value in (offsets or {}).items():
        b.PrependUOffsetTRelativeSlot(slot, value, 0)
    for slot, value in (numbers or {}).items():
        b.PrependInt32Slot(slot, value, 0)
    for slot, value in (octets or {}).items():
        b.PrependUint8Slot(slot, value, 0)
    return int(b.EndObject())


def _ints(b: Any, values: Any) -> int:
    return int(b.CreateNumpyVector(np.asarray(values, np.int32)))


def _octets(b: Any, data: bytes) -> int:
    b.StartVector(1, len(data), 16)
    b.head = b.Head() - len(data)
    b.Bytes[b.Head() : b.Head() + len(data)] = data
    return int(b.EndVector())


def _offsets(b: Any, values: list[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependUOffsetTRelative(value)
    return int(b.EndVector())


def _flexible(options: dict[str, int]) -> bytes:
    from flatbuffers import flexbuffers

    return bytes(flexbuffers.Dumps(options)) if options else b""

"""A request's tensors against the model's signature: names, types, shapes and sizes, before anything is computed.

Rule 1: every message says what was expected. Rule 2: sizes are multiplied as Python ints before NumPy sees them.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from meshd.config import TENSOR_BYTES_MAX
from meshd.dataplane.links import Buffer, Signature
from meshd.errors import InvalidError
from meshd.model.graph import Port
from meshd.wire import oip
from meshd.wire.oip_request import InferRequest, InputTensor, RequestedOutput
from meshd.wire.oip_response import OutputTensor

DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""NumPy's names → the protocol's. BYTES and BF16 exist in the protocol and in no graph."""

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


class NotSupportedError(InvalidError):
    """The protocol has it, meshd does not."""


def describe(port: Port) -> str:
    """E.g. `x FP32 [-1, 28, 28]`."""
    return f"{port.name} {DATATYPES[port.type.dtype]} {shape_of(port)}"


def shape_of(port: Port) -> list[int]:
    """With -1 for the batch."""
    return [-1 if n is None else n for n in port.type.shape]


def bind_inputs(request: InferRequest, signature: Signature) -> tuple[list[Buffer], int]:
    """The raw bytes of every input in the signature's order, and the batch.

    Raises
    ------
    InvalidError
        Something is not what the signature says; names what was expected.
    NotSupportedError
        Shared memory, BYTES.
    """
    expected = ", ".join(map(describe, signature.inputs))
    given: dict[str, tuple[int, InputTensor]] = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.name in given:
            raise InvalidError(f"input {tensor.name!r} is given twice")
        given[tensor.name] = (index, tensor)
    names = {port.name for port in signature.inputs}
    if unknown := [name for name in given if name not in names]:
        raise InvalidError(f"unknown input {unknown[0]!r}; the model takes {expected}")
    if missing := [port.name for port in signature.inputs if port.name not in given]:
        raise InvalidError(f"input {missing[0]!r} is missing; the model takes {expected}")
    if request.raw and len(request.raw) != len(request.inputs):
        raise InvalidError(
            f"{len(request.raw)} raw_input_contents for {len(request.inputs)} inputs; one is needed for each, in order"
        )
    batch: int | None = None
    found: list[Buffer] = []
    for port in signature.inputs:
        index, tensor = given[port.name]
        batch = _check(tensor, port, batch, signature.batch_max)
        raw = request.raw[index] if request.raw else tensor.raw
        found.append(_data(tensor, port, raw))
    return found, batch or 1


def _check(tensor: InputTensor, port: Port, batch: int | None, batch_max: int) -> int | None:
    """Type and shape; returns the batch as known after it."""
    datatype, expected = DATATYPES[port.type.dtype], shape_of(port)
    if any(name.startswith("shared_memory") for name in tensor.parameters):
        raise NotSupportedError(f"input {port.name!r}: shared memory is not supported; send its data in the request")
    if tensor.datatype != datatype:
        raise InvalidError(f"input {port.name!r} has datatype {tensor.datatype or 'none'}; expected {datatype}")
    shape = tensor.shape
    fits = len(shape) == len(expected) and all(
        e == n or (e == -1 and n > 0) for e, n in zip(expected, shape, strict=True)
    )
    if not fits:
        raise InvalidError(f"input {port.name!r} has shape {list(shape)}; expected {expected}")
    if port.type.shape[:1] != (None,):
        return batch
    if batch is not None and shape[0] != batch:
        raise InvalidError(f"input {port.name!r} has a batch of {shape[0]}, the inputs before it one of {batch}")
    if batch_max and shape[0] > batch_max:
        raise InvalidError(f"input {port.name!r} has a batch of {shape[0]}; at most {batch_max} is allowed")
    return shape[0]


def _data(tensor: InputTensor, port: Port, raw: memoryview | None) -> Buffer:
    count = math.prod(tensor.shape)
    size = count * np.dtype(port.type.dtype).itemsize
    if size > TENSOR_BYTES_MAX:
        raise InvalidError(f"input {port.name!r} is {size} bytes; at most {TENSOR_BYTES_MAX}: send a smaller batch")
    if raw is not None:
        if tensor.contents is not None:
            raise InvalidError(f"input {port.name!r} has both contents and raw_input_contents; send one of them")
        if len(raw) != size:
            raise InvalidError(
                f"input {port.name!r} has {len(raw)} bytes; {tensor.datatype} {list(tensor.shape)} is {size}"
            )
        if tensor.datatype == "BOOL" and size and int(np.frombuffer(raw, np.uint8).max()) > 1:
            raise InvalidError(f"input {port.name!r} has bytes other than 0 and 1; BOOL is one byte each")
        return raw
    if tensor.values is not None:
        return _listed(tensor.values, port, list(tensor.shape), count)
    if tensor.contents is None:
        raise InvalidError(f"input {port.name!r} has no data; send it as bytes or as a list")
    return _typed(tensor, port, tensor.contents, count)


def _typed(tensor: InputTensor, port: Port, contents: memoryview, count: int) -> Buffer:
    """InferTensorContents as raw bytes: the form of clients that write a tensor number by number."""
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise InvalidError(f"input {port.name!r}: {tensor.datatype} is sent as raw_input_contents only")
    # Numbers stay packed inside protobuf's own array until they were counted.
    try:
        values = getattr(oip.message("inference.InferTensorContents").FromString(bytes(contents)), field)
    except ValueError as error:  # protobuf's DecodeError is one.
        raise InvalidError(f"input {port.name!r}: contents cannot be read: {error}") from None
    if len(values) != count:
        raise InvalidError(
            f"input {port.name!r} has {len(values)} {field}; {tensor.datatype} {list(tensor.shape)} is {count}"
        )
    return _narrow(values, port, count)


_KINDS: Final[dict[str, set[type]]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
"""What JSON may hold for a kind of NumPy type: 1.5 is no integer, and text never a number."""


def _listed(values: list[Any], port: Port, shape: list[int], count: int) -> Buffer:
    """JSON's numbers as raw bytes."""
    datatype, kind = DATATYPES[port.type.dtype], np.dtype(port.type.dtype).kind
    if len(values) != count:
        raise InvalidError(f"input {port.name!r} has {len(values)} numbers; {datatype} {shape} is {count}")
    if strange := set(map(type, values)) - _KINDS[kind]:
        names = ", ".join(sorted(each.__name__ for each in strange))
        raise InvalidError(f"input {port.name!r} has values of type {names}; {datatype} takes none of these")
    try:
        return _narrow(values, port, count)
    except OverflowError:
        raise InvalidError(f"input {port.name!r} has values outside {port.type.dtype}") from None


def _narrow(values: Any, port: Port, count: int) -> Buffer:
    dtype = np.dtype(port.type.dtype)
    if dtype.kind in "iu":
        wide = np.fromiter(values, np.int64 if dtype.kind == "i" else np.uint64, count)
        limits = np.iinfo(dtype)
        if count and (wide.min() < limits.min or wide.max() > limits.max):
            raise InvalidError(f"input {port.name!r} has values outside {dtype.name}")
        return wide.astype(dtype).tobytes()
    return np.fromiter(values, dtype, count).tobytes()


def chosen_outputs(request: InferRequest, signature: Signature) -> list[int]:
    """Indices of the outputs to answer, in the order asked for; all where none is named."""
    if not request.outputs:
        return list(range(len(signature.outputs)))
    by_name = {port.name: index for index, port in enumerate(signature.outputs)}
    return [_chosen(output, by_name, signature) for output in request.outputs]


def _chosen(output: RequestedOutput, by_name: dict[str, int], signature: Signature) -> int:
    if output.name not in by_name:
        gives = ", ".join(map(describe, signature.outputs))
        raise InvalidError(f"unknown output {output.name!r}; the model gives {gives}")
    if "classification" in output.parameters:
        raise NotSupportedError(f"output {output.name!r}: classification is not supported; take the raw scores")
    if any(name.startswith("shared_memory") for name in output.parameters):
        raise NotSupportedError(f"output {output.name!r}: shared memory is not supported; leave it out")
    return by_name[output.name]


def answer_outputs(
    signature: Signature, chosen: Sequence[int], raw: Sequence[Buffer], batch: int
) -> list[OutputTensor]:
    """The chosen outputs as they are written."""
    answered = []
    for index in chosen:
        port = signature.outputs[index]
        shape = tuple(batch if n is None else n for n in port.type.shape)
        answered.append(OutputTensor(port.name, DATATYPES[port.type.dtype], shape, raw[index]))
    return answered

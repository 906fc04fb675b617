"""A ModelInferRequest and its answer as `/v2/models/M/infer` carries them: JSON, then the tensors that are sent as bytes.

The header `Inference-Header-Content-Length` says how long the JSON is where bytes follow it; a tensor whose parameter
`binary_data_size` says so has its data there, one after another, little-endian.

Rule 1: the JSON is at most `HTTP_JSON_BYTES_MAX`: it becomes thirty times as much Python, parsed with the GIL held.
Rule 2: numbers stay as they were parsed; `services.tensors` holds them against the model's signature.
Rule 3: NaN and infinities are written as `NaN` and `Infinity`, as most writers of JSON do, though JSON has no such words.

Source: the Open Inference Protocol's REST form, and Triton's extensions `binary_data`, `parameters`, `schedule_policy`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, TypeGuard

import numpy as np

from meshd.config import HTTP_JSON_BYTES_MAX, HTTP_JSON_NUMBERS_MAX, NAME_CHARS_MAX, TENSOR_RANK_MAX
from meshd.config import TENSORS_PER_REQUEST_MAX as TENSORS_MAX
from meshd.errors import InvalidError
from meshd.wire.oip_request import ID_CHARS_MAX, PARAMETERS_MAX, InferRequest, InputTensor, Parameter, RequestedOutput
from meshd.wire.oip_response import OutputTensor

BINARY_SIZE: Final = "binary_data_size"
_DTYPES: Final = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def read_json_request(body: bytes | memoryview, json_bytes: int | None) -> InferRequest:
    """Read a body; `raw` of its tensors are views of it. The model's name and version stand in the path, not here.

    Parameters
    ----------
    json_bytes : what `Inference-Header-Content-Length` says; None where it is missing, and all of `body` is JSON

    Raises
    ------
    InvalidError
        Not a request, or past a limit; names what.
    """
    view = memoryview(body)
    if json_bytes is not None and not 0 <= json_bytes <= len(view):
        raise InvalidError(f"Inference-Header-Content-Length is {json_bytes}; the body has {len(view)} bytes")
    told = read_json(view if json_bytes is None else view[:json_bytes])
    request = InferRequest(id=_text(told, "id", ID_CHARS_MAX), parameters=_parameters(told, "the request"))
    request.outputs = [
        RequestedOutput(_text(each, "name"), _parameters(each, "an output")) for each in _objects(told, "outputs")
    ]
    at = len(view) if json_bytes is None else json_bytes
    for each in _objects(told, "inputs"):
        tensor = InputTensor(
            _text(each, "name"), _text(each, "datatype"), _shape(each), _parameters(each, f"input {each.get('name')!r}")
        )
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            tensor.values = _flat(each.get("data"), tensor.name)
        elif not _is_whole(size) or not 0 <= size <= len(view) - at:
            raise InvalidError(
                f"input {tensor.name!r}: {BINARY_SIZE} is {size}; {len(view) - at} bytes are left for it"
            )
        else:
            tensor.raw = view[at : at + size]
            at += size
        request.inputs.append(tensor)
    if at < len(view):
        raise InvalidError(f"{len(view) - at} bytes after the JSON belong to no input ({BINARY_SIZE} says how many do)")
    return request


def read_json(body: memoryview) -> dict[str, Any]:
    """A JSON object. Raises InvalidError."""
    if len(body) > HTTP_JSON_BYTES_MAX:
        raise InvalidError(
            f"{len(body)} bytes of JSON; at most {HTTP_JSON_BYTES_MAX}: send tensors as bytes ({BINARY_SIZE})"
        )
    try:
        told = json.loads(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"not JSON: {str(error)[:200]}") from None
    if not isinstance(told, dict):
        raise InvalidError(f"expected a JSON object, got {type(told).__name__}")
    return told


def write_json_response(
    model_name: str,
    model_version: str,
    id: str,
    outputs: Sequence[OutputTensor],
    parameters: Iterable[tuple[str, Parameter]],
    as_bytes: Sequence[bool],
) -> tuple[list[bytes | bytearray | memoryview], int | None]:
    """The pieces of an answer's body, and what its `Inference-Header-Content-Length` is (None: all of it is JSON).

    Parameters
    ----------
    as_bytes : for each output, whether its data follows the JSON instead of standing in it

    Raises
    ------
    InvalidError
        So many numbers that they must be asked for as bytes.
    """
    told: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if id:
        told["id"] = id
    if said := dict(parameters):
        told["parameters"] = said
    told["outputs"] = described = []
    listed = sum(math.prod(o.shape) for o, binary in zip(outputs, as_bytes, strict=True) if not binary)
    if listed > HTTP_JSON_NUMBERS_MAX:
        raise InvalidError(
            f"{listed} numbers are too many for JSON ({HTTP_JSON_NUMBERS_MAX}); ask for the outputs with"
            " binary_data, or all with binary_data_output"
        )
    pieces: list[bytes | bytearray | memoryview] = []
    for output, binary in zip(outputs, as_bytes, strict=True):
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if binary:
            entry["parameters"] = {BINARY_SIZE: len(output.data)}
            pieces.append(output.data)
        else:
            entry["data"] = np.frombuffer(output.data, _DTYPES[output.datatype]).tolist()
        described.append(entry)
    head = json.dumps(told).encode()
    return [head, *pieces], len(head) if pieces else None


def _objects(told: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = told.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidError(f"{key!r}: expected a list of objects")
    if len(found) > TENSORS_MAX:
        raise InvalidError(f"{len(found)} {key}; at most {TENSORS_MAX}")
    return found


def _text(told: dict[str, Any], key: str, most: int = NAME_CHARS_MAX) -> str:
    found = told.get(key, "")
    if not isinstance(found, str) or len(found) > most:
        raise InvalidError(f"{key!r}: expected text of at most {most} characters")
    return found


def _shape(told: dict[str, Any]) -> tuple[int, ...]:
    shape = told.get("shape", [])
    if not isinstance(shape, list) or len(shape) > TENSOR_RANK_MAX or not all(_is_whole(n) for n in shape):
        raise InvalidError(f"'shape': expected a list of at most {TENSOR_RANK_MAX} whole numbers")
    return tuple(shape)


def _is_whole(value: object) -> TypeGuard[int]:
    return type(value) is int


def _parameters(told: dict[str, Any], where: str) -> dict[str, Parameter]:
    found = told.get("parameters", {})
    if not isinstance(found, dict) or len(found) > PARAMETERS_MAX:
        raise InvalidError(f"parameters of {where}: expected an object of at most {PARAMETERS_MAX}")
    for name, value in found.items():
        if not isinstance(value, bool | int | float | str) or len(str(name)) > NAME_CHARS_MAX:
            raise InvalidError(f"parameter {name[:40]!r} of {where}: expected a number, a text, true or false")
    return found


def _flat(data: object, name: str) -> list[Any] | None:
    """Row by row, as it comes flat or nested; the shape says what it means."""
    if data is None:
        return None
    for _ in range(TENSOR_RANK_MAX + 1):
        if not isinstance(data, list):
            break
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        if kinds != {list}:
            break
        data = list(chain.from_iterable(data))
    raise InvalidError(f"input {name!r}: 'data' is a list, nested at most {TENSOR_RANK_MAX} deep, of numbers only")

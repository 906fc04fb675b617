"""The file: within limits, external data confined to the model's folder, tensors checked before NumPy sees them."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.config import MODEL_BYTES_MAX, MODEL_OPERATIONS_MAX, MODEL_TENSORS_MAX, TENSOR_RANK_MAX
from meshd.errors import InvalidError, NotFoundError
from meshd.model.graph import DTYPES

OPSET_MIN = 7
"""Below it broadcasting is an attribute. Models older than 13 are settled to 13's meaning by the rows."""


def read(path: Path) -> bytes:
    """The file's bytes; raises NotFoundError, InvalidError."""
    if not path.is_file():
        raise NotFoundError(f"there is no model file {path}")
    if path.stat().st_size > MODEL_BYTES_MAX:
        raise InvalidError(f"{path} has {path.stat().st_size} bytes; at most {MODEL_BYTES_MAX}")
    return path.read_bytes()


def parse(raw: bytes) -> Any:
    """The `onnx.ModelProto`, local functions inlined; raises InvalidError."""
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except (DecodeError, ValueError, RuntimeError):
        raise InvalidError("this is no ONNX model: truncated or corrupt; export it again") from None
    _count(len(model.graph.node), MODEL_OPERATIONS_MAX, "nodes")
    _count(len(model.graph.initializer), MODEL_TENSORS_MAX, "initializers")
    check_text(model.graph)
    if not model.graph.node and not model.graph.output:
        raise InvalidError("the file holds no graph: it is no ONNX model, or an empty one")
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:  # noqa: BLE001 - C++ errors of many kinds, all about the file.
            raise InvalidError(f"the model's local functions cannot be inlined: {error}") from None
        _count(len(model.graph.node), MODEL_OPERATIONS_MAX, "nodes, functions inlined")
    return model


def check_text(graph: Any) -> None:
    """Names must be text: protobuf hands out bytes where they are not, and every comparison after it would go wrong."""
    words = [t.name for t in graph.initializer]
    for info in (*graph.input, *graph.output):
        words += [info.name, *(d.dim_param for d in info.type.tensor_type.shape.dim)]
    for node in graph.node:
        words += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    if any(isinstance(w, bytes) for w in words):
        raise InvalidError("the model holds names that are no text: it is corrupt; export it again")


def opset(model: Any) -> int:
    """The version of the standard operators; raises InvalidError where it is unknown."""
    import onnx

    versions = [o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OPSET_MIN <= versions[0] <= newest:
        raise InvalidError(
            f"the model uses opset {versions or 'none'}; {OPSET_MIN} to {newest} are read: export it anew"
        )
    return int(versions[0])


def _count(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidError(f"the model has {count} {what}; at most {most}")


def array(tensor: Any, folder: Path | None) -> NDArray[Any]:
    """A `TensorProto` as a C-order array. Raises InvalidError naming the tensor."""
    import onnx
    from onnx import numpy_helper

    name = tensor.name or "a constant"
    shape = tuple(int(d) for d in tensor.dims)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        raise InvalidError(f"{name} has unknown element type {tensor.data_type}") from None
    if len(shape) > TENSOR_RANK_MAX or any(d < 0 for d in shape):
        raise InvalidError(f"{name} has shape {list(shape)}; at most {TENSOR_RANK_MAX} axes, none negative")
    size = prod(shape) * max(dtype.itemsize, 1)
    if size > MODEL_BYTES_MAX:
        raise InvalidError(f"{name} claims {size} bytes; at most {MODEL_BYTES_MAX}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raw: bytes = _external(tensor, folder, name)
    elif tensor.HasField("raw_data"):
        raw = bytes(tensor.raw_data)
    else:
        if dtype.kind not in "fiub":
            raise InvalidError(f"{name} has element type {dtype}, which meshd does not know")
        return _listed(tensor, name, numpy_helper)
    if dtype.kind not in "fiub" or dtype.name not in PLAIN:
        raise InvalidError(f"{name} has element type {dtype}, which meshd does not know")
    if len(raw) != size:
        raise InvalidError(f"{name} has {len(raw)} bytes where its shape {list(shape)} takes {size}")
    return np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


PLAIN = frozenset(DTYPES)
"""Element types of NumPy's; others (bfloat16, float8, int4, strings) are refused by name."""


def _listed(tensor: Any, name: str, numpy_helper: Any) -> NDArray[Any]:
    held = max(
        len(getattr(tensor, f)) for f in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    )
    if held != prod(tensor.dims):
        raise InvalidError(f"{name} has {held} elements where its shape {list(tensor.dims)} takes {prod(tensor.dims)}")
    try:
        return np.ascontiguousarray(numpy_helper.to_array(tensor)).reshape(tuple(tensor.dims))
    except (ValueError, TypeError) as error:
        raise InvalidError(f"{name} cannot be read: {error}") from None


def _external(tensor: Any, folder: Path | None, name: str) -> bytes:
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if folder is None or not location:
        raise InvalidError(f"{name} lies in another file, which this model cannot name; save the model in one file")
    path = (folder / location).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidError(f"{name} lies in {location!r}, which is no file in the model's folder")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
    except ValueError:
        raise InvalidError(f"{name} has no whole numbers for its place in {location!r}") from None
    size = path.stat().st_size
    length = size - offset if length < 0 else length
    if not 0 <= offset <= offset + length <= size or length > MODEL_BYTES_MAX:
        raise InvalidError(f"{name} claims bytes {offset} to {offset + length} of {location!r}, which has {size}")
    with path.open("rb") as file:
        file.seek(offset)
        held: bytes = file.read(length)
    return held

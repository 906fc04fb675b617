"""What is known at import is computed at import: by ONNX's own reference, one node at a time, sizes checked first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.config import MODEL_BYTES_MAX
from meshd.errors import InvalidError
from meshd.model.onnx_import.load import array
from meshd.model.onnx_import.refusal import RefusedError

Array = NDArray[Any]


def constant_node(node: Any, attributes: Mapping[str, Any]) -> Array:
    """The value of a Constant node."""
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, value in attributes.items():
        if name == "value":
            return array(value, None)
        if name in kinds:
            return np.asarray(value, kinds[name])
    raise RefusedError("a constant that is no tensor of numbers", "replace it before export")


def evaluate(node: Any, inputs: Mapping[str, Array], opset: int) -> list[Array]:
    """Outputs of a node whose inputs are all known.

    Raises
    ------
    InvalidError
        If it cannot be computed, or would take more than a model may.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        opset = max(opset, 21)  # The reference has no older ones; what they mean did not change.
    where = f"{node.name or node.output[0]} ({node.op_type})"
    if node.op_type == "ConstantOfShape":
        return [_of_shape(node, next(iter(inputs.values())), where)]
    known = {name: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in inputs.items()}
    types = {name: onnx.helper.make_tensor_type_proto(known[name], a.shape) for name, a in inputs.items()}
    small = {name: onnx.numpy_helper.from_array(a, name) for name, a in inputs.items() if a.size <= 4096}
    versions = [onnx.helper.make_opsetid("", opset)]
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        made = onnx.shape_inference.infer_node_outputs(schema, node, types, small, opset_imports=versions)
    except Exception as error:  # noqa: BLE001 - C++ errors of many kinds, all about this node.
        raise InvalidError(f"{where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    for name, t in made.items():
        dims = t.tensor_type.shape.dim
        size = 1
        for d in dims:
            if not d.HasField("dim_value"):
                raise RefusedError(f"the size of its output {name} is not known beforehand", "replace it before export")
            size *= d.dim_value
        if size * 8 > MODEL_BYTES_MAX:
            raise InvalidError(f"{where}: a constant of {size} elements; at most {MODEL_BYTES_MAX // 8}")
    graph = onnx.helper.make_graph(
        [node],
        "fold",
        [onnx.helper.make_value_info(name, t) for name, t in types.items()],
        [onnx.helper.make_value_info(name, made.get(name, onnx.TypeProto())) for name in node.output if name],
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=versions)).run(None, dict(inputs))
    except Exception as error:  # noqa: BLE001 - the reference raises whatever it likes on a malformed node.
        raise InvalidError(f"{where}: its constant value cannot be computed: {str(error)[:200]}") from None
    outs = [np.asarray(r) for r in results]
    if any(o.dtype.kind not in "fiub" or sum(o.nbytes for o in outs) > MODEL_BYTES_MAX for o in outs):
        raise InvalidError(f"{where}: its constant value is no tensor of numbers meshd knows, or too large")
    return outs


def _of_shape(node: Any, shape: Array, where: str) -> Array:
    fill = np.zeros(1, np.float32)
    for attribute in node.attribute:
        if attribute.name == "value":
            fill = array(attribute.t, None).reshape(-1)
    size = fill.itemsize
    for d in shape.reshape(-1).tolist():
        size *= int(d)
    if fill.size != 1 or size < 0 or size > MODEL_BYTES_MAX or shape.size > 8:
        raise InvalidError(f"{where}: a constant of {size} bytes; at most {MODEL_BYTES_MAX}, of one value")
    return np.full(tuple(shape.reshape(-1).tolist()), fill[0])

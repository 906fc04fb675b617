"""Small ONNX models made here: a network like the demo's, and single nodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    weights: Mapping[str, Array] | None = None,
    opset: int = 17,
    kinds: Mapping[str, int] | None = None,
) -> bytes:
    """A serialised model; inputs are float32 unless `kinds` says otherwise."""
    kinds = kinds or {}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), list(s)) for n, s in inputs.items()],
        [helper.make_value_info(n, onnx.TypeProto()) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return made.SerializeToString()  # type: ignore[no-any-return]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(op, list(inputs), list(outputs), name=f"{outputs[0]}_node", **attributes)


def demo_like(seed: int = 3) -> bytes:
    """Dense stem, a convolution pruned in blocks of 4, a binary one, a residual branch, a head; free batch."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    sparse = normal(16, 8, 3, 3)
    keep = rng.random((4, 8 * 9)) < 0.1
    sparse *= np.repeat(keep, 4, axis=0).reshape(sparse.shape)
    weights = {
        "stem.w": normal(8, 1, 3, 3),
        "stem.b": normal(8),
        "sparse.w": sparse,
        "sparse.b": normal(16),
        "binary.w": np.where(rng.random((16, 16, 3, 3)) < 0.5, -1, 1).astype(np.float32),
        **{f"bn.{n}": np.abs(normal(16)) + np.float32(0.1) for n in ("scale", "bias", "mean", "var")},
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "one": np.array(1, np.float32),
        "branch.w": normal(16, 16, 1, 1),
        "join.w": normal(16, 16, 3, 3),
        "head.w": normal(10, 16),
        "head.b": normal(10),
    }
    pad = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["image", "stem.w", "stem.b"], ["stem"], **pad),
        node("Relu", ["stem"], ["stem.r"]),
        node("MaxPool", ["stem.r"], ["stem.p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["stem.p", "sparse.w", "sparse.b"], ["sparse"], **pad),
        node("Sign", ["sparse"], ["signs"]),
        node("Pad", ["signs", "pads", "one"], ["signs.p"]),
        node("Conv", ["signs.p", "binary.w"], ["binary"]),
        node("BatchNormalization", ["binary", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["binary.n"]),
        node("Relu", ["binary.n"], ["trunk"]),
        node("Conv", ["trunk", "branch.w"], ["branch"]),
        node("Conv", ["trunk", "join.w"], ["join"], **pad),
        node("Add", ["join", "branch"], ["sum"]),
        node("Relu", ["sum"], ["sum.r"]),
        node("GlobalAveragePool", ["sum.r"], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "head.w", "head.b"], ["logits"], transB=1),
    ]
    return model(nodes, {"image": ["N", 1, 12, 12]}, ["logits"], weights)

"""A small network with convolutions and products, and data for it: what the tests of this room compress."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.model.networks import model, node


def write(folder: Path, *, count: int = 120, labelled: bool = True) -> tuple[Path, Path]:
    """`(model.onnx, data.npz)`: two convolutions, pooling, a product of 32 and one of 5; smooth correlated images."""
    rng = np.random.default_rng(7)

    def normal(*shape: int) -> Any:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    weights = {
        "a.w": normal(8, 2, 3, 3), "a.b": normal(8), "b.w": normal(16, 8, 3, 3), "b.b": normal(16),
        "c.w": normal(144, 32), "c.b": normal(32), "d.w": normal(5, 32), "d.b": normal(5),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "a.w", "a.b"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["ar"]),
        node("Conv", ["ar", "b.w", "b.b"], ["b"], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Relu", ["b"], ["br"]),
        node("MaxPool", ["br"], ["p"], kernel_shape=[2, 2], strides=[1, 1]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "c.w", "c.b"], ["c"]),
        node("Relu", ["c"], ["cr"]),
        node("Gemm", ["cr", "d.w", "d.b"], ["y"], transB=1),
    ]
    path = folder / "model.onnx"
    made = onnx.ModelProto.FromString(model(nodes, {"x": ["N", 2, 8, 8]}, ["y"], weights))
    made.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 5]))
    made.ir_version = 8  # Other runtimes read it.
    path.write_bytes(made.SerializeToString())
    waves = rng.standard_normal((count, 6)) @ rng.standard_normal((6, 2 * 64))
    arrays: dict[str, Any] = {"x": waves.reshape(count, 2, 8, 8).astype(np.float32)}
    if labelled:
        arrays["labels"] = rng.integers(0, 5, count)
    np.savez(folder / "data.npz", **arrays)
    return path, folder / "data.npz"

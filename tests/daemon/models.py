"""A model small enough to read: two matrix products and a rectifier between them."""

import numpy as np

from meshd.model.bundle import Bundle, pack
from meshd.model.graph import Graph, Operation, Port, TensorType, Weight

ROWS = TensorType("float32", (None, 8))


def small_bundle(name: str = "small", scale: float = 1.0) -> Bundle:
    """Three operations, two blobs."""
    square = TensorType("float32", (8, 8))
    arrays = {w: (np.arange(64, dtype=np.float32).reshape(8, 8) * scale + n) for n, w in enumerate(("w0", "w1"))}
    graph = Graph(
        name=name,
        inputs=(Port("x", ROWS),),
        outputs=(Port("y", ROWS),),
        operations=(
            Operation("first", "MatMul", ("x", "w0"), ("a",)),
            Operation("rectify", "Relu", ("a",), ("b",)),
            Operation("second", "MatMul", ("b", "w1"), ("y",)),
        ),
        weights={w: Weight(w, square, "", 0) for w in arrays},
        tensors=dict.fromkeys(("x", "a", "b", "y"), ROWS),
    )
    return pack(graph, arrays)

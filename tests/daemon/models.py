"""Models small enough to read: matrix products with rectifiers between them."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

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


def chain_bundle(widths: Sequence[int]) -> tuple[Bundle, Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """Products with a rectifier after each, `widths[0]` in, `widths[-1]` out; with the function it computes."""
    rng = np.random.default_rng(7)
    arrays = {
        f"w{n}": (rng.standard_normal(pair) / np.sqrt(pair[0])).astype(np.float32)
        for n, pair in enumerate(pairwise(widths))
    }
    last = len(arrays) - 1
    operations, tensors = [], {"x": TensorType("float32", (None, widths[0]))}
    for n in range(len(arrays)):
        came, gone = f"r{n - 1}" if n else "x", "y" if n == last else f"r{n}"
        operations += [
            Operation(f"product{n}", "MatMul", (came, f"w{n}"), (f"p{n}",)),
            Operation(f"rectify{n}", "Relu", (f"p{n}",), (gone,)),
        ]
        tensors |= dict.fromkeys((f"p{n}", gone), TensorType("float32", (None, widths[n + 1])))
    weights = {name: Weight(name, TensorType("float32", array.shape), "", 0) for name, array in arrays.items()}
    ports = (Port("x", tensors["x"]),), (Port("y", tensors["y"]),)

    def truth(x: NDArray[np.float32]) -> NDArray[np.float32]:
        for array in arrays.values():
            x = np.maximum(x @ array, 0)
        return x

    return pack(Graph("chain", *ports, tuple(operations), weights, tensors), arrays), truth

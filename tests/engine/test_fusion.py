"""What is fused into a kernel's tail gives the bits that it gives as a step of its own."""

from typing import Any

import numpy as np
import pytest

from meshd.engine.segment import Segment, compile_segment
from meshd.model import bundle, cuts
from meshd.model.onnx_import import import_bytes
from tests.model.networks import model, node

BENDS: list[tuple[str, dict[str, float]]] = [
    ("HardSwish", {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("LeakyRelu", {"alpha": 0.2}),
]


def _segment(op: str, attributes: dict[str, float], *, fused: bool, size: int = 9) -> Segment:
    """A convolution, the function, and a convolution; where it must not fuse, what lies between is an output too."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal((4, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        node(op, ["c"], ["d"], **attributes),
        node("Conv", ["d", "b"], ["y"]),
    ]
    raw = model(nodes, {"x": ("N", 3, size, size)}, ["y"] if fused else ["y", "c"], weights)
    packed = bundle.pack(*import_bytes(raw, "bends"))
    return compile_segment(packed.graph, 0, len(cuts.layers(packed.graph)), packed.blobs.__getitem__)


@pytest.mark.parametrize(("op", "attributes"), BENDS)
def test_a_fused_function_gives_the_bits_of_a_step_of_its_own(
    op: str, attributes: dict[str, float], monkeypatch: Any
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 9)).astype(np.float32) * 3
    fused, apart = (_segment(op, attributes, fused=f) for f in (True, False))
    assert len(fused.steps) < len(apart.steps)
    assert np.array_equal(fused.run([x])[0], apart.run([x])[0])
    monkeypatch.setenv("MESHD_NUMBA", "0")
    (slow,) = _segment(op, attributes, fused=True).run([x])
    assert np.allclose(slow, fused.run([x])[0], rtol=1e-4, atol=1e-4)


def test_a_convolution_over_the_whole_image_is_a_product() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((70, 5, 3, 2)).astype(np.float32)
    nodes = [node("Conv", ["x", "w"], ["c"]), node("HardSwish", ["c"], ["y"])]
    raw = model(nodes, {"x": ("N", 5, 3, 2)}, ["y"], {"w": weight})
    packed = bundle.pack(*import_bytes(raw, "all"))
    segment = compile_segment(packed.graph, 0, 1, packed.blobs.__getitem__)
    x = rng.standard_normal((3, 5, 3, 2)).astype(np.float32)
    made = np.einsum("ncij,ocij->no", x.astype(np.float64), weight)
    expected = made * np.clip(made / 6 + 0.5, 0, 1)
    assert np.allclose(segment.run([x])[0][:, :, 0, 0], expected, rtol=1e-4, atol=1e-4)
    assert any("product" in getattr(getattr(s, "kernel", None), "name", "") for s in segment.steps)

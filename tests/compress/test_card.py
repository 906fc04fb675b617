"""A card's view of a file: the kind of each layer, read from the graph alone. Needs no PyTorch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from meshd.compress import quantize
from meshd.compress.recipes import card
from tests.compress import small


def _model(weight: np.ndarray, *before: str) -> "card.onnx.ModelProto":
    nodes, last = [], "x"
    for op in before:
        nodes.append(helper.make_node(op, [last, *(["pads"] if op == "Pad" else [])], [op]))
        last = op
    nodes.append(helper.make_node("Conv", [last, "w"], ["y"], name="layer"))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    constants = [
        numpy_helper.from_array(weight, "w"),
        numpy_helper.from_array(np.zeros(8, np.int64), "pads"),
    ]
    return helper.make_model(helper.make_graph(nodes, "one", ports[:1], ports[1:], constants))


SIGNS = np.where(np.arange(72).reshape(8, 1, 3, 3) % 3 == 0, -1, 1).astype(np.float32)
BLOCKS = np.repeat(np.eye(9, dtype=np.float32)[:2].reshape(2, 1, 3, 3), 4, axis=0)
STRAY = BLOCKS.copy()
STRAY[1, 0, 2, 2] = 0.5


@pytest.mark.parametrize(
    ("weight", "before", "kind", "block"),
    [
        (SIGNS, ("Sign",), "binary", 1),
        (SIGNS, ("Sign", "Pad"), "binary", 1),
        (SIGNS, (), "dense", 1),
        (SIGNS, ("Relu", "Pad"), "dense", 1),
        (SIGNS * 2, ("Sign",), "dense", 1),
        (BLOCKS, ("Sign",), "sparse", 4),
        (STRAY, ("Relu",), "sparse", 1),
    ],
)
def test_a_layers_kind_is_read_from_its_weights_and_what_feeds_it(
    weight: np.ndarray, before: tuple[str, ...], kind: str, block: int
) -> None:
    (row,) = card.describe_layers(_model(weight, *before))
    assert (row["kind"], row["block"], row["parameters"]) == (kind, block, 72)
    assert row["sparsity"] == pytest.approx(1 - np.count_nonzero(weight) / 72, abs=1e-4)


def test_int8_layers_are_called_so(tmp_path: Path) -> None:
    source, data = small.write(tmp_path)
    quantize.quantize(source, data, tmp_path / "int8.onnx", quantize.Wish(keep=("y_node",)))
    rows = card.describe_layers(onnx.load(str(tmp_path / "int8.onnx")))
    assert [row["kind"] for row in rows] == ["int8", "int8", "int8", "dense"]
    assert [row["parameters"] for row in rows] == [152, 1168, 4640, 165]

"""The import: what is settled, what is refused, and how it is said."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from meshd.errors import InvalidError, NotFoundError
from meshd.model.onnx_import import UnsupportedModelError, import_bytes, import_model
from tests.model.networks import demo_like, model, node

F = np.float32


def _ops(raw: bytes, **dims: int) -> list[str]:
    return [o.op for o in import_bytes(raw, "m", dims)[0].operations]


def test_batch_norm_goes_into_the_convolution_but_not_into_signs() -> None:
    assert _ops(demo_like()).count("Affine") == 1
    weights = {"w": np.ones((2, 1, 1, 1), F), **{n: np.full(2, 0.5, F) for n in "sbmv"}}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", *"sbmv"], ["y"])]
    graph, arrays = import_bytes(model(nodes, {"x": ["N", 1, 2, 2]}, ["y"], weights), "m")
    assert [o.op for o in graph.operations] == ["Conv"]
    assert np.allclose(arrays[graph.operations[0].inputs[1]], 0.5 / np.sqrt(0.5 + 1e-5))


def test_what_only_a_binary_layer_reads_makes_one_of_zero() -> None:
    graph, _ = import_bytes(demo_like(), "m")
    (sign,) = (o for o in graph.operations if o.op == "Sign")
    assert sign.attributes["zero"] == 1


def test_a_sign_that_others_read_keeps_its_zero() -> None:
    graph, _ = import_bytes(model([node("Sign", ["x"], ["y"])], {"x": ["N", 4]}, ["y"]), "m")
    assert graph.operations[0].attributes["zero"] == 0


def test_constants_are_folded_and_noops_vanish() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["shape"], axis=0),
        node("Identity", ["x"], ["i"]),
        node("Dropout", ["i"], ["d"]),
        node("Reshape", ["d", "shape"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    graph, _ = import_bytes(model(nodes, {"x": ["N", 2, 3]}, ["y"], weights), "m")
    assert [o.op for o in graph.operations] == ["Reshape"]
    assert graph.batched
    assert graph.outputs[0].type.shape == (None, 6)


def test_a_constant_if_is_its_branch() -> None:
    then = helper.make_graph([node("Relu", ["x"], ["t"])], "t", [], [helper.make_value_info("t", onnx.TypeProto())])
    other = helper.make_graph([node("Neg", ["x"], ["e"])], "e", [], [helper.make_value_info("e", onnx.TypeProto())])
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    raw = model(nodes, {"x": ["N", 2]}, ["y"], {"c": np.array(False)})
    assert _ops(raw) == ["Neg"]


def test_every_unsupported_node_is_named_with_what_to_do() -> None:
    nodes = [
        node("NonZero", ["x"], ["a"]),
        node("Relu", ["x"], ["b"]),
        node("Unique", ["b"], ["c"]),
        node("Cast", ["a"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(UnsupportedModelError) as caught:
        import_bytes(model(nodes, {"x": [1, 4]}, ["y", "c"]), "m")
    assert [(r.node, r.op) for r in caught.value.refusals] == [("a_node", "NonZero"), ("c_node", "Unique")]
    assert "replace it" in str(caught.value)
    assert "c_node (Unique)" in str(caught.value)


def test_a_free_dimension_is_named_and_can_be_fixed() -> None:
    raw = model([node("Relu", ["x"], ["y"])], {"x": ["N", "T", None]}, ["y"])
    with pytest.raises(InvalidError, match=r"'x' axis 1 is 'T'; 'x' axis 2 is 'x\.2'"):
        import_bytes(raw, "m")
    graph, _ = import_bytes(raw, "m", {"T": 5, "x.2": 3})
    assert graph.inputs[0].type.shape == (None, 5, 3)


def test_a_batch_that_mixes_its_items_must_be_fixed() -> None:
    raw = model([node("Softmax", ["x"], ["y"], axis=0)], {"x": ["N", 4]}, ["y"])
    with pytest.raises(InvalidError, match="N=1"):
        import_bytes(raw, "m")
    graph, _ = import_bytes(raw, "m", {"N": 3})
    assert not graph.batched
    assert graph.inputs[0].type.shape == (3, 4)


def test_states_beside_the_input_leave_the_batch_fixed() -> None:
    raw = model([node("Add", ["x", "h"], ["y"])], {"x": [1, 4], "h": [2, 1, 4]}, ["y"])
    graph, _ = import_bytes(raw, "m")
    assert not graph.batched
    assert graph.outputs[0].type.shape == (2, 1, 4)


def test_outputs_keep_their_names_even_where_they_are_inputs_or_constants() -> None:
    nodes = [
        node("Identity", ["x"], ["y"]),
        node("Relu", ["x"], ["z"]),
        node("Identity", ["z"], ["z2"]),
        node("Neg", ["z"], ["q"]),
    ]
    graph, _ = import_bytes(
        model(
            [*nodes, node("Identity", ["k"], ["c"])],
            {"x": [1, 4]},
            ["y", "z2", "z", "q", "c"],
            {"k": np.ones((1, 2), F)},
        ),
        "m",
    )
    assert [p.name for p in graph.outputs] == ["y", "z2", "z", "q", "c"]


@pytest.mark.parametrize(
    ("nodes", "weights", "words"),
    [
        ([node("Relu", ["q"], ["y"])], {}, "before anything writes it"),
        ([node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["x"], ["y"])], {}, "cycle"),
        ([node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 3, 1, 1), F)}, "channels"),
        ([node("Gemm", ["f", "w"], ["y"])], {"f": np.ones((1, 2), F), "w": np.ones((3, 2), F)}, "Gemm"),
        ([node("Conv", ["x", "w"], ["y"])], {"w": np.full((2, 1, 1, 1), np.nan, F)}, "NaN or infinity"),
        ([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])], {}, "written already"),
        (
            [node("ConstantOfShape", ["n"], ["k"]), node("Add", ["x", "k"], ["y"])],
            {"n": np.array([2**31, 2**31])},
            "bytes",
        ),
        ([node("Expand", ["k", "n"], ["y"])], {"k": np.ones(1, F), "n": np.array([2**20, 2**20])}, "elements"),
    ],
)
def test_an_unsound_model_is_refused(nodes: list[object], weights: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        import_bytes(model(nodes, {"x": ["N", 1, 2, 2]}, ["y"], weights), "m")


def test_a_tensor_that_claims_too_much_is_refused_before_it_is_made() -> None:
    proto = onnx.ModelProto.FromString(
        model([node("Add", ["x", "w"], ["y"])], {"x": ["N", 1]}, ["y"], {"w": np.ones(1, F)})
    )
    proto.graph.initializer[0].dims[:] = [2**62]
    with pytest.raises(InvalidError, match="claims"):
        import_bytes(proto.SerializeToString(), "m")
    proto.graph.initializer[0].dims[:] = [2]
    with pytest.raises(InvalidError, match="4 bytes where"):
        import_bytes(proto.SerializeToString(), "m")


def test_a_hundred_thousand_nodes_are_refused() -> None:
    nodes = [node("Relu", ["x"], [f"y{i}"]) for i in range(100_000)]
    with pytest.raises(InvalidError, match="100000 nodes; at most 20000"):
        import_bytes(model(nodes, {"x": ["N", 1]}, ["y1"]), "m")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "nowhere.bin", ""])
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    proto = onnx.ModelProto.FromString(
        model([node("Add", ["x", "w"], ["y"])], {"x": ["N", 1]}, ["y"], {"w": np.ones(1, F)})
    )
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InvalidError, match="w lies in"):
        import_model(path)


def test_external_data_in_the_folder_is_read(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(
        model([node("Add", ["x", "w"], ["y"])], {"x": ["N", 1]}, ["y"], {"w": np.ones(1, F)})
    )
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "w.bin").write_bytes(np.array([1, 7], F).tobytes())
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    _, arrays = import_model(tmp_path / "m.onnx")
    assert arrays["w"].tolist() == [7]


def test_no_file_and_no_model_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        import_model(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello, I am no model")
    with pytest.raises(InvalidError):
        import_model(tmp_path / "text.onnx")


def test_cut_and_flipped_files_never_do_worse_than_an_error() -> None:
    raw = demo_like()
    rng = np.random.default_rng(1)
    for n in rng.integers(0, len(raw), 40):
        for spoiled in (raw[:n], raw[:n] + bytes([raw[n] ^ (1 << int(rng.integers(8)))]) + raw[n + 1 :]):
            try:
                import_bytes(spoiled, "m")
            except InvalidError:
                continue


def test_old_opsets_mean_what_they_meant() -> None:
    raw = model([node("Softmax", ["x"], ["y"])], {"x": [1, 2, 3]}, ["y"], opset=11)
    assert _ops(raw) == ["Reshape", "Softmax", "Reshape"]
    with pytest.raises(InvalidError, match="opset"):
        import_bytes(model([node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"], opset=5), "m")


def test_weights_of_listed_floats_are_read() -> None:
    proto = onnx.ModelProto.FromString(
        model([node("Add", ["x", "w"], ["y"])], {"x": ["N", 1]}, ["y"], {"w": np.ones(1, F)})
    )
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [1], [2.5]))
    _, arrays = import_bytes(proto.SerializeToString(), "m")
    assert arrays["w"].tolist() == [2.5]
    assert numpy_helper is not None

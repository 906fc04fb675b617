"""int8 after training: ranges, rounding, the file others read too."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from meshd.cli.meshd.compress import command
from meshd.compress import calibration, layers, prune, quantize
from meshd.compress.ranges import METHODS, Histogram, scale_between, weight_octets, weight_steps
from meshd.compress.running import Runner, compiled
from meshd.errors import InvalidError, MisuseError
from meshd.model.onnx_import import import_model
from meshd.model.onnx_import.load import parse
from tests.compress import small
from tests.model.networks import model, node


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def made(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "int8.onnx"
    assert len(quantize.quantize(*files, path, quantize.Wish())) == 4
    return path


def test_zero_is_always_exact_and_the_ends_are_reached() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        scale = scale_between(low, high)
        ends = np.array([0.0, min(low, 0.0), max(high, 0.0)], np.float32)
        assert scale.rounded(ends)[0] == 0.0
        np.testing.assert_allclose(scale.rounded(ends), ends, atol=scale.step)


def test_a_rare_giant_is_clipped_where_that_errs_less() -> None:
    values = np.append(np.random.default_rng(0).standard_normal(100_000), 60.0).astype(np.float32)
    histogram = Histogram(float(values.min()), float(values.max()))
    histogram.add(values)
    scales = {m: histogram.scale(m) for m in METHODS}
    errors = {m: float(np.square(s.rounded(values) - values).mean()) for m, s in scales.items()}
    assert errors["mse"] < 0.9 * errors["minmax"]
    assert errors["mse"] <= min(errors.values()) * 1.01
    assert scales["percentile"].step < scales["minmax"].step / 4


def test_weights_of_each_output_have_their_own_step() -> None:
    rng = np.random.default_rng(2)
    matrix = (rng.standard_normal((4, 50)) * [[1e-3], [1.0], [1e3], [0.0]]).astype(np.float32)
    for method in METHODS:
        steps = weight_steps(matrix, method)
        back = weight_octets(matrix, steps) * steps[:, None]
        assert (np.abs(back - matrix) <= 0.15 * np.abs(matrix).max(1, keepdims=True)).all()
        assert np.square(back[:3] - matrix[:3]).sum(1).max() < np.square(matrix[2]).sum()
        assert (back[3] == 0).all()


def test_outputs_stay_near_and_the_file_is_small(files: tuple[Path, Path], made: Path) -> None:
    network = layers.Network(files[0])
    data = calibration.read(files[1], import_model(files[0])[0].inputs)
    assert prune.change(network.model, parse(made.read_bytes()), data, {}) < 2e-3
    weights = [t for t in parse(made.read_bytes()).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(t.dims) for t in weights if t.name.endswith(".octets")) == sum(x.size for x in network.layers)


def test_biases_take_over_what_rounding_shifts(files: tuple[Path, Path], made: Path) -> None:
    data = calibration.read(files[1], import_model(files[0])[0].inputs)
    before, after = (Runner(parse(p.read_bytes()), ["c"]).all(data)[0] for p in (files[0], made))
    spread = before.std()
    assert np.abs((after - before).mean(0)).max() < 0.01 * spread


def test_another_runtime_reads_the_same(files: tuple[Path, Path], made: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx.checker.check_model(parse(made.read_bytes()))
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    data = calibration.read(files[1], import_model(files[0])[0].inputs)
    theirs = session.run(None, {"x": data.inputs[0]})[0]
    mine = Runner(parse(made.read_bytes())).all(data)[0]
    assert (theirs.argmax(1) == mine.argmax(1)).mean() > 0.999
    assert np.abs(theirs - mine).max() < 0.05 * np.abs(mine).max()


def test_pooling_on_the_way_keeps_the_scale(made: Path) -> None:
    nodes = parse(made.read_bytes()).graph.node
    makers = {o: n for n in nodes for o in n.output}
    pool = next(n for n in nodes if n.op_type == "MaxPool")
    readers = [n for n in nodes if pool.output[0] in n.input]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in parse(made.read_bytes()).graph.initializer}
    assert makers[pool.input[0]].op_type == "DequantizeLinear"
    assert [n.op_type for n in readers] == ["QuantizeLinear"]
    assert weights[readers[0].input[1]] == weights[makers[pool.input[0]].input[1]]


def test_layers_may_stay_float(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "some.onnx"
    names = quantize.quantize(*files, path, quantize.Wish(keep=("a_node", "y_node")))
    assert names == ["b_node", "c_node"]
    graph = parse(path.read_bytes()).graph
    assert {"a.w", "d.w"} < {t.name for t in graph.initializer}
    with pytest.raises(MisuseError, match="no such layers to keep"):
        quantize.quantize(*files, path, quantize.Wish(keep=("z",)))


def test_zeros_stay_zeros(files: tuple[Path, Path], tmp_path: Path) -> None:
    sparse, both = tmp_path / "sparse.onnx", tmp_path / "both.onnx"
    prune.prune(*files, sparse, prune.Wish(method="wanda", sparsity=0.7))
    quantize.quantize(sparse, files[1], both, quantize.Wish(method="minmax"))
    zeros = {n: w.zeros for n, w in import_model(sparse)[0].weights.items() if w.structure}
    assert zeros
    found = [w.zeros for w in import_model(both)[0].weights.values() if w.structure.startswith("block")]
    assert len(found) >= len(zeros)


def test_an_old_opset_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "old.onnx"
    weights = {"w": np.ones((4, 3), np.float32) * np.float32(0.5)}
    path.write_bytes(model([node("Gemm", ["x", "w"], ["y"], transB=1)], {"x": ["N", 3]}, ["y"], weights, opset=11))
    with pytest.raises(InvalidError, match="opset 11"):
        quantize.quantize(path, files[1], tmp_path / "out.onnx", quantize.Wish())


def test_the_command(files: tuple[Path, Path], tmp_path: Path) -> None:
    words = [
        "quantize",
        str(files[0]),
        "--data",
        str(files[1]),
        "--range",
        "percentile",
        "-o",
        str(tmp_path / "q.onnx"),
    ]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "4 layers are int8" in done.stdout


def test_what_is_added_to_a_layer_is_read_in_bytes_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights = {n: (rng.standard_normal((8, 8, 1, 1)) * 0.4).astype(np.float32) for n in ("a.w", "b.w", "c.w")}
    nodes = [
        node("Conv", ["x", "a.w"], ["a"]),
        node("Relu", ["a"], ["ar"]),
        node("Conv", ["ar", "b.w"], ["b"]),
        node("Add", ["b", "ar"], ["s"]),
        node("Relu", ["s"], ["sr"]),
        node("Conv", ["sr", "c.w"], ["y"]),
    ]
    path, data, target = tmp_path / "skip.onnx", tmp_path / "data.npz", tmp_path / "int8.onnx"
    made = onnx.ModelProto.FromString(model(nodes, {"x": ["N", 8, 4, 4]}, ["y"], weights))
    made.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 8, 4, 4]))
    path.write_bytes(made.SerializeToString())
    np.savez(data, x=rng.standard_normal((40, 8, 4, 4)).astype(np.float32))
    assert len(quantize.quantize(path, data, target, quantize.Wish())) == 3
    graph, segment = compiled(parse(target.read_bytes()))
    assert segment.kernels == {"int8": 3}
    # Three kernels and what quantises the input: nothing between them is ever floats.
    assert len([s for s in segment.steps if s.name in graph.tensors]) == 4
    items = calibration.read(data, graph.inputs)
    before, after = (Runner(parse(p.read_bytes())).all(items)[0] for p in (path, target))
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()

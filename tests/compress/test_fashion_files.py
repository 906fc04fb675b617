"""The demo's model as shipped: its file, sample and card tell one story. Needs no PyTorch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnx.utils
import pytest
from onnx import numpy_helper

from meshd.compress.recipes import card

FOLDER = Path(card.__file__).parents[2] / "demo"
PATH = FOLDER / "fashion.onnx"
SUPPORTED = {
    "Conv",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "Sign",
    "Clip",
    "Add",
    "Mul",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Flatten",
    "Reshape",
    "Softmax",
    "Pad",
}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(str(PATH))


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "fashion.json").read_text()))


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    with np.load(FOLDER / "fashion_sample.npz", allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


def _weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_card_names_this_very_file(told: dict[str, Any]) -> None:
    raw = PATH.read_bytes()
    assert told["file"] == {"name": "fashion.onnx", "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    assert len(raw) < 1_000_000


def test_the_card_describes_the_layers_that_are_in_the_file(model: onnx.ModelProto, told: dict[str, Any]) -> None:
    assert told["layers"] == card.describe_layers(model)
    assert told["parameters"] == sum(layer["parameters"] for layer in told["layers"])
    assert {layer["name"]: layer["kind"] for layer in told["layers"]} == {
        "stem": "dense",
        "sparse1": "sparse",
        "binary1": "binary",
        "binary2": "binary",
        "sparse2": "sparse",
        "sparse3": "sparse",
        "head": "dense",
    }


def test_the_model_reads_images_and_writes_logits_for_any_batch(model: onnx.ModelProto) -> None:
    (image,), (logits,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in (image, logits)]
    assert (image.name, logits.name) == ("image", "logits")
    assert shapes == [["N", 1, 28, 28], ["N", 10]]
    assert {node.op_type for node in model.graph.node} <= SUPPORTED


def test_sparse_layers_are_nine_tenths_zeros_that_four_outputs_share(model: onnx.ModelProto) -> None:
    weights = _weights(model)
    for name in ("sparse1", "sparse2", "sparse3"):
        kept = (weights[f"{name}.weight"] != 0).reshape(weights[f"{name}.weight"].shape[0] // 4, 4, -1)
        assert np.array_equal(kept, np.broadcast_to(kept[:, :1], kept.shape)), name
        assert kept.mean() == pytest.approx(0.1, abs=0.001), name


def test_binary_layers_hold_plus_and_minus_one_and_read_a_padded_sign(model: onnx.ModelProto) -> None:
    weights = _weights(model)
    makers = {node.output[0]: node for node in model.graph.node}
    for name in ("binary1", "binary2"):
        assert set(np.unique(weights[f"{name}.weight"])) == {-1.0, 1.0}
        pad = makers[makers[name].input[0]]
        assert (pad.op_type, makers[pad.input[0]].op_type) == ("Pad", "Sign")
        assert weights[pad.input[2]] == 1.0


def test_no_result_of_a_binary_layer_meets_its_threshold(model: onnx.ModelProto) -> None:
    weights = _weights(model)
    terms = weights["binary1.weight"][0].size
    threshold = weights["binary1_norm.mean"]
    assert np.array_equal(threshold, np.round(threshold))
    assert np.all((threshold.astype(int) + terms) % 2 == 1)
    assert set(np.abs(weights["binary1_norm.scale"])) == {1.0}
    assert not weights["binary1_norm.shift"].any()


def test_a_blank_image_stays_clear_of_the_first_sign(model: onnx.ModelProto) -> None:
    cut = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["image"], ["sparse1"])
    run = card.ReferenceEvaluator(cut)
    (values,) = run.run(None, {"image": np.zeros((1, 1, 28, 28), np.float32)})
    assert np.abs(values).min() > 5e-4


def test_the_sample_is_what_the_card_says(told: dict[str, Any], sample: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = sample
    assert (images.shape, images.dtype) == ((1000, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((1000,), np.uint8)
    assert len(told["classes"]) == 10 == len(set(labels.tolist()))
    assert told["accuracy"]["sample"]["total"] == len(labels)


def test_as_many_of_the_sample_are_right_as_the_card_says(
    told: dict[str, Any], sample: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = sample
    found = card.answers(card.runtimes(PATH)["onnxruntime"], images[:, np.newaxis] / np.float32(255))
    assert int((found == labels).sum()) == told["accuracy"]["sample"]["correct"]


def test_the_reference_evaluator_agrees_with_onnx_runtime(sample: tuple[np.ndarray, np.ndarray]) -> None:
    inputs = sample[0][:40, np.newaxis] / np.float32(255)
    runs = card.runtimes(PATH)
    np.testing.assert_allclose(runs["reference"](inputs), runs["onnxruntime"](inputs), rtol=1e-4, atol=1e-4)


def test_the_card_says_the_promised_accuracy_on_the_full_test_set(told: dict[str, Any]) -> None:
    test = told["accuracy"]["test"]
    assert test["total"] == 10_000
    assert test["correct"] >= 8_950

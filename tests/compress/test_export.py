"""Export: standard ONNX, the same bytes every time, equal to torch, and no Sign that meets a zero."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

from meshd.compress.torch.binarize import BinaryConv2d, BinaryLinear, Sign  # noqa: E402
from meshd.compress.torch.export import keep_clear, parity_threshold, to_onnx  # noqa: E402

nn = torch.nn


def _chain() -> "nn.Sequential":
    torch.manual_seed(7)
    model = nn.Sequential()
    layers = {
        "stem": nn.Conv2d(1, 8, 3, padding=1, stride=2),
        "stem_norm": nn.BatchNorm2d(8),
        "sign1": Sign(),
        "binary1": BinaryConv2d(8, 8, 3, padding=1),
        "binary1_norm": nn.BatchNorm2d(8),
        "sign2": Sign(),
        "binary2": BinaryConv2d(8, 12, 3),
        "binary2_norm": nn.BatchNorm2d(12),
        "relu": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "hidden": nn.Linear(48, 16),
        "sign3": Sign(),
        "binary3": BinaryLinear(16, 8),
        "head": nn.Linear(8, 5),
    }
    for name, layer in layers.items():
        model.add_module(name, layer)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    model.train()
    for _ in range(20):
        model(torch.randn(8, 1, 12, 12))
    return model.eval()


def _export(model: "nn.Sequential") -> bytes:
    return to_onnx(model, (1, 12, 12), name="chain", input_name="x", output_name="y").SerializeToString(
        deterministic=True
    )


def test_equal_weights_give_equal_bytes() -> None:
    assert _export(_chain()) == _export(_chain())


def test_the_exported_graph_equals_torch() -> None:
    model = _chain()
    x = torch.randn(16, 1, 12, 12)
    with torch.no_grad():
        wanted = model(x).numpy()
    (found,) = ReferenceEvaluator(onnx.load_model_from_string(_export(model))).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_float_batch_norm_is_folded_and_a_binary_one_is_not() -> None:
    graph = onnx.load_model_from_string(_export(_chain())).graph
    assert [node.op_type for node in graph.node][:8] == [
        "Conv",
        "Sign",
        "Pad",
        "Conv",
        "BatchNormalization",
        "Sign",
        "Conv",
        "BatchNormalization",
    ]


@pytest.mark.parametrize("terms", [3, 4, 27, 64])
def test_a_threshold_gives_the_sign_of_the_batch_norm_for_every_result_and_is_never_hit(terms: int) -> None:
    torch.manual_seed(terms)
    channels = 200
    norm = nn.BatchNorm2d(channels).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels))
        norm.weight[:6] = 0.0
        norm.bias.copy_(torch.randn(channels))
        norm.running_mean.copy_(torch.randn(channels) * terms / 2)
        norm.running_var.copy_(torch.rand(channels) * terms)
    direction, threshold = parity_threshold(norm, terms)
    results = np.arange(-terms, terms + 1, 2, dtype=np.float32)
    with torch.no_grad():
        grid = torch.from_numpy(results).view(-1, 1, 1, 1).expand(-1, channels, 1, 1)
        wanted = np.where(norm(grid).numpy()[:, :, 0, 0] >= 0, 1, -1)
    found = direction * (results[:, np.newaxis] - threshold)
    assert np.abs(found).min() >= 1
    np.testing.assert_array_equal(np.sign(found), wanted)


def test_values_next_to_zero_are_moved_away() -> None:
    norm = nn.BatchNorm2d(3).eval()
    values = torch.tensor([[0.5, 1e-6, 0.0]]).view(1, 3, 1, 1)
    assert keep_clear(norm, values, margin=1e-3) == 2
    assert norm.bias.tolist() == pytest.approx([0.0, 1e-3, 1e-3])


def test_a_layer_without_an_onnx_form_is_named() -> None:
    model = nn.Sequential()
    model.add_module("gate", nn.GELU())
    with pytest.raises(ValueError, match=r"layer gate \(GELU\)"):
        to_onnx(model, (4,), name="chain")

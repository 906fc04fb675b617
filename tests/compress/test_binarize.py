"""Binary layers: the estimator, the padding, the clip."""

import pytest

torch = pytest.importorskip("torch", reason="NOT TESTED: needs PyTorch: pip install 'meshd[train]'")

from meshd.compress.torch.binarize import (  # noqa: E402
    BinaryConv2d,
    BinaryLinear,
    binary_sign,
    clip_latent_weights,
    start_latent_weights,
)


def test_the_sign_of_zero_is_plus_one() -> None:
    x = torch.tensor([-2.0, -0.5, -0.0, 0.0, 0.5])
    assert binary_sign(x).tolist() == [-1.0, -1.0, 1.0, 1.0, 1.0]


def test_the_gradient_passes_straight_through_where_the_input_is_within_one() -> None:
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, 0.7, 1.0, 1.1], requires_grad=True)
    (binary_sign(x) * torch.arange(1.0, 8.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]


def test_a_binary_convolution_uses_signs_and_pads_with_plus_one() -> None:
    layer = BinaryConv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.full((1, 1, 3, 3), 0.25))
    result = layer(torch.full((1, 1, 2, 2), -1.0))
    # Each window holds the four pixels of -1 and five of the border's +1.
    assert result.flatten().tolist() == [1.0] * 4


def test_every_result_of_a_binary_convolution_has_the_parity_of_its_terms() -> None:
    torch.manual_seed(5)
    layer = BinaryConv2d(3, 4, 3, padding=1)
    results = layer(binary_sign(torch.randn(2, 3, 5, 5)))
    assert set((results.int() % 2).flatten().tolist()) == {27 % 2}


def test_a_binary_linear_layer_learns_through_its_signs() -> None:
    layer = BinaryLinear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones(2, 3))


def test_clipping_reaches_binary_layers_only() -> None:
    model = torch.nn.Sequential(BinaryLinear(2, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(3.0)
    clip_latent_weights(model)
    assert (model[0].weight.max().item(), model[1].weight.max().item()) == (1.0, 3.0)


def test_a_binary_layer_starts_with_the_signs_of_the_layer_it_replaces() -> None:
    torch.manual_seed(5)
    layer, weight = BinaryConv2d(2, 3, 3), torch.randn(3, 2, 3, 3) * 40
    start_latent_weights(layer, weight)
    assert torch.equal(layer.weight.sign(), weight.sign())
    assert layer.weight.abs().max().item() <= 1.0
    assert layer.weight.flatten(1).std(dim=1).tolist() == pytest.approx([1 / 3] * 3, rel=0.02)

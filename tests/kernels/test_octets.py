"""Quantised bytes: moved as they are, pooled exactly, added as ONNX adds them; residuals and wide weights of int8 layers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.errors import MisuseError
from meshd.kernels import quantised, reference, registry
from meshd.kernels.kernel import Bend, Tail
from meshd.kernels.layout import Bits, OctetPlanes, Octets, Planes
from tests.kernels.driving import run


@pytest.fixture(params=["compiled", "reference"])
def either(request: Any, monkeypatch: Any) -> str:
    """With Numba where there is one, and without."""
    if request.param == "reference":
        monkeypatch.setenv("MESHD_NUMBA", "0")
    return str(request.param)


def _real(rng: Any, shape: Any, layout: Octets | OctetPlanes) -> Any:
    """Real values that the layout holds exactly, all bytes among them."""
    zero = layout.zero if isinstance(layout, Octets) else layout.zero_point + 128 * layout.signed
    return (rng.integers(0, 256, shape) - zero).astype(np.float32) * np.float32(layout.scale)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (8, 1, 9), (70, 4, 3)])
def test_bytes_change_order_and_nothing_else(signed: bool, shape: Any, either: str) -> None:
    rng, zero = np.random.default_rng(1), 7 - 128 * signed
    graph = OctetPlanes(*shape, zero_point=zero, signed=signed)
    lying = [
        graph,
        Octets(*shape, pitch=shape[2], zero_point=zero, signed=signed),
        Octets(*shape, 1, 2, 3, shape[2] + 4, zero_point=zero, signed=signed),
    ]
    images = _real(rng, (2, *shape), graph)
    for source in lying:
        for target in lying:
            np.testing.assert_array_equal(run(registry.convert(source, target), images, pieces=2), images)


def test_a_scale_says_what_a_byte_means_not_what_it_is(either: str) -> None:
    rng = np.random.default_rng(2)
    one, other = OctetPlanes(4, 2, 2, scale=0.5, zero_point=9), Octets(4, 2, 2, pitch=2, scale=0.125, zero_point=9)
    images = _real(rng, (1, 4, 2, 2), one)
    kernel = registry.convert(one, other)
    x, out = one.empty(), other.empty()
    one.store(x, images)
    kernel.run(x, out, None, np.zeros(0, np.float32), 1, 0, kernel.tiles(1))
    np.testing.assert_array_equal(other.load(out) * 4, images)
    assert other == replace(other, scale=3.0)


def test_floats_to_bytes_in_the_graphs_order_and_back_follow_onnx(either: str) -> None:
    images = np.random.default_rng(3).standard_normal((2, 7, 5, 6)).astype(np.float32) * 40
    images[0, 0, 0, :5] = 0.25, 0.75, np.inf, -np.inf, np.nan  # Ties and saturation; what is no number is zero.
    for to in (OctetPlanes(7, 5, 6, 0.5, 10), OctetPlanes(7, 5, 6, 0.5, -3, True)):
        zero = to.zero_point + 128 * to.signed
        steps = np.clip(np.rint(np.nan_to_num(images / np.float32(0.5), posinf=1e9, neginf=-1e9)), -zero, 255 - zero)
        expected = steps.astype(np.float32) * np.float32(0.5)
        padded = Planes(7, 5, 6, 1, 2, 9, 72, 72)
        for planes in (Planes.plain(7, 5, 6), padded, Planes(7, 5, 6, 1, 1, 4, 20, 80, (2, 2))):
            np.testing.assert_array_equal(run(registry.convert(planes, to), images, pieces=2), expected)
            np.testing.assert_array_equal(run(registry.convert(to, planes), expected, pieces=2), expected)


def test_signs_have_no_scale() -> None:
    with pytest.raises(MisuseError, match="from and to floats only"):
        registry.convert(Bits(4), OctetPlanes(4))


@pytest.mark.parametrize(
    ("kernel", "how"),
    [
        ((2, 2), {"strides": (2, 2)}),
        ((3, 3), {"strides": (2, 1), "pads": (1, 1, 1, 1)}),
        ((1, 3), {"pads": (0, 0, 0, 2)}),
        ((2, 3), {"dilations": (2, 1)}),
    ],
)
def test_pooling_of_bytes_is_pooling_of_their_values(kernel: Any, how: Any, either: str) -> None:
    rng = np.random.default_rng(4)
    for source in (
        Octets(6, 7, 5, 1, 1, 1, 8, 0.125, 3),
        Octets(33, 7, 5, pitch=5, scale=0.125, zero_point=-5, signed=True),
    ):
        images = _real(rng, (2, source.channels, 7, 5), source)
        expected = reference.pool_max(images, kernel, how.get("strides", (1, 1)), how.get("pads", (0, 0, 0, 0)),
                                      how.get("dilations", (1, 1)))  # fmt: skip
        pool = quantised.pool_octets(source, kernel, **how)
        to = pool.output_layout
        assert isinstance(to, Octets)
        np.testing.assert_array_equal(run(pool, images / source.scale, pieces=2), expected / np.float32(source.scale))
        pool.write_to(replace(to, top=1, left=2, bottom=1, pitch=to.width + 3))
        np.testing.assert_array_equal(run(pool, images / source.scale, pieces=3), expected / np.float32(source.scale))
    with pytest.raises(MisuseError, match="does not fit"):
        quantised.pool_octets(Octets(4, 2, 2, pitch=2), (3, 3))


def test_a_sum_of_bytes_is_rounded_once(either: str) -> None:
    rng = np.random.default_rng(5)
    a, b = Octets(6, 4, 5, 1, 1, 1, 8, 0.11, 3), Octets(6, 4, 5, pitch=5, scale=0.07, zero_point=-5, signed=True)
    x, y = (_real(rng, (2, 6, 4, 5), o) for o in (a, b))
    for to, low, high in (
        (Octets(6, 4, 5, 0, 1, 0, 6, 0.1, 0), 0.0, np.inf),
        (Octets(6, 4, 5, pitch=5, scale=0.3, zero_point=-9, signed=True), -np.inf, np.inf),
    ):
        value = np.clip(x + y, np.float32(low), np.float32(high))
        steps = np.clip(np.rint(value / np.float32(to.scale)), -to.zero, 255 - to.zero)
        expected = steps.astype(np.float32) * np.float32(to.scale)
        np.testing.assert_array_equal(run(quantised.add_octets(a, b, to, low, high), x, y, pieces=3), expected)
    with pytest.raises(MisuseError, match="do not add up"):
        quantised.add_octets(a, b, Octets(6, 4, 4, pitch=4))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_quantised_residual_is_added_as_its_value(groups: int, either: str) -> None:
    rng = np.random.default_rng(6)
    source = Octets(8, 5, 6, pitch=6, scale=0.03, zero_point=100)
    added = Octets(64, 5, 6, 1, 0, 1, 7, 0.2, -4, True)
    weight = rng.integers(-128, 128, (64, 8 // groups, 3, 3)).astype(np.int8)
    images, residual = _real(rng, (2, 8, 5, 6), source), _real(rng, (2, 64, 5, 6), added)
    scale, bias = rng.random((2, 64)).astype(np.float32) * np.float32(1e-3)
    tail = Tail(scale, bias, residual=True, low=0.0)
    whole = np.rint(images / np.float32(0.03)).astype(np.float64)
    exact = reference.convolution(whole, weight.astype(np.float64), pads=(1, 1, 1, 1), groups=groups)
    expected = reference.apply_tail(exact, tail, residual)
    kernel = registry.convolution_int8(weight, source, pads=(1, 1, 1, 1), groups=groups, tail=tail, residual=added)
    np.testing.assert_array_equal(run(kernel, images, residual, pieces=3), expected)
    kernel.write_to(Octets(64, 5, 6, pitch=6, scale=0.05, zero_point=3))
    steps = np.clip(np.rint(expected / np.float32(0.05)), -3, 252).astype(np.float32)
    np.testing.assert_array_equal(run(kernel, images, residual, pieces=3), steps * np.float32(0.05))


@pytest.mark.parametrize("wide", [128, 200, 255])
def test_weights_of_nine_bits_are_multiplied_in_parts(wide: int, either: str) -> None:
    rng = np.random.default_rng(wide)
    source = Octets(7, 4, 5, pitch=5, scale=0.1, zero_point=-5, signed=True)
    weight = rng.integers(-100, 100, (40, 7, 3, 3)).astype(np.int16)
    weight[3, 2], weight[39, 6, 0, 0] = wide, -255
    images = _real(rng, (2, 7, 4, 5), source)
    whole = np.rint(images / np.float32(0.1)).astype(np.float64)
    exact = reference.convolution(whole, weight.astype(np.float64), pads=(1, 1, 1, 1)).astype(np.float32)
    kernel = registry.convolution_int8(weight, source, pads=(1, 1, 1, 1))
    np.testing.assert_array_equal(run(kernel, images, pieces=2), exact)
    rows, flat = _real(rng, (9, 7, 1, 1), Octets(7, scale=0.1, zero_point=4)), weight[:, :, 0, 0]
    product = np.rint(rows[:, :, 0, 0] / np.float32(0.1)) @ flat.T.astype(np.float32)
    kernel = registry.product_int8(flat, Octets(7, scale=0.1, zero_point=4))
    np.testing.assert_array_equal(run(kernel, rows)[:, :, 0, 0], product)
    with pytest.raises(MisuseError, match="at most 255"):
        registry.product_int8(np.full((4, 4), 256, np.int16), Octets(4))


@pytest.mark.parametrize("bend", [Bend("hard_swish", 1 / 6, 0.5), Bend("hard_sigmoid", 0.2, 0.4), Bend("leaky", 0.1)])
def test_an_int8_layer_bends_its_outputs(bend: Bend, either: str) -> None:
    rng = np.random.default_rng(8)
    source = Octets(9, 5, 5, pitch=5, scale=0.1, zero_point=90)
    weight = rng.integers(-128, 128, (21, 9, 1, 1)).astype(np.int8)
    images = _real(rng, (2, 9, 5, 5), source)
    tail = Tail(np.full(21, 1e-4, np.float32), np.linspace(-1, 1, 21, dtype=np.float32), bend=bend)
    whole = np.rint(images / np.float32(0.1)).astype(np.float64)
    expected = reference.apply_tail(reference.convolution(whole, weight.astype(np.float64)), tail)
    np.testing.assert_array_equal(run(registry.convolution_int8(weight, source, tail=tail), images, pieces=2), expected)

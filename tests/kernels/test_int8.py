"""Int8 layers: accumulators exact, zero points taken out, quantised output rounded and saturated as ONNX does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.errors import MisuseError
from meshd.kernels import reference, registry
from meshd.kernels.kernel import Tail
from meshd.kernels.layout import Octets, Planes
from tests.kernels.driving import run

SHAPES = [
    # outputs, channels / groups, kernel, image, strides, pads, dilations, groups
    (16, 4, (3, 3), (6, 6), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (33, 7, (3, 3), (7, 5), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (70, 130, (1, 1), (1, 5), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (5, 3, (5, 4), (11, 9), (2, 2), (2, 2, 2, 2), (1, 2), 1),
    (128, 8, (3, 3), (5, 6), (1, 2), (1, 0, 1, 1), (1, 1), 2),
    (33, 1, (3, 3), (5, 6), (1, 1), (1, 1, 1, 1), (1, 1), 33),
    (64, 1, (5, 5), (9, 7), (2, 2), (2, 2, 2, 2), (1, 1), 64),
]


@pytest.fixture(params=["compiled", "reference"])
def either(request: Any, monkeypatch: Any) -> str:
    """With Numba where there is one, and without."""
    if request.param == "reference":
        monkeypatch.setenv("MESHD_NUMBA", "0")
    return str(request.param)


def _quantised(rng: Any, shape: Any, source: Octets) -> Any:
    """(integers with the zero point taken out, the same as real values); every byte occurs, 0 and 255 among them."""
    q = rng.integers(0, 256, shape) - source.zero
    return q, (q.astype(np.float32) * np.float32(source.scale))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("signed", "zero_point"), [(False, 0), (False, 131), (True, 0), (True, -128)])
def test_an_int8_convolution_is_exact(shape: Any, signed: bool, zero_point: int, either: str) -> None:
    outputs, inner, kernel, image, strides, pads, dilations, groups = shape
    how = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    rng = np.random.default_rng(outputs)
    source = Octets(inner * groups, *image, pitch=image[1], scale=0.037, zero_point=zero_point, signed=signed)
    weight = rng.integers(-128, 128, (outputs, inner, *kernel)).astype(np.int8)
    weight[0] = -128
    q, images = _quantised(rng, (3, inner * groups, *image), source)
    exact = reference.convolution(q.astype(np.float64), weight.astype(np.float64), **how).astype(np.float32)
    bare = registry.convolution_int8(weight, source, **how)
    assert bare.family == "int8"
    np.testing.assert_array_equal(run(bare, images, pieces=3), exact)
    scale, bias = rng.random((2, outputs)).astype(np.float32) * np.float32(1e-3)
    residual = rng.standard_normal(exact.shape).astype(np.float32)
    oh, ow = exact.shape[2:]
    padded = Planes(outputs, oh, ow, 1, 2, ow + 3, (oh + 3) * (ow + 3), (oh + 3) * (ow + 3))
    octets = Octets(outputs, oh, ow, 1, 2, 1, ow + 3, scale=0.05, zero_point=3 - 128 * signed, signed=signed)
    for tail in (Tail(scale, bias, low=0.0), Tail(scale, bias, residual=True)):
        after = reference.apply_tail(exact, tail, residual)
        floats = registry.convolution_int8(weight, source, tail=tail, **how)
        floats.write_to(padded, padded if tail.residual else None)
        np.testing.assert_array_equal(run(floats, images, residual, pieces=4), after)
        bytes_out = registry.convolution_int8(weight, source, tail=tail, **how)
        bytes_out.write_to(octets, padded if tail.residual else None)
        steps = np.clip(np.rint(after / np.float32(0.05)), -octets.zero, 255 - octets.zero).astype(np.float32)
        np.testing.assert_array_equal(run(bytes_out, images, residual, pieces=4), steps * np.float32(0.05))


@pytest.mark.parametrize("size", [(1, 1), (10, 63), (64, 64), (33, 129), (130, 20)])
def test_an_int8_product_is_exact_whatever_the_rows(size: Any, either: str) -> None:
    rng = np.random.default_rng(size[1])
    source = Octets(size[1], scale=0.1, zero_point=-5, signed=True)
    weight = rng.integers(-128, 128, size).astype(np.int8)
    q, rows = _quantised(rng, (17, size[1], 1, 1), source)
    exact = (q[:, :, 0, 0] @ weight.T.astype(np.int64)).astype(np.float32)[:, :, None, None]
    tail = Tail(np.full(size[0], 1e-4, np.float32))
    to = Octets(size[0], scale=0.01, zero_point=100)
    steps = np.clip(np.rint(exact * np.float32(1e-4) / np.float32(0.01)), -100, 155).astype(np.float32) * np.float32(
        0.01
    )
    for n in (1, 7, 8, 17):
        np.testing.assert_array_equal(run(registry.product_int8(weight, source), rows[:n], pieces=2), exact[:n])
        quantised = registry.product_int8(weight, source, tail=tail)
        quantised.write_to(to)
        np.testing.assert_array_equal(run(quantised, rows[:n], pieces=2), steps[:n])


def test_quantising_and_back_follows_onnx(either: str) -> None:
    images = np.random.default_rng(3).standard_normal((2, 7, 5, 6)).astype(np.float32) * 40
    images[0, 0, 0, :4] = 0.25, 0.75, np.inf, -np.inf  # Ties and saturation.
    for octets in (
        Octets(7, 5, 6, 1, 2, 1, 9, scale=0.5, zero_point=10),
        Octets(7, 5, 6, pitch=6, scale=0.5, signed=True),
    ):
        steps = np.clip(np.rint(images / np.float32(0.5)), -octets.zero, 255 - octets.zero).astype(np.float32)
        for planes in (Planes.plain(7, 5, 6), Planes(7, 5, 6, 1, 1, 4, 20, 80, (2, 2))):
            expected = steps * np.float32(0.5)
            np.testing.assert_array_equal(run(registry.convert(planes, octets), images, pieces=2), expected)
            np.testing.assert_array_equal(run(registry.convert(octets, planes), expected, pieces=2), expected)


def test_narrow_groups_are_served_by_a_float_kernel() -> None:
    rng = np.random.default_rng(1)
    source = Octets(6, 8, 8, pitch=8, scale=0.1)
    weight = rng.integers(-128, 128, (6, 2, 3, 3)).astype(np.int8)
    kernel = registry.convolution_int8(weight, source, groups=3, tail=Tail(np.full(6, 0.1 * 0.01, np.float32)))
    images = _quantised(rng, (1, 6, 8, 8), source)[1]
    expected = reference.convolution(images, weight.astype(np.float32) * np.float32(0.01), groups=3)
    np.testing.assert_allclose(run(kernel, images), expected, rtol=1e-4, atol=1e-4)


def test_a_sum_that_could_overflow_is_refused() -> None:
    if registry.compiled():
        with pytest.raises(MisuseError, match="overflow"):
            registry.product_int8(np.full((1, 66_000), -128, np.int8), replace(Octets(66_000), scale=1.0))
    with pytest.raises(MisuseError, match="weight"):
        registry.product_int8(np.ones((1, 4), np.uint8), Octets(4))  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="source"):
        registry.product_int8(np.ones((1, 4), np.int8), Octets(5))

"""Binary layers equal their reference exactly: words, tiles, strides, both paddings, and every way out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.kernels import reference, registry
from meshd.kernels.kernel import Tail
from meshd.kernels.layout import Bits, Planes
from tests.kernels.driving import needs_numba, run, signs

pytestmark = needs_numba

SHAPES = [
    # outputs, channels / groups, kernel, image, strides, pads, dilations, groups
    (16, 64, (3, 3), (6, 6), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (33, 65, (3, 3), (7, 5), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (70, 130, (1, 1), (1, 5), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (5, 3, (5, 5), (11, 9), (2, 2), (2, 2, 2, 2), (1, 1), 1),
    (64, 127, (3, 2), (9, 8), (2, 1), (0, 1, 1, 0), (1, 2), 1),
    (32, 64, (3, 3), (5, 6), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    (4, 7, (3, 3), (6, 6), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    (66, 33, (3, 3), (5, 4), (1, 1), (1, 1, 1, 1), (1, 1), 6),
    (129, 1, (3, 3), (7, 7), (2, 2), (1, 1, 1, 1), (1, 1), 129),
    (30, 64, (1, 1), (3, 5), (1, 1), (0, 0, 0, 0), (1, 1), 3),
    (48, 20, (2, 2), (4, 4), (1, 1), (0, 1, 1, 0), (1, 1), 3),
    (10, 192, (4, 4), (4, 4), (1, 1), (0, 0, 0, 0), (1, 1), 1),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pad_sign", [0, 1])
def test_a_binary_convolution_is_exact_through_every_way_out(shape: Any, pad_sign: Any) -> None:
    outputs, inner, kernel, image, strides, pads, dilations, groups = shape
    how = {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}
    rng = np.random.default_rng(outputs)
    weight = rng.standard_normal((outputs, inner, *kernel)).astype(np.float32)
    images = rng.standard_normal((3, inner * groups, *image)).astype(np.float32)
    expected = reference.convolution(signs(images), signs(weight), **how, fill=pad_sign)

    def make(tail: Tail) -> Any:
        return registry.convolution(weight, *image, tail=tail, signs=True, pad_sign=pad_sign, **how)

    assert make(Tail()).name == f"binary.conv{kernel[0]}x{kernel[1]}"
    for pieces in (1, 5):
        np.testing.assert_array_equal(run(make(Tail()), images, pieces=pieces), expected)
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    scale[0] = 0
    residual = rng.standard_normal(expected.shape).astype(np.float32)
    oh, ow = expected.shape[2:]
    padded = Planes(outputs, oh, ow, 1, 2, ow + 3, (oh + 3) * (ow + 3), (oh + 3) * (ow + 3))
    bits = Bits(outputs, oh, ow, 1, 2, 1, ow + 3)
    for tail in (
        Tail(bias=bias),
        Tail(scale, bias, low=-2.0, high=3.0),
        Tail(scale, bias, residual=True),
        Tail(scale, residual=True, low=-1.0),
    ):
        after = reference.apply_tail(expected, tail, residual)
        floats = make(tail)
        floats.write_to(padded, padded if tail.residual else None)
        np.testing.assert_array_equal(run(floats, images, residual, pieces=4), after)
        packed = make(replace(tail, bits=True))
        packed.write_to(bits, padded if tail.residual else None)
        np.testing.assert_array_equal(run(packed, images, residual, pieces=4), signs(after))
    shared = Bits(inner * groups, *image, pads[0] + 1, pads[1] + 2, pads[2], image[1] + pads[1] + pads[3] + 4)
    other = registry.convolution(weight, *image, signs=True, pad_sign=pad_sign, source=shared, **how)
    assert other.input_layout == shared
    np.testing.assert_array_equal(run(other, images), expected)


@pytest.mark.parametrize("size", [(1, 1), (10, 63), (64, 64), (65, 65), (16, 129), (130, 200)])
def test_a_binary_product_is_exact_whatever_the_rows_and_tail(size: Any) -> None:
    outputs, k = size
    rng = np.random.default_rng(k)
    weight = rng.standard_normal(size).astype(np.float32)
    rows = rng.standard_normal((13, k, 1, 1)).astype(np.float32)
    words = reference.pack_signs(rows[:, :, 0, 0])
    expected = reference.binary_product(words, reference.pack_signs(weight), k)[:, :, None, None].astype(np.float32)
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    residual = rng.standard_normal(expected.shape).astype(np.float32)
    for tail in (Tail(), Tail(scale, bias, low=-1.0), Tail(scale, bias, residual=True)):
        after = reference.apply_tail(expected, tail, residual)
        floats = registry.product(weight, tail=tail, signs=True)
        packed = registry.product(weight, tail=replace(tail, bits=True), signs=True)
        assert floats.numeric == "exact"
        for n in (1, 5, 6, 13):
            np.testing.assert_array_equal(run(floats, rows[:n], residual[:n], pieces=2), after[:n])
            np.testing.assert_array_equal(run(packed, rows[:n], residual[:n], pieces=2), signs(after[:n]))

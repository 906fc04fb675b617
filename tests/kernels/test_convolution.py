"""Float convolutions over planes equal their reference, for shapes that straddle tiles, through every way out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meshd.errors import MisuseError
from meshd.kernels import reference, registry
from meshd.kernels.kernel import Bend, Tail
from meshd.kernels.layout import Bits, Planes
from tests.kernels.driving import needs_numba, run, signs

pytestmark = needs_numba

SHAPES = [
    # outputs, channels / groups, kernel, image, strides, pads, dilations, groups
    (4, 3, (3, 3), (8, 8), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (8, 5, (3, 3), (13, 11), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    (13, 2, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (7, 3, (1, 1), (7, 9), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (5, 3, (5, 5), (15, 17), (2, 2), (2, 2, 2, 2), (1, 1), 1),
    (6, 2, (3, 3), (9, 8), (2, 1), (0, 1, 1, 0), (1, 1), 1),
    (4, 3, (7, 7), (21, 33), (2, 2), (3, 3, 3, 3), (1, 1), 1),
    (4, 1, (3, 3), (10, 31), (1, 1), (1, 1, 1, 1), (1, 1), 4),
    (8, 1, (3, 3), (11, 9), (2, 2), (0, 0, 1, 1), (1, 1), 8),
    (8, 3, (3, 3), (9, 9), (1, 1), (2, 2, 2, 2), (2, 2), 2),
    (9, 2, (1, 5), (1, 63), (1, 1), (0, 0, 0, 4), (1, 1), 3),
    (3, 2, (3, 1), (65, 1), (3, 1), (4, 0, 4, 0), (1, 1), 1),
    (130, 70, (1, 1), (5, 7), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    (68, 9, (3, 3), (6, 6), (1, 1), (0, 0, 0, 0), (1, 1), 1),
]


def _make(shape: Any, zeros: float = 0.0, block: int = 1, seed: int = 0) -> Any:
    outputs, inner, kernel, image, strides, pads, dilations, groups = shape
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inner, *kernel)).astype(np.float32)
    kept = rng.random((-(-outputs // block), inner, *kernel)) >= zeros
    weight *= np.repeat(kept, block, axis=0)[:outputs]
    images = rng.standard_normal((2, inner * groups, *image)).astype(np.float32)
    return weight, images, {"strides": strides, "pads": pads, "dilations": dilations, "groups": groups}


def _close(got: Any, expected: Any) -> None:
    # float32 sums in another order: 1e-5 of the terms' magnitude, which is about 1 here.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("zeros", "block"), [(0.0, 1), (0.9, 4), (0.8, 1)])
def test_a_convolution_equals_its_reference(shape: Any, zeros: float, block: int) -> None:
    weight, images, how = _make(shape, zeros, block)
    kernel = registry.convolution(weight, *images.shape[2:], **how)
    assert kernel.numeric == "fma"
    _close(run(kernel, images), reference.convolution(images, weight, **how))


@pytest.mark.parametrize("shape", SHAPES)
def test_tails_and_layouts_change_no_bit(shape: Any) -> None:
    weight, images, how = _make(shape, 0.5, 4)
    bare = run(registry.convolution(weight, *images.shape[2:], **how), images)
    rng = np.random.default_rng(1)
    outputs = len(weight)
    residual = rng.standard_normal(bare.shape).astype(np.float32)
    scale, bias = rng.standard_normal((2, outputs)).astype(np.float32)
    tail = Tail(scale, bias, residual=True, low=-0.5, high=1.5)
    expected = reference.apply_tail(bare, tail, residual)
    oh, ow = bare.shape[2:]
    natural = registry.convolution(weight, *images.shape[2:], tail=tail, **how)
    pitch = natural.output_layout.pitch
    plane = (oh + 4) * (pitch + 3)
    planes = Planes(outputs, oh, ow, 1, 1, pitch, plane, plane)
    phased = Planes(
        outputs, oh, ow, 1, 2, ow // 2 + 3, (oh // 2 + 2) * (ow // 2 + 3), 4 * (oh // 2 + 2) * (ow // 2 + 3), (2, 2)
    )
    for output, added in (
        (natural.output_layout, natural.output_layout),
        (Planes.plain(outputs, oh, ow), planes),
        (planes, Planes.plain(outputs, oh, ow)),
        (replace(planes, fill=-np.inf), planes),
        (phased, phased),
    ):
        kernel = registry.convolution(weight, *images.shape[2:], tail=tail, **how)
        kernel.write_to(output, added)
        for pieces in (1, 3, 50):
            np.testing.assert_array_equal(run(kernel, images, residual, pieces=pieces), expected, str(output))
    bits = registry.convolution(weight, *images.shape[2:], tail=replace(tail, bits=True), **how)
    bits.write_to(Bits(outputs, oh, ow, 2, 1, 1, ow + 3), planes)
    for pieces in (1, 7):
        np.testing.assert_array_equal(run(bits, images, residual, pieces=pieces), signs(expected))


def test_every_tile_of_a_convolution_gives_the_same_bits() -> None:
    from meshd.kernels import convolution, tiles

    weight, images, how = _make((16, 5, (3, 3), (13, 11), (1, 1), (1, 1, 1, 1), (1, 1), 1), 0.5, 1)
    window = convolution.Window(13, 11, (3, 3), how["strides"], how["pads"], how["dilations"], 1)
    answers = [run(convolution.pack(weight, window, Tail(), 0, None, tile), images) for tile in tiles.plane_tiles()]
    answers.append(run(convolution.pack(weight, window, Tail(), 20, None), images))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


@pytest.mark.parametrize(
    "bend", [Bend("hard_swish", 1 / 6, 0.5), Bend("hard_sigmoid", 0.2, 0.4), Bend("leaky", 0.3)], ids=lambda b: b.kind
)
def test_a_bend_in_the_tail_changes_no_bit_and_lets_nan_through(bend: Bend) -> None:
    weight, images, how = _make(SHAPES[1], 0.5, 4)
    images[1, 2, 3, 4] = np.nan
    bare = run(registry.convolution(weight, *images.shape[2:], **how), images)
    tail = Tail(np.full(8, 2, np.float32), low=-0.3, high=1.25, bend=bend)
    kernel = registry.convolution(weight, *images.shape[2:], tail=tail, **how)
    expected = reference.apply_tail(bare, tail)
    np.testing.assert_array_equal(run(kernel, images, pieces=3), expected)
    assert np.isnan(expected[1]).any()
    assert not np.isnan(expected[0]).any()


def test_a_bend_where_no_kernel_has_one_is_refused() -> None:
    tail, weight = Tail(bend=Bend("leaky", 0.1)), np.ones((4, 4), np.float32)
    with pytest.raises(MisuseError, match=r"tail\.bend"):
        registry.product(weight, tail=tail)
    with pytest.raises(MisuseError, match=r"tail\.bend"):
        registry.convolution(weight[:, :, None, None], 3, 3, tail=tail, signs=True)

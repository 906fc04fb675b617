"""The fallback serves every operation of the registry: against plain loops, through every layout."""

from typing import Any

import numpy as np
import pytest

from meshd.errors import MisuseError
from meshd.kernels import reference, registry
from meshd.kernels.kernel import Tail
from meshd.kernels.layout import Bits, Planes
from tests.kernels.driving import run

RNG = np.random.default_rng(5)


def loops(images: Any, weight: Any, strides: Any, pads: Any, dilations: Any, groups: int) -> Any:
    """A convolution as its definition reads."""
    padded = np.pad(images, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    outputs, inner, kh, kw = weight.shape
    oh = reference.output_size(images.shape[2], kh, strides[0], pads[0], pads[2], dilations[0])
    ow = reference.output_size(images.shape[3], kw, strides[1], pads[1], pads[3], dilations[1])
    out = np.zeros((len(images), outputs, oh, ow))
    for o in range(outputs):
        first = o // (outputs // groups) * inner
        for i in range(oh):
            for j in range(ow):
                rows = i * strides[0] + np.arange(kh) * dilations[0]
                columns = j * strides[1] + np.arange(kw) * dilations[1]
                seen = padded[:, first : first + inner][:, :, rows][..., columns]
                out[:, o, i, j] = (seen * weight[o]).sum((1, 2, 3))
    return out


@pytest.mark.parametrize(
    ("shape", "strides", "pads", "dilations", "groups"),
    [
        ((4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
        ((6, 2, 5, 3), (2, 1), (2, 1, 0, 3), (1, 2), 3),
        ((5, 1, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 5),
        ((3, 70, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    ],
)
@pytest.mark.parametrize("signs", [False, True])
def test_the_reference_convolution_is_its_definition(
    shape: Any, strides: Any, pads: Any, dilations: Any, groups: int, signs: bool
) -> None:
    images = RNG.standard_normal((2, shape[1] * groups, 9, 7)).astype(np.float32)
    weight = RNG.standard_normal(shape).astype(np.float32)
    kernel = registry.convolution(
        weight, 9, 7, strides=strides, pads=pads, dilations=dilations, groups=groups, signs=signs
    )
    if signs:
        images, weight = np.where(images < 0, -1.0, 1.0).astype(np.float32), np.where(weight < 0, -1.0, 1.0)
    np.testing.assert_allclose(run(kernel, images), loops(images, weight, strides, pads, dilations, groups), atol=1e-4)


@pytest.mark.parametrize(
    "layout",
    [
        Planes.plain(3, 5, 6),
        Planes(3, 5, 6, 2, 1, 7, 64, 64, slack=9),
        Planes(3, 5, 6, 1, 2, 6, 30, 180, (2, 3), fill=-1.0),
        Bits(3, 5, 6, 2, 1, 1, 8),
        Bits(130, 1, 2, 0, 0, 0, 2, slack=3),
    ],
)
def test_what_a_layout_stores_it_loads(layout: Any) -> None:
    images = RNG.standard_normal((2, layout.channels, layout.height, layout.width)).astype(np.float32)
    flat = layout.empty(2)
    layout.store(flat, images)
    expected = np.where(images < 0, -1, 1) if isinstance(layout, Bits) else images
    np.testing.assert_array_equal(layout.load(flat, 2), expected)


def test_a_wrong_argument_is_named() -> None:
    good = np.ones((4, 3, 3, 3), np.float32)
    for word, call in {
        "weight": lambda: registry.convolution(good.astype(np.float64), 8, 8),
        "NaN": lambda: registry.convolution(good * np.float32(np.nan), 8, 8),
        "groups": lambda: registry.convolution(good, 8, 8, groups=3),
        "height": lambda: registry.convolution(good, 2, 8),
        "strides": lambda: registry.convolution(good, 8, 8, strides=(0, 1)),
        "tail.bias": lambda: registry.product(np.ones((4, 2), np.float32), tail=Tail(bias=np.ones(3, np.float32))),
        "tail.low": lambda: registry.product(np.ones((4, 2), np.float32), tail=Tail(low=1, high=0)),
        "kernel": lambda: registry.pool("max", 3, 4, 4, (5, 5)),
        "source": lambda: registry.convert(Planes.plain(3), Planes.plain(4)),
    }.items():
        with pytest.raises(MisuseError, match=word):
            call()

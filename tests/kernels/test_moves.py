"""Pooling and conversions between layouts equal their references, compiled or not."""

from typing import Any

import numpy as np
import pytest

from meshd.kernels import reference, registry
from meshd.kernels.layout import Bits, Planes
from tests.kernels.driving import run, signs

WINDOWS = [
    # kernel, strides, pads, dilations, ceil
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1), False),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), False),
    ((3, 2), (1, 3), (1, 0, 1, 1), (2, 1), False),
    ((3, 3), (2, 2), (0, 0, 0, 0), (1, 1), True),
    ((9, 12), (1, 1), (0, 0, 0, 0), (1, 1), False),
]


@pytest.fixture(params=["compiled", "reference"])
def either(request: Any, monkeypatch: Any) -> str:
    """With Numba where there is one, and without."""
    if request.param == "reference":
        monkeypatch.setenv("MESHD_NUMBA", "0")
        assert not registry.compiled()
    return str(request.param)


@pytest.mark.parametrize("window", WINDOWS)
def test_pooling_equals_its_reference(window: Any, either: str) -> None:
    kernel, strides, pads, dilations, ceil = window
    images = np.random.default_rng(1).standard_normal((2, 70, 9, 12)).astype(np.float32)
    how = {"strides": strides, "pads": pads, "ceil": ceil}
    seen = pads if not ceil else (0, 0, 0, 1)
    expected = reference.pool_max(images, kernel, strides, seen, dilations)
    greatest = registry.pool("max", 70, 9, 12, kernel, dilations=dilations, **how)
    oh, ow = expected.shape[2:]
    for layout in (greatest.output_layout, Planes(70, oh, ow, 1, 1, ow + 2, (oh + 3) * (ow + 2), (oh + 3) * (ow + 2))):
        greatest = registry.pool("max", 70, 9, 12, kernel, dilations=dilations, **how)
        greatest.write_to(layout)
        np.testing.assert_array_equal(run(greatest, images, pieces=3), expected)
    of_signs = registry.pool("max", 70, 9, 12, kernel, dilations=dilations, bits=True, **how)
    np.testing.assert_array_equal(
        run(of_signs, images, pieces=2), reference.pool_max(signs(images), kernel, strides, seen, dilations)
    )
    if dilations == (1, 1):
        for count_pads in (False, True) if not ceil else (False,):
            mean = registry.pool("average", 70, 9, 12, kernel, count_pads=count_pads, **how)
            expected = reference.pool_average(images, kernel, strides, seen, count_pads)
            np.testing.assert_allclose(run(mean, images), expected, rtol=1e-6, atol=1e-7)


LAYOUTS: list[Any] = [
    Planes.plain(70, 5, 6),
    Planes(70, 5, 6, 2, 1, 7, 64, 64, fill=3.0),
    Planes(70, 5, 6, 1, 1, 4, 20, 80, (2, 2)),
    Planes(70, 5, 6, 0, 2, 3, 15, 50, (1, 3)),
    Bits(70, 5, 6, 1, 1, 2, 9),
    Bits(70, 5, 6, pitch=6),
]


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("target", LAYOUTS)
def test_a_conversion_keeps_every_element(source: Any, target: Any, either: str) -> None:
    images = np.random.default_rng(2).standard_normal((2, 70, 5, 6)).astype(np.float32)
    expected = signs(images) if isinstance(source, Bits) or isinstance(target, Bits) else images
    np.testing.assert_array_equal(run(registry.convert(source, target), images, pieces=3), expected)


def test_rows_are_packed_and_unpacked(either: str) -> None:
    rows = np.random.default_rng(3).standard_normal((5, 130, 1, 1)).astype(np.float32)
    np.testing.assert_array_equal(run(registry.convert(Planes.plain(130), Bits(130)), rows), signs(rows))
    np.testing.assert_array_equal(run(registry.convert(Bits(130), Planes.plain(130)), rows), signs(rows))


def test_nan_wins_a_max(either: str) -> None:
    images = np.zeros((1, 1, 4, 4), np.float32)
    images[0, 0, 1, 1] = np.nan
    got = run(registry.pool("max", 1, 4, 4, (2, 2), strides=(2, 2)), images, junk=7.0)
    np.testing.assert_array_equal(np.isnan(got[0, 0]), [[True, False], [False, False]])

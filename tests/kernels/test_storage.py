"""Weights stored as halves or bytes are multiplied as floats: the same bits as the same numbers stored as floats."""

from typing import Any

import numpy as np
import pytest

from meshd.errors import MisuseError
from meshd.kernels import registry
from meshd.kernels.forms import Form
from meshd.kernels.kernel import Tail
from tests.kernels.driving import needs_numba, run

compiled = needs_numba
STORAGES = ("float16", "int8")


def _weight(rng: Any, shape: Any, storage: str, block: int) -> Any:
    """Weights of a type, in blocks, 70 % zeros; halves from subnormal to the greatest, both signs."""
    if storage == "int8":
        weight = rng.integers(-128, 128, shape).astype(np.int8)
    else:
        weight = np.ldexp(rng.standard_normal(shape), rng.integers(-18, 3, shape)).astype(np.float16)
        weight.reshape(-1)[0] = 6e-8
        weight.reshape(-1)[-1] = -65504
    kept = np.repeat(rng.random((-(-shape[0] // block), *shape[1:])) < 0.3, block, axis=0)[: shape[0]]
    return weight * kept.astype(weight.dtype)


@compiled
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("size", [(1, 4), (33, 31), (129, 130)])
def test_a_product_has_the_bits_of_the_same_weights_as_floats(storage: str, size: Any) -> None:
    from meshd.kernels import packing

    rng = np.random.default_rng(size[0])
    rows = rng.standard_normal((7, size[1], 1, 1)).astype(np.float32)
    tail = Tail(rng.random(size[0]).astype(np.float32), low=-3.0)
    # Each way of reading stored weights, with each storage; compiling all of them would take most of a minute.
    for form in (Form(0), Form(16), Form(0, period=4)) if storage == "float16" else (Form(4),):
        weight = _weight(rng, size, storage, max(form.block, 1))
        kernel = packing.pack(weight, tail, form._replace(storage=storage))
        assert kernel.name.endswith(f".{storage}")
        floats = packing.pack(weight.astype(np.float32), tail, Form(0))
        for n in (1, 7):
            np.testing.assert_array_equal(run(kernel, rows[:n], pieces=2), run(floats, rows[:n]), kernel.name)
    assert packing._best(weight).storage == storage


@compiled
@pytest.mark.parametrize("storage", STORAGES)
def test_a_convolution_has_the_bits_of_the_same_weights_as_floats(storage: str) -> None:
    from meshd.kernels import convolution, tiles

    rng = np.random.default_rng(3)
    images = rng.standard_normal((2, 5, 9, 11)).astype(np.float32)
    window = convolution.Window(9, 11, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    tail = Tail(rng.random(19).astype(np.float32), low=0.0)
    for tile in (tiles.plane_tiles()[1 if storage == "float16" else -1],):
        weight = _weight(rng, (19, 5, 3, 3), storage, tile.rows)
        kernel = convolution.pack(weight, window, tail, 0, None, tile)
        assert kernel.name.endswith(f".b{tile.rows}.{storage}")
        floats = convolution.pack(weight.astype(np.float32), window, tail, 0, None, tile, "float32")
        assert kernel.resident_bytes < floats.resident_bytes
        np.testing.assert_array_equal(run(kernel, images, pieces=3), run(floats, images))


@compiled
def test_floats_that_are_halves_are_stored_as_halves_where_that_is_faster(monkeypatch: Any) -> None:
    from meshd.kernels import convolution, packing

    # Only the choice is looked at.
    monkeypatch.setattr(packing, "DenseProduct", lambda name, *_, **__: name)
    monkeypatch.setattr(convolution, "PlaneConvolution", lambda name, *_, **__: name)
    halves = np.random.default_rng(1).standard_normal((8, 12)).astype(np.float16).astype(np.float32)
    images = halves.reshape(8, 12, 1, 1)
    for factor, suffix in ((2.0, ".float16"), (0.5, "")):
        known = {
            n: r * (factor if n.endswith(".float16") else 1) for n, r in dict.fromkeys(packing.rates(), 1.0).items()
        }
        for module in (packing, convolution):
            monkeypatch.setattr(module, "rates", lambda known=known: known)
        assert registry.product(halves) == f"dense.product{suffix}"
        assert registry.product(halves * np.float32(1.0001)) == "dense.product"
        assert registry.product(halves * np.float32(1e6)) == "dense.product"  # Too great for a half.
        assert registry.convolution(images, 3, 3) == f"dense.conv1x1{suffix}"


def test_stored_weights_without_numba_are_the_same_numbers(monkeypatch: Any) -> None:
    monkeypatch.setenv("MESHD_NUMBA", "0")
    rng = np.random.default_rng(2)
    rows, images = rng.standard_normal((3, 12, 1, 1)).astype(np.float32), rng.standard_normal((1, 3, 5, 5))
    for storage in STORAGES:
        weight = _weight(rng, (6, 12), storage, 1)
        floats = registry.product(weight.astype(np.float32))
        np.testing.assert_array_equal(run(registry.product(weight), rows), run(floats, rows))
        window = weight.reshape(6, 3, 2, 2)
        kernels = [registry.convolution(w, 5, 5) for w in (window, window.astype(np.float32))]
        results = [run(kernel, images.astype(np.float32)) for kernel in kernels]
        np.testing.assert_array_equal(*results)


def test_a_type_that_cannot_be_stored_is_refused_by_name() -> None:
    for dtype in (np.float64, np.uint8, np.int16):
        with pytest.raises(MisuseError, match="float16 or int8"):
            registry.product(np.ones((2, 4), dtype))
    with pytest.raises(MisuseError, match="infinity"):
        registry.convolution(np.full((1, 1, 1, 1), np.inf, np.float16), 3, 3)

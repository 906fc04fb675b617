"""Tiles: by a table, confirmed by measuring; whatever is chosen fits the rules its kernels count on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshd.kernels import registry, tile_rates, tiles
from meshd.kernels.kernel import Kernel, Tail
from tests.kernels.driving import needs_numba, run

pytestmark = needs_numba


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: Any) -> Any:
    """A file of choices of this test's own."""
    path = tmp_path / tiles.FILE
    monkeypatch.setattr(tiles, "place", lambda: path)
    tiles.kept.cache_clear()
    yield path
    tiles.kept.cache_clear()


def _rates(monkeypatch: Any, faster: dict[tuple[str, tiles.Shape], float]) -> Any:
    """A timer that knows by heart; nothing is compiled."""
    monkeypatch.setattr(tile_rates, "sample", lambda family: ((family, tiles.chosen(family)), 1))
    return lambda kernel, rows: faster.get(kernel, 10.0)


def test_a_tile_that_measures_faster_is_chosen_kept_and_used(kept: Path, monkeypatch: Any) -> None:
    known = tiles.candidates()
    first, second = known["binary"][:2]
    timed = _rates(monkeypatch, {("binary", second): 10.6, ("int8", known["int8"][1]): 10.4})
    assert tiles.chosen("binary") == first
    found = tile_rates.measure(timed)
    assert found == {family: shapes[0] for family, shapes in known.items()} | {"binary": second}
    assert tiles.binary_rows() == second[0]
    tiles.kept.cache_clear()
    assert tiles.chosen("binary") == second
    assert {family: tuple(shape) for family, shape in json.loads(kept.read_text()).items()} == found


def test_what_serves_is_within_five_percent_of_the_best_candidate(kept: Path, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rates = {(f, shape): float(rng.uniform(8, 12)) for f, shapes in tiles.candidates().items() for shape in shapes}
        for family, shape in tile_rates.measure(_rates(monkeypatch, rates)).items():
            best = max(rates[family, other] for other in tiles.candidates()[family])
            assert rates[family, shape] * 1.05 >= best


@pytest.mark.parametrize("content", ["", "[1]", '{"binary": 3}', '{"binary": [5000]}', '{"binary": ["a"]}', "{"])
def test_a_file_that_makes_no_sense_is_ignored(kept: Path, content: str) -> None:
    kept.write_text(content)
    assert {family: tiles.chosen(family) for family in tiles.candidates()} == {
        family: shapes[0] for family, shapes in tiles.candidates().items()
    }


@pytest.mark.parametrize("width", tiles.CANDIDATES)
def test_every_candidate_fits_its_registers_and_its_kernel(width: Any) -> None:
    registers, size = width
    known = tiles.CANDIDATES[width]
    floats = size // 4
    for family, shapes in known.items():
        assert len(set(shapes)) == len(shapes) > 1
        for shape in shapes:
            if family.startswith("conv."):
                lanes, narrow = shape
                assert 64 % int(family[5:]) == 0
                assert lanes % max(floats, narrow) == 0
                assert int(family[5:]) * lanes // floats <= registers
            elif family == "product":
                assert tiles.PANEL % shape[1] == 0
    assert len({lanes for _, lanes in known["int8"]}) == 1


def test_every_candidate_gives_the_same_bits(kept: Path) -> None:
    """The small families; `test_convolution` has the tiles of planes."""
    rng = np.random.default_rng(4)
    images = rng.standard_normal((2, 70, 5, 7)).astype(np.float32)
    weight, matrix = (
        rng.standard_normal((33, 70, 3, 3)).astype(np.float32),
        rng.standard_normal((70, 40)).astype(np.float32),
    )
    rows = rng.standard_normal((13, 40, 1, 1)).astype(np.float32)
    from meshd.kernels import packing
    from meshd.kernels.forms import Form

    def binary() -> tuple[Kernel, Any]:
        return registry.convolution(weight, 5, 7, pads=(1, 1, 1, 1), signs=True), images

    def product() -> tuple[Kernel, Any]:
        return packing.pack(matrix, Tail().checked(70), Form(0)), rows

    for family, make in (("binary", binary), ("product", product)):
        answers = []
        for shape in tiles.candidates()[family]:
            with tiles.trying(family, shape):
                answers.append(run(*make(), pieces=3))
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer, answers[0])

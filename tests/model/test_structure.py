"""Which block a weight's zeros are said to come in: the widest that keeps hardly more than is there."""

import numpy as np
import pytest

from meshd.model.graph import Operation
from meshd.model.structure import structure_of


def _found(weight: np.ndarray) -> tuple[str, float]:
    layer = Operation("c", "Conv", ("x", "w"), ("y",))
    return structure_of([layer], {"w": weight})["w"]


def _pruned(block: int, zeros: float, outputs: int = 64, inner: int = 64) -> np.ndarray:
    rng = np.random.default_rng(block)
    kept = np.repeat(rng.random((outputs // block, inner, 3, 3)) >= zeros, block, axis=0)
    return (rng.standard_normal(kept.shape) * kept).astype(np.float32)


@pytest.mark.parametrize("zeros", [0.6, 0.8, 0.9, 0.95, 0.98])
@pytest.mark.parametrize("block", [4, 8, 16])
def test_zeros_shared_by_a_block_are_called_by_it_however_many_they_are(block: int, zeros: float) -> None:
    assert _found(_pruned(block, zeros))[0] == f"block{block}"


@pytest.mark.parametrize("zeros", [0.6, 0.9, 0.98])
def test_zeros_shared_by_nobody_are_no_block(zeros: float) -> None:
    assert _found(_pruned(1, zeros))[0] == "zeros"


def test_a_kept_weight_may_be_zero_by_chance() -> None:
    weight = _pruned(4, 0.9)
    kept = np.flatnonzero(weight)
    weight.flat[kept[::50]] = 0.0
    assert _found(weight)[0] == "block4"


def test_a_weight_of_nothing_but_zeros_has_the_widest_block() -> None:
    assert _found(np.zeros((16, 8, 1, 1), np.float32)) == ("block16", 1.0)

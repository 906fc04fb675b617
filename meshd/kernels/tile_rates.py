"""The table of tiles, confirmed by measuring: each family's candidates on a layer that shows their differences.

The table's tile stays unless another is more than TOLERANCE faster, so what serves is within 5 % of the best candidate, and a
measurement on a busy machine changes little. Done once a machine, where rates are measured, never in a request.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from meshd.kernels import registry, tiles
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Octets
from meshd.kernels.timing import rate

TOLERANCE = 0.05
ROWS = 96
"""Of a product: whole groups of rows for every candidate."""


def measure(timed: Callable[[Kernel, int], float] = rate) -> dict[str, tiles.Shape]:
    """Choose a tile for every family, keep the choices for later processes, and use them from now on.

    timed : (kernel, rows) -> its rate, greater is better
    """
    found = {family: _best(family, timed) for family in tiles.candidates()}
    if path := tiles.place():
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.replace(path)
    tiles.kept.cache_clear()
    return found


def _best(family: str, timed: Callable[[Kernel, int], float]) -> tiles.Shape:
    rates = {}
    for shape in tiles.candidates()[family]:
        with tiles.trying(family, shape):
            rates[shape] = timed(*sample(family))
    table, best = next(iter(rates)), max(rates, key=lambda shape: rates[shape])
    return best if rates[best] > (1 + TOLERANCE) * rates[table] else table


def sample(family: str) -> tuple[Kernel, int]:
    """A layer of this family, weights in cache, and for how many rows to run it."""
    rng: Any = np.random.default_rng(0)
    if family == "binary":
        signs = rng.standard_normal((128, 128, 3, 3)).astype(np.float32)
        return registry.convolution(signs, 14, 14, pads=(1, 1, 1, 1), signs=True, tail=Tail(bits=True)), 1
    if family == "int8":
        octets = rng.integers(-127, 128, (64, 64, 3, 3)).astype(np.int8)
        return registry.convolution_int8(octets, Octets(64, 14, 14, pitch=14), pads=(1, 1, 1, 1)), 1
    from meshd.kernels import convolution, packing
    from meshd.kernels.forms import Form

    if family == "product":
        return packing.pack(rng.standard_normal((256, 512)).astype(np.float32), Tail().checked(256), Form(0)), ROWS
    block = int(family.partition(".")[2])
    kept = np.repeat(rng.random((64 // block, 64, 3, 3)) < 0.2, block, axis=0)
    weight = (rng.standard_normal((64, 64, 3, 3)) * kept).astype(np.float32)
    window = convolution.Window(28, 28, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    tile = next(tile for tile in tiles.plane_tiles() if tile.rows == block)
    return convolution.pack(weight, window, Tail(), 0, None, tile, "float32"), 1

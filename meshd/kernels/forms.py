"""How fast each form of a layer is on this machine: what decides between dense, blocks and single weights at load.

A form is how zeros are skipped: `conv.R` by blocks of R outputs in planes, `product.L` by blocks of L outputs in a matrix,
`product.0` not at all. Rates are useful multiply-accumulates a nanosecond, one thread, weights in cache. Until `measure` has
run (once per machine; the result lies in the folder of compiled kernels) the defaults of `tiles` serve.

All forms give the same bits, so a wrong rate costs time and nothing else.
"""

import json
import math
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from meshd.kernels import tiles
from meshd.kernels.kernel import Kernel, Tail

FILE = "forms.json"
SPEND_S = 0.03
"""For each form: thousands of runs of ten microseconds, the best of which no neighbour disturbed."""


def default_rates() -> dict[str, float]:
    """Rates where nothing was measured: of one Zen 4 core, or of its halves."""
    found = {f"conv.{tile.rows}": tile.rate for tile in tiles.plane_tiles()}
    return found | {f"product.{lanes}": rate for lanes, rate in tiles.MATVEC_RATES.items()}


@cache
def rates() -> dict[str, float]:
    """Measured rates of this machine, or the defaults."""
    found, path = default_rates(), _path()
    try:
        kept = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return found
    if isinstance(kept, dict) and set(kept) == set(found):
        numbers = {name: float(value) for name, value in kept.items() if isinstance(value, int | float)}
        if len(numbers) == len(found) and all(math.isfinite(v) and v > 0 for v in numbers.values()):
            return numbers
    return found


def measure() -> dict[str, float]:
    """Measure every form, keep the rates for later processes, and use them from now on."""
    found = {name: _rate(name) for name in default_rates()}
    if path := _path():
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(found, indent=2))
        draft.replace(path)
    rates.cache_clear()
    return found


def break_even(dense: float, form: float) -> float:
    """The share of zeros past which skipping them pays, 0 to 1."""
    return min(1.0, max(0.0, 1.0 - form / dense))


def _path() -> Path | None:
    from meshd.kernels.jit import FOLDER

    return FOLDER / FILE if FOLDER else None


def _rate(name: str) -> float:
    """Useful multiply-accumulates a nanosecond of one form at 90 % zeros (`product.0`: at none)."""
    from meshd.kernels import convolution, product

    operation, number = name.split(".")
    width, rng = int(number), np.random.default_rng(0)
    block = max(width, 1)
    if operation == "conv":
        weight = _sparse(rng, (64, 64, 3, 3), block)
        window = convolution.Window(28, 28, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
        tile = next(tile for tile in tiles.plane_tiles() if tile.rows == width)
        kernel: Kernel = convolution.pack(weight, window, Tail(), 0, None, tile)
    else:
        weight = _sparse(rng, (2048, 1024), block) if width else rng.standard_normal((2048, 1024)).astype(np.float32)
        kernel = product.pack(weight, Tail(), width)
    x, out = kernel.input_layout.empty(), kernel.output_layout.empty()
    scratch, last = np.zeros(kernel.scratch_size, np.float32), kernel.tiles(1)
    best, end = math.inf, time.perf_counter() + SPEND_S
    while time.perf_counter() < end:
        begun = time.perf_counter()
        kernel.run(x, out, None, scratch, 1, 0, last)
        best = min(best, time.perf_counter() - begun)
    return kernel.macs / best / 1e9


def _sparse(rng: Any, shape: tuple[int, ...], block: int) -> Any:
    kept = np.repeat(rng.random((shape[0] // block, *shape[1:])) < 0.1, block, axis=0)
    return (rng.standard_normal(shape) * kept).astype(np.float32)

"""How fast each form of a layer's weights is on this machine: what decides between dense, blocks and the rest at load.

A form says how zeros are skipped and how weights are stored. `conv.R`: by blocks of R outputs in planes; `product.L`: by blocks
of L outputs in a matrix; `product.0`: not at all; `product.n:M`: N of each M weights of an output; each of them, where not
float32, with `.float16` or `.int8` behind. Rates are multiply-accumulates a nanosecond, one thread, weights in cache. Until
`measure` has run (once per machine; the result lies in the folder of compiled kernels) the defaults of `tiles` serve.

All forms of the same weights give the same bits, so a wrong rate costs time and nothing else. That is why floats that happen to
be halves may be stored as halves, and why int8 is only for weights that come as int8.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meshd.kernels import tiles
from meshd.kernels.kernel import Kernel, Tail
from meshd.kernels.layout import Floats, Weights
from meshd.kernels.timing import rate

FILE = "forms.json"
PERIODS = (4, 8)
"""Of N:M patterns."""


class Form(NamedTuple):
    """How a weight is packed. `block`: outputs that share their zeros, 0 for none left out; `period`: M of N:M, or 0."""

    block: int
    storage: str = "float32"
    period: int = 0

    @property
    def name(self) -> str:
        """As in rates, and behind `sparse.product.`."""
        kind = f"n:{self.period}" if self.period else str(self.block)
        return kind if self.storage == "float32" else f"{kind}.{self.storage}"


def storages(weight: Weights) -> tuple[str, ...]:
    """The ways in which these weights can be stored without loss."""
    if weight.dtype != np.float32:
        return (weight.dtype.name,)
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16)
    return ("float32", "float16") if np.array_equal(halves, weight) else ("float32",)


def stored(values: Weights, storage: str) -> Weights:
    """Flat weights as a kernel reads them: halves as their bits."""
    flat = np.ascontiguousarray(values, storage).ravel()
    return flat.view(np.uint16) if storage == "float16" else flat


def product_forms(storage: str) -> list[Form]:
    """The forms of a matrix."""
    blocks = [Form(lanes, storage) for lanes in tiles.MATVEC_RATES]
    return blocks + [Form(0, storage, period) for period in PERIODS]


def default_rates() -> dict[str, float]:
    """Rates where nothing was measured: of one Zen 4 core, or of its halves."""
    found = {f"conv.{tile.rows}": tile.rate for tile in tiles.plane_tiles()}
    found |= {f"product.{lanes}": fast for lanes, fast in tiles.MATVEC_RATES.items()}
    return found | {f"product.n:{period}": fast for period, fast in tiles.PERIOD_RATES.items()}


@cache
def rates() -> dict[str, float]:
    """Measured rates of this machine, or the defaults. What is stored smaller goes by its ratio to float32 if not measured."""
    base, path = default_rates(), _path()
    kept = _kept(path, base) if path else {}
    base |= {name: kept[name] for name in base if kept}
    smaller = {
        f"{name}.{storage}": fast * next(ratio for start, ratio in ratios.items() if name.startswith(start))
        for storage, ratios in tiles.STORED_RATES.items()
        for name, fast in base.items()
    }
    return base | {name: kept.get(name, fast) for name, fast in smaller.items()}


def _kept(path: Path, base: dict[str, float]) -> dict[str, float]:
    """The rates on disk; none of them unless all that are needed are there and make sense."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict) or not set(told) >= set(base):
        return {}
    numbers = {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
    sound = len(numbers) == len(told) and all(math.isfinite(v) and v > 0 for v in numbers.values())
    return numbers if sound else {}


def measure(*, every: bool = False) -> dict[str, float]:
    """Measure the forms of float32 weights, or `every` one; keep the rates for later processes, and use them from now on."""
    found = {name: _rate(name) for name in (rates() if every else default_rates())}
    if path := _path():
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(found, indent=2))
        draft.replace(path)
    rates.cache_clear()
    return found


def break_even(dense: float, form: float) -> float:
    """The share of zeros past which skipping them pays, 0 to 1. For N:M: past which share of M - N in M."""
    return min(1.0, max(0.0, 1.0 - form / dense))


def dense_of(name: str) -> str:
    """The form that leaves nothing out, of the same operation and storage: what another one is compared with."""
    operation, _, *storage = name.split(".")
    return ".".join([operation, "0" if operation == "product" else str(tiles.plane_tiles()[-1].rows), *storage])


def _path() -> Path | None:
    from meshd.kernels.jit import FOLDER

    return FOLDER / FILE if FOLDER else None


def _rate(name: str) -> float:
    """Multiply-accumulates a nanosecond of one form: blocks at 90 % zeros, N:M at half of them, `product.0` at none."""
    from meshd.kernels import convolution, packing

    operation, kind, storage = (*name.split("."), "float32")[:3]
    period = int(kind[2:]) if kind.startswith("n:") else 0
    form = Form(0 if period else int(kind), storage, period)
    rng, block = np.random.default_rng(0), max(form.block, 1)
    if operation == "conv":
        weight = _as(_sparse(rng, (64, 64, 3, 3), block), form.storage)
        window = convolution.Window(28, 28, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
        tile = next(tile for tile in tiles.plane_tiles() if tile.rows == form.block)
        kernel: Kernel = convolution.pack(weight, window, Tail(), 0, None, tile, form.storage)
    else:
        shape = (2048, 1024)
        weight = _sparse(rng, shape, block) if form.block else rng.standard_normal(shape).astype(np.float32)
        if period:
            weight *= np.arange(shape[1]) % 2
        kernel = packing.pack(_as(weight, form.storage), Tail(), form)
    return rate(kernel)


def _as(weight: Floats, storage: str) -> Weights:
    """These weights in a type of which all can be stored so; zeros stay zeros."""
    return np.where(weight, np.sign(weight) * np.rint(abs(weight) * 30 + 1), 0).astype(storage)


def _sparse(rng: Any, shape: tuple[int, ...], block: int) -> Floats:
    kept = np.repeat(rng.random((shape[0] // block, *shape[1:])) < 0.1, block, axis=0)
    return np.asarray(rng.standard_normal(shape) * kept, np.float32)

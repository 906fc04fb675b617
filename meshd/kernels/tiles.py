"""Which tiles fit the registers of this machine: by a table, confirmed by what `tile_rates` measured.

A tile of r rows and l lanes holds r * l / v accumulators (v floats a register), l / v inputs and a weight or two; one more
register than there is, and the loop spends its time spilling. `CANDIDATES` has, for each known width, the tile that fits and its
neighbours; the first of them serves until a measurement on this machine (in the folder of compiled kernels) says otherwise.

All tiles give the same bits. Rates here are relative, from measurements with `meshd bench kernels` on one core of each kind; they
decide between packings of one layer, never between machines.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from meshd.kernels.machine import this_machine

FILE = "tiles.json"
Shape = tuple[int, ...]

CANDIDATES: Mapping[tuple[int, int], Mapping[str, tuple[Shape, ...]]] = {
    # (registers, bytes of one): by family, the table's choice first.
    (32, 64): {
        "conv.1": ((64, 16), (96, 16)),
        "conv.4": ((64, 16), (96, 16)),
        "conv.8": ((48, 8), (32, 8)),
        "binary": ((8,), (6,), (4,)),
        "int8": ((8, 32), (12, 32)),
        "product": ((6, 64), (8, 32)),
    },
    (16, 32): {
        "conv.1": ((64, 8), (32, 8)),
        "conv.4": ((24, 8), (16, 8)),
        "binary": ((2,), (1,), (3,)),
        "int8": ((4, 16), (3, 16), (6, 16)),
        "product": ((6, 16), (4, 16)),
    },
    (32, 16): {
        "conv.1": ((16, 4), (32, 4)),
        "conv.4": ((16, 4), (24, 4)),
        "conv.8": ((8, 4), (12, 4)),
        "binary": ((2,), (3,)),
        "int8": ((4, 16), (6, 16)),
        "product": ((6, 16), (5, 16)),
    },
    (16, 16): {
        "conv.1": ((32, 4), (16, 4)),
        "conv.4": ((12, 4), (8, 4)),
        "binary": ((1,), (2,)),
        "int8": ((2, 16), (4, 16)),
        "product": ((3, 16), (6, 16)),
    },
}
"""conv: positions at once, and for what remains; binary: positions; int8: positions, outputs; product: rows, outputs.

NB outputs of an int8 tile are the same for all candidates of a machine: they decide which groupings have a kernel."""

CONV_RATES = {1: 25.0, 4: 54.0, 8: 57.0}
"""Multiply-accumulates a nanosecond of convolutions in planes, by outputs that share a pattern."""

_tried: dict[str, Shape] = {}


def candidates() -> Mapping[str, tuple[Shape, ...]]:
    """Of this machine."""
    machine = this_machine()
    return CANDIDATES[machine.registers, machine.register_bytes]


def chosen(family: str) -> Shape:
    """The tile that serves on this machine."""
    known = candidates()[family]
    wanted = _tried.get(family) or kept().get(family)
    return wanted if wanted in known else known[0]


@cache
def kept() -> Mapping[str, Shape]:
    """What was measured here, as far as it makes sense; look again with `kept.cache_clear()`."""
    path = place()
    try:
        told = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {family: tuple(shape) for family, shape in told.items() if isinstance(shape, list)}


def place() -> Path | None:
    """Where measured choices are kept; None where nothing can be."""
    from meshd.kernels.jit import FOLDER

    return FOLDER / FILE if FOLDER else None


@contextmanager
def trying(family: str, shape: Shape) -> Iterator[None]:
    """Kernels packed meanwhile have this tile: for measuring, in a process that does nothing else."""
    _tried[family] = shape
    try:
        yield
    finally:
        del _tried[family]


@dataclass(frozen=True, slots=True)
class Tile:
    """Outputs that share a pattern, positions at once (`lanes`, and `narrow` for what remains), relative speed."""

    rows: int
    lanes: int
    narrow: int
    rate: float


def plane_tiles() -> tuple[Tile, ...]:
    """Tiles of `planes.block_convolution` for this machine."""
    found = []
    for rows, rate in CONV_RATES.items():
        if f"conv.{rows}" in candidates():
            lanes, narrow = chosen(f"conv.{rows}")
            found.append(Tile(rows, lanes, narrow, rate))
    return tuple(found)


PANEL = 64
"""Outputs a panel of a dense product; four AVX-512 registers, enough additions in flight for one row."""


def product_tile() -> tuple[int, int]:
    """Rows and outputs at once of a dense product of many rows."""
    rows, lanes = chosen("product")
    return rows, lanes


def sparse_rows(lanes: int) -> int:
    """Rows at once of a sparse product that keeps four blocks of `lanes` outputs a row, and six registers for the rest."""
    machine = this_machine()
    registers_a_row = 4 * max(1, lanes * 4 // machine.register_bytes)
    return max(1, min(6, (machine.registers - 6) // registers_a_row))


MATVEC_RATES = {0: 24.0, 1: 1.7, 4: 8.5, 8: 13.5, 16: 15.0}
"""Weights a nanosecond by outputs that share a pattern (0: dense); one row, weights in cache."""
PERIOD_RATES = {4: 20.0, 8: 20.0}
"""The same for N:M patterns by M."""
STORED_RATES = {
    "float16": {"product.n:": 0.92, "product.": 1.25, "conv.": 0.97},
    "int8": {"product.n:": 0.92, "product.": 1.25, "conv.": 0.92},
}
"""Rates of weights stored smaller, to those of float32, by how a form's name begins: less is read, and more is done for it."""


def period_tile(rows: int) -> tuple[int, int]:
    """Rows and outputs at once of an N:M product; each output has a register lane for its choice, too."""
    machine = this_machine()
    wide = machine.register_bytes * machine.registers >= 64 * 32
    many, lanes = (4, 64) if wide else (4, 16)
    return (many, lanes) if rows >= many else (1, 64 if wide else 32)


def binary_rows() -> int:
    """Positions at once of a binary layer; each has 16 outputs."""
    return chosen("binary")[0]


def int8_tile() -> tuple[int, int]:
    """Positions and outputs at once of an int8 layer."""
    rows, lanes = chosen("int8")
    return rows, lanes

"""Which tiles fit the registers of this machine, and what they reach there.

A tile of r rows and l lanes holds r * l / v accumulators (v floats a register), l / v inputs and a weight or two; one more
register than there is, and the loop spends its time spilling. Rates are relative, from measurements with `meshd bench
kernels` on one core of each kind; they decide between packings of one layer, never between machines.
"""

from dataclasses import dataclass
from functools import cache

from meshd.kernels.machine import this_machine


@dataclass(frozen=True, slots=True)
class Tile:
    """Outputs that share a pattern, positions at once (`lanes`, and `narrow` for what remains), relative speed."""

    rows: int
    lanes: int
    narrow: int
    rate: float


@cache
def plane_tiles() -> tuple[Tile, ...]:
    """Tiles of `planes.block_convolution` for this machine."""
    machine = this_machine()
    floats = machine.register_bytes // 4
    if machine.registers == 32 and floats == 16:
        return Tile(1, 64, 16, 25), Tile(4, 64, 16, 54), Tile(8, 48, 8, 57)
    if machine.registers == 32:
        return Tile(1, 4 * floats, floats, 25), Tile(4, 4 * floats, floats, 50), Tile(8, 2 * floats, floats, 52)
    return Tile(1, 8 * floats, floats, 25), Tile(4, 3 * floats, floats, 50)


PANEL = 64
"""Outputs a panel of a dense product; four AVX-512 registers, enough additions in flight for one row."""


@cache
def product_lanes() -> int:
    """Outputs at once where six rows are computed together: 6 x 64 in 32 wide registers, 6 x 16 elsewhere."""
    machine = this_machine()
    return 64 if machine.register_bytes * machine.registers >= 64 * 32 else 16


PRODUCT_ROWS = 6


def sparse_rows(lanes: int) -> int:
    """Rows at once of a sparse product that keeps four blocks of `lanes` outputs a row, and six registers for the rest."""
    machine = this_machine()
    registers_a_row = 4 * max(1, lanes * 4 // machine.register_bytes)
    return max(1, min(PRODUCT_ROWS, (machine.registers - 6) // registers_a_row))


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


@cache
def int8_tile() -> tuple[int, int]:
    """Rows and outputs at once of an int8 layer: 8 x 32 accumulators in 32 wide registers, fewer where there are fewer."""
    machine = this_machine()
    if machine.registers == 32:
        return (8, 32) if machine.register_bytes == 64 else (4, 16)
    return 4, 16

"""Products with matrices of an N:M pattern.

The M inputs of a group are read once for all outputs, and every lane picks among them by an instruction that looks at the
lowest bits of a 32-bit lane, so a choice is taken off by a shift. No index is read from memory but these bits: 4.25 bytes a kept
weight, where unstructured weights take 8 and a load for each.

Numeric class `fma`, as `matrices`: ascending k, one fma a term; places filled up with zero change nothing.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from meshd.kernels.forms import stored
from meshd.kernels.jit import F4, FLOAT, I4, INT, U8, VALUES, jit
from meshd.kernels.kernel import Flat
from meshd.kernels.layout import Weights
from meshd.kernels.matrices import WORK, leave
from meshd.kernels.n_of_m import CHOICE_BITS, PANEL, WORD, encode
from meshd.kernels.product import Product
from meshd.kernels.simd import (
    fma,
    load,
    load_real,
    pick,
    shift_right,
    splat,
)  # fmt: skip
from meshd.kernels.tiles import period_tile


@cache
def periodic_product(rows: int, lanes: int, n: int, period: int, storage: str) -> Any:
    """The kernel for `rows` rows and `lanes` outputs at once."""
    parts, bits = PANEL // lanes, CHOICE_BITS[period]
    a_word = WORD // bits // n

    @jit(F4, F4, U8, F4, I4, VALUES[storage], F4, F4, FLOAT, FLOAT, WORK, INT, INT, INT)
    def multiply(x, out, words, residual, choice, value, scale, bias, low, high, w, n_rows, first, last):
        """Tiles `[first, last)` of parts of panels x groups of rows; n_rows >= rows."""
        groups = (w.k + period - 1) // period
        choices = (groups + a_word - 1) // a_word
        row_groups = (n_rows + rows - 1) // rows
        for tile in range(first, last):
            part = tile // row_groups
            # The last group is moved back: what two groups compute is the same bits.
            m = min(tile % row_groups * rows, n_rows - rows)
            panel, o = part // parts, part * lanes
            inside = part % parts * lanes
            acc = splat(rows, lanes, np.float32(0))
            for word in range(choices):
                chosen = load(lanes, choice, (panel * choices + word) * PANEL + inside)
                for group in range(word * a_word, min((word + 1) * a_word, groups)):
                    here = m * w.k + min(group * period, w.k - period)
                    for i in range(n):
                        weight = load_real(lanes, value, ((panel * groups + group) * n + i) * PANEL + inside)
                        acc = fma(pick(rows, period, x, here, w.k, chosen), weight, acc)
                        chosen = shift_right(chosen, splat(1, lanes, np.int32(bits)))
            leave(rows, lanes, acc, out, words, residual, scale, bias, low, high, w, m, o, o)

    return multiply


@dataclass(eq=False)
class PeriodicProduct(Product):
    """Of each `period` weights of an output, at most `n` are not zero."""

    weight: Weights | None = None
    n: int = 1
    period: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.weight is not None
        value, self._choice = encode(self.weight, self.n, self.period)
        self._panels = len(value)
        self._value, self._choice = stored(value, self.storage), self._choice.ravel()
        self.weight = None
        self.resident_bytes += self._value.nbytes + self._choice.nbytes
        self._one, self._many = (
            periodic_product(*period_tile(rows), self.n, self.period, self.storage) for rows in (1, 1 << 30)
        )
        self._numbers = self._work(0)

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: parts of panels times groups of rows. Parts past the last output are for bits only."""
        at_once, lanes = period_tile(rows)
        parts = self._panels * (PANEL // lanes) if self.tail.bits else -(-self.output_layout.channels // lanes)
        return int(parts * -(-rows // at_once))

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, words, added = self._outs(out, residual)
        multiply: Any = self._one if period_tile(rows)[0] == 1 else self._many
        multiply(
            x, floats, words, added, self._choice, self._value, self._scale, self._bias, self.tail.low, self.tail.high,
            self._numbers, rows, first, last,
        )  # fmt: skip

"""Products of rows with a constant matrix, packed for `matrices`: dense panels, or blocks that share a pattern."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.kernels.forms import stored
from meshd.kernels.kernel import Flat, Kernel, Tail
from meshd.kernels.layout import Bits, Weights
from meshd.kernels.matrices import SPAN, Work, dense_product, sparse_product
from meshd.kernels.tiles import PANEL, product_tile, sparse_rows

NARROW = 16
_NO_FLOATS, _NO_WORDS = np.zeros(1, np.float32), np.zeros(1, np.uint64)


@dataclass(eq=False)
class Product(Kernel):
    """What all forms of a product share."""

    tail: Tail = field(default_factory=Tail)
    storage: str = "float32"

    def __post_init__(self) -> None:
        self.writes_any = False
        outputs = self.output_layout.channels
        padded = np.zeros((2, -(-outputs // SPAN) * SPAN), np.float32)
        padded[0] = 1
        if self.tail.scale is not None:
            padded[0, :outputs] = self.tail.scale
        if self.tail.bias is not None:
            padded[1, :outputs] = self.tail.bias
        self._scale, self._bias = padded
        self.resident_bytes += padded.nbytes

    def _work(self, first_output: int) -> Work:
        to = self.output_layout
        return Work(
            k=self.input_layout.size, outputs=to.channels, first_output=first_output, bits=int(self.tail.bits),
            scaled=int(self.tail.scale is not None), residual=int(self.tail.residual),
            words=to.words if isinstance(to, Bits) else 0,
        )  # fmt: skip

    def _outs(self, out: Flat, residual: Flat | None) -> tuple[Flat, Flat, Flat]:
        floats, words = (_NO_FLOATS, out) if self.tail.bits else (out, _NO_WORDS)
        return floats, words, _NO_FLOATS if residual is None else residual


@dataclass(eq=False)
class DenseProduct(Product):
    """Panels of 64 outputs, and of 16 for what remains."""

    weight: Weights | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.weight is not None
        outputs, k = self.weight.shape
        wide = -(-outputs // PANEL) if self.tail.bits or outputs % PANEL > PANEL - NARROW else outputs // PANEL
        narrow = max(0, -(-(outputs - wide * PANEL) // NARROW))
        padded = np.zeros((wide * PANEL + narrow * NARROW, k), self.weight.dtype)
        padded[:outputs] = self.weight
        edge = wide * PANEL
        self._value = stored(padded[:edge].reshape(wide, PANEL, k).transpose(0, 2, 1), self.storage)
        self._rest = stored(padded[edge:].reshape(narrow, NARROW, k).transpose(0, 2, 1), self.storage)
        self._edge, self._narrow = edge, narrow
        self.weight = None
        self.resident_bytes += self._value.nbytes + self._rest.nbytes
        self._rows, self._lanes = product_tile()
        self._one, self._many = (
            (
                dense_product(rows, lanes, PANEL, self.storage),
                dense_product(rows, NARROW, NARROW, self.storage) if narrow else None,
            )
            for rows, lanes in ((1, PANEL), (self._rows, self._lanes))
        )
        self._works = (np.array(self._work(0), np.int64), np.array(self._work(edge), np.int64))

    def _cut(self, rows: int) -> tuple[int, int]:
        """Tiles in wide panels, and in all."""
        if rows < self._rows:
            wide = self._edge // PANEL * rows
            return wide, wide + self._narrow * rows
        groups = -(-rows // self._rows)
        wide = self._edge // self._lanes * groups
        return wide, wide + self._narrow * groups

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: panels times groups of rows."""
        return self._cut(rows)[1]

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, words, added = self._outs(out, residual)
        wide, _ = self._cut(rows)
        kernels: tuple[Any, Any] = self._one if rows < self._rows else self._many
        low, high = self.tail.low, self.tail.high
        if first < wide:
            kernels[0](
                x, floats, words, added, self._value, self._scale, self._bias, low, high, self._works[0],
                rows, first, min(last, wide),
            )  # fmt: skip
        if last > wide:
            kernels[1](
                x, floats, words, added, self._rest, self._scale[self._edge :], self._bias[self._edge :], low, high,
                self._works[1], rows, max(first - wide, 0), last - wide,
            )  # fmt: skip


@dataclass(eq=False)
class SparseProduct(Product):
    """Blocks of `lanes` outputs that share their positions."""

    lanes: int = 1
    start: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    index: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    value: Weights = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rows = sparse_rows(self.lanes)
        self.scratch_size = self._rows * SPAN
        self.resident_bytes += self.start.nbytes + self.index.nbytes + self.value.nbytes
        self._spans = (len(self.start) - 1) * self.lanes // SPAN
        self._one, self._many = (sparse_product(rows, self.lanes, self.storage) for rows in (1, self._rows))
        self._numbers = np.array(self._work(0), np.int64)

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: spans of 64 outputs times groups of rows."""
        return self._spans * (rows if rows < self._rows else -(-rows // self._rows))

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, words, added = self._outs(out, residual)
        multiply = self._one if rows < self._rows else self._many
        multiply(
            x, floats, words, added, scratch, self.start, self.index, self.value, self._scale, self._bias,
            self.tail.low, self.tail.high, self._numbers, rows, first, last,
        )  # fmt: skip

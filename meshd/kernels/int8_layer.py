"""Int8 convolutions and products packed for `int8`: weights side by side in fours, bases that take zero points out."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError
from meshd.kernels.convolution import Window
from meshd.kernels.int8 import OCTETS, PLANES, ROWS, SPAN, Work, int8_layer
from meshd.kernels.kernel import Flat, Kernel, Tail
from meshd.kernels.layout import Layout, Octets, Planes
from meshd.kernels.strips import place
from meshd.kernels.tiles import int8_tile

_NO_FLOATS, _NO_OCTETS = np.zeros(1, np.float32), np.zeros(1, np.uint8)
K_MAX = 2**31 // (255 * 128)
"""Terms of a sum that int32 holds whatever their values."""


@dataclass(eq=False)
class Int8Layer(Kernel):
    """Bytes times bytes.

    weight : int8, (outputs, channels / groups, kh, kw), dropped once packed
    window : None for a product
    """

    weight: NDArray[np.int8] | None = None
    window: Window | None = None
    tail: Tail = field(default_factory=Tail)

    def __post_init__(self) -> None:
        assert self.weight is not None
        assert isinstance(self.input_layout, Octets)
        self.writes_any, self.also_writes = self.window is not None, (Octets,)
        rows, lanes = int8_tile()
        outputs, inner, kh, kw = self.weight.shape
        source, groups, taps = self.input_layout, self.window.groups if self.window else 1, kh * kw
        if inner * taps > K_MAX:
            raise MisuseError(
                f"weight {self.weight.shape}: sums of {inner * taps} products can overflow int32 ({K_MAX})"
            )
        panels, fours = -(-outputs // lanes), -(-inner // 4)
        filters = np.zeros((panels * lanes, taps, fours * 4), np.int8)
        filters[:outputs, :, :inner] = self.weight.reshape(outputs, inner, taps).transpose(0, 2, 1)
        packed = filters.view("<i4").reshape(panels, lanes, taps * fours).transpose(0, 2, 1)
        self._filters = np.ascontiguousarray(packed, np.int32).ravel()
        padded = np.zeros((2, panels * lanes), np.float32)
        padded[0] = 1
        if self.tail.scale is not None:
            padded[0, :outputs] = self.tail.scale
        if self.tail.bias is not None:
            padded[1, :outputs] = self.tail.bias
        self._scale, self._bias = padded
        self._base = np.asarray(-source.zero * filters.sum((1, 2), dtype=np.int64), np.int32)
        tap = self.window.taps(source, source.stride) if self.window else np.zeros(1, np.int64)
        self._offset = (tap[:, None] + 4 * np.arange(fours)).astype(np.int32).ravel()
        in_rows = np.arange(rows, dtype=np.int64) * source.stride
        self._starts = self.window.starts(source, source.stride) if self.window else in_rows
        self._panels, self._panels_a_group = panels, panels // groups if groups > 1 else panels
        self._group_octets = inner
        self.weight = None
        self.scratch_size = rows * lanes
        self._many_rows = rows
        arrays = (self._filters, self._base, self._offset, self._starts, padded)
        self.resident_bytes = sum(array.nbytes for array in arrays)
        self._one, self._many = int8_layer(1, lanes), int8_layer(rows, lanes)
        self._plan()

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`; besides its own `Planes` it writes `Octets` of any scale."""
        super().write_to(output, residual)
        self._plan()

    def _plan(self) -> None:
        source, to, window = self.input_layout, self.output_layout, self.window
        assert isinstance(source, Octets)
        mode = OCTETS if isinstance(to, Octets) else PLANES if window else ROWS
        positions = window.out[0] * window.out[1] if window else 0
        self._targets = self._sources = np.zeros(self._many_rows, np.int64)
        if window:
            self._targets, self._sources = window.targets(to), window.targets(self.residual_layout)
        self._work = Work(
            window=int(window is not None), positions=positions, words=len(self._offset), outputs=to.channels,
            panels=self._panels, panels_a_group=self._panels_a_group, group_octets=self._group_octets,
            x_size=source.size, x_stride=source.stride, mode=mode,
            scaled=int(self.tail.scale is not None), residual=int(self.tail.residual),
            bottom=to.bottom if isinstance(to, Octets) else 0, zero=to.zero if isinstance(to, Octets) else 0,
        )  # fmt: skip
        self._to, self._added = place(to), place(self.residual_layout)
        self._fill = to.fill if isinstance(to, Planes) else 0.0
        self._step = to.scale if isinstance(to, Octets) else 1.0

    def _rows(self, rows: int) -> int:
        return self._many_rows if (self._work.positions if self.window else rows) >= self._many_rows else 1

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times panels of outputs times spans of positions."""
        positions = self._work.positions if self.window else rows
        groups = -(-positions // self._rows(rows))
        spans = -(-groups // SPAN)
        return int(spans * self._panels * (rows if self.window else 1))

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, octets = (_NO_FLOATS, out) if isinstance(self.output_layout, Octets) else (out, _NO_OCTETS)
        added = _NO_FLOATS if residual is None else residual
        compute: Any = self._many if self._rows(rows) > 1 else self._one
        compute(
            x, floats, octets, added, scratch, self._starts, self._offset, self._filters, self._targets, self._sources,
            self._base, self._scale, self._bias, self.tail.low, self.tail.high, self._fill, self._step, self._work, self._to,
            self._added, rows, first, last,
        )  # fmt: skip


def fits(weight: NDArray[np.int8], groups: int) -> bool:
    """Whether `Int8Layer` takes this grouping: whole fours of inputs and whole panels of outputs in each group."""
    outputs, inner = weight.shape[:2]
    return groups == 1 or (inner % 4 == 0 and outputs // groups % int8_tile()[1] == 0)

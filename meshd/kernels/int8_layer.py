"""Int8 convolutions and products packed for `int8`: weights side by side in fours, bases that take zero points out."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError
from meshd.kernels.convolution import BENDS, STRAIGHT, Window
from meshd.kernels.int8 import BYTES, FLOATS, NONE, OCTETS, PLANES, ROWS, SPAN, Work, int8_layer
from meshd.kernels.kernel import Flat, Kernel, Tail
from meshd.kernels.layout import Layout, Octets, Planes
from meshd.kernels.strips import place
from meshd.kernels.tiles import int8_tile

_NO_FLOATS, _NO_OCTETS = np.zeros(1, np.float32), np.zeros(1, np.uint8)
K_MAX = 2**31 // (255 * 128)
"""Terms of a sum that int32 holds whatever their values."""
SUM_MAX = (2**31 - 1) // 255
"""Weights of one output, added up without their signs, with which int32 holds every sum."""


@dataclass(eq=False)
class Int8Layer(Kernel):
    """Bytes times bytes.

    weight : int8, or int16 from -255 to 255, (outputs, channels / groups, kh, kw), dropped once packed. What is past int8 is
        multiplied apart: the same bytes once more by what remains
    window : None for a product
    """

    weight: NDArray[np.int8] | NDArray[np.int16] | None = None
    window: Window | None = None
    tail: Tail = field(default_factory=Tail)

    def __post_init__(self) -> None:
        assert self.weight is not None
        assert isinstance(self.input_layout, Octets)
        self.writes_any, self.also_writes = self.window is not None, (Octets,)
        rows, lanes = int8_tile()
        outputs, inner, kh, kw = self.weight.shape
        source, groups, taps = self.input_layout, self.window.groups if self.window else 1, kh * kw
        if np.abs(self.weight.reshape(outputs, -1).astype(np.int64)).sum(1).max() > SUM_MAX:
            raise MisuseError(
                f"weight {self.weight.shape}: sums of {inner * taps} products can overflow int32 (past {K_MAX} any can)"
            )
        panels, fours = -(-outputs // lanes), -(-inner // 4)
        whole = np.zeros((panels * lanes, taps, fours * 4), np.int16)
        whole[:outputs, :, :inner] = self.weight.reshape(outputs, inner, taps).transpose(0, 2, 1)
        tap = self.window.taps(source, source.stride) if self.window else np.zeros(1, np.int64)
        places = (tap[:, None] + 4 * np.arange(fours)).astype(np.int32).ravel()
        words: list[NDArray[Any]] = []
        offset: list[NDArray[Any]] = []
        rest = whole
        self._depthwise = self.window is not None and is_depthwise(self.weight, groups)
        if self._depthwise:
            words, offset, rest = [whole[:, :, 0].astype("<i4").reshape(panels, lanes, taps)], [tap], whole[:0]
            self.input_layout = source = replace(source, slack=max(source.slack, lanes))
        while not words or rest.any():
            part = np.clip(rest, -128, 127).astype(np.int8)
            word = part.view("<i4").reshape(panels, lanes, taps * fours)
            kept = np.arange(len(places)) if not words else np.flatnonzero(word.any((0, 1)))
            words.append(word[:, :, kept])
            offset.append(places[kept])
            rest = rest - part
        self._offset = np.concatenate(offset).astype(np.int32)
        self._filters = np.ascontiguousarray(np.concatenate(words, 2).transpose(0, 2, 1), np.int32).ravel()
        padded = np.zeros((2, panels * lanes), np.float32)
        padded[0] = 1
        if self.tail.scale is not None:
            padded[0, :outputs] = self.tail.scale
        if self.tail.bias is not None:
            padded[1, :outputs] = self.tail.bias
        self._scale, self._bias = padded
        self._bend = self.tail.bend or STRAIGHT
        self._base = np.asarray(-source.zero * whole.sum((1, 2), dtype=np.int64), np.int32)
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
        residual, from_octets = self.residual_layout, isinstance(self.residual_layout, Octets)
        positions = window.out[0] * window.out[1] if window else 0
        self._targets = self._sources = np.zeros(self._many_rows, np.int64)
        if window:
            self._targets, self._sources = window.targets(to), window.targets(residual)
        self._work = Work(
            window=int(window is not None), depthwise=int(self._depthwise), positions=positions, words=len(self._offset),
            outputs=to.channels,
            panels=self._panels, panels_a_group=self._panels_a_group, group_octets=self._group_octets,
            x_size=source.size, x_stride=source.stride, mode=mode,
            scaled=int(self.tail.scale is not None), residual=BYTES if from_octets else FLOATS if self.tail.residual else NONE,
            residual_zero=residual.zero if isinstance(residual, Octets) else 0,
            bend=0 if self.tail.bend is None else BENDS[self.tail.bend.kind],
            bottom=to.bottom if isinstance(to, Octets) else 0, zero=to.zero if isinstance(to, Octets) else 0,
        )  # fmt: skip
        self._to, self._added = place(to), place(residual)
        self._fill = to.fill if isinstance(to, Planes) else 0.0
        self._step = to.scale if isinstance(to, Octets) else 1.0
        self._added_step = residual.scale if isinstance(residual, Octets) else 1.0

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
        added: Flat = _NO_FLOATS if residual is None else residual
        more: Flat = _NO_OCTETS
        if isinstance(self.residual_layout, Octets):
            added, more = _NO_FLOATS, added
        compute: Any = self._many if self._rows(rows) > 1 else self._one
        compute(
            x, floats, octets, added, more, scratch, self._starts, self._offset, self._filters, self._targets, self._sources,
            self._base, self._scale, self._bias, self._bend.a, self._bend.b,
            self.tail.low, self.tail.high, self._fill, self._step,
            self._added_step, self._work, self._to, self._added, rows, first, last,
        )  # fmt: skip


def is_depthwise(weight: NDArray[Any], groups: int) -> bool:
    """Whether each output sees one channel, its own."""
    return groups > 1 and weight.shape[:2] == (groups, 1)


def fits(weight: NDArray[np.int8] | NDArray[np.int16], groups: int) -> bool:
    """Whether `Int8Layer` takes this grouping: depthwise, or whole fours of inputs and whole panels of outputs in each group."""
    outputs, inner = weight.shape[:2]
    return groups == 1 or is_depthwise(weight, groups) or (inner % 4 == 0 and outputs // groups % int8_tile()[1] == 0)

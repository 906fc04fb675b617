"""Binary convolutions and products packed for `binary`: filters side by side, bases, thresholds."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.kernels import reference
from meshd.kernels.binary import LANES, PLANES, ROWS, SIGN, SPAN, THRESHOLD, Work, binary_layer
from meshd.kernels.convolution import Window
from meshd.kernels.kernel import Flat, Kernel, Tail
from meshd.kernels.layout import Bits, Floats, Layout, Planes
from meshd.kernels.strips import place
from meshd.kernels.tiles import binary_rows

Longs = NDArray[np.int64]
NEVER = 1 << 30
"""A count no layer reaches, and a base no count brings below zero."""

_NO_FLOATS, _NO_WORDS = np.zeros(1, np.float32), np.zeros(1, np.uint64)


@dataclass(eq=False)
class BinaryLayer(Kernel):
    """Signs times signs.

    weight : ±1, (outputs, channels / groups, kh, kw), dropped once packed
    window : None for a product
    """

    weight: Floats | None = None
    window: Window | None = None
    pad_sign: int = 0
    tail: Tail = field(default_factory=Tail)

    def __post_init__(self) -> None:
        assert self.weight is not None
        assert isinstance(self.input_layout, Bits)
        self.writes_any = self.window is not None
        self._many_rows = binary_rows()
        self.scratch_size = self._many_rows * LANES
        outputs, inner, kh, kw = self.weight.shape
        source, groups = self.input_layout, self.window.groups if self.window else 1
        taps = kh * kw
        panels = -(-outputs // LANES)
        filters = np.zeros((panels * LANES, inner, taps), np.float32)
        filters[:outputs] = self.weight.reshape(outputs, inner, taps)
        self._bits = inner * taps
        self._base, self._classes = self._bases(panels * LANES)
        thresholded = self.tail.bits and not self.tail.residual
        self._threshold = np.full((len(self._base), -(-outputs // 64) * 64), NEVER, np.uint64)
        if thresholded:
            self._threshold[:, :outputs], flipped = self._thresholds()
            filters[:outputs][flipped] *= -1
        packed, masks, first_word = _place(filters, groups, outputs // groups)
        # (panels, lanes, taps, words) -> (panels, taps, words, lanes)
        self._filters = np.ascontiguousarray(packed.transpose(0, 2, 3, 1)).ravel()
        self._masks = _NO_WORDS if masks is None else np.ascontiguousarray(masks.transpose(0, 2, 3, 1)).ravel()
        tap = self.window.taps(source, source.words) if self.window else np.zeros(1, np.int64)
        self._offset = (tap[:, None] + np.arange(packed.shape[3])).astype(np.int32).ravel()
        in_rows = np.arange(self._many_rows, dtype=np.int64) * source.words
        self._starts = self.window.starts(source, source.words) if self.window else in_rows
        padded = np.zeros((2, self._threshold.shape[1]), np.float32)
        padded[0] = 1
        if self.tail.scale is not None:
            padded[0, :outputs] = self.tail.scale
        if self.tail.bias is not None:
            padded[1, :outputs] = self.tail.bias
        self._scale, self._bias = padded
        self._panels = self._threshold.shape[1] // LANES if self.tail.bits else panels
        self._first_word = np.zeros(self._panels, np.int64)
        self._first_word[:panels] = first_word
        wide = np.full((len(self._base), self._threshold.shape[1]), NEVER, np.int32)
        wide[:, : self._base.shape[1]] = self._base
        self._base = np.ascontiguousarray(wide)
        self._classes = self._classes * self._threshold.shape[1]
        self._flat_base, self._flat_threshold = self._base.astype(np.float32).ravel(), self._threshold.ravel()
        arrays = (
            self._filters,
            self._masks,
            self._first_word,
            self._offset,
            self._starts,
            self._base,
            self._threshold,
            self._classes,
            padded,
        )
        self.resident_bytes = sum(array.nbytes for array in arrays)
        masked = masks is not None
        self._one, self._many = binary_layer(1, masked), binary_layer(self._many_rows, masked)
        self._plan()

    def _bases(self, padded: int) -> tuple[NDArray[np.int32], Longs]:
        """What counts are subtracted from, for each set of taps that lie in zero pads; which set each position has."""
        assert self.weight is not None
        outputs, inner, kh, kw = self.weight.shape
        base = np.full((1, padded), NEVER, np.int32)
        base[0, :outputs] = self._bits
        if self.window is None:
            return base, np.zeros(self._many_rows, np.int64)
        oh, ow = self.window.out
        if self.pad_sign:
            return base, np.zeros(oh * ow, np.int64)
        inside = []
        for size, k, s, d, before, count in zip(
            (self.window.height, self.window.width),
            (kh, kw),
            self.window.strides,
            self.window.dilations,
            self.window.pads[:2],
            (oh, ow),
            strict=True,
        ):
            at = np.arange(count)[:, None] * s + np.arange(k) * d - before
            inside.append(np.unique((at >= 0) & (at < size), axis=0, return_inverse=True))
        (rows, row_class), (columns, column_class) = inside
        seen = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(-1, kh * kw)
        sums = self.weight.reshape(outputs, inner, kh * kw).sum(1)
        bases = np.repeat(base, len(seen), axis=0)
        bases[:, :outputs] -= (~seen @ sums.T).astype(np.int32)
        classes = row_class.reshape(-1, 1) * len(columns) + column_class.reshape(1, -1)
        return bases, classes.ravel().astype(np.int64)

    def _thresholds(self) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
        """The least count that makes each output negative, and which filters must be negated for it to be one.

        Searched with the tail's own arithmetic, so that the bit is the float's sign exactly.
        """
        assert self.weight is not None
        outputs = len(self.weight)
        flipped = np.zeros(outputs, np.bool_) if self.tail.scale is None else self.tail.scale < 0
        base = self._base[:, :outputs]

        def negative(count: NDArray[np.int64]) -> NDArray[np.bool_]:
            signed = base - 2 * np.where(flipped, self._bits - count, count)
            return np.asarray(reference.apply_tail(signed.astype(np.float32), self.tail) < 0)

        low, high = np.zeros(base.shape, np.int64), np.full(base.shape, self._bits + 1, np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            yes = negative(middle)
            low, high = np.where(yes | (low >= high), low, middle + 1), np.where(yes & (low < high), middle, high)
        return np.where(low > self._bits, NEVER, low).astype(np.uint64), flipped

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`."""
        super().write_to(output, residual)
        self._plan()

    def _plan(self) -> None:
        source, to = self.input_layout, self.output_layout
        assert isinstance(source, Bits)
        window = self.window
        positions = window.out[0] * window.out[1] if window else 0
        octets_a_row = 8 * to.words if isinstance(to, Bits) else 0
        self._targets = self._sources = np.arange(self._many_rows, dtype=np.int64) * octets_a_row
        if window:
            self._targets = window.targets(to) * (8 if isinstance(to, Bits) else 1)
            self._sources = window.targets(self.residual_layout)
        mode = PLANES if window else ROWS
        if self.tail.bits:
            mode = SIGN if self.tail.residual else THRESHOLD
        self._work = Work(
            window=int(window is not None), positions=positions, words=len(self._offset), outputs=to.channels,
            panels=self._panels, x_size=source.size, mode=mode, scaled=int(self.tail.scale is not None),
            clips=int(self.tail.low > -np.inf or self.tail.high < np.inf),
            residual=int(self.tail.residual), bottom=to.bottom if isinstance(to, Bits) else 0,
        )  # fmt: skip
        self._to, self._added = place(to), place(self.residual_layout)
        self._fill = to.fill if isinstance(to, Planes) else 0.0

    def _rows(self, rows: int) -> int:
        return self._many_rows if (self._work.positions if self.window else rows) >= self._many_rows else 1

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times panels of outputs times spans of positions."""
        positions = self._work.positions if self.window else rows
        groups = -(-positions // self._rows(rows))
        spans: int = -(-groups // SPAN)
        return int(spans * self._panels * (rows if self.window else 1))

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, words = (_NO_FLOATS, out) if self.tail.bits else (out, _NO_WORDS)
        added = _NO_FLOATS if residual is None else residual
        compute: Any = self._many if self._rows(rows) > 1 else self._one
        compute(
            x, floats, words, added, scratch, self._starts, self._offset, self._filters, self._masks,
            self._first_word, self._classes, self._targets, self._sources, self._flat_threshold, self._flat_base,
            self._scale, self._bias,
            self.tail.low, self.tail.high, self._fill, self._work, self._to, self._added, rows, first, last,
        )  # fmt: skip


def pack_convolution(weight: Floats, window: Window, tail: Tail, pad_sign: int, source: Bits) -> BinaryLayer:
    """A binary convolution, with any grouping."""
    outputs, _, kh, kw = weight.shape
    oh, ow = window.out
    plain = Planes.plain(outputs, oh, ow)
    return BinaryLayer(
        f"binary.conv{kh}x{kw}", "binary", source, Bits(outputs, oh, ow, pitch=ow) if tail.bits else plain,
        plain if tail.residual else None, numeric="exact", macs=weight.size * oh * ow,
        weight=weight, window=window, pad_sign=pad_sign, tail=tail,
    )  # fmt: skip


def pack_product(weight: Floats, tail: Tail) -> BinaryLayer:
    """A binary product: (outputs, k)."""
    outputs, k = weight.shape
    plain = Planes.plain(outputs)
    return BinaryLayer(
        "binary.product", "binary", Bits(k), Bits(outputs) if tail.bits else plain,
        plain if tail.residual else None, numeric="exact", macs=weight.size,
        weight=weight[:, :, None, None], tail=tail,
    )  # fmt: skip


def _place(
    filters: Floats, groups: int, group_outputs: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64] | None, Longs]:
    """Filters as words, where their groups' channels lie in a position's words.

    Parameters
    ----------
    filters : ±1, (whole panels of outputs, channels / groups, taps); outputs past the last are 0

    Returns
    -------
    words, masks : uint64, (panels, LANES, taps, words); no masks where every bit of every word counts for each filter
        of a panel, or is 0 in both the input and the filter
    first : the first of these words in a position, for each panel
    """
    rows, inner, taps = filters.shape
    panels = rows // LANES
    group = np.minimum(np.arange(rows) // group_outputs, groups - 1)
    begin = (group * inner).reshape(panels, LANES)
    first, last = begin[:, 0] // 64, (begin[:, -1] + inner - 1) // 64
    words = int((last - first).max()) + 1
    first = np.minimum(first, -(-groups * inner // 64) - words)
    bits = np.zeros((2, rows, taps, words * 64), np.uint8)
    columns = (begin.ravel() - np.repeat(first * 64, LANES))[:, None] + np.arange(inner)
    lane = np.arange(rows)[:, None]
    bits[0, lane, :, columns] = filters < 0
    bits[1, lane, :, columns] = 1
    packed = np.packbits(bits, axis=3, bitorder="little").view("<u8").astype(np.uint64)
    whole = packed.reshape(2, panels, LANES, taps, words)
    plain = groups == 1 or (inner % 64 == 0 and group_outputs % LANES == 0)
    return whole[0], None if plain else whole[1], first

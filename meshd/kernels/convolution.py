"""Float convolutions packed for `planes`: which outputs share a pattern, offsets, tiles, chunks."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.kernels.forms import Form, rates, storages, stored
from meshd.kernels.kernel import Bend, Flat, Kernel, Tail
from meshd.kernels.layout import Bits, Layout, OctetPlanes, Octets, Planes, Weights
from meshd.kernels.planes import (
    BITS,
    DIRECT,
    FETCHED,
    GROUP,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY,
    PLAIN,
    STAGED,
    Work,
    block_convolution,
)
from meshd.kernels.reference import Pads, Pair, output_size
from meshd.kernels.strips import place
from meshd.kernels.tiles import Tile, plane_tiles

CHUNK_BYTES = 192 * 1024
"""Weights that stay in L2 (256 KiB and up) while all positions pass by."""
PAGE_FLOATS = 1024
"""Planes a multiple of 4 KiB apart would share one set of the L1 cache."""
LINE_FLOATS = 16

BENDS = {"leaky": LEAKY, "hard_sigmoid": HARD_SIGMOID, "hard_swish": HARD_SWISH}
STRAIGHT = Bend("leaky", 1.0)

_NO_FLOATS, _NO_WORDS = np.zeros(1, np.float32), np.zeros(1, np.uint64)


@dataclass(frozen=True, slots=True)
class Window:
    """How a convolution moves over its input."""

    height: int
    width: int
    kernel: Pair
    strides: Pair
    pads: Pads
    dilations: Pair
    groups: int

    @property
    def out(self) -> Pair:
        """Rows and columns of the output."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.strides, self.dilations
        top, left, bottom, right = self.pads
        return (
            output_size(self.height, kh, sh, top, bottom, dh),
            output_size(self.width, kw, sw, left, right, dw),
        )

    def planes(self, channels: int, pitch: int = 0) -> Planes:
        """The layout with just the pads (and, by stride, phases) that this window reads."""
        (sh, sw), (top, left, bottom, right) = self.strides, self.pads
        rows = -(-(top + self.height + bottom) // sh)
        if self.strides == (1, 1):
            # NB with pads wider than the kernel, more columns come out than a shared pitch would hold.
            pitch = max(self.width + max(left, right), self.out[1], pitch)
            over = max(0, left + self.width + right - pitch)
        else:
            pitch, over = max(-(-(left + self.width + right) // sw), pitch), 0
        phase = rows * pitch + over
        plane = phase * sh * sw
        padded = (top, left, bottom, right) != (0, 0, 0, 0) or sh * sw > 1
        if padded or plane % PAGE_FLOATS == 0:
            plane = -(-plane // LINE_FLOATS) * LINE_FLOATS
            plane += LINE_FLOATS if plane % PAGE_FLOATS == 0 and plane > PAGE_FLOATS else 0
            phase = plane if sh * sw == 1 else phase
        return Planes(channels, self.height, self.width, top, left, pitch, phase, plane, self.strides)

    def reads(self, source: Planes) -> bool:
        """Whether a layout made for someone else has all the pads this window needs."""
        top, left, _, right = self.pads
        return (
            source.strides == self.strides
            and source.fill == 0
            and (source.height, source.width) == (self.height, self.width)
            and source.top >= top
            and source.left >= left
            and source.pitch >= self.out[1]
            and (source.strides != (1, 1) or source.pitch >= self.width + max(source.left, right))
            and (source.strides == (1, 1) or source.pitch * source.strides[1] >= source.left + self.width + right)
            and int(self.tap_offsets(source).max()) + self.positions(source.pitch) <= source.plane
        )

    def positions(self, pitch: int) -> int:
        """Flat positions from the first output to the last, garbage columns included."""
        oh, ow = self.out
        return (oh - 1) * pitch + ow

    def tap_offsets(self, source: Planes) -> NDArray[np.int64]:
        """(kh, kw): where tap (ky, kx) of output position 0 lies in a plane of `source`."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.strides, self.dilations
        u = (np.arange(kh) * dh + source.top - self.pads[0])[:, None]
        v = (np.arange(kw) * dw + source.left - self.pads[1])[None, :]
        return np.asarray((u % sh * sw + v % sw) * source.phase + u // sh * source.pitch + v // sw, np.int64)

    def starts(self, source: Bits | Octets, unit: int) -> NDArray[np.int64]:
        """Where the window of each output position begins, positions being `unit` elements."""
        (oh, ow), (sh, sw) = self.out, self.strides
        row = np.arange(oh)[:, None] * sh + source.top - self.pads[0]
        column = np.arange(ow)[None, :] * sw + source.left - self.pads[1]
        return np.asarray((row * source.pitch + column).ravel() * unit, np.int64)

    def taps(self, source: Bits | Octets, unit: int) -> NDArray[np.int64]:
        """(kh * kw,): how far each tap is from the window's beginning."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return np.asarray((np.arange(kh)[:, None] * dh * source.pitch + np.arange(kw) * dw).ravel() * unit, np.int64)

    def targets(self, to: Layout | None) -> NDArray[np.int64]:
        """Where output position (i, j) of channel 0 lies in a layout, in its elements; zeros for none."""
        row, column = np.divmod(np.arange(self.out[0] * self.out[1], dtype=np.int64), self.out[1])
        if to is None:
            return np.zeros(len(row), np.int64)
        assert not isinstance(to, OctetPlanes), "no window writes bytes in the graph's order"
        u, v = row + to.top, column + to.left
        if isinstance(to, Planes):
            sh, sw = to.strides
            return np.asarray((u % sh * sw + v % sw) * to.phase + u // sh * to.pitch + v // sw, np.int64)
        return np.asarray((u * to.pitch + v) * (to.words if isinstance(to, Bits) else to.stride), np.int64)


@dataclass(eq=False)
class PlaneConvolution(Kernel):
    """A float convolution on `planes.block_convolution`."""

    window: Window = None  # type: ignore[assignment]
    tail: Tail = field(default_factory=Tail)
    tile: Tile = None  # type: ignore[assignment]
    start: NDArray[np.int64] = None  # type: ignore[assignment]
    offset: NDArray[np.int32] = None  # type: ignore[assignment]
    value: Weights = None  # type: ignore[assignment]
    storage: str = "float32"

    def __post_init__(self) -> None:
        outputs = self.output_layout.channels
        blocks = len(self.start) - 1
        padded = np.zeros((2, blocks * self.tile.rows), np.float32)
        padded[0, :outputs] = 1 if self.tail.scale is None else self.tail.scale
        padded[1, :outputs] = 0 if self.tail.bias is None else self.tail.bias
        self._scale, self._bias = padded
        self._bend = self.tail.bend or STRAIGHT
        bytes_a_block = max(1, (self.value.nbytes + self.offset.nbytes) // blocks)
        step = GROUP // self.tile.rows
        self._chunk = max(1, CHUNK_BYTES // bytes_a_block // step) * step
        self._chunks = -(-blocks // self._chunk)
        self.scratch_size = 2 * GROUP * self.tile.lanes
        self.resident_bytes = sum(a.nbytes for a in (self.start, self.offset, self.value, padded))
        self._plan()

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """See `Kernel.write_to`."""
        super().write_to(output, residual)
        self._plan()

    def _plan(self) -> None:
        """Fix tiles, and the numbers of both tile widths, for the layouts as they are now."""
        source, to, added = self.input_layout, self.output_layout, self.residual_layout
        assert isinstance(source, Planes)
        (_, width), positions = self.window.out, self.window.positions(source.pitch)
        wide = positions // self.tile.lanes
        rest = positions - wide * self.tile.lanes
        if rest > self.tile.lanes - self.tile.narrow and wide:
            # One more wide tile, moved back, is cheaper than as many narrow ones.
            wide, rest = wide + 1, 0
        narrow = -(-rest // self.tile.narrow)
        self._positions_tiles = wide + narrow
        mode = STAGED
        if isinstance(to, Bits):
            mode = BITS
        elif (
            isinstance(to, Planes)
            and to.strides == (1, 1)
            and to.pitch == source.pitch
            and positions >= self.tile.narrow
        ):
            mode = PLAIN
        flat = isinstance(added, Planes) and added.strides == (1, 1) and added.pitch == source.pitch
        whole = to.channels % self.tile.rows == 0
        adds = 0 if added is None else DIRECT if flat and whole and positions >= self.tile.narrow else FETCHED
        inside = np.zeros(positions + self.tile.lanes, np.int32)
        inside[:positions] = np.where(np.arange(positions) % source.pitch < width, -1, 0)
        self._inside = inside
        self._fill = to.fill if isinstance(to, Planes) else 0.0
        work = Work(
            tiles=self._positions_tiles, wide=wide, positions=positions, width=width, pitch=source.pitch,
            outputs=to.channels, blocks=len(self.start) - 1, chunk=self._chunk, chunks=self._chunks, x_size=source.size,
            mode=mode, residual=adds, scaled=int(self.tail.scale is not None),
            bend=0 if self.tail.bend is None else BENDS[self.tail.bend.kind],
            clips=(self.tail.low > -np.inf) + 2 * (self.tail.high < np.inf), masked=int(width < source.pitch),
            out_bottom=to.bottom if isinstance(to, Bits) else 0,
        )  # fmt: skip
        self._numbers = np.array([*work, *place(to), *place(added)], np.int64)
        self._convolve: Any = block_convolution(self.tile.rows, self.tile.lanes, self.tile.narrow, self.storage)

    def tiles(self, rows: int) -> int:
        """See `Kernel.tiles`: images times chunks of outputs times tiles of positions."""
        return rows * self._chunks * self._positions_tiles

    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """See `Kernel.run`."""
        floats, words = (_NO_FLOATS, out) if self.tail.bits else (out, _NO_WORDS)
        added = _NO_FLOATS if residual is None else residual
        self._convolve(
            x, floats, words, added, scratch, self.start, self.offset, self.value, self._scale, self._bias,
            self._bend.a, self._bend.b, self.tail.low, self.tail.high, self._fill, self._inside, self._numbers,
            first, last,
        )  # fmt: skip


def pack(
    weight: Weights,
    window: Window,
    tail: Tail,
    pitch: int,
    source: Planes | None,
    tile: Tile | None = None,
    storage: str = "",
) -> PlaneConvolution:
    """Pack in the block, and in the storage, in which this weight takes least time here."""
    outputs, inner, kh, kw = weight.shape
    channels = inner * window.groups
    if tile is None:
        tile, storage = _best(weight, window.groups)
    storage = storage or storages(weight)[0]
    read = window.planes(channels, pitch)
    if source is not None and source.channels == channels and window.reads(source):
        read = source
    positions = window.positions(read.pitch)
    if positions < tile.narrow:
        read = replace(read, slack=max(read.slack, tile.narrow))
    blocks = -(-outputs // tile.rows)
    rows = np.zeros((blocks * tile.rows, inner * kh * kw), weight.dtype)
    rows[:outputs] = weight.reshape(outputs, -1)
    blocked = rows.reshape(blocks, tile.rows, -1)
    kept = blocked.any(1)
    block, k = np.nonzero(kept)
    group = block * tile.rows // (outputs // window.groups)
    channel = k // (kh * kw) + group * inner
    offset = channel * read.plane + window.tap_offsets(read).ravel()[k % (kh * kw)]
    share = len(k) * tile.rows / weight.size
    family = "sparse" if share < 0.75 else "dense"
    depthwise = inner == 1 and window.groups > 1
    oh, ow = window.out
    natural = Planes(outputs, oh, ow, 0, 0, read.pitch, oh * read.pitch, oh * read.pitch)
    return PlaneConvolution(
        f"{family}.{'depthwise' if depthwise else 'conv'}{kh}x{kw}"
        + (f".b{tile.rows}" if family == "sparse" else "")
        + (f".{storage}" if storage != "float32" else ""),
        family,
        read,
        Bits(outputs, oh, ow, pitch=ow) if tail.bits else natural,
        natural if tail.residual else None,
        numeric="fma",
        macs=len(k) * tile.rows * oh * ow,
        window=window,
        tail=tail,
        tile=tile,
        start=np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int64),
        offset=offset.astype(np.int32),
        value=stored(blocked.transpose(0, 2, 1)[block, k], storage),
        storage=storage,
    )


def _best(weight: Weights, groups: int) -> tuple[Tile, str]:
    outputs = weight.shape[0]
    nonzero = weight.reshape(outputs, -1) != 0
    known = rates()

    def cost(tile: Tile) -> float:
        blocks = -(-outputs // tile.rows)
        if groups > 1 and outputs // groups % tile.rows:
            return float("inf")
        padded = np.zeros((blocks * tile.rows, nonzero.shape[1]), bool)
        padded[:outputs] = nonzero
        return float(padded.reshape(blocks, tile.rows, -1).any(1).sum() * tile.rows)

    terms, ways = {tile: cost(tile) for tile in plane_tiles()}, storages(weight)
    return min(
        ((tile, storage) for tile in terms for storage in ways),
        key=lambda way: terms[way[0]] / known[f"conv.{Form(way[0].rows, way[1]).name}"],
    )

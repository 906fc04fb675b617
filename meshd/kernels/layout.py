"""How activations lie in memory: padded planes of floats, words of signs, quantised bytes.

A layout says where element (channel, row, column) of one image is inside a flat array; images of a batch follow each other
`size` elements apart. The kernels ask for the layout they read fastest, and write the layout the next one asks for.

Invariant: whoever writes a layout writes all of it: the elements, and `fill` into everything between them (the pads).
Invariant: `slack` elements after the last image may be read (their values never matter) and are never written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]
Weights = NDArray[Any]
"""float32, float16, or int8 (whole numbers, which a tail's scale makes real)."""

WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Planes:
    """float32, one padded plane a channel.

    Element (c, i, j), with u = i + top and v = j + left, lies at
    `c * plane + ((u % sh) * sw + v % sw) * phase + (u // sh) * pitch + v // sw`, where (sh, sw) = `strides`:
    a convolution of stride 2 reads four smaller planes with stride 1. `Planes.plain` is C-order NCHW.

    Rows may share their side pads: with `pitch = width + left` the right pad of a row is the left pad of the next.
    """

    channels: int
    height: int
    width: int
    top: int = 0
    left: int = 0
    pitch: int = 0
    """Elements from a row to the next, at least width."""
    phase: int = 0
    """Elements from one phase's plane to the next; equals `plane` where strides are (1, 1)."""
    plane: int = 0
    """Elements from a channel to the next."""
    strides: tuple[int, int] = (1, 1)
    fill: float = 0.0
    slack: int = 0

    dtype = np.dtype(np.float32)

    @classmethod
    def plain(cls, channels: int, height: int = 1, width: int = 1) -> "Planes":
        """C-order (channels, height, width) without pads; a row of a matrix is `plain(columns)`."""
        return cls(channels, height, width, 0, 0, width, height * width, height * width)

    @property
    def size(self) -> int:
        """Elements of one image."""
        return self.channels * self.plane

    @property
    def is_plain(self) -> bool:
        """Whether the flat array of a batch is C-order NCHW."""
        return self.strides == (1, 1) and self.pitch == self.width and self.plane == self.height * self.width

    def _views(self, flat: Floats, rows: int) -> Iterator[tuple[Floats, slice, slice]]:
        """For each phase: (its elements as a strided view, the image rows and columns they are)."""
        sh, sw = self.strides
        step = flat.itemsize
        for a in range(sh):
            for b in range(sw):
                i, j = (a - self.top) % sh, (b - self.left) % sw
                shape = (rows, self.channels, len(range(i, self.height, sh)), len(range(j, self.width, sw)))
                start = (a * sw + b) * self.phase + (i + self.top) // sh * self.pitch + (j + self.left) // sw
                if 0 in shape:
                    continue
                strides = (self.size * step, self.plane * step, self.pitch * step, step)
                view = np.lib.stride_tricks.as_strided(flat[start:], shape, strides)
                yield view, slice(i, None, sh), slice(j, None, sw)

    def empty(self, rows: int = 1) -> Floats:
        """A fresh array for `rows` images, slack included."""
        return np.zeros(rows * self.size + self.slack, np.float32)

    def load(self, flat: Floats, rows: int = 1) -> Floats:
        """The images as a fresh C-order (rows, channels, height, width) array."""
        out = np.empty((rows, self.channels, self.height, self.width), np.float32)
        for view, i, j in self._views(flat, rows):
            out[:, :, i, j] = view
        return out

    def store(self, flat: Floats, images: Floats) -> None:
        """Write (rows, channels, height, width) images, and the fill between their elements."""
        rows = len(images)
        if not self.is_plain:
            flat[: rows * self.size] = self.fill
        for view, i, j in self._views(flat, rows):
            view[...] = images[:, :, i, j]


@dataclass(frozen=True, slots=True)
class Bits:
    """uint64 words of signs along channels: bit 1 is negative, bit 0 is zero or positive, padding bits 0.

    Channel c of position (i, j) is bit `c % 64` of word `((i + top) * pitch + j + left) * words + c // 64`. Pads are words
    of 0, that is +1; a layer that pads with 0 corrects for it.
    """

    channels: int
    height: int = 1
    width: int = 1
    top: int = 0
    left: int = 0
    bottom: int = 0
    pitch: int = 1
    """Positions from a row to the next."""
    slack: int = 0

    dtype = np.dtype(np.uint64)

    @property
    def words(self) -> int:
        """Words of one position."""
        return -(-self.channels // WORD_BITS)

    @property
    def size(self) -> int:
        """Words of one image."""
        return (self.top + self.height + self.bottom) * self.pitch * self.words

    def empty(self, rows: int = 1) -> Words:
        """A fresh array for `rows` images, slack included."""
        return np.zeros(rows * self.size + self.slack, np.uint64)

    def _view(self, flat: Words, rows: int) -> Words:
        whole = flat[: rows * self.size].reshape(rows, -1, self.pitch, self.words)
        return whole[:, self.top : self.top + self.height, self.left : self.left + self.width]

    def load(self, flat: Words, rows: int = 1) -> Floats:
        """The signs as a fresh C-order (rows, channels, height, width) array of -1 and 1."""
        octets = np.ascontiguousarray(self._view(flat, rows)).astype("<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, bitorder="little", count=self.channels)
        return np.ascontiguousarray(np.moveaxis(1 - 2 * bits.astype(np.float32), -1, 1))

    def store(self, flat: Words, images: Floats) -> None:
        """Write the signs of (rows, channels, height, width) images; pads and padding bits become 0."""
        rows = len(images)
        bits = np.zeros((rows, self.height, self.width, self.words * WORD_BITS), np.uint8)
        bits[..., : self.channels] = np.moveaxis(images < 0, 1, -1)
        flat[: rows * self.size] = 0
        self._view(flat, rows)[...] = np.packbits(bits, axis=-1, bitorder="little").view("<u8")


@dataclass(frozen=True, slots=True)
class Octets:
    """Quantised values, one byte each, channels side by side: the real value is `(q - zero_point) * scale`.

    Channel c of position (i, j) is byte `((i + top) * pitch + j + left) * stride + c`, as `q` or, where `signed`, `q + 128`: the
    bytes themselves are always unsigned. `stride` is channels rounded up to 4; pads, and bytes past the last channel, are the
    zero point. Storing rounds half to even and saturates, as ONNX QuantizeLinear does.
    """

    channels: int
    height: int = 1
    width: int = 1
    top: int = 0
    left: int = 0
    bottom: int = 0
    pitch: int = 1
    """Positions from a row to the next."""
    scale: float = field(default=1.0, compare=False)
    """What one step is worth: no matter of where bytes lie, so layouts that differ only here are equal."""
    zero_point: int = 0
    signed: bool = False
    slack: int = 0

    dtype = np.dtype(np.uint8)

    @property
    def stride(self) -> int:
        """Bytes of one position."""
        return -(-self.channels // 4) * 4

    @property
    def size(self) -> int:
        """Bytes of one image."""
        return (self.top + self.height + self.bottom) * self.pitch * self.stride

    @property
    def zero(self) -> int:
        """The byte that stands for 0.0."""
        return self.zero_point + 128 * self.signed

    @property
    def is_plain(self) -> bool:
        """Whether the flat array of a batch is C-order bytes of the graph: rows of a matrix, unsigned, whole fours of them."""
        alone = (self.height, self.width, self.top, self.left, self.bottom, self.pitch) == (1, 1, 0, 0, 0, 1)
        return alone and not self.signed and self.channels % 4 == 0

    def empty(self, rows: int = 1) -> NDArray[np.uint8]:
        """A fresh array for `rows` images, slack included."""
        return np.zeros(rows * self.size + self.slack, np.uint8)

    def _view(self, flat: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
        whole = flat[: rows * self.size].reshape(rows, -1, self.pitch, self.stride)
        return whole[:, self.top : self.top + self.height, self.left : self.left + self.width]

    def load(self, flat: NDArray[np.uint8], rows: int = 1) -> Floats:
        """The real values as a fresh C-order (rows, channels, height, width) array."""
        seen = np.moveaxis(self._view(flat, rows)[..., : self.channels], -1, 1)
        return np.ascontiguousarray((seen.astype(np.int32) - self.zero).astype(np.float32) * np.float32(self.scale))

    def store(self, flat: NDArray[np.uint8], images: Floats) -> None:
        """Quantise (rows, channels, height, width) images; everything between them becomes the zero point."""
        rows = len(images)
        flat[: rows * self.size] = self.zero
        quotient = np.rint(np.nan_to_num(images / np.float32(self.scale), posinf=np.inf, neginf=-np.inf))
        octets = np.clip(quotient, -self.zero, 255 - self.zero).astype(np.int32) + self.zero
        self._view(flat, rows)[..., : self.channels] = np.moveaxis(octets, 1, -1)


@dataclass(frozen=True, slots=True)
class OctetPlanes:
    """Quantised values as a graph holds them: C order (channels, height, width), uint8 or int8; see `Octets`."""

    channels: int
    height: int = 1
    width: int = 1
    scale: float = field(default=1.0, compare=False)
    zero_point: int = 0
    signed: bool = False
    slack: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type."""
        return np.dtype(np.int8 if self.signed else np.uint8)

    @property
    def size(self) -> int:
        """Bytes of one image."""
        return self.channels * self.height * self.width

    def empty(self, rows: int = 1) -> NDArray[Any]:
        """A fresh array for `rows` images."""
        return np.zeros(rows * self.size + self.slack, self.dtype)

    def load(self, flat: NDArray[Any], rows: int = 1) -> Floats:
        """The real values as a fresh (rows, channels, height, width) array."""
        whole = flat[: rows * self.size].reshape(rows, self.channels, self.height, self.width).astype(np.int32)
        return (whole - self.zero_point).astype(np.float32) * np.float32(self.scale)

    def store(self, flat: NDArray[Any], images: Floats) -> None:
        """Quantise (rows, channels, height, width) images."""
        info = np.iinfo(self.dtype)
        steps = np.rint(np.nan_to_num(images / np.float32(self.scale), posinf=np.inf, neginf=-np.inf))
        steps = np.clip(steps, info.min - self.zero_point, info.max - self.zero_point)
        flat[: len(images) * self.size] = (steps.astype(np.int32) + self.zero_point).astype(self.dtype).ravel()


Layout = Planes | Bits | Octets | OctetPlanes


def check_flat(name: str, array: NDArray[np.generic], layout: Layout, rows: int) -> None:
    """Raise MisuseError unless `array` can hold `rows` images of `layout`: flat, C order, right dtype, long enough."""
    least = rows * layout.size + layout.slack
    if array.dtype != layout.dtype or array.ndim != 1 or not array.flags.c_contiguous or array.size < least:
        raise MisuseError(
            f"{name}: {array.dtype} of shape {array.shape} where a flat contiguous {layout.dtype} array of at least "
            f"{least} elements is needed ({rows} images of {layout.size} and {layout.slack} of slack)"
        )

"""What every packed kernel is, whoever computes it.

A kernel is one weighted operation with its weights packed for this machine and its tail fused. It is immutable after
`write_to`, and safe to call from several threads at once with different `scratch`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meshd.errors import MisuseError
from meshd.kernels.layout import Bits, Floats, Layout, Planes, check_flat

Flat = NDArray[Any]
INFINITY = float("inf")


class Bend(NamedTuple):
    """A function of one element, between residual and clip; every step rounded to float32 by itself.

    `hard_sigmoid`: t = v * a + b, then 0 where t < 0, 1 where t > 1; `hard_swish`: v times that; `leaky`: v where v >= v * a,
    else v * a. NaN stays NaN.
    """

    kind: Literal["hard_sigmoid", "hard_swish", "leaky"]
    a: float
    b: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """What is done to an accumulator on its way to memory, in this order, each step rounded to float32 by itself.

    `v = acc * scale[o]` if there is a scale; `v = v + bias[o]` if there is a bias; `v = v + residual` if there is one;
    `v = bend(v)` if there is one (only float convolutions and int8 layers have it); `v = low where v < low, high where
    v > high` (NaN stays NaN). With `bits`, the sign of v is written instead, one bit.
    `reference.apply_tail` does the same to an ordinary array, bit for bit: use it where a tail could not be fused.

    NB a sign has two values here: v < 0 is bit 1, everything else (0, -0.0, NaN too) is +1, unlike ONNX Sign at 0.
    """

    scale: Floats | None = None
    bias: Floats | None = None
    residual: bool = False
    low: float = -INFINITY
    high: float = INFINITY
    bits: bool = False
    bend: Bend | None = None

    def checked(self, outputs: int) -> "Tail":
        """Raise MisuseError unless scale and bias are (outputs,); returns self with float32 C-order arrays."""
        for name, value in (("tail.scale", self.scale), ("tail.bias", self.bias)):
            if value is not None and value.shape != (outputs,):
                raise MisuseError(f"{name} has shape {value.shape}; the layer has {outputs} outputs, so ({outputs},)")
            if value is not None and not np.isfinite(value).all():
                raise MisuseError(f"{name} holds NaN or infinity")
        if not self.low <= self.high:
            raise MisuseError(f"tail.low {self.low} and tail.high {self.high}: low must not be above high")
        if self.bits and self.high < 0:
            raise MisuseError(
                f"tail.high {self.high} with tail.bits: every sign would be negative; fold the layer away"
            )
        if self.bend is not None and not (np.isfinite(self.bend.a) and np.isfinite(self.bend.b)):
            raise MisuseError(f"tail.bend {self.bend} is not finite")
        plain = [None if v is None else np.ascontiguousarray(v, np.float32) for v in (self.scale, self.bias)]
        return Tail(plain[0], plain[1], self.residual, self.low, self.high, self.bits, self.bend)


@dataclass(eq=False)
class Kernel(ABC):
    """One operation, packed.

    Attributes
    ----------
    name : `family.operation.variant`, e.g. `sparse.conv3x3.b4`
    family : `binary`, `sparse`, `int8`, `dense` or `other` (pooling, conversions)
    numeric : `fma` (ascending k, one fused multiply-add a term: the same bits on any machine and tiling), `exact`
        (integers), or `numpy` (the fallback: another numeric class)
    input_layout, output_layout : what `run` reads and writes; see `layout`
    residual_layout : of the residual, where the tail has one
    macs : multiply-accumulates really done for one image (or row)
    resident_bytes : packed weights and tables
    scratch_size : float32 elements a call of `run` needs for itself
    """

    name: str
    family: str
    input_layout: Layout
    output_layout: Layout
    residual_layout: Layout | None = None
    numeric: str = "numpy"
    macs: int = 0
    resident_bytes: int = 0
    scratch_size: int = 0
    writes_any: bool = field(default=True, repr=False)
    """Whether `write_to` takes any layout of the same kind and shape (else only the kernel's own)."""
    also_writes: tuple[type, ...] = field(default=(), repr=False)
    """Kinds of output layout beside its own: an int8 kernel writes `Planes` or `Octets`."""

    def write_to(self, output: Layout, residual: Layout | None = None) -> None:
        """Set the layouts of output and residual; once, before the first run.

        Raises
        ------
        MisuseError
            If the layout is of another kind or shape than what the kernel writes.
        """
        for name, given, own in (
            ("output", output, self.output_layout),
            ("residual", residual, self.residual_layout),
        ):
            if given is None or own is None:
                continue
            other = name == "output" and type(given) in self.also_writes
            if (type(given) is not type(own) and not other) or _shape(given) != _shape(own):
                raise MisuseError(f"{name} layout {given} does not fit {self.name}, which writes {own}")
            if not self.writes_any and not other and given != own:
                raise MisuseError(f"{self.name} writes only {own}; convert to {given} with registry.convert")
        self.output_layout = output
        if residual is not None:
            self.residual_layout = residual

    def tiles(self, rows: int) -> int:
        """Into how many pieces the work for `rows` images (or matrix rows) can be cut; at least 1."""
        return rows

    def check(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int) -> None:
        """Raise MisuseError naming the argument that `run` could not take. Call at compile, not per request."""
        check_flat("x", x, self.input_layout, rows)
        check_flat("out", out, self.output_layout, rows)
        if self.residual_layout is not None:
            if residual is None:
                raise MisuseError(f"residual: {self.name} has a residual in its tail and got None")
            check_flat("residual", residual, self.residual_layout, rows)
        if scratch.dtype != np.float32 or scratch.ndim != 1 or scratch.size < self.scratch_size:
            raise MisuseError(f"scratch: {scratch.dtype} {scratch.shape}; needs flat float32 of {self.scratch_size}")

    @abstractmethod
    def run(self, x: Flat, out: Flat, residual: Flat | None, scratch: Flat, rows: int, first: int, last: int) -> None:
        """Compute tiles `[first, last)` of `tiles(rows)`.

        Parameters
        ----------
        x, out, residual : flat C-order writable arrays of the layouts' dtypes, `rows * layout.size + layout.slack` elements;
            `out` overlaps neither of the others
        scratch : float32, at least `scratch_size` elements, not shared with a call that runs at the same time

        Notes
        -----
        Unchecked (see `check`). Different tiles may run at the same time. All tiles together write all of the output.
        """


def _shape(layout: Layout) -> tuple[int, int, int]:
    return layout.channels, layout.height, layout.width


__all__ = ["Bend", "Bits", "Flat", "Kernel", "Planes", "Tail"]

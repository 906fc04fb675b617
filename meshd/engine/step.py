"""A step: one thing the engine does, on forms of tensors.

A *form* is how a tensor lies in the arena: plain (C order, any type), or a kernel's layout. A tensor may have several at
once, where its readers want different ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from meshd.engine.operators.call import Bind
from meshd.engine.threads import crew
from meshd.kernels.kernel import Kernel
from meshd.kernels.layout import Layout, OctetPlanes, Octets, Planes
from meshd.model.check import tensor_bytes
from meshd.model.graph import TensorType

Array = NDArray[Any]
LINE_FLOATS = 16
"""Scratch of two threads never shares a cache line."""


@dataclass(frozen=True, slots=True)
class Form:
    """A tensor in one layout; `layout` None is plain. `rows` counts images (or rows) of the layout in one item."""

    tensor: str
    layout: Layout | None = None
    rows: int = 1


class Places(Protocol):
    """Where forms of some items lie in one arena."""

    count: int
    """Items: one, but for kernels."""

    def shaped(self, form: Form) -> Array:
        """A plain form as an array of the tensor's shape."""

    def flat(self, form: Form) -> Array:
        """Any form as a flat array, its slack included."""


def form_of(tensor: str, layout: Layout, rows: int = 1) -> Form:
    """The form of a kernel's layout: plain planes are plain, and so are bytes in the graph's order."""
    if isinstance(layout, OctetPlanes) or (isinstance(layout, Planes | Octets) and layout.is_plain):
        return Form(tensor)
    return Form(tensor, layout, rows)


def plain_layout(layout: Layout) -> Layout:
    """The plain layout of the same shape: of floats, or of bytes where it is of bytes."""
    if isinstance(layout, OctetPlanes) or (isinstance(layout, Octets) and layout.is_plain):
        return layout
    shape = (layout.channels, layout.height, layout.width)
    if isinstance(layout, Octets):
        return OctetPlanes(*shape, layout.scale, layout.zero_point, layout.signed)
    return Planes.plain(*shape)


def form_bytes(form: Form, t: TensorType, slack: int = 0) -> int:
    """Bytes of a form of one item; `slack` in elements of a plain form."""
    if form.layout is None:
        return tensor_bytes(t) + slack * np.dtype(t.dtype).itemsize
    elements = form.rows * form.layout.size + form.layout.slack
    return elements * form.layout.dtype.itemsize


@dataclass(slots=True)
class Step:
    """What is common to all steps. `layer` is the layer of the graph it belongs to."""

    name: str
    layer: int
    reads: list[Form]
    writes: list[Form]
    family: str = "memory"
    resident_bytes: int = 0
    macs: int = 0
    """Multiply-accumulates really done for one item."""
    scratch_size: int = 0
    """float32 elements of scratch."""
    in_place: bool = False
    """Whether the first output may lie where the first input did."""
    alias: bool = False
    """The output is another name for the input's memory."""

    def bind(self, places: Places, scratch: Array) -> Callable[[], Any] | None:
        """What computes it in one arena; None if there is nothing to do."""
        raise NotImplementedError


@dataclass(slots=True)
class Rename(Step):
    """Reshape: the same plain memory under another name."""

    def bind(self, places: Places, scratch: Array) -> Callable[[], Any] | None:
        return None


@dataclass(slots=True)
class ArrayStep(Step):
    """A row of the engine's table. `operands` are forms or constants (or None), in the operator's order."""

    function: Bind | None = None
    operands: Sequence[Form | Array | None] = ()
    outputs: Sequence[Form | None] = ()

    def bind(self, places: Places, scratch: Array) -> Callable[[], Any] | None:
        assert self.function is not None
        arrays = [places.shaped(o) if isinstance(o, Form) else o for o in self.operands]
        return self.function(arrays, [None if o is None else places.shaped(o) for o in self.outputs])  # type: ignore[misc]


@dataclass(slots=True)
class PlaneStep(Step):
    """A row of the engine's table that makes zero of zeros, so that it may run on planes with their pads: in whatever layout
    the next kernel reads. Operands are the output's size, or one value a channel (`each`); or the channels of several, joined.
    """

    function: Bind | None = None
    operands: Sequence[str | Array] = ()
    """Tensors by name, and constants, one value a channel or one in all."""
    channels: Sequence[int] = ()
    """Of each tensor among the operands; 0 for one value a channel."""
    out: str = ""

    def forms(self, out: Form) -> list[Form]:
        """Forms of the tensors it reads, where it writes `out`."""
        names = [o for o in self.operands if isinstance(o, str)]
        made = []
        for name, count in zip(names, self.channels, strict=True):
            joined = out.layout is not None and isinstance(out.layout, Planes) and count
            made.append(Form(name, replace(out.layout, channels=count)) if joined else Form(name))  # type: ignore[type-var]
        return made

    def bind(self, places: Places, scratch: Array) -> Callable[[], Any] | None:
        assert self.function is not None
        target, layout = self.writes[0], self.writes[0].layout
        reads, counts = iter(self.reads), iter(self.channels)

        def sheet(form: Form, count: int) -> Array:
            if layout is None or not count:
                return places.shaped(form).reshape(count or -1, -1 if count else 1)
            assert isinstance(form.layout, Planes)
            return places.flat(form)[: form.layout.size].reshape(count, form.layout.plane)

        ins = [sheet(next(reads), next(counts)) if isinstance(o, str) else o for o in self.operands]
        total = layout.channels if layout is not None else places.shaped(target).shape[1]
        return self.function(ins, [sheet(target, total)])


@dataclass(slots=True)
class KernelStep(Step):
    """A packed kernel. `x`, `out` and `residual` name tensors; their forms are settled by the scheduler."""

    kernel: Kernel = field(default=None)  # type: ignore[assignment]
    x: str = ""
    out: str = ""
    residual: str = ""
    rows: int = 1
    adapt: Callable[[Layout], Kernel] | None = None
    """Makes the same kernel to read another layout, if it can (else one that reads what this one does)."""
    adapts: tuple[type, ...] = ()
    """Kinds of layout that `adapt` takes beside the kernel's own."""
    ways: int = 1
    """Parts that its tiles are dealt in, where it is long enough to be split over idle cores."""

    def bind(self, places: Places, scratch: Array) -> Callable[[], Any] | None:
        kernel, rows = self.kernel, self.rows * places.count
        x, out = places.flat(self.reads[0]), places.flat(self.writes[0])
        residual = places.flat(self.reads[1]) if self.residual else None
        tiles = kernel.tiles(rows)
        ways = min(self.ways, tiles)
        each = scratch.size // max(self.ways, 1) // LINE_FLOATS * LINE_FLOATS
        own = [scratch[i * each : (i + 1) * each] for i in range(ways)] if ways > 1 else [scratch]
        for part in own:
            kernel.check(x, out, residual, part, rows)
        if ways == 1:
            return lambda: kernel.run(x, out, residual, scratch, rows, 0, tiles)
        edges = [i * tiles // ways for i in range(ways + 1)]

        def part_of(i: int) -> None:
            kernel.run(x, out, residual, own[i], rows, edges[i], edges[i + 1])

        return lambda: crew().share(part_of, ways)

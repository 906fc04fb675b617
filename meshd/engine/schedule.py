"""Which form each tensor takes, and where it lies: the arena, planned once at compile.

Whoever writes a tensor writes it the way its first kernel reads it; for a reader that wants another form a conversion is put
before it. Then each form gets a place: large ones first, each at the lowest offset free while it lives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from meshd.engine.step import LINE_FLOATS, Form, KernelStep, PlaneStep, Step, form_bytes, form_of, plain_layout
from meshd.kernels import registry
from meshd.kernels.layout import Layout, OctetPlanes, Octets, Planes
from meshd.model.graph import TensorType

ALIGNMENT = 64

BLOCKS_BY_SIZE_MAX = 2000

PACKINGS_MAX = 64
PACKING_FITS_MAX = 2_000_000
"""Comparisons of two blocks: about a second."""

STAGED_ELEMENTS_MAX = 2048
"""Outputs so small may be stored element by element: cheaper than one more step."""


@dataclass(slots=True)
class Schedule:
    """Steps in order, with all forms settled and placed."""

    steps: list[Step]
    offsets: dict[Form, int]
    slack: dict[str, int]
    arena_bytes: int
    live_bytes: int
    """The greatest sum of forms alive at once: no plan can do with less."""
    scratch_size: int

    @property
    def scratch_floats(self) -> int:
        """Scratch of one arena: a share for each part of the step split most."""
        each = -(-self.scratch_size // LINE_FLOATS) * LINE_FLOATS
        return each * max((s.ways for s in self.steps if isinstance(s, KernelStep)), default=1)


@dataclass(slots=True)
class _Plan:
    types: Mapping[str, TensorType]
    written: dict[str, Form] = field(default_factory=dict)
    slack: dict[str, int] = field(default_factory=dict)


def schedule(
    steps: list[Step], types: Mapping[str, TensorType], inputs: Iterable[str], outputs: Iterable[str]
) -> Schedule:
    """Settle forms, insert conversions, plan the arena. Inputs and outputs of the segment are plain."""
    plan = _Plan(types)
    outputs = list(outputs)
    _choose(plan, steps, inputs, outputs)
    ordered = _convert(plan, steps, outputs)
    return _place(plan, ordered, inputs, outputs)


def _choose(plan: _Plan, steps: list[Step], inputs: Iterable[str], outputs: list[str]) -> None:
    """The form in which each tensor is written: readers first, so that a `PlaneStep` passes on what its own readers want."""
    wanted: dict[str, list[Form]] = {n: [Form(n)] for n in outputs}
    for step in reversed(steps):
        if isinstance(step, KernelStep):
            layout = step.kernel.input_layout
            form = form_of(step.x, layout, step.rows)
            if form.layout is None:
                plan.slack[step.x] = max(plan.slack.get(step.x, 0), layout.slack)
            plan.written[step.out] = _written(step, wanted.get(step.out, []))
            reads = [form]
        elif isinstance(step, PlaneStep):
            first = next(iter(wanted.get(step.out, [])), Form(step.out))
            plan.written[step.out] = first if _is_sheet(first) else Form(step.out)
            reads = step.forms(plan.written[step.out])
        else:
            plan.written.update((f.tensor, f) for f in step.writes)
            reads = step.reads
        pools = isinstance(step, KernelStep) and step.family == "memory" and step.adapt is not None
        for form in reads:
            # Pooling reads what there is: other readers go before it.
            mine = wanted.setdefault(form.tensor, [])
            mine.insert(len(mine) if pools else 0, form)
        if isinstance(step, KernelStep) and step.residual and step.kernel.residual_layout is not None:
            wanted.setdefault(step.residual, []).append(form_of(step.residual, step.kernel.residual_layout, step.rows))
    plan.written.update((n, Form(n)) for n in inputs)


def _written(step: KernelStep, wanted: list[Form]) -> Form:
    """The first form wanted that the kernel can write, else its own."""
    own = step.kernel.output_layout
    if step.kernel.writes_any:
        for form in wanted:
            if _writes(own, step.rows, form, step.kernel.also_writes) and _writes_fast(step, form):
                # What a byte is worth is for who writes it to say: the reader may see it otherwise.
                scaled = isinstance(form.layout, Octets) and isinstance(own, Octets | OctetPlanes)
                return replace(form, layout=replace(form.layout, scale=own.scale)) if scaled else form  # type: ignore
    return form_of(step.out, own, step.rows)


def _writes_fast(step: KernelStep, form: Form) -> bool:
    """Whether the kernel is better off writing this form than its own, with a conversion after it.

    NB a convolution over planes stores rows of another pitch, or phases, element by element: 20 ns each where a copy takes 1.
    """
    read, write = step.kernel.input_layout, form.layout or plain_layout(step.kernel.output_layout)
    if step.family == "memory" or not isinstance(read, Planes) or not isinstance(write, Planes):
        return True
    return write.strides == (1, 1) and (
        write.pitch == read.pitch or write.size <= STAGED_ELEMENTS_MAX or write.height == 1
    )


def _is_sheet(form: Form) -> bool:
    """Planes whose pads are zero: what makes zero of zeros may run over all of them."""
    return isinstance(form.layout, Planes) and form.layout.fill == 0.0 and form.rows == 1


def _writes(own: Layout, rows: int, form: Form, also: tuple[type, ...] = ()) -> bool:
    """Whether a kernel that writes `own`, and kinds of layout in `also`, can write this form."""
    if form.layout is None:
        return isinstance(own, Planes | OctetPlanes) or (isinstance(own, Octets) and own.is_plain)
    same = (form.layout.channels, form.layout.height, form.layout.width) == (own.channels, own.height, own.width)
    fits = type(form.layout) is type(own) or (isinstance(own, Octets | OctetPlanes) and type(form.layout) in also)
    return fits and same and form.rows == rows and _zero(form.layout) == _zero(own)


def _zero(layout: Layout) -> tuple[int, bool] | None:
    """What stands for 0.0 in bytes, and in their pads."""
    return (layout.zero_point, layout.signed) if isinstance(layout, Octets | OctetPlanes) else None


def _convert(plan: _Plan, steps: list[Step], outputs: list[str]) -> list[Step]:
    """Settle what kernels read and write, and put conversions where forms differ."""
    there: set[Form] = set(plan.written.values())
    made: set[Form] = set()
    ordered: list[Step] = []

    def need(form: Form, layer: int) -> Form:
        if form in there or form in made:
            return form
        source = plan.written[form.tensor]
        if source.layout is not None and form.layout is not None and not _alike(source, form):
            source = need(Form(form.tensor), layer)
        made.add(form)
        ordered.append(_conversion(source, form, layer))
        return form

    for step in steps:
        if isinstance(step, KernelStep):
            _adapt(plan, step)
            reads = [need(form_of(step.x, step.kernel.input_layout, step.rows), step.layer)]
            out = plan.written[step.out]
            residual: Layout | None = None
            if step.residual:
                form = plan.written[step.residual]
                own = step.kernel.residual_layout
                assert own is not None, "a tail with a residual has its layout"
                if not (_writes(own, step.rows, form) and _writes_fast(step, form)):
                    form = need(form_of(step.residual, own, step.rows), step.layer)
                residual = form.layout or plain_layout(own)
                if isinstance(residual, Octets) and isinstance(own, Octets):
                    residual = replace(residual, scale=own.scale)
                reads.append(form)
            step.kernel.write_to(out.layout or plain_layout(step.kernel.output_layout), residual)
            step.reads, step.writes = reads, [out]
        elif isinstance(step, PlaneStep):
            out = plan.written[step.out]
            step.reads, step.writes = [need(f, step.layer) for f in step.forms(out)], [out]
        else:
            for form in step.reads:
                need(form, step.layer)
        ordered.append(step)
    for name in outputs:
        need(Form(name), steps[-1].layer if steps else 0)
    return ordered


def _adapt(plan: _Plan, step: KernelStep) -> None:
    """Let a kernel read the form that is there, where it can."""
    form = plan.written[step.x]
    if step.adapt is None or form == form_of(step.x, step.kernel.input_layout, step.rows):
        return
    layout = form.layout or plain_layout(step.kernel.input_layout)
    if form.layout is not None and form.rows != step.rows:
        return
    if type(layout) not in {type(step.kernel.input_layout), *step.adapts}:
        return
    pooling, now = step.family == "memory", step.kernel.input_layout
    if not pooling and isinstance(now, Planes) and isinstance(layout, Planes) and layout.pitch != now.pitch:
        return  # What it writes was chosen for its own pitch.
    other = step.adapt(layout)
    if form_of(step.x, other.input_layout, step.rows) == form:
        step.kernel = other


def _alike(a: Form, b: Form) -> bool:
    found = [(f.layout, f.rows) for f in (a, b) if f.layout is not None]
    return len({(x.channels, x.height, x.width, rows, _zero(x)) for x, rows in found}) == 1


def _conversion(source: Form, target: Form, layer: int) -> Step:
    """A step that copies one form of a tensor to another."""
    shape = target.layout or source.layout
    assert shape is not None, "two plain forms are one"
    rows = target.rows if target.layout is not None else source.rows
    kernel = registry.convert(source.layout or plain_layout(shape), target.layout or plain_layout(shape))
    return KernelStep(
        f"{source.tensor} as {'plain' if target.layout is None else type(target.layout).__name__.lower()}",
        layer,
        [source],
        [target],
        scratch_size=kernel.scratch_size,
        kernel=kernel,
        x=source.tensor,
        out=source.tensor,
        rows=rows,
    )


@dataclass(slots=True)
class _Block:
    """A piece of the arena: forms that share it (aliases), its size, and from when to when it lives."""

    size: int
    first: int
    last: int
    offset: int = 0


def _place(plan: _Plan, steps: list[Step], inputs: Iterable[str], outputs: list[str]) -> Schedule:
    blocks: dict[Form, _Block] = {}
    last_read: dict[Form, int] = {}
    for i, step in enumerate(steps):
        for form in step.reads:
            last_read[form] = i
    last_read.update((Form(n), len(steps)) for n in outputs)

    def new(form: Form, at: int) -> None:
        size = form_bytes(form, plan.types[form.tensor], plan.slack.get(form.tensor, 0))
        blocks[form] = _Block(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT, at, max(at, last_read.get(form, at)))

    for name in inputs:
        new(Form(name), -1)
    for i, step in enumerate(steps):
        source = step.reads[0] if step.reads else None
        for k, form in enumerate(step.writes):
            if (
                k == 0
                and source is not None
                and (step.alias or _may_overwrite(step, form, blocks[source], last_read, i))
            ):
                block = blocks[source]
                block.last = max(block.last, last_read.get(form, i))
                block.size = max(block.size, _rounded(plan, form))
                blocks[form] = block
            else:
                new(form, i)
    unique = list({id(b): b for b in blocks.values()}.values())
    live = _live(unique, len(steps))
    arena = _pack(unique, live)
    return Schedule(
        steps,
        {form: block.offset for form, block in blocks.items()},
        plan.slack,
        arena,
        live,
        max((s.scratch_size for s in steps), default=0),
    )


def _rounded(plan: _Plan, form: Form) -> int:
    size = form_bytes(form, plan.types[form.tensor], plan.slack.get(form.tensor, 0))
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


def _may_overwrite(step: Step, form: Form, block: _Block, last_read: Mapping[Form, int], i: int) -> bool:
    """Whether the output may take the place of an input that dies here, however many names its memory has."""
    alike = isinstance(step, PlaneStep) or form.layout is None
    return step.in_place and alike and block.last == i and form.layout == step.reads[0].layout


def _pack(blocks: list[_Block], least: int) -> int:
    """First fit, large ones first; then whichever block sticks out goes first, again and again, and the best is kept.

    Blocks alive at the same time never overlap. `least` is what no packing can beat. Where comparing all with all would take
    long, in the order they are born.
    """
    if len(blocks) > BLOCKS_BY_SIZE_MAX:
        return _pack_by_birth(blocks)
    order = sorted(blocks, key=lambda b: (-b.size, b.first))
    best, offsets = 0, [0] * len(blocks)
    for _ in range(max(1, min(PACKINGS_MAX, PACKING_FITS_MAX // max(1, len(blocks) ** 2)))):
        _pack_in(order)
        size = max((b.offset + b.size for b in blocks), default=0)
        if not best or size < best:
            best, offsets = size, [b.offset for b in blocks]
        if size <= least:
            break
        out = next(i for i, b in enumerate(order) if b.offset + b.size == size)
        order.insert(0, order.pop(out))
    for block, offset in zip(blocks, offsets, strict=True):
        block.offset = offset
    return best


def _pack_in(blocks: list[_Block]) -> None:
    placed: list[_Block] = []
    for block in blocks:
        _fit(block, [p for p in placed if p.first <= block.last and block.first <= p.last])
        placed.append(block)


def _pack_by_birth(blocks: list[_Block]) -> int:
    alive: list[_Block] = []
    for block in sorted(blocks, key=lambda b: (b.first, -b.size)):
        alive = [b for b in alive if b.last >= block.first]
        _fit(block, alive)
        alive.append(block)
    return max(b.offset + b.size for b in blocks)


def _fit(block: _Block, others: list[_Block]) -> None:
    """Put the block at the lowest offset that is free among the others."""
    at = 0
    for other in sorted(others, key=lambda b: b.offset):
        if other.offset - at >= block.size:
            break
        at = max(at, other.offset + other.size)
    block.offset = at


def _live(blocks: list[_Block], steps: int) -> int:
    change = np.zeros(steps + 3, np.int64)
    for block in blocks:
        change[block.first + 1] += block.size
        change[block.last + 2] -= block.size
    return int(np.cumsum(change).max(initial=0))

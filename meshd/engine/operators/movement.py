"""What moves elements. Views where a view will do, one copy where not.

Reshape is missing on purpose: the compiler makes it another name for the same memory.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed
from meshd.engine.operators.resize import resize


def _copied(view: Callable[[Array], Array]) -> Bind:
    """Copy from a view that is made once."""

    def bind(ins: Any, outs: Any) -> Any:
        source, target = view(ins[0]), outs[0]
        return lambda: np.copyto(target, source)

    return bind


def _transpose(c: Call) -> Bind:
    return _copied(lambda x: x.transpose(c.attributes["perm"]))


def _expand(c: Call) -> Bind:
    return _copied(lambda x: np.broadcast_to(x, c.outputs[0].item))


def _tile(c: Call) -> Bind:
    return computed(lambda x: np.tile(x, c.attributes["repeats"]))(c)


def _concat(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.outputs[0].item)

    def bind(ins: Any, outs: Any) -> Any:
        pairs, at = [], 0
        for x in ins:
            window = tuple(slice(at, at + x.shape[axis]) if i == axis else slice(None) for i in range(x.ndim))
            pairs.append((outs[0][window], x))
            at += x.shape[axis]

        def run() -> None:
            for target, source in pairs:
                np.copyto(target, source)

        return run

    return bind


def _split(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))

    def bind(ins: Any, outs: Any) -> Any:
        pairs, at = [], 0
        for size, out in zip(c.attributes["sizes"], outs, strict=False):
            window = tuple(slice(at, at + size) if i == axis else slice(None) for i in range(ins[0].ndim))
            if out is not None:
                pairs.append((out, ins[0][window]))
            at += size

        def run() -> None:
            for target, source in pairs:
                np.copyto(target, source)

        return run

    return bind


def _slice(c: Call) -> Bind:
    window = tuple(
        slice(start, None if end < 0 else end, step)
        for start, end, step in zip(c.attributes["starts"], c.attributes["ends"], c.attributes["steps"], strict=True)
    )
    return _copied(lambda x: x[window])


def _gather(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))
    size = c.shape(0)[axis]
    # NB indices that come at run time are wrapped, then held inside: a bad one must not read foreign memory or stop a batch.
    return computed(lambda x, at: np.take(x, _inside(at, size), axis=axis))(c)


def _inside(at: Array, size: int) -> Array:
    return np.asarray(np.clip(np.where(at < 0, at + size, at), 0, max(size - 1, 0)))


def _gather_elements(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))
    size = c.shape(0)[axis]

    def function(x: Array, at: Array) -> Any:
        cut = tuple(slice(None) if i == axis else slice(0, d) for i, d in enumerate(at.shape))
        return np.take_along_axis(x[cut], _inside(at, size).astype(np.int64), axis=axis)

    return computed(function)(c)


def _pad(c: Call) -> Bind:
    pads, mode = c.attributes["pads"], c.attributes["mode"]
    rank = len(pads) // 2
    shape = c.shape(0)
    kept = tuple(slice(max(-pads[i], 0), shape[i] - max(-pads[rank + i], 0)) for i in range(rank))
    grown = [(max(pads[i], 0), max(pads[rank + i], 0)) for i in range(rank)]
    if mode != "constant":
        return computed(lambda x: np.pad(x[kept], grown, mode=mode))(c)
    fill = c.scalar(c.attributes["value"]) if c.dtype.kind == "f" else c.dtype.type(int(c.attributes["value"]))
    middle = tuple(slice(before, size - after) for (before, after), size in zip(grown, c.outputs[0].item, strict=True))

    def bind(ins: Any, outs: Any) -> Any:
        source, target, inner = ins[0][kept], outs[0], outs[0][middle]

        def run() -> None:
            target.fill(fill)
            np.copyto(inner, source)

        return run

    return bind


ROWS: dict[str, Row] = {
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "Resize": resize,
}

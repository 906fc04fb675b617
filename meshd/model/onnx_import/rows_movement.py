"""Rows: what moves elements, with shapes, axes and places settled."""

from math import prod

import numpy as np

from meshd.errors import InvalidError
from meshd.model.onnx_import.node import Node, Row, Value
from meshd.model.operators.movement import COORDINATES, NEAREST, PAD_MODES, RESIZE_MODES


def _shaped(n: Node, x: Value, shape: tuple[int, ...]) -> Value:
    return x if x.shape == shape else n.emit("Reshape", [x], shape=shape)


def axes_of(n: Node, index: int, rank: int, first_input_opset: int) -> tuple[int, ...] | None:
    """Axes from the attribute or, in later opsets, from an input; None if not given."""
    if n.opset >= first_input_opset:
        if n.optional(index) is None:
            return None
        given = n.integers(index, "axes")
    elif n.has("axes"):
        given = n.ints("axes", ())
    else:
        return None
    if any(not -rank <= a < rank for a in given):
        raise InvalidError(f"{n.name} ({n.op}): axes {list(given)} of rank {rank}")
    return tuple(sorted({a % rank for a in given}))


def reshape(n: Node) -> Value:
    x, asked = n.value(0), n.integers(1, "the shape")
    zero = not n.integer("allowzero", 0)
    if zero and any(d == 0 and i >= len(x.shape) for i, d in enumerate(asked)):
        raise InvalidError(f"{n.name} (Reshape): a 0 past the input's rank")
    shape = [x.shape[i] if d == 0 and zero else d for i, d in enumerate(asked)]
    if -1 in shape:
        rest = prod(d for d in shape if d != -1)
        if shape.count(-1) > 1 or rest <= 0 or prod(x.shape) % rest:
            raise InvalidError(f"{n.name} (Reshape): {list(x.shape)} does not reshape to {list(asked)}")
        shape[shape.index(-1)] = prod(x.shape) // rest
    return _shaped(n, x, tuple(shape))


def flatten(n: Node) -> Value:
    x = n.value(0)
    axis = n.integer("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return _shaped(n, x, (prod(x.shape[:axis]), prod(x.shape[axis:])))


def squeeze(n: Node) -> Value:
    x = n.value(0)
    axes = axes_of(n, 1, len(x.shape), 13)
    if axes is None:
        axes = tuple(i for i, d in enumerate(x.shape) if d == 1)
    if any(x.shape[a] != 1 for a in axes):
        raise InvalidError(f"{n.name} (Squeeze): axes {list(axes)} of {list(x.shape)} are not all 1")
    return _shaped(n, x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def unsqueeze(n: Node) -> Value:
    x = n.value(0)
    given = n.integers(1, "axes") if n.opset >= 13 else n.ints("axes", ())
    rank = len(x.shape) + len(given)
    if any(not -rank <= a < rank for a in given) or len({a % rank for a in given}) != len(given):
        raise InvalidError(f"{n.name} (Unsqueeze): axes {list(given)} of rank {rank}")
    axes, old = {a % rank for a in given}, iter(x.shape)
    return _shaped(n, x, tuple(1 if i in axes else next(old) for i in range(rank)))


def transpose(n: Node) -> Value:
    x = n.value(0)
    perm = n.ints("perm", tuple(reversed(range(len(x.shape)))))
    return x if perm == tuple(range(len(x.shape))) else n.emit("Transpose", [x], perm=perm)


def expand(n: Node) -> Value:
    x, asked = n.value(0), n.integers(1, "the shape")
    try:
        shape = tuple(int(d) for d in np.broadcast_shapes(x.shape, asked))
    except ValueError:
        raise InvalidError(f"{n.name} (Expand): {list(x.shape)} does not widen to {list(asked)}") from None
    return x if shape == x.shape else n.emit("Expand", [x], shape=shape)


def tile(n: Node) -> Value:
    return n.emit("Tile", [n.value(0)], repeats=n.integers(1, "repeats"))


def concat(n: Node) -> Value:
    given = [v for v in n.inputs if v is not None]
    if not given or not given[0].shape:
        raise InvalidError(f"{n.name} (Concat): nothing to join")
    if len(given) == 1:
        return given[0]
    return n.emit("Concat", given, axis=n.integer("axis", 0) % len(given[0].shape))


def split(n: Node) -> list[Value]:
    x, parts = n.value(0), len(n.outputs)
    if not x.shape:
        raise InvalidError(f"{n.name} (Split): a scalar")
    axis = n.integer("axis", 0) % len(x.shape)
    if n.opset >= 13 and n.optional(1) is not None:
        sizes = n.integers(1, "the split")
    elif n.has("split"):
        sizes = n.ints("split", ())
    else:
        parts = n.integer("num_outputs", parts)
        each = -(-x.shape[axis] // max(parts, 1))
        sizes = tuple(max(min(each, x.shape[axis] - i * each), 0) for i in range(parts))
    return n.emit_many("Split", [x], len(sizes), axis=axis, sizes=sizes)


def slice_(n: Node) -> Value:
    x = n.value(0)
    rank = len(x.shape)
    if n.opset >= 10:
        starts, ends = n.integers(1, "starts"), n.integers(2, "ends")
        axes = n.integers(3, "axes") if n.optional(3) is not None else tuple(range(len(starts)))
        steps = n.integers(4, "steps") if n.optional(4) is not None else (1,) * len(starts)
    else:
        starts, ends = n.ints("starts", ()), n.ints("ends", ())
        axes, steps = n.ints("axes", tuple(range(len(starts)))), (1,) * len(starts)
    if (
        not len(starts) == len(ends) == len(axes) == len(steps)
        or 0 in steps
        or any(not -rank <= a < rank for a in axes)
    ):
        raise InvalidError(f"{n.name} (Slice): starts, ends, axes and steps do not fit each other and rank {rank}")
    first, last, step = [0] * rank, list(x.shape), [1] * rank
    for axis, start, end, by in zip(axes, starts, ends, steps, strict=True):
        a = axis % rank
        first[a], last[a], step[a] = slice(start, end, by).indices(x.shape[a])
        if not range(first[a], last[a], step[a]):
            first[a], last[a], step[a] = 0, 0, 1
    if first == [0] * rank and last == list(x.shape) and step == [1] * rank:
        return x
    return n.emit("Slice", [x], starts=tuple(first), ends=tuple(last), steps=tuple(step))


def gather(n: Node) -> Value:
    x, at = n.value(0), n.value(1)
    if not x.shape:
        raise InvalidError(f"{n.name} (Gather): a scalar")
    axis = n.integer("axis", 0) % len(x.shape)
    if at.constant is not None:
        size = x.shape[axis]
        if at.constant.size and not -size <= at.constant.min() <= at.constant.max() < size:
            raise InvalidError(f"{n.name} (Gather): an index outside {size}")
        wrapped = np.where(at.constant < 0, at.constant + size, at.constant)
        if wrapped.ndim == 0 and size == 1:  # One of one: a reshape.
            return _shaped(n, x, (*x.shape[:axis], *x.shape[axis + 1 :]))
        steps = np.diff(wrapped.reshape(-1))
        if wrapped.size == 1 or (wrapped.ndim == 1 and wrapped.size and (steps == max(int(steps[0]), 1)).all()):
            # Places in a row: a slice, which copies; gathering looks up each.
            first, step = int(wrapped.reshape(-1)[0]), int(steps[0]) if steps.size else 1
            places: list[tuple[int, ...]] = [(0,) * len(x.shape), x.shape, (1,) * len(x.shape)]
            for i, value in enumerate((first, int(wrapped.reshape(-1)[-1]) + 1, step)):
                places[i] = (*places[i][:axis], value, *places[i][axis + 1 :])
            cut = n.emit("Slice", [x], starts=places[0], ends=places[1], steps=places[2])
            return _shaped(n, cut, (*x.shape[:axis], *wrapped.shape, *x.shape[axis + 1 :]))
        at = n.builder.constant(wrapped.astype(at.constant.dtype), at.name)
    return n.emit("Gather", [x, at], axis=axis)


def gather_elements(n: Node) -> Value:
    x = n.value(0)
    return n.emit("GatherElements", [x, n.value(1)], axis=n.integer("axis", 0) % max(len(x.shape), 1))


def pad(n: Node) -> Value:
    x = n.value(0)
    rank = len(x.shape)
    mode = n.text("mode", "constant")
    if mode not in PAD_MODES:
        n.refuse(f"mode {mode!r}", f"{', '.join(PAD_MODES)} are supported")
    value = 0.0
    if n.opset >= 11:
        given = n.integers(1, "pads")
        if n.optional(2) is not None:
            held = n.array(2, "the value").reshape(-1)
            value = float(held[0]) if held.size else 0.0
        axes = n.integers(3, "axes") if n.optional(3) is not None else tuple(range(rank))
    else:
        given, axes, value = n.ints("pads", ()), tuple(range(rank)), n.real("value", 0.0)
    if len(given) != 2 * len(axes) or any(not -rank <= a < rank for a in axes):
        raise InvalidError(f"{n.name} (Pad): pads {list(given)} do not fit axes {list(axes)} of rank {rank}")
    pads = [0] * 2 * rank
    for i, axis in enumerate(axes):
        pads[axis % rank], pads[rank + axis % rank] = given[i], given[len(axes) + i]
    return n.emit("Pad", [x], pads=tuple(pads), mode=mode, value=value) if any(pads) else x


def resize(n: Node) -> Value:
    x = n.value(0)
    rank = len(x.shape)
    coordinates, nearest = (
        n.text("coordinate_transformation_mode", "half_pixel"),
        n.text("nearest_mode", "round_prefer_floor"),
    )
    scales_at, sizes_at = 2, 3
    if n.op == "Upsample" or n.opset < 11:
        coordinates, nearest, scales_at, sizes_at = "asymmetric", "floor", 1, 99
    mode = n.text("mode", "nearest")
    mode = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    if mode not in RESIZE_MODES or coordinates not in COORDINATES or nearest not in NEAREST:
        n.refuse(f"mode {mode}, coordinates {coordinates}", f"{', '.join(RESIZE_MODES)} with {', '.join(COORDINATES)}")
    axes = tuple(a % max(rank, 1) for a in n.ints("axes", tuple(range(rank))))
    scales, shape = [1.0] * rank, list(x.shape)
    if n.optional(sizes_at) is not None and n.value(sizes_at).shape != (0,):
        given = n.integers(sizes_at, "sizes")
        factors = [s / x.shape[a] for a, s in zip(axes, given, strict=True)]
        policy = n.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            one = min(factors) if policy == "not_larger" else max(factors)
            factors = [one] * len(axes)
            given = tuple(int(np.floor(x.shape[a] * one + 0.5)) for a in axes)
        for a, s, f in zip(axes, given, factors, strict=True):
            shape[a], scales[a] = s, f
    else:
        held = (
            n.array(scales_at, "the scales") if n.op != "Upsample" or n.opset >= 9 else np.array(n.attributes["scales"])
        )
        for a, f in zip(axes, held.reshape(-1), strict=True):
            shape[a], scales[a] = int(np.floor(x.shape[a] * float(f))), float(f)
    if tuple(shape) == x.shape and all(f == 1.0 for f in scales):
        return x
    return n.emit(
        "Resize",
        [x],
        shape=tuple(shape),
        scales=tuple(scales),
        mode=mode,
        coordinates=coordinates,
        nearest=nearest,
        cubic_a=n.real("cubic_coeff_a", -0.75),
        exclude_outside=n.integer("exclude_outside", 0),
        antialias=n.integer("antialias", 0),
    )


def depth_to_space(n: Node) -> Value:
    x, b = n.value(0), n.integer("blocksize", 1)
    if len(x.shape) != 4 or b < 1 or x.shape[1] % (b * b):
        raise InvalidError(f"{n.name} (DepthToSpace): {list(x.shape)} in blocks of {b}")
    batch, c, h, w = x.shape
    column = n.text("mode", "DCR") == "CRD"
    shape = (batch, c // (b * b), b, b, h, w) if column else (batch, b, b, c // (b * b), h, w)
    apart = n.emit("Reshape", [x], shape=shape)
    moved = n.emit("Transpose", [apart], perm=(0, 1, 4, 2, 5, 3) if column else (0, 3, 4, 1, 5, 2))
    return n.emit("Reshape", [moved], shape=(batch, c // (b * b), h * b, w * b))


def space_to_depth(n: Node) -> Value:
    x, b = n.value(0), n.integer("blocksize", 1)
    if len(x.shape) != 4 or b < 1 or x.shape[2] % b or x.shape[3] % b:
        raise InvalidError(f"{n.name} (SpaceToDepth): {list(x.shape)} in blocks of {b}")
    batch, c, h, w = x.shape
    column = n.text("mode", "DCR") == "CRD"
    apart = n.emit("Reshape", [x], shape=(batch, c, h // b, b, w // b, b))
    moved = n.emit("Transpose", [apart], perm=(0, 1, 3, 5, 2, 4) if column else (0, 3, 5, 1, 2, 4))
    return n.emit("Reshape", [moved], shape=(batch, c * b * b, h // b, w // b))


ROWS: dict[str, Row] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Expand": expand,
    "Tile": tile,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Resize": resize,
    "Upsample": resize,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}

"""What moves elements and computes nothing: reshape, transpose, slice, gather, pad, resize."""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.spec import (
    FLOATS,
    INTEGERS,
    Attributes,
    Operator,
    Types,
    axis_of,
    broadcast,
    dims,
    dtype,
    require,
    same_dtype,
    tensor,
)

_INDEX = frozenset({"int32", "int64"})


def _reshape(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    out = tensor(dtype(ts[0]), a["shape"])
    require(prod(x) == prod(a["shape"]), f"{list(x)} does not reshape to {list(a['shape'])}")
    return (out,)


def _transpose(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(sorted(a["perm"]) == list(range(len(x))), f"{list(a['perm'])} is no permutation of rank {len(x)}")
    return (tensor(dtype(ts[0]), [x[i] for i in a["perm"]]),)


def _expand(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    shape = tensor(dtype(ts[0]), a["shape"])
    require(broadcast([x, a["shape"]]) == a["shape"], f"{list(x)} does not widen to {list(a['shape'])}")
    return (shape,)


def _tile(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(len(a["repeats"]) == len(x) and all(r >= 0 for r in a["repeats"]), "one repeat, not negative, an axis")
    return (tensor(dtype(ts[0]), [d * r for d, r in zip(x, a["repeats"], strict=True)]),)


def _concat(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    shapes = [dims(t) for t in ts]
    axis = axis_of(a["axis"], len(shapes[0]))
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes if len(s) > axis}
    require(
        len(rest) == 1 and len({len(s) for s in shapes}) == 1, f"{[list(s) for s in shapes]} do not join on axis {axis}"
    )
    joined = list(shapes[0])
    joined[axis] = sum(s[axis] for s in shapes)
    return (tensor(same_dtype(ts), joined),)


def _split(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    axis, kind = axis_of(a["axis"], len(x)), dtype(ts[0])
    sizes = a["sizes"]
    require(
        bool(sizes) and all(s >= 0 for s in sizes) and sum(sizes) == x[axis], f"{list(sizes)} are no parts of {x[axis]}"
    )
    return tuple(tensor(kind, [s if i == axis else d for i, d in enumerate(x)]) for s in sizes)


def _slice(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    """`starts`, `ends`, `steps`: one an axis, as `range` takes them: settled, so that nothing is clipped or negative."""
    x = dims(ts[0])
    triples = list(zip(x, a["starts"], a["ends"], a["steps"], strict=False))
    require(len(triples) == len(x) == len(a["starts"]) == len(a["ends"]) == len(a["steps"]), "one slice an axis")
    for d, start, end, step in triples:
        require(step != 0 and 0 <= start <= d and -1 <= end <= d, f"slice {start}:{end}:{step} of {d}")
        require(step > 0 or start < max(d, 1), f"slice {start}:{end}:{step} of {d}")
    return (tensor(dtype(ts[0]), [len(range(start, end, step)) for _, start, end, step in triples]),)


def _gather(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x, at = dims(ts[0]), dims(ts[1])
    axis = axis_of(a["axis"], len(x))
    dtype(ts[1], _INDEX)
    require(x[axis] > 0 or prod(at) == 0, "gathering from nothing")
    return (tensor(dtype(ts[0]), (*x[:axis], *at, *x[axis + 1 :])),)


def _gather_elements(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x, at = dims(ts[0]), dims(ts[1])
    axis = axis_of(a["axis"], len(x))
    dtype(ts[1], _INDEX)
    require(len(at) == len(x), "indices have the rank of the data")
    require(all(i == axis or m <= n for i, (m, n) in enumerate(zip(at, x, strict=True))), "indices reach past the data")
    require(x[axis] > 0 or prod(at) == 0, "gathering from nothing")
    return (tensor(dtype(ts[0]), at),)


PAD_MODES = ("constant", "edge", "reflect", "wrap")


def _pad(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x, pads = dims(ts[0]), a["pads"]
    rank = len(x)
    require(len(pads) == 2 * rank and a["mode"] in PAD_MODES, "two pads an axis, and a known mode")
    out = [d + pads[i] + pads[rank + i] for i, d in enumerate(x)]
    for i, d in enumerate(x):
        before, after = pads[i], pads[rank + i]
        require(d + min(before, 0) + min(after, 0) >= 0, "negative pads take more than there is")
        most = {"constant": 2**31, "edge": 2**31 if d else 0, "wrap": d, "reflect": d - 1}[a["mode"]]
        require(
            max(before, after, 0) <= most or max(before, after) <= 0, f"{a['mode']} pads of {before}, {after} past {d}"
        )
    return (tensor(dtype(ts[0]), out),)


RESIZE_MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _resize(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x = dims(ts[0])
    require(len(a["shape"]) == len(x) == len(a["scales"]), "a resize has one size and one scale an axis")
    require(all(s > 0 for s in (*x, *a["shape"], *a["scales"])), "sizes and scales are positive")
    require(
        a["mode"] in RESIZE_MODES and a["coordinates"] in COORDINATES and a["nearest"] in NEAREST, "unknown resize mode"
    )
    return (tensor(dtype(ts[0], FLOATS | INTEGERS), a["shape"]),)


ROWS = {
    "Reshape": Operator((1, 1), _reshape, {"shape": "ints"}),
    "Transpose": Operator((1, 1), _transpose, {"perm": "ints"}),
    "Expand": Operator((1, 1), _expand, {"shape": "ints"}),
    "Tile": Operator((1, 1), _tile, {"repeats": "ints"}),
    "Concat": Operator((1, 4096), _concat, {"axis": "int"}),
    "Split": Operator((1, 1), _split, {"axis": "int", "sizes": "ints"}),
    "Slice": Operator((1, 1), _slice, {"starts": "ints", "ends": "ints", "steps": "ints"}),
    "Gather": Operator((2, 2), _gather, {"axis": "int"}),
    "GatherElements": Operator((2, 2), _gather_elements, {"axis": "int"}),
    "Pad": Operator((1, 1), _pad, {"pads": "ints", "mode": "str", "value": "float"}),
    "Resize": Operator(
        (1, 1),
        _resize,
        {
            "shape": "ints",
            "scales": "floats",
            "mode": "str",
            "coordinates": "str",
            "nearest": "str",
            "cubic_a": "float",
            "exclude_outside": "int",
            "antialias": "int",
        },
    ),
}

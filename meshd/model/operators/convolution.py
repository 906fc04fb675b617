"""Convolutions over one, two or three spatial axes, channels first.

`Conv(x [1, C, *space], w [O, C/group, *kernel], b? [O])`; `ConvTranspose(x, w [C, O/group, *kernel], b?)`.
"""

from math import prod

from meshd.model.graph import TensorType
from meshd.model.operators.spec import FLOATS, Attributes, Operator, Types, dims, require, same_dtype, tensor

WINDOW = {"strides": "ints", "pads": "ints", "dilations": "ints"}
"""`pads` are ONNX's: all begins, then all ends."""


def check_window(space: int, attributes: Attributes, *, pads_may_be_negative: bool = False) -> None:
    """Strides, pads and dilations of the right number and sign."""
    require(1 <= space <= 3, f"{space} spatial axes; 1 to 3 are supported")
    for name, count in (("strides", space), ("dilations", space), ("pads", 2 * space)):
        require(len(attributes[name]) == count, f"{name} has {len(attributes[name])} values, not {count}")
    require(
        all(0 < v < 2**31 for n in ("strides", "dilations") for v in attributes[n]),
        "strides and dilations are positive",
    )
    require(pads_may_be_negative or all(0 <= p < 2**31 for p in attributes["pads"]), "pads are not negative")


def window_outputs(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: Attributes) -> tuple[int, ...]:
    """How many places a window of `kernel` takes along each spatial axis."""
    space = len(shape)
    pads, out = attributes["pads"], []
    for i, (size, k) in enumerate(zip(shape, kernel, strict=True)):
        require(k > 0, "an empty kernel")
        reach = (k - 1) * attributes["dilations"][i] + 1
        padded = size + pads[i] + pads[space + i]
        require(padded >= reach, f"a window of {reach} does not fit in {padded}")
        out.append((padded - reach) // attributes["strides"][i] + 1)
    return tuple(out)


def _conv(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x, w = dims(ts[0]), dims(ts[1])
    require(len(x) >= 3 and len(w) == len(x), f"input {list(x)} and weights {list(w)} are not one convolution")
    check_window(len(x) - 2, a)
    group = a["group"]
    require(
        group > 0 and x[1] == w[1] * group and w[0] % group == 0, f"{x[1]} channels, weights {list(w)}, {group} groups"
    )
    require(len(ts) < 3 or ts[2] is None or dims(ts[2]) == (w[0],), f"the bias must have {w[0]} elements")
    return (tensor(same_dtype(ts, FLOATS), (x[0], w[0], *window_outputs(x[2:], w[2:], a))),)


def _conv_macs(ts: Types, a: Attributes, out: tuple[TensorType, ...]) -> int:
    return prod(dims(out[0])) * prod(dims(ts[1])[1:])


def _transpose(ts: Types, a: Attributes) -> tuple[TensorType, ...]:
    x, w = dims(ts[0]), dims(ts[1])
    require(len(x) >= 3 and len(w) == len(x), f"input {list(x)} and weights {list(w)} are not one convolution")
    space = len(x) - 2
    check_window(space, a)
    group, extra = a["group"], a["output_padding"]
    require(group > 0 and x[1] == w[0] and w[0] % group == 0, f"{x[1]} channels, weights {list(w)}, {group} groups")
    require(len(extra) == space and all(0 <= e < 2**31 for e in extra), "output_padding has one value a spatial axis")
    outputs = w[1] * group
    require(len(ts) < 3 or ts[2] is None or dims(ts[2]) == (outputs,), f"the bias must have {outputs} elements")
    out = tuple(
        a["strides"][i] * (x[2 + i] - 1)
        + extra[i]
        + (w[2 + i] - 1) * a["dilations"][i]
        + 1
        - a["pads"][i]
        - a["pads"][space + i]
        for i in range(space)
    )
    require(all(d > 0 for d in out), f"pads leave nothing of {list(out)}")
    return (tensor(same_dtype(ts, FLOATS), (x[0], outputs, *out)),)


def _transpose_macs(ts: Types, a: Attributes, out: tuple[TensorType, ...]) -> int:
    return prod(dims(ts[0])) * prod(dims(ts[1])[1:])


ROWS = {
    "Conv": Operator((2, 3), _conv, {**WINDOW, "group": "int"}, _conv_macs),
    "ConvTranspose": Operator(
        (2, 3), _transpose, {**WINDOW, "group": "int", "output_padding": "ints"}, _transpose_macs
    ),
}

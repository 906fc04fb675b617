"""Rows: what folds an axis, recurrent layers, integers with a scale."""

from math import prod

import numpy as np

from meshd.errors import InvalidError
from meshd.model.graph import TensorType
from meshd.model.onnx_import.node import Node, Row, Steps, Value
from meshd.model.onnx_import.rows_compute import _window
from meshd.model.onnx_import.rows_movement import axes_of
from meshd.model.quantised import weight_fits


def reduce(n: Node) -> Value:
    x = n.value(0)
    rank = len(x.shape)
    axes = axes_of(n, 1, rank, 13 if n.op == "ReduceSum" else 18)
    if not axes and n.integer("noop_with_empty_axes", 0):
        # NB ReduceSumSquare and its like still do their function to each element.
        plain = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"}
        return x if n.op in plain else n.emit(n.op, [x], axes=(), keepdims=1)
    if not axes:
        axes = tuple(range(rank))
    if not axes:
        return n.emit(n.op, [x], axes=(), keepdims=1)
    if prod(x.shape) == 0 and n.op in {"ReduceMean", "ReduceMax", "ReduceMin"}:
        n.refuse("it reduces nothing")
    return n.emit(n.op, [x], axes=axes, keepdims=n.integer("keepdims", 1))


def arg(n: Node) -> Value:
    x = n.value(0)
    axis = n.integer("axis", 0) % max(len(x.shape), 1)
    last = n.integer("select_last_index", 0)
    return n.emit(n.op, [x], axis=axis, keepdims=n.integer("keepdims", 1), select_last_index=last)


def softmax(n: Node) -> Value:
    x = n.value(0)
    rank = max(len(x.shape), 1)
    if n.opset >= 13:
        return n.emit(n.op, [x], axis=n.integer("axis", -1) % rank)
    # Before opset 13 everything from the axis on was one.
    axis = n.integer("axis", 1) % rank
    if axis == rank - 1:
        return n.emit(n.op, [x], axis=axis)
    flat = n.emit("Reshape", [x], shape=(prod(x.shape[:axis]), prod(x.shape[axis:])))
    return n.emit("Reshape", [n.emit(n.op, [flat], axis=1)], shape=x.shape)


def cumsum(n: Node) -> Value:
    x = n.value(0)
    (axis,) = n.integers(1, "the axis")
    flags = {"exclusive": n.integer("exclusive", 0), "reverse": n.integer("reverse", 0)}
    return n.emit("CumSum", [x], axis=axis % max(len(x.shape), 1), **flags)


_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def recurrent(n: Node) -> list[Value]:
    x, w, r, bias = n.value(0), n.value(1), n.value(2), n.optional(3)
    direction = n.text("direction", "forward")
    wanted = _ACTIVATIONS[n.op] * (2 if direction == "bidirectional" else 1)
    given = tuple(a.decode() if isinstance(a, bytes) else str(a) for a in n.attributes.get("activations", wanted))
    if tuple(a.lower() for a in given) != tuple(a.lower() for a in wanted):
        n.refuse(f"activations {list(given)}", f"only {list(wanted)} are supported")
    if n.has("clip") or n.integer("input_forget", 0):
        n.refuse("clip or input_forget", "export a plain layer")
    layout = n.integer("layout", 0)
    if len(x.shape) != 3:
        raise InvalidError(f"{n.name} ({n.op}): the input has three axes")
    time, batch = (x.shape[1], x.shape[0]) if layout else x.shape[:2]
    lengths = n.optional(4)
    if lengths is not None and (lengths.constant is None or set(lengths.constant.tolist()) != {time}):
        n.refuse("sequences of different lengths", "pad them, and drop sequence_lens")
    states = [n.optional(5), n.optional(6)] if n.op == "LSTM" else [n.optional(5)]
    if layout:
        x = n.emit("Transpose", [x], perm=(1, 0, 2))
        states = [s and n.emit("Transpose", [s], perm=(1, 0, 2)) for s in states]
    extra = {"linear_before_reset": n.integer("linear_before_reset", 0)} if n.op == "GRU" else {}
    if n.op == "LSTM":
        states.append(n.optional(7))  # Peepholes.
    outs = n.emit_many(n.op, [x, w, r, bias, *states], 3 if n.op == "LSTM" else 2, direction=direction, **extra)
    if layout:
        outs[0] = n.emit("Transpose", [outs[0]], perm=(2, 0, 1, 3))
        outs[1:] = [n.emit("Transpose", [o], perm=(1, 0, 2)) for o in outs[1:]]
    assert batch >= 0
    return outs


def quantize(n: Node) -> Value:
    x, scale, zero = n.value(0), n.value(1), n.optional(2)
    to = (
        zero.type.dtype
        if zero is not None
        else {0: "uint8", 2: "uint8", 3: "int8"}.get(n.integer("output_dtype", 0), "")
    )
    if n.integer("block_size", 0) or not to:
        n.refuse("blocks, or an output type other than 8 bits", "quantise per tensor or per channel to 8 bits")
    return n.emit("QuantizeLinear", [x, scale, zero], axis=n.integer("axis", 1) % max(len(x.shape), 1), to=to)


def dequantize(n: Node) -> Value:
    x = n.value(0)
    if n.integer("block_size", 0):
        n.refuse("blocks", "quantise per tensor or per channel")
    return n.emit("DequantizeLinear", [x, n.value(1), n.optional(2)], axis=n.integer("axis", 1) % max(len(x.shape), 1))


def dynamic_quantize(n: Node) -> list[Value]:
    return n.emit_many("DynamicQuantizeLinear", [n.value(0)], 3)


def conv_integer(n: Node) -> Value:
    x, w = n.value(0), n.value(1)
    window = _window(n, len(x.shape) - 2, w.shape[2:], x.shape[2:])
    return n.emit("ConvInteger", [x, w, n.optional(2), n.optional(3)], group=n.integer("group", 1), **window)


def matmul_integer(n: Node) -> Value:
    return n.emit("MatMulInteger", [n.value(0), n.value(1), n.optional(2), n.optional(3)])


def _layer(n: Node, weight: Steps | None, grouped: bool) -> tuple[Value, Value] | None:
    """(input, weight) in real values, where a QLinear operator is a layer that the kernels know; None where it is not."""
    scale, zero = n.value(1), n.value(2)
    scalars = [v.constant for v in (scale, zero, n.value(6), n.value(7))]
    if weight is None or n.value(0).constant is not None or any(c is None or c.size != 1 for c in scalars):
        return None
    kind, steps = (TensorType(a.dtype.name, a.shape) for a in (weight.octets, weight.scale))
    if not weight_fits(kind, steps, weight.zero is not None, weight.axis == 0, grouped):
        return None
    each = (-1,) + (1,) * (weight.octets.ndim - 1)
    less = 0 if weight.zero is None else weight.zero.astype(np.int32).reshape(each)
    real = (weight.octets.astype(np.int32) - less).astype(np.float32) * weight.scale.reshape(each)
    x = n.emit("DequantizeLinear", [n.value(0), scale, zero], axis=0)
    return x, n.builder.constant(real.astype(np.float32), f"{n.wish}.w", weight)


def _quantised(n: Node, y: Value) -> Value:
    """As the output of a QLinear operator."""
    return n.emit("QuantizeLinear", [y, n.value(6), n.value(7)], axis=0, to=n.value(7).type.dtype)


def _weight_steps(n: Node, axis: int) -> Steps | None:
    w, scale, zero = (n.value(i).constant for i in (3, 4, 5))
    if w is None or scale is None or zero is None:
        return None
    return Steps.of(w, scale.reshape(-1) if scale.size > 1 else scale, zero.reshape(-1), axis if scale.size > 1 else 0)


def qlinear_conv(n: Node) -> Value:
    x, w = n.value(0), n.value(3)
    window = _window(n, len(x.shape) - 2, w.shape[2:], x.shape[2:])
    steps, bias, group = _weight_steps(n, 0), n.optional(8), n.integer("group", 1)
    layer = _layer(n, steps, group != 1) if len(x.shape) <= 4 and (bias is None or bias.constant is not None) else None
    if layer is not None and steps is not None:
        if bias is not None and bias.constant is not None:
            unit = n.array(1, "its scale").reshape(()) * steps.scale
            bias = n.constant(np.array(np.broadcast_to(bias.constant * unit, bias.shape), np.float32))
        return _quantised(n, n.emit("Conv", [*layer, bias], group=group, **window))
    return n.emit(
        "QLinearConv", [*(n.value(i) for i in range(8)), n.optional(8)], group=n.integer("group", 1), **window
    )


def qlinear_matmul(n: Node) -> Value:
    steps = _weight_steps(n, 1) if len(n.value(3).shape) == 2 and len(n.value(0).shape) > 1 else None
    layer = _layer(n, steps and steps.transposed((1, 0)), False)
    if layer is not None:
        return _quantised(n, n.emit("Gemm", list(layer)))
    return n.emit("QLinearMatMul", [n.value(i) for i in range(8)])


def one_hot(n: Node) -> Value:
    """`(indices == range(depth)) * (on - off) + off`, negative indices wrapped."""
    at, depth, values = n.value(0), int(n.array(1, "the depth").reshape(-1)[0]), n.array(2, "the values")
    axis = n.integer("axis", -1) % (len(at.shape) + 1)
    if not 0 < depth <= 2**24:
        n.refuse(f"a depth of {depth}", "use a positive one")
    if at.type.dtype not in {"int32", "int64"}:
        at = n.emit("Cast", [at], to="int64")
    wide = n.emit("Reshape", [at], shape=(*at.shape[:axis], 1, *at.shape[axis:]))
    size = n.constant(np.asarray(depth, at.type.dtype))
    rest = (1,) * (len(at.shape) - axis)
    steps = n.constant(np.arange(depth, dtype=at.type.dtype).reshape(-1, *rest))
    hit = n.emit("Equal", [n.emit("Mod", [wide, size], fmod=0), steps])
    inside = n.emit(
        "And",
        [
            n.emit("GreaterOrEqual", [wide, n.constant(np.asarray(-depth, at.type.dtype))]),
            n.emit("Less", [wide, size]),
        ],
    )
    return n.emit("Where", [n.emit("And", [hit, inside]), n.constant(values[1]), n.constant(values[0])])


_REDUCE = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"
ROWS: dict[str, Row] = {
    **dict.fromkeys((f"Reduce{name}" for name in _REDUCE.split()), reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    "CumSum": cumsum,
    "OneHot": one_hot,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}

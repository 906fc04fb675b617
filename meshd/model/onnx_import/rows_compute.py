"""Rows: convolutions, products, pooling, normalisations."""

from math import prod

import numpy as np

from meshd.errors import InvalidError
from meshd.model.onnx_import.node import Array, Node, Row, Value


def _window(n: Node, space: int, kernel: tuple[int, ...], sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Strides, pads and dilations with `auto_pad` settled."""
    strides = n.ints("strides", (1,) * space)
    dilations = n.ints("dilations", (1,) * space)
    pads = n.ints("pads", (0,) * 2 * space)
    if (
        not len(strides) == len(dilations) == len(kernel) == space
        or len(pads) != 2 * space
        or min(strides, default=1) < 1
    ):
        raise InvalidError(f"{n.name} ({n.op}): strides, dilations and pads do not fit {space} spatial axes")
    auto = n.text("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        before, after = [], []
        for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            small, large = total // 2, total - total // 2
            before.append(small if auto == "SAME_UPPER" else large)
            after.append(large if auto == "SAME_UPPER" else small)
        pads = (*before, *after)
    elif auto == "VALID":
        pads = (0,) * 2 * space
    return {"strides": strides, "pads": pads, "dilations": dilations}


def conv(n: Node) -> Value:
    x, w = n.value(0), n.value(1)
    if not 3 <= len(x.shape) <= 5 or len(w.shape) != len(x.shape):
        n.refuse(f"a convolution of {list(x.shape)} by {list(w.shape)}", "one to three spatial axes are supported")
    window = _window(n, len(x.shape) - 2, w.shape[2:], x.shape[2:])
    return n.emit("Conv", [x, w, n.optional(2)], group=n.integer("group", 1), **window)


def conv_transpose(n: Node) -> Value:
    x, w = n.value(0), n.value(1)
    space = len(x.shape) - 2
    if not 1 <= space <= 3 or len(w.shape) != len(x.shape):
        n.refuse(f"a convolution of {list(x.shape)} by {list(w.shape)}", "one to three spatial axes are supported")
    strides, dilations = n.ints("strides", (1,) * space), n.ints("dilations", (1,) * space)
    extra, pads = n.ints("output_padding", (0,) * space), n.ints("pads", (0,) * 2 * space)
    auto, asked = n.text("auto_pad", "NOTSET"), n.ints("output_shape", ())
    if asked or auto in {"SAME_UPPER", "SAME_LOWER"}:
        target = asked[-space:] or tuple(d * s for d, s in zip(x.shape[2:], strides, strict=True))
        before, after = [], []
        for i, size in enumerate(x.shape[2:]):
            total = strides[i] * (size - 1) + extra[i] + (w.shape[2 + i] - 1) * dilations[i] + 1 - target[i]
            if total < 0:  # Larger than the kernel reaches: zeros at the end.
                extra = (*extra[:i], extra[i] - total, *extra[i + 1 :])
                total = 0
            small, large = total // 2, total - total // 2
            upper = auto != "SAME_LOWER" if auto == "SAME_UPPER" or not asked else auto == "SAME_UPPER"
            before.append(small if upper else large)
            after.append(large if upper else small)
        pads = (*before, *after)
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "output_padding": extra}
    return n.emit("ConvTranspose", [x, w, n.optional(2)], group=n.integer("group", 1), **attributes)


def gemm(n: Node) -> Value:
    a, b, c = n.value(0), n.value(1), n.optional(2)
    alpha, beta = n.real("alpha", 1.0), n.real("beta", 1.0)
    if n.integer("transA", 0):
        a = n.emit("Transpose", [a], perm=(1, 0))
    if b.constant is not None and b.constant.dtype.kind == "f" and b.constant.ndim == 2:
        weight = b.constant if n.integer("transB", 0) else b.constant.T
        steps = b.steps if b.steps is None or n.integer("transB", 0) else b.steps.transposed((1, 0))
        if alpha != 1.0:
            weight = (weight * alpha).astype(b.constant.dtype)
            steps = steps and steps.times(np.asarray(alpha, np.float32))
        bias = _row_bias(c, weight.shape[0], beta)
        kept = b if weight is b.constant else n.builder.constant(weight, f"{b.name}.rows", steps)
        if c is None or bias is not None:
            same = c is not None and c.constant is not None and bias is not None and np.array_equal(c.constant, bias)
            return n.emit("Gemm", [a, kept, c if same else None if bias is None else n.constant(bias)])
        out = n.emit("Gemm", [a, kept])
    else:
        if n.integer("transB", 0):
            b = n.emit("Transpose", [b], perm=(1, 0))
        out = n.emit("MatMul", [a, b])
        if alpha != 1.0:
            out = n.emit("Mul", [out, n.constant(np.asarray(alpha, a.type.dtype))])
    if c is None:
        return out
    if beta != 1.0:
        c = n.emit("Mul", [c, n.constant(np.asarray(beta, c.type.dtype))])
    return n.emit("Add", [out, c])


def _row_bias(c: Value | None, outputs: int, beta: float) -> Array | None:
    """A bias of one value an output, where it is one."""
    if c is None or c.constant is None or c.constant.size not in {1, outputs} or any(d != 1 for d in c.shape[:-1]):
        return None
    scaled = c.constant if beta == 1.0 else (c.constant * beta).astype(c.constant.dtype)
    return np.array(np.broadcast_to(scaled.reshape(-1), (outputs,)))


def matmul(n: Node) -> Value:
    a, b = n.value(0), n.value(1)
    if b.constant is not None and b.constant.ndim == 2 and b.constant.dtype.kind == "f" and len(a.shape) >= 1:
        steps = b.steps and b.steps.transposed((1, 0))
        return n.emit("Gemm", [a, n.builder.constant(b.constant.T, f"{b.name}.rows", steps)])
    return n.emit("MatMul", [a, b])


def pool(n: Node) -> Value:
    x = n.value(0)
    space = len(x.shape) - 2
    if not 1 <= space <= 3:
        n.refuse(f"pooling of {list(x.shape)}", "one to three spatial axes are supported")
    if len([o for o in n.outputs if o]) > 1:
        n.refuse("the places of the maxima (second output)", "drop the output Indices")
    kernel = n.ints("kernel_shape", ())
    window = _window(n, space, kernel, x.shape[2:])
    overhang = [0] * space
    if n.integer("ceil_mode", 0) and n.text("auto_pad", "NOTSET") in {"NOTSET", "VALID"}:
        for i, size in enumerate(x.shape[2:]):
            s, reach = window["strides"][i], (kernel[i] - 1) * window["dilations"][i] + 1
            room = size + window["pads"][i] + window["pads"][space + i] - reach
            steps = -(-room // s)
            if steps * s >= size + window["pads"][i]:
                steps -= 1  # NB a window that would start past the image is dropped.
            overhang[i] = max(steps * s - room, 0)
    attributes = {**window, "kernel": kernel, "overhang": tuple(overhang)}
    if n.op == "MaxPool":
        return n.emit("MaxPool", [x], **attributes)
    if n.op == "LpPool":
        return n.emit("LpPool", [x], p=n.integer("p", 2), **attributes)
    return n.emit("AveragePool", [x], count_include_pad=n.integer("count_include_pad", 0), **attributes)


def global_pool(n: Node) -> Value:
    x = n.value(0)
    axes = tuple(range(2, len(x.shape)))
    if n.op == "GlobalLpPool":
        if n.integer("p", 2) not in {1, 2}:
            n.refuse(f"p is {n.integer('p', 2)}", "1 and 2 are supported")
        return n.emit(f"ReduceL{n.integer('p', 2)}", [x], axes=axes, keepdims=1)
    return n.emit({"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}[n.op], [x], axes=axes, keepdims=1)


def batch_norm(n: Node) -> Value:
    x = n.value(0)
    if n.integer("training_mode", 0) or len([o for o in n.outputs if o]) > 1:
        n.refuse("it is in training mode", "export with model.eval()")
    if len(x.shape) < 1:
        n.refuse("it has no channels")
    scale, bias, mean, variance = (n.array(i, "its parameters").astype(np.float64) for i in range(1, 5))
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if any(p.shape != (channels,) for p in (scale, bias, mean, variance)):
        raise InvalidError(f"{n.name} (BatchNormalization): parameters have one value for each of {channels} channels")
    factor = scale / np.sqrt(variance + n.real("epsilon", 1e-5))
    wide = (channels, *(1,) * (len(x.shape) - 2)) if len(x.shape) > 1 else (1,)
    kind = np.dtype(x.type.dtype)
    return n.emit(
        "Affine",
        [
            x,
            n.constant(factor.astype(kind).reshape(wide)),
            n.constant((bias - mean * factor).astype(kind).reshape(wide)),
        ],
    )


def instance_norm(n: Node) -> Value:
    x, scale, bias = n.value(0), n.value(1), n.value(2)
    return n.emit("GroupNormalization", [x, scale, bias], groups=x.shape[1], epsilon=n.real("epsilon", 1e-5))


def group_norm(n: Node) -> Value:
    x, groups = n.value(0), n.integer("num_groups", 1)
    scale, bias = n.value(1), n.value(2)
    if n.opset < 21:  # One value a group, then.
        each = x.shape[1] // max(groups, 1)
        scale = n.constant(np.repeat(n.array(1, "its scale"), each))
        bias = n.constant(np.repeat(n.array(2, "its bias"), each))
    return n.emit("GroupNormalization", [x, scale, bias], groups=groups, epsilon=n.real("epsilon", 1e-5))


def layer_norm(n: Node) -> list[Value]:
    x = n.value(0)
    axis, epsilon = n.integer("axis", -1) % max(len(x.shape), 1), n.real("epsilon", 1e-5)
    outs = [n.emit(n.op, [x, n.value(1), n.optional(2)], axis=axis, epsilon=epsilon)]
    if any(n.outputs[1:]):  # Mean and the inverse of the deviation, which training wants.
        axes = tuple(range(axis, len(x.shape)))
        mean = n.emit("ReduceMean", [x], axes=axes, keepdims=1)
        apart = n.emit("Sub", [x, mean])
        variance = n.emit("ReduceMean", [n.emit("Mul", [apart, apart])], axes=axes, keepdims=1)
        safe = n.emit("Add", [variance, n.constant(np.asarray(epsilon, x.type.dtype))])
        outs += [mean, n.emit("Reciprocal", [n.emit("Sqrt", [safe])])]
    return outs


def lrn(n: Node) -> Value:
    numbers = {"alpha": n.real("alpha", 1e-4), "beta": n.real("beta", 0.75), "bias": n.real("bias", 1.0)}
    return n.emit("LRN", [n.value(0)], size=n.integer("size", 1), **numbers)


def lp_norm(n: Node) -> Value:
    x = n.value(0)
    return n.emit("LpNormalization", [x], axis=n.integer("axis", -1) % max(len(x.shape), 1), p=n.integer("p", 2))


def mean_variance(n: Node) -> Value:
    """(x - mean) / (deviation + 1e-9), as the standard's function body has it."""
    x = n.value(0)
    axes = tuple(sorted(a % len(x.shape) for a in n.ints("axes", (0, 2, 3))))
    if prod(x.shape) == 0:
        n.refuse("it normalises nothing")
    kind = x.type.dtype
    mean = n.emit("ReduceMean", [x], axes=axes, keepdims=1)
    square = n.emit("ReduceMean", [n.emit("Mul", [x, x])], axes=axes, keepdims=1)
    deviation = n.emit("Sqrt", [n.emit("Sub", [square, n.emit("Mul", [mean, mean])])])
    safe = n.emit("Add", [deviation, n.constant(np.asarray(1e-9, kind))])
    return n.emit("Div", [n.emit("Sub", [x, mean]), safe])


ROWS: dict[str, Row] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), global_pool),
    "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "LRN": lrn,
    "LpNormalization": lp_norm,
    "MeanVarianceNormalization": mean_variance,
}

"""What folds an axis. Sums of float32 run in float64: the order of additions then hardly matters, and pairs of runs agree."""

from collections.abc import Callable
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed


def _wide(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _log_sum_exp(x: Array, axis: Any, keepdims: bool) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis=axis)


_REDUCE: dict[str, Callable[..., Any]] = {
    "Sum": lambda x, a, k: np.sum(_wide(x), axis=a, keepdims=k, dtype=None if x.dtype.kind == "f" else x.dtype),
    "Mean": lambda x, a, k: np.mean(_wide(x), axis=a, keepdims=k),
    "Max": lambda x, a, k: np.max(x, axis=a, keepdims=k),
    "Min": lambda x, a, k: np.min(x, axis=a, keepdims=k),
    "Prod": lambda x, a, k: np.prod(_wide(x), axis=a, keepdims=k, dtype=None if x.dtype.kind == "f" else x.dtype),
    "L1": lambda x, a, k: np.sum(np.abs(_wide(x)), axis=a, keepdims=k),
    "L2": lambda x, a, k: np.sqrt(np.sum(np.square(x.astype(np.float64)), axis=a, keepdims=k)),
    "LogSum": lambda x, a, k: np.log(np.sum(x.astype(np.float64), axis=a, keepdims=k)),
    "LogSumExp": lambda x, a, k: _log_sum_exp(x.astype(np.float64), a, k),
    "SumSquare": lambda x, a, k: np.sum(np.square(_wide(x)), axis=a, keepdims=k),
}


def _reduce(name: str) -> Row:
    function = _REDUCE[name]

    def row(c: Call) -> Bind:
        axes, keep = tuple(c.attributes["axes"]), bool(c.attributes["keepdims"])
        return computed(lambda x: function(x, axes, keep))(c)

    return row


def _arg(best: Callable[..., Any]) -> Row:
    def row(c: Call) -> Bind:
        axis, keep = c.attributes["axis"] % len(c.shape(0)), bool(c.attributes["keepdims"])
        last, size = bool(c.attributes["select_last_index"]), c.shape(0)[c.attributes["axis"]]

        def function(x: Array) -> Any:
            if last:
                return size - 1 - best(np.flip(x, axis), axis=axis, keepdims=keep)
            return best(x, axis=axis, keepdims=keep)

        return computed(function)(c)

    return row


def _softmax(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]
        edge = [1 if i == axis else d for i, d in enumerate(y.shape)]
        top = np.empty(edge, y.dtype)

        def run() -> None:
            np.max(x, axis=axis, keepdims=True, out=top)
            np.subtract(x, top, out=y)
            np.exp(y, out=y)
            np.sum(y, axis=axis, keepdims=True, out=top)
            np.divide(y, top, out=y)

        return run

    return bind


def _log_softmax(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))

    def function(x: Array) -> Any:
        shifted = x - np.max(x, axis=axis, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))

    return computed(function)(c)


def _hardmax(c: Call) -> Bind:
    axis = c.attributes["axis"] % len(c.shape(0))

    def function(x: Array) -> Any:
        at = np.argmax(x, axis=axis, keepdims=True)
        return np.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - 1 - axis)) == at

    return computed(function)(c)


def _cumsum(c: Call) -> Bind:
    axis, rank = c.attributes["axis"] % len(c.shape(0)), len(c.shape(0))
    exclusive, reverse = bool(c.attributes["exclusive"]), bool(c.attributes["reverse"])

    def function(x: Array) -> Any:
        x = np.flip(x, axis) if reverse else x
        total = np.cumsum(x, axis=axis, dtype=x.dtype)
        if exclusive:
            shifted = np.zeros_like(total)
            ahead = tuple(slice(1, None) if i == axis else slice(None) for i in range(rank))
            behind = tuple(slice(None, -1) if i == axis else slice(None) for i in range(rank))
            shifted[ahead] = total[behind]
            total = shifted
        return np.flip(total, axis) if reverse else total

    return computed(function)(c)


def _layer_norm(c: Call) -> Bind:
    axes = tuple(range(c.attributes["axis"] % len(c.shape(0)), len(c.shape(0))))
    epsilon, centred = c.attributes["epsilon"], c.op == "LayerNormalization"

    def function(x: Array, scale: Array, bias: Array | None = None) -> Any:
        wide = x.astype(np.float64)
        if centred:
            wide = wide - np.mean(wide, axis=axes, keepdims=True)
        out = wide / np.sqrt(np.mean(np.square(wide), axis=axes, keepdims=True) + epsilon)
        out = out.astype(x.dtype) * scale
        return out if bias is None else out + bias

    return computed(function)(c)


def _group_norm(c: Call) -> Bind:
    groups, epsilon, shape = c.attributes["groups"], c.attributes["epsilon"], c.shape(0)
    column = (shape[1], *(1,) * (len(shape) - 2))

    def function(x: Array, scale: Array, bias: Array) -> Any:
        wide = x.astype(np.float64).reshape(shape[0], groups, -1)
        wide = wide - np.mean(wide, axis=2, keepdims=True)
        out = wide / np.sqrt(np.mean(np.square(wide), axis=2, keepdims=True) + epsilon)
        return out.astype(x.dtype).reshape(shape) * scale.reshape(column) + bias.reshape(column)

    return computed(function)(c)


def _lp_norm(c: Call) -> Bind:
    axis, p = c.attributes["axis"] % len(c.shape(0)), c.attributes["p"]

    def function(x: Array) -> Any:
        size = np.abs(x.astype(np.float64)) if p == 1 else np.square(x.astype(np.float64))
        total = np.sum(size, axis=axis, keepdims=True)
        norm = total if p == 1 else np.sqrt(total)
        return np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm))

    return computed(function)(c)


ROWS: dict[str, Row] = {
    **{f"Reduce{name}": _reduce(name) for name in _REDUCE},
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
    "CumSum": _cumsum,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "LpNormalization": _lp_norm,
}

"""Functions of one element. Those that networks use by the million run in place; the rare ones are written plainly."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed, elementwise
from meshd.kernels import registry

_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)


def erf(x: Array) -> Array:
    """The error function in float64, to 1e-15 relative or better.

    Below 2.5 by its series, past that by Lentz's continued fraction of erfc (Abramowitz and Stegun 7.1.6, 7.1.14).
    """
    wide = np.asarray(x, np.float64)
    a = np.minimum(np.abs(wide), 6.0)  # erf(6) is 1 in float64.
    near = np.minimum(a, 2.5)
    term, total = near.copy(), near.copy()
    for n in range(1, 48):
        term = term * (2.0 * near * near) / (2 * n + 1)
        total = total + term
    series = _TWO_OVER_ROOT_PI * np.exp(-near * near) * total
    far = np.maximum(a, 2.5)
    tail = far.copy()
    for k in range(60, 0, -1):
        tail = far + (k / 2.0) / tail
    fraction = 1.0 - np.exp(-far * far) / (math.sqrt(math.pi) * tail)
    return np.asarray(np.copysign(np.where(np.isnan(wide), wide, np.where(a < 2.5, series, fraction)), wide))


def _sigmoid(c: Call) -> Bind:
    half = c.scalar(0.5)

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            # tanh(x / 2) / 2 + 1 / 2: no branch, and nothing overflows.
            np.multiply(x, half, out=y)
            np.tanh(y, out=y)
            np.multiply(y, half, out=y)
            np.add(y, half, out=y)

        return run

    return bind


def _swish(c: Call) -> Bind:
    half, alpha = c.scalar(0.5), c.scalar(c.attributes["alpha"] * 0.5)

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            np.multiply(x, alpha, out=y)
            np.tanh(y, out=y)
            np.multiply(y, half, out=y)
            np.add(y, half, out=y)
            np.multiply(x, y, out=y)

        return run

    return bind


def _is_compiled(c: Call) -> bool:
    return c.dtype == np.float32 and registry.compiled()


def _hard_swish(c: Call) -> Bind:
    sixth, half, zero, one = (c.scalar(v) for v in (1 / 6, 0.5, 0, 1))
    if _is_compiled(c):
        from meshd.engine.activations import hard_swish

        do = hard_swish()
        return lambda ins, outs: partial(do, ins[0].reshape(-1), outs[0].reshape(-1), sixth, half, zero, one)

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            np.multiply(x, sixth, out=y)
            np.add(y, half, out=y)
            np.maximum(y, zero, out=y)
            np.minimum(y, one, out=y)
            np.multiply(x, y, out=y)

        return run

    return bind


def _hard_sigmoid(c: Call) -> Bind:
    alpha, beta, zero, one = c.scalar(c.attributes["alpha"]), c.scalar(c.attributes["beta"]), c.scalar(0), c.scalar(1)

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            np.multiply(x, alpha, out=y)
            np.add(y, beta, out=y)
            np.maximum(y, zero, out=y)
            np.minimum(y, one, out=y)

        return run

    return bind


def _relu(c: Call) -> Bind:
    zero = c.scalar(0)
    return lambda ins, outs: lambda: np.maximum(ins[0], zero, out=outs[0])


def _leaky(c: Call) -> Bind:
    alpha = c.scalar(c.attributes["alpha"])
    if not 0 <= alpha <= 1:
        return computed(lambda x: np.where(x < 0, x * alpha, x))(c)
    if _is_compiled(c):
        from meshd.engine.activations import leaky_relu

        do = leaky_relu()
        return lambda ins, outs: partial(do, ins[0].reshape(-1), outs[0].reshape(-1), alpha)

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            np.multiply(x, alpha, out=y)
            np.maximum(x, y, out=y)

        return run

    return bind


def _clip(c: Call) -> Bind:
    low, high = (_bound(c, v) for v in (c.attributes["low"], c.attributes["high"]))
    if math.isinf(c.attributes["high"]):
        return lambda ins, outs: lambda: np.maximum(ins[0], low, out=outs[0])
    if math.isinf(c.attributes["low"]):
        return lambda ins, outs: lambda: np.minimum(ins[0], high, out=outs[0])

    def bind(ins: Any, outs: Any) -> Any:
        x, y = ins[0], outs[0]

        def run() -> None:
            np.maximum(x, low, out=y)
            np.minimum(y, high, out=y)

        return run

    return bind


def _bound(c: Call, value: float) -> Any:
    """A bound as a number of the tensor's type: an integer type has no infinity."""
    if c.dtype.kind == "f":
        return c.scalar(value)
    info = np.iinfo(c.dtype)
    return c.dtype.type(int(min(max(value, info.min), info.max)))


def _sign(c: Call) -> Bind:
    if c.attributes["zero"] == 0:
        return lambda ins, outs: lambda: np.sign(ins[0], out=outs[0])
    minus, plus = c.scalar(-1), c.scalar(1)
    return lambda ins, outs: lambda: np.copyto(outs[0], np.where(ins[0] < 0, minus, plus))


def _gelu(c: Call) -> Bind:
    if c.attributes["tanh"]:
        root = math.sqrt(2.0 / math.pi)
        return computed(lambda x: 0.5 * x * (1.0 + np.tanh(root * (x + 0.044715 * x**3))))(c)
    return computed(lambda x: 0.5 * x * (1.0 + erf(x / math.sqrt(2.0))))(c)


def _of(function: Callable[[Call], Callable[..., Any]]) -> Row:
    """A function that needs attributes first."""
    return lambda c: computed(function(c))(c)


def _elu(c: Call) -> Callable[..., Any]:
    alpha = c.scalar(c.attributes["alpha"])
    return lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _celu(c: Call) -> Callable[..., Any]:
    alpha = c.scalar(c.attributes["alpha"])
    return lambda x: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _selu(c: Call) -> Callable[..., Any]:
    alpha, gamma = c.scalar(c.attributes["alpha"]), c.scalar(c.attributes["gamma"])
    return lambda x: gamma * np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _thresholded(c: Call) -> Callable[..., Any]:
    return lambda x: np.where(x > c.scalar(c.attributes["alpha"]), x, c.scalar(0))


def _shrink(c: Call) -> Callable[..., Any]:
    edge, bias = c.scalar(c.attributes["lambd"]), c.scalar(c.attributes["bias"])
    return lambda x: np.where(x < -edge, x + bias, np.where(x > edge, x - bias, c.scalar(0)))


def _is_inf(c: Call) -> Callable[..., Any]:
    negative, positive = bool(c.attributes["negative"]), bool(c.attributes["positive"])
    return lambda x: (np.isposinf(x) & positive) | (np.isneginf(x) & negative)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _cast(c: Call) -> Bind:
    source = c.inputs[0]
    assert source is not None
    if c.dtype.kind == "b":
        return lambda ins, outs: lambda: np.not_equal(ins[0], 0, out=outs[0])
    if np.dtype(source.dtype).kind == "f" and c.dtype.kind in "iu":
        return lambda ins, outs: lambda: np.copyto(outs[0], _to_integers(ins[0], c.dtype), casting="unsafe")
    return lambda ins, outs: lambda: np.copyto(outs[0], ins[0], casting="unsafe")


def _to_integers(x: Array, dtype: np.dtype[Any]) -> Array:
    # C leaves a float beyond the integer's range undefined, so machines differ; int64 wraps the same everywhere.
    inside = np.where(np.abs(x) < 2.0**62, x, 0)
    return np.asarray(np.trunc(inside).astype(np.int64).astype(dtype))


_UFUNCS: dict[str, Any] = {
    "Neg": np.negative,
    "Abs": np.absolute,
    "Tanh": np.tanh,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "IsNaN": np.isnan,
    "Not": np.logical_not,
    "BitwiseNot": np.invert,
}

ROWS: dict[str, Row] = {
    **{name: elementwise(function) for name, function in _UFUNCS.items()},
    "Relu": _relu,
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "Sigmoid": _sigmoid,
    "Swish": _swish,
    "HardSwish": _hard_swish,
    "HardSigmoid": _hard_sigmoid,
    "Sign": _sign,
    "Gelu": _gelu,
    "Erf": computed(erf),
    "Softplus": computed(softplus),
    "Softsign": computed(lambda x: x / (1 + np.abs(x))),
    "Mish": computed(lambda x: x * np.tanh(softplus(x))),
    "Elu": _of(_elu),
    "Celu": _of(_celu),
    "Selu": _of(_selu),
    "ThresholdedRelu": _of(_thresholded),
    "Shrink": _of(_shrink),
    "IsInf": _of(_is_inf),
    "Cast": _cast,
}

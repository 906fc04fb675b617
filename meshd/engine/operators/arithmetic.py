"""Functions of two or three tensors with broadcasting."""

from typing import Any

import numpy as np

from meshd.engine.operators.call import Array, Bind, Call, Row, computed, elementwise


def _div(c: Call) -> Bind:
    if c.dtype.kind == "f":
        return elementwise(np.divide)(c)
    return computed(_truncated)(c)


def _truncated(a: Array, b: Array) -> Array:
    """Integer division towards zero; by zero gives zero on every machine."""
    safe = np.where(b == 0, 1, b)
    quotient = np.abs(a) // np.abs(safe)
    return np.asarray(np.where(b == 0, 0, np.where((a < 0) != (safe < 0), -quotient, quotient)))


def _mod(c: Call) -> Bind:
    if c.attributes["fmod"]:
        return elementwise(np.fmod)(c)
    return elementwise(np.mod)(c)


def _pow(c: Call) -> Bind:
    def power(a: Array, b: Array) -> Any:
        # In the base's type, as the result has: integers to a float power go through float64.
        return (
            np.power(a.astype(np.float64), b) if a.dtype.kind != "f" and b.dtype.kind == "f" else np.power(a, _exact(b))
        )

    exponent = c.constants[1]
    if exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2.0:
        return lambda ins, outs: lambda: np.multiply(ins[0], ins[0], out=outs[0])
    return computed(power)(c)


def _exact(b: Array) -> Array:
    # NumPy refuses negative integer exponents of integers; ONNX leaves them open. They become zero.
    return np.asarray(np.maximum(b, 0)) if b.dtype.kind == "i" else b


def _affine(c: Call) -> Bind:
    def bind(ins: Any, outs: Any) -> Any:
        (x, scale, shift), y = ins, outs[0]

        def run() -> None:
            np.multiply(x, scale, out=y)
            np.add(y, shift, out=y)

        return run

    return bind


def _prelu(c: Call) -> Bind:
    return computed(lambda x, slope: np.where(x < 0, x * slope, x))(c)


_UFUNCS: dict[str, Any] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Min": np.minimum,
    "Max": np.maximum,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}

ROWS: dict[str, Row] = {
    **{name: elementwise(function) for name, function in _UFUNCS.items()},
    "Div": _div,
    "Mod": _mod,
    "Pow": _pow,
    "Affine": _affine,
    "PRelu": _prelu,
    "Where": computed(np.where),
}

"""Resize: nearest, linear and cubic, one axis after another, as a small matrix an axis.

The matrices are made at compile: row i holds the weights of the input places that output place i is made of.
Source: ONNX Resize-19; cubic weights by Keys 1981.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.engine.operators.call import Array, Bind, Call, computed

Floats = NDArray[np.float64]


def resize(c: Call) -> Bind:
    """The engine's row."""
    a, shape = c.attributes, c.shape(0)
    todo = [
        (i, _matrix(n, m, s, a))
        for i, (n, m, s) in enumerate(zip(shape, a["shape"], a["scales"], strict=True))
        if _moves(n, m, s)
    ]

    def function(x: Array) -> Any:
        for axis, weights in todo:
            if isinstance(weights, tuple):
                x = np.take(x, weights[0], axis=axis)
            else:
                x = np.moveaxis(np.tensordot(weights, x.astype(np.float64), axes=(1, axis)), 0, axis)
        return np.rint(x) if c.dtype.kind in "iu" and x.dtype.kind == "f" else x

    return computed(function)(c)


def _moves(n: int, m: int, scale: float) -> bool:
    return n != m or scale != 1.0


def _matrix(n: int, m: int, scale: float, a: Any) -> Floats | tuple[NDArray[np.int64]]:
    """Places (nearest) or weights (m, n) that make m places of n."""
    at = _coordinates(n, m, scale, a["coordinates"])
    if a["mode"] == "nearest":
        return (np.clip(_nearest(at, a["nearest"]), 0, n - 1).astype(np.int64),)
    reach, kernel = (1.0, _linear) if a["mode"] == "linear" else (2.0, lambda t: _cubic(t, a["cubic_a"]))
    stretch = max(1.0, 1.0 / scale) if a["antialias"] else 1.0
    weights = np.zeros((m, n))
    for i, x in enumerate(at):
        first = math.floor(x - reach * stretch) + 1
        places = np.arange(first, math.floor(x + reach * stretch) + 1)
        w = kernel((places - x) / stretch)
        if a["antialias"]:
            w = w / w.sum()
        if a["exclude_outside"]:
            w = np.where((places >= 0) & (places < n), w, 0.0)
            w = w / w.sum() if w.sum() else w
        np.add.at(weights[i], np.clip(places, 0, n - 1), w)
    return weights


def _coordinates(n: int, m: int, scale: float, how: str) -> Floats:
    out = np.arange(m, dtype=np.float64)
    if how == "align_corners":
        length = scale * n  # NB not rounded down to m, says the standard's reference.
        return out * (n - 1) / (length - 1) if length != 1 else np.zeros(m)
    if how == "asymmetric":
        return out / scale
    if how == "pytorch_half_pixel" and m == 1:
        return np.full(1, -0.5)
    if how == "half_pixel_symmetric":
        adjustment = m / (scale * n)
        return n / 2 * (1 - adjustment) + (out + 0.5) / scale - 0.5
    return (out + 0.5) / scale - 0.5


def _nearest(at: Floats, how: str) -> Floats:
    if how == "floor":
        return np.floor(at)
    if how == "ceil":
        return np.ceil(at)
    return np.ceil(at - 0.5) if how == "round_prefer_floor" else np.floor(at + 0.5)


def _linear(t: Floats) -> Floats:
    return np.maximum(0.0, 1.0 - np.abs(t))


def _cubic(t: Floats, a: float) -> Floats:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.asarray(np.where(t <= 1, near, np.where(t < 2, far, 0.0)))

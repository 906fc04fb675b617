"""What a layer's inputs look like, in sums: enough to say what any change of its weights does to its outputs.

Rows x are what a row of the weight is multiplied with: an input vector, or a patch of an image under the window. With x of
the network as it is now (pruned so far) and y of the network as it was:

    H = cov(x, x)      C = cov(y, x)      error of weights w = tr(w H w') - 2 tr(w C') + tr(cov(y, y))

Means are kept beside, so that the best bias comes with them: mean(y) - w mean(x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.compress.layers import Layer

ROWS_MAX = 50_000
"""Patches that are looked at, of all items together: more tell nothing new, and a sum of k x k each is what takes time."""

Doubles = NDArray[np.float64]
Array = NDArray[Any]


class Moments:
    """Sums over rows x (count, k) and targets y (count, outputs)."""

    def __init__(self, terms: int, outputs: int) -> None:
        self.count = 0
        self._x, self._y = np.zeros(terms), np.zeros(outputs)
        self._xx, self._yx = np.zeros((terms, terms)), np.zeros((outputs, terms))
        self._yy = 0.0

    def add(self, x: Array, y: Array) -> None:
        """Add rows, float32."""
        self.count += len(x)
        self._x += x.sum(0, dtype=np.float64)
        self._y += y.sum(0, dtype=np.float64)
        self._xx += x.T @ x
        self._yx += y.T @ x
        self._yy += float(np.square(y, dtype=np.float64).sum())

    def __add__(self, other: Moments) -> Moments:
        both = Moments(len(self._x), len(self._y))
        both.count = self.count + other.count
        both._x, both._y = self._x + other._x, self._y + other._y
        both._xx, both._yx, both._yy = self._xx + other._xx, self._yx + other._yx, self._yy + other._yy
        return both

    @property
    def mean(self) -> Doubles:
        """Of x, (k,)."""
        return self._x / max(self.count, 1)

    @property
    def target_mean(self) -> Doubles:
        """Of y, (outputs,)."""
        return self._y / max(self.count, 1)

    @property
    def squares(self) -> Doubles:
        """Mean of x squared, (k,), not centred."""
        return np.diagonal(self._xx) / max(self.count, 1)

    def hessian(self) -> Doubles:
        """cov(x, x), (k, k)."""
        return self._xx / self.count - np.outer(self.mean, self.mean)

    def cross(self) -> Doubles:
        """cov(y, x), (outputs, k)."""
        return self._yx / self.count - np.outer(self.target_mean, self.mean)

    def error(self, weight: Array) -> float:
        """Mean squared error of the outputs with these weights and the best bias, as a share of the outputs' variance."""
        variance = self._yy / self.count - float(np.square(self.target_mean).sum())
        w = np.asarray(weight, np.float64)
        found = float(((w @ self.hessian()) * w).sum() - 2 * (w * self.cross()).sum()) + variance
        return max(found, 0.0) / max(variance, 1e-30)


def rows_of(layer: Layer, x: Array, group: int, step: int = 1) -> Array:
    """What the rows of group `group` of the weight are multiplied with: float32 (count, k), of every `step`-th patch."""
    if layer.op != "Conv":
        return np.ascontiguousarray(x.reshape(-1, layer.terms)[::step])
    inner = layer.shape[1]
    x = x[:, group * inner : (group + 1) * inner]
    kernel = layer.shape[2:]
    strides, dilations, pads = window_of(layer, x.shape[2:])
    axes = len(kernel)
    padded = np.pad(x, [(0, 0), (0, 0), *((pads[i], pads[axes + i]) for i in range(axes))])
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    places = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    seen = seen[(slice(None), slice(None), *places, *taps)]
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    patches = seen.transpose(order)
    if step == 1:
        return np.ascontiguousarray(patches.reshape(-1, layer.terms))
    shape = patches.shape[: 1 + axes]
    places_taken = np.unravel_index(np.arange(0, int(np.prod(shape)), step), shape)
    return np.ascontiguousarray(patches[places_taken].reshape(-1, layer.terms))


def patches_of(layer: Layer, shape: tuple[int, ...]) -> int:
    """Rows an item of this shape (of the layer's input, without the item's axis) gives."""
    if layer.op != "Conv":
        return int(np.prod(shape)) // layer.terms
    strides, dilations, pads = window_of(layer, shape[1:])
    axes = len(strides)
    count = 1
    for i, size in enumerate(shape[1:]):
        count *= (size + pads[i] + pads[axes + i] - dilations[i] * (layer.shape[2 + i] - 1) - 1) // strides[i] + 1
    return count


def window_of(layer: Layer, size: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads (begins, then ends) of a convolution over an image of this size."""
    a, axes = layer.window or {}, len(size)
    strides, dilations = list(a.get("strides", [1] * axes)), list(a.get("dilations", [1] * axes))
    auto = a.get("auto_pad", b"NOTSET").decode()
    if auto not in {"SAME_UPPER", "SAME_LOWER"}:
        return strides, dilations, [0] * (2 * axes) if auto == "VALID" else list(a.get("pads", [0] * (2 * axes)))
    begins, ends = [], []
    for n, k, s, d in zip(size, layer.shape[2:], strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if auto == "SAME_UPPER" else more)
        ends.append(more if auto == "SAME_UPPER" else less)
    return strides, dilations, begins + ends

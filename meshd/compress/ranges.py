"""From values to the step and zero point of 8 bits: which range is worth 256 levels.

A range too wide wastes levels, one too narrow clips. `minmax` clips nothing; `percentile` leaves out the rarest values;
`mse` takes the range whose rounding and clipping err least.

Activations are uint8 with any zero point, weights int8 around zero: what kernels multiply fastest, here and elsewhere.
Source: Krishnamoorthi, "Quantizing deep convolutional networks", 2018; Nagel et al., "A White Paper on Neural Network
Quantization", 2021, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("mse", "percentile", "minmax")
BINS = 2048
RARE = 1e-4
"""Share of values that `percentile` leaves out, half at each end."""
SHRINKS = tuple(1.0 - 0.02 * i for i in range(36))
"""Parts of the whole range that `mse` tries."""
LEVELS, WEIGHT_MAX = 255, 127

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scale:
    """`value = step * (octet - zero)`."""

    step: float
    zero: int

    def rounded(self, x: Floats) -> Floats:
        """x as 8 bits would have it, float32."""
        octets = np.clip(np.rint(x / np.float32(self.step)) + np.float32(self.zero), 0, LEVELS)
        made: Floats = ((octets - np.float32(self.zero)) * np.float32(self.step)).astype(np.float32)
        return made


def scale_between(low: float, high: float) -> Scale:
    """The scale of a range; zero is always one of its values, so that pads and ReLU's zeros are exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = float(np.float32(max((high - low) / LEVELS, 1e-12)))
    return Scale(step, int(np.clip(round(-low / step), 0, LEVELS)))


class Histogram:
    """Values of one tensor, counted between bounds that are known."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = min(low, 0.0), max(high, 0.0, low + 1e-12)
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count values, all within the bounds."""
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    def scale(self, method: str) -> Scale:
        """The scale one of `METHODS` chooses."""
        if method == "minmax":
            return scale_between(self.low, self.high)
        edges = np.linspace(self.low, self.high, BINS + 1)
        if method == "percentile":
            below = np.cumsum(self.counts) / max(1, int(self.counts.sum()))
            first, last = (int(np.searchsorted(below, share)) for share in (RARE / 2, 1 - RARE / 2))
            return scale_between(float(edges[min(first, BINS - 1)]), float(edges[min(last + 1, BINS)]))
        middles = ((edges[1:] + edges[:-1]) / 2).astype(np.float32)

        def error(s: Scale) -> float:
            return float((np.square(s.rounded(middles) - middles, dtype=np.float64) * self.counts).sum())

        tried = [scale_between(self.low * a, self.high * b) for a in SHRINKS for b in SHRINKS if a == b or self.low < 0]
        return min(tried, key=error)


def weight_steps(matrix: Floats, method: str) -> NDArray[np.float32]:
    """Step of each row of a weight (outputs, k): its greatest magnitude is 127 steps; `mse` may clip it."""
    most = np.maximum(np.abs(matrix).max(1), 1e-12)
    if method != "mse":
        return np.asarray(most / WEIGHT_MAX, np.float32)
    best, errors = most / WEIGHT_MAX, np.full(len(matrix), np.inf)
    for shrink in SHRINKS[:26]:
        steps = most * shrink / WEIGHT_MAX
        off = np.square(weight_octets(matrix, steps) * steps[:, None] - matrix).sum(1)
        better = off < errors
        best, errors = np.where(better, steps, best), np.where(better, off, errors)
    return np.asarray(best, np.float32)


def weight_octets(matrix: Floats, steps: NDArray[Any]) -> NDArray[np.int8]:
    """A weight in steps, int8."""
    return np.asarray(np.clip(np.rint(matrix / steps[:, None]), -WEIGHT_MAX, WEIGHT_MAX), np.int8)

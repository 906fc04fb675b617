"""Which zeros a kernel likes: outputs that share positions, so many of each few, or any.

A pattern splits a weight matrix (outputs, k) into units that are kept or dropped as one: `block` neighbouring outputs at one
position. N:M keeps at most N of each M input channels under one tap.

Source: blocks along outputs after Elsen et al., "Fast Sparse ConvNets", CVPR 2020; N:M after Mishra et al., 2021.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.compress.layers import Layer
from meshd.errors import MisuseError

Bools = NDArray[np.bool_]
NAMES = "kernel, blockB (block4), N:M (2:4) or unstructured"


@dataclass(frozen=True, slots=True)
class Pattern:
    """How the zeros of a layer lie.

    Attributes
    ----------
    block : neighbouring outputs that share positions
    keep, of : N and M of N:M; 0 otherwise
    """

    block: int = 1
    keep: int = 0
    of: int = 0

    @property
    def name(self) -> str:
        """As a user writes it."""
        return f"{self.keep}:{self.of}" if self.of else f"block{self.block}" if self.block > 1 else "unstructured"

    def sums(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Scores (outputs, k) summed over each unit: (outputs / block, k)."""
        found: NDArray[Any] = scores.reshape(-1, self.block, scores.shape[1]).sum(1)
        return found

    def spread(self, units: Bools) -> Bools:
        """A mask of units as a mask of weights (outputs, k)."""
        return np.repeat(units, self.block, axis=0)

    def best(self, scores: NDArray[Any], sparsity: float, taps: int) -> Bools:
        """The units to keep by score, (outputs / block, k): the highest of all, or of each M under N:M."""
        if self.of:
            rows, terms = scores.shape
            wide = scores.reshape(rows, terms // taps // self.of, self.of, taps)
            order = np.argsort(-wide, axis=2, kind="stable")
            kept = np.zeros(wide.shape, bool)
            np.put_along_axis(kept, order[:, :, : self.keep], True, axis=2)
            return kept.reshape(rows, terms)
        count = scores.size - round(scores.size * sparsity)
        # A stable sort: which of two equal units is kept must not depend on the machine.
        flat = np.zeros(scores.size, bool)
        flat[np.argsort(-scores, axis=None, kind="stable")[: max(1, count)]] = True
        return flat.reshape(scores.shape)


def parse(text: str, layer: Layer) -> Pattern | None:
    """The pattern a user asked for, on this layer; None where it does not fit (the layer stays dense).

    `kernel` is what meshd's kernels run fastest: blocks of 4 outputs in convolutions, of 16 in products.

    Raises
    ------
    MisuseError
        If it is no pattern.
    """
    rows = layer.outputs // layer.groups
    if text == "unstructured":
        return Pattern()
    if text == "kernel":
        wish = (4, 2) if layer.op == "Conv" else (16, 8, 4)
        return next((Pattern(b) for b in wish if rows % b == 0), None)
    if found := re.fullmatch(r"block(\d{1,3})", text):
        block = int(found[1])
        if block not in {2, 4, 8, 16}:
            raise MisuseError(f"block of {block} outputs: kernels have 2, 4, 8 and 16")
        return Pattern(block) if rows % block == 0 else None
    if found := re.fullmatch(r"(\d{1,2}):(\d{1,2})", text):
        keep, of = int(found[1]), int(found[2])
        if not 0 < keep < of <= 32:
            raise MisuseError(f"{text}: keep fewer than M of each M, at most 32")
        return Pattern(1, keep, of) if layer.terms // layer.taps % of == 0 else None
    raise MisuseError(f"{text!r} is no pattern: {NAMES}")

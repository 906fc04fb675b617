"""N:M patterns as a format: of each M weights of an output that lie together, at most N are not zero.

Every group keeps N weights, ascending, and for each of them which of the group's M it is: 2 bits for M = 4, 4 bits for M = 8.
Choices of one output are packed into 32-bit words from the lowest bits up, whole groups to a word. Outputs lie side by side
in panels of 64: values (panels, groups, N, 64), choices (panels, words, 64).

Where k is not a multiple of M the last group is moved back to end with k; what it shares with the group before it keeps there.
Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021, for the pattern.
"""

import numpy as np
from numpy.typing import NDArray

from meshd.kernels.layout import Weights

PANEL = 64
WORD = 32
CHOICE_BITS = {4: 2, 8: 4}
"""NB four bits for eight: the instruction for 16 lanes looks at four."""


def kept(nonzero: NDArray[np.bool_], period: int) -> int:
    """N: the most that any group of any output keeps, at least 1; (outputs, k), k at least the period."""
    return max(1, int(_groups(nonzero, period).sum(2).max()))


def _groups(weight: Weights, period: int) -> Weights:
    """(outputs, groups, M): the last group moved back, without what the one before it has."""
    outputs, k = weight.shape
    whole = k // period * period
    groups = weight[:, :whole].reshape(outputs, -1, period)
    if whole == k:
        return groups
    rest = weight[:, k - period :].copy()
    rest[:, : period - (k - whole)] = 0
    return np.concatenate([groups, rest[:, None]], 1)


def encode(weight: Weights, n: int, period: int) -> tuple[Weights, NDArray[np.int32]]:
    """Values and choices of a matrix (outputs, k)."""
    panels = -(-weight.shape[0] // PANEL)
    padded = np.zeros((panels * PANEL, weight.shape[1]), weight.dtype)
    padded[: len(weight)] = weight
    groups = _groups(padded, period)
    # What is not zero first, each in its order; then those in ascending order again, so that terms are added ascending.
    order = np.sort(np.argsort(groups == 0, 2, kind="stable")[:, :, :n], 2)
    value = np.take_along_axis(groups, order, 2).reshape(panels, PANEL, -1, n).transpose(0, 2, 3, 1)
    bits = CHOICE_BITS[period]
    a_word = WORD // bits // n
    words = -(-groups.shape[1] // a_word)
    choice = np.zeros((panels * PANEL, words, a_word * n), np.uint32)
    flat = choice.reshape(panels * PANEL, -1)
    flat[:, : groups.shape[1] * n] = order.reshape(panels * PANEL, -1)
    shifted = choice << (bits * np.arange(a_word * n, dtype=np.uint32))
    packed = np.bitwise_or.reduce(shifted, 2).reshape(panels, PANEL, words).transpose(0, 2, 1)
    return np.ascontiguousarray(value), np.ascontiguousarray(packed).view(np.int32)


def decode(value: Weights, choice: NDArray[np.int32], period: int, outputs: int, k: int) -> Weights:
    """The matrix (outputs, k): the inverse of `encode`."""
    panels, groups, n, _ = value.shape
    bits = CHOICE_BITS[period]
    a_word = WORD // bits // n
    shifts = bits * np.arange(a_word * n, dtype=np.uint32)
    taken = (choice.view(np.uint32)[:, :, None] >> shifts[None, None, :, None]) & np.uint32(period - 1)
    order = taken.reshape(panels, -1, n, PANEL)[:, :groups].astype(np.int64)
    position = order + np.minimum(np.arange(groups) * period, k - period)[None, :, None, None]
    weight = np.zeros((panels * PANEL, k), value.dtype)
    output = np.arange(panels * PANEL).reshape(panels, 1, 1, PANEL)
    np.add.at(weight, (np.broadcast_to(output, position.shape), position), value)
    return weight[:outputs]

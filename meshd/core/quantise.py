"""Rounding that keeps facts from being news all the time: small changes vanish, and every machine rounds alike.

Rule: integers in, integers out; no floating point.
"""

from bisect import bisect_right
from math import isqrt


def _geometric(most: int) -> tuple[int, ...]:
    steps = list(range(21))
    while steps[-1] < most:
        steps.append(steps[-1] * 21 // 20)
    return tuple(steps)


_FIVE_PERCENT = _geometric(1 << 53)
_QUARTER_POWERS = (0, *sorted({isqrt(isqrt(1 << k)) for k in range(4 * 40)}))
"""floor(2 ** (k / 4)): the fourth root of 2 ** k, exactly."""


def five_percent(value: int) -> int:
    """Down to a step of 5 %: rates and bandwidths."""
    return _down(_FIVE_PERCENT, value)


def quarter_power(value: int) -> int:
    """Down to a quarter power of two: round trips."""
    return _down(_QUARTER_POWERS, value)


def sixty_fourth(value: int, whole: int) -> int:
    """Down to a 64th of `whole`: free memory."""
    step = max(1, whole // 64)
    return value // step * step


def _down(steps: tuple[int, ...], value: int) -> int:
    return steps[bisect_right(steps, max(0, value)) - 1]

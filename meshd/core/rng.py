"""Randomness as an argument: one generator per node *and purpose*, so that a draw added in one place shifts nothing elsewhere."""

from collections.abc import Callable, MutableSequence
from typing import Any, Protocol


class Rng(Protocol):
    """What the core asks of a generator; `random.Random` fits."""

    def getrandbits(self, k: int, /) -> int:
        """`k` random bits."""

    def randrange(self, stop: int, /) -> int:
        """An integer in `[0, stop)`."""

    def shuffle(self, x: MutableSequence[Any], /) -> None:
        """Shuffle in place."""


RngFor = Callable[[str], Rng]
"""Purpose → its generator. Asked once for each purpose."""


def draw(rng: Rng, items: list[Any], count: int) -> list[Any]:
    """Up to `count` different items, in random order. `items` is consumed."""
    drawn = []
    for _ in range(min(count, len(items))):
        index = rng.randrange(len(items))
        items[index], items[-1] = items[-1], items[index]
        drawn.append(items.pop())
    return drawn

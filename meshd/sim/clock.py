"""Virtual time: one heap of (time, tie, sequence). Nothing here waits.

Events of one microsecond run in an order drawn from the seed (`tie`), so that no rule can lean on an accident of order.
"""

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

Event = tuple[int, int, int, Callable[..., None], tuple[Any, ...]]


class Clock:
    """The simulated world's time, in microseconds."""

    def __init__(self, seed: int) -> None:
        self.now_us = 0
        self._heap: list[Event] = []
        self._sequence = 0
        self._ties = Random(f"{seed}/ties").getrandbits

    def at(self, when_us: int, call: Callable[..., None], *args: Any) -> None:
        """Call at a time, not before now."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(when_us, self.now_us), self._ties(32), self._sequence, call, args))

    def after(self, delay_us: int, call: Callable[..., None], *args: Any) -> None:
        """Call after a while."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_us + max(delay_us, 0), self._ties(32), self._sequence, call, args))

    def run_until(self, when_us: int, stop: Callable[[], bool] | None = None) -> bool:
        """Run events up to a time; True if `stop` said so after one of them."""
        heap = self._heap
        while heap and heap[0][0] <= when_us:
            event = heapq.heappop(heap)
            self.now_us = event[0]
            event[3](*event[4])
            if stop is not None and stop():
                return True
        self.now_us = max(self.now_us, when_us)
        return False

    @property
    def events(self) -> int:
        """How many were ever put in."""
        return self._sequence

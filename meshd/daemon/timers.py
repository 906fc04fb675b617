"""The driver's one heap of timers, by id. Setting an id again replaces it; cancelling an unknown one is nothing.

Invariant: `next_us` is the earliest due time among the ids set and neither fired, replaced nor cancelled.
"""

import heapq

from meshd.config import TIMERS_MAX
from meshd.core.events import TimerId


class Timers:
    """Timers in integer microseconds of the driver's clock."""

    def __init__(self) -> None:
        self._due: dict[TimerId, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, TimerId]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._due)

    def set(self, id: TimerId, due_us: int) -> None:
        """Make `id` due at `due_us`, whatever it was before. Equal times fire in the order they were set."""
        self._sequence += 1
        self._due[id] = (due_us, self._sequence)
        assert len(self._due) <= TIMERS_MAX, f"{len(self._due)} timers set: the core leaks them"
        heapq.heappush(self._heap, (due_us, self._sequence, id))
        if len(self._heap) > 64 + 4 * len(self._due):  # Mostly replaced ones: build it anew.
            self._heap = [(due, sequence, each) for each, (due, sequence) in self._due.items()]
            heapq.heapify(self._heap)

    def cancel(self, id: TimerId) -> None:
        """Forget `id`."""
        self._due.pop(id, None)

    def next_us(self) -> int | None:
        """When the earliest timer is due, or None."""
        while self._heap and not self._live(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now_us: int) -> list[TimerId]:
        """Remove and return the ids due at `now_us`, earliest first."""
        ids = []
        while (due := self.next_us()) is not None and due <= now_us:
            id = heapq.heappop(self._heap)[2]
            del self._due[id]
            ids.append(id)
        return ids

    def _live(self, due_us: int, sequence: int, id: TimerId) -> bool:
        return self._due.get(id) == (due_us, sequence)

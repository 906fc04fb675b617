"""The one way into the driver: inputs from trio tasks and from threads, bounded.

Rule 1: a stranger's input (a link message, a sighting) is refused when the box is full.
Rule 2: an answer to an effect is never refused: there are as many as effects, and those the core bounds.
"""

import threading
from collections import deque
from typing import Any

import trio

from meshd.config import CORE_EVENTS_QUEUE_MAX


class Inbox:
    """Made inside trio, by the driver's own thread."""

    def __init__(self, limit: int = CORE_EVENTS_QUEUE_MAX) -> None:
        self._items: deque[tuple[Any, bool]] = deque()
        self._room = threading.Semaphore(limit)
        self._woken = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, item: Any) -> bool:
        """Put `item` in unless the box is full; from any thread. False: refused, nothing happened."""
        if not self._room.acquire(blocking=False):
            return False
        self._append(item, True)
        return True

    def answer(self, item: Any) -> None:
        """Put in the answer to an effect; from any thread."""
        self._append(item, False)

    def take(self) -> Any:
        """Remove and return the oldest item. Raises IndexError when there is none."""
        item, counted = self._items.popleft()
        if counted:
            self._room.release()
        return item

    def wake(self) -> None:
        """End the driver's `wait`; from any thread."""
        if threading.get_ident() == self._thread:
            self._woken.set()
        else:
            try:
                self._token.run_sync_soon(self._wake_here, idempotent=True)
            except trio.RunFinishedError:
                return  # The daemon has ended; nobody will read this.

    async def wait(self) -> None:
        """Sleep until something was put in, or `wake`. Cancellation leaves everything as it was."""
        if self._items:
            self._woken.set()
        await self._woken.wait()  # A checkpoint even when set: a busy driver lets others run.
        self._woken = trio.Event()

    def _wake_here(self) -> None:
        self._woken.set()

    def _append(self, item: Any, counted: bool) -> None:
        self._items.append((item, counted))
        self.wake()

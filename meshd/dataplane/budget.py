"""The GIL as a resource: how many threads may run Python at once.

With sixteen runnable threads a datagram's answer waits its turn behind all of them; a few make the rest wait elsewhere.
"""

import queue
from types import TracebackType


class Budget:
    """`size` seats. Held around decoding, routing and encoding; never while waiting, in a socket or in a kernel.

    NB a queue of tokens: its two calls are C and cost a tenth of what threading.Semaphore does.
    """

    def __init__(self, size: int) -> None:
        self._seats: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._seats.put(None)
        self._take, self._give = self._seats.get, self._seats.put

    def __enter__(self) -> None:
        self._take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give(None)

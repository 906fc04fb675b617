"""The threads that compute: one a core, one queue, bounded by time and by count.

Rule 1: who submits is never made to wait; whether the queue is too long was decided before, from `queue_us`.
Rule 2: a job never raises; what fails is told where the job came from. One that raises is a bug, and ends the process: a pool
that goes on with a thread less would let requests wait for their deadlines, and nobody would know why.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from meshd.config import MS, QUEUE_JOBS_MAX
from meshd.core.ids import SegmentId
from meshd.net.fail_stop import OnBug, end_process

SEGMENTS_KNOWN_MAX = 1_024
COST_UNKNOWN_US = 5 * MS
"""What a segment is taken to cost before it ran once: enough not to be run on a caller's thread."""


EXTRAPOLATION_MAX = 8
"""A batch so much larger than any seen may take this much longer; more is not assumed, or it would be refused untried."""


class Costs:
    """What each segment takes here, by the batch's power of two: averages that follow slowly.

    Threads may learn at the same time; a sample is lost then, which an average bears.
    """

    def __init__(self) -> None:
        self._known: dict[SegmentId, dict[int, float]] = {}

    def expect_us(self, segment: SegmentId, batch: int, warm_us: int) -> int:
        """`warm_us` is what one item took when the segment was loaded; 0 where that is not known."""
        known = self._known.get(segment)
        if not known:
            return (warm_us or COST_UNKNOWN_US) * min(batch, EXTRAPOLATION_MAX)
        size = batch.bit_length()
        if size in known:
            return int(known[size])
        smaller = [s for s in known if s < size]
        if not smaller:
            return int(known[min(known)])
        nearest = max(smaller)
        return int(known[nearest] * min(1 << (size - nearest), EXTRAPOLATION_MAX))

    def learn(self, segment: SegmentId, batch: int, took_us: int) -> None:
        """A run of `batch` items took so long."""
        known = self._known.get(segment)
        if known is None:
            while len(self._known) >= SEGMENTS_KNOWN_MAX:
                del self._known[next(iter(self._known))]
            known = self._known[segment] = {}
        size = batch.bit_length()
        before = known.get(size)
        known[size] = took_us if before is None else before + (took_us - before) / 8


@dataclass(slots=True)
class _Job:
    cost_us: int
    run: Callable[[], None]


class Pool:
    """`cores` threads and their queue. Ends with `close`, after the jobs that run; those that wait are dropped.

    Parameters
    ----------
    cores : threads; at least one is made
    on_bug : told what a job raised, on the thread it ran on
    """

    def __init__(self, cores: int, on_bug: OnBug = end_process) -> None:
        self._on_bug = on_bug
        self._ready = threading.Condition(threading.Lock())
        self._jobs: deque[_Job] = deque()
        self._waiting_us = 0
        self._running_us = 0
        self._running = 0
        self._is_open = True
        self._threads = [
            threading.Thread(target=self._work, name=f"meshd-compute-{i}", daemon=True) for i in range(max(1, cores))
        ]
        for thread in self._threads:
            thread.start()

    def queue_us(self) -> int:
        """Time until a job submitted now would start. Read without the lock: a guess anyway."""
        if self._running < len(self._threads):
            return 0
        return (self._waiting_us + self._running_us // 2) // len(self._threads)

    def is_idle(self) -> bool:
        """Whether nothing runs or waits. Read without the lock, as above."""
        return self._running == 0 and not self._jobs

    def submit(self, cost_us: int, run: Callable[[], None]) -> bool:
        """Queue a job. Returns False where the queue is full or closed."""
        with self._ready:
            if not self._is_open or len(self._jobs) >= QUEUE_JOBS_MAX:
                return False
            self._jobs.append(_Job(cost_us, run))
            self._waiting_us += cost_us
            self._ready.notify()
        return True

    def _work(self) -> None:
        while True:
            with self._ready:
                while self._is_open and not self._jobs:
                    self._ready.wait()
                if not self._is_open:
                    return
                job = self._jobs.popleft()
                self._waiting_us -= job.cost_us
                self._running_us += job.cost_us
                self._running += 1
            try:
                job.run()
            except BaseException as error:  # noqa: BLE001  A bug, whatever it is: rule 2.
                self._on_bug(error)
            finally:
                with self._ready:
                    self._running_us -= job.cost_us
                    self._running -= 1

    def close(self) -> None:
        with self._ready:
            self._is_open = False
            self._jobs.clear()
            self._ready.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

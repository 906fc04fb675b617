"""Idle cores, lent to whoever computes: a long kernel is split over them, a batch is shared among them.

Requests are computed on their caller's thread (the data plane's pool has one a core). Only what is idle beyond those is lent,
so under load nothing is split and nothing waits. Kernels release the GIL; handing over costs some tens of microseconds, so
only what is longer than SPLIT_FROM_US is worth it.

Rule 1: a caller does its own share of the work, and returns when all of it is done.
Rule 2: there are as many helpers as parts are lent, always: a helper that shares in turn cannot wait for itself.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from meshd.config import ENGINE_CALLS_MAX

SPLIT_FROM_US = 300
"""NB measured on two cores: halves of a shorter kernel are done later than the whole, one time in two."""

Part = Callable[[int], None]
"""Does the part of the work with this number."""


class Crew:
    """Helpers for one process. `cores` counts all threads that compute, callers included."""

    def __init__(self, cores: int) -> None:
        self._cores = max(1, min(cores, ENGINE_CALLS_MAX))
        self._lock = threading.Lock()
        self._busy = 0
        self._lent = 0
        self._started = 0
        self._work: SimpleQueue[tuple[Part, int, threading.Semaphore, list[BaseException]]] = SimpleQueue()

    @property
    def cores(self) -> int:
        """Most threads that compute at once."""
        return self._cores

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The caller's thread computes meanwhile, so its core is not idle."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def share(self, do: Part, parts: int) -> None:
        """Do parts 0 to `parts - 1`, each once, on this thread and on what is idle. Raises what a part raised.

        `parts` must suit any number of threads: a part is done whole by one of them.
        """
        helpers = self._take(parts - 1)
        if not helpers:
            for part in range(parts):
                do(part)
            return
        done, errors = threading.Semaphore(0), list[BaseException]()
        # Each helper takes every n-th part, so the caller waits for at most n - 1 signals.
        ways = helpers + 1

        def some(first: int) -> None:
            for part in range(first, parts, ways):
                do(part)

        for helper in range(1, ways):
            self._work.put((some, helper, done, errors))
        try:
            some(0)
        finally:
            for _ in range(helpers):
                done.acquire()
            with self._lock:
                self._busy -= helpers
                self._lent -= helpers
        if errors:
            raise errors[0]

    def _take(self, wanted: int) -> int:
        with self._lock:
            helpers = max(0, min(wanted, self._cores - self._busy))
            self._busy += helpers
            self._lent += helpers
            while self._started < self._lent:
                self._started += 1
                threading.Thread(target=self._help, name=f"engine-{self._started}", daemon=True).start()
        return helpers

    def _help(self) -> None:
        while True:
            do, part, done, errors = self._work.get()
            try:
                do(part)
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whose work it is.
                errors.append(error)
            finally:
                del do
                done.release()


_crew: list[Crew] = []


def crew() -> Crew:
    """This process's crew: as many as cores it may use, or as `use` said."""
    if not _crew:
        _crew.append(Crew(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    return _crew[0]


def use(cores: int) -> None:
    """Compute on at most so many threads from now on (1: never split)."""
    _crew[:] = [Crew(cores)]

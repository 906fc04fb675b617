"""Where the driver pins what others read: the current view and the latest events.

Rule 1: reading never waits for trio: `view` is one reference, swapped whole.
Rule 2: a watcher that is slow misses events, is told how many, and holds nobody up.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from meshd.config import EVENTS_KEPT_MAX
from meshd.core.events import Report
from meshd.core.view import View


@dataclass(frozen=True, slots=True)
class Event:
    """A report as kept for watchers."""

    sequence: int
    """Counts from 1 within this run of the daemon."""
    wall_us: int
    """When, in microseconds since 1970 by this node's clock: for people."""
    report: Report


class Board:
    """The published view and recent events. Written by the driver, read and watched by any thread."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._changed = threading.Condition()
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT_MAX)
        self._sequence = 0
        self._closed = False
        self._listeners: list[Callable[[View], None]] = []

    def listen(self, listener: Callable[[View], None]) -> None:
        """Have `listener` called with each new view, on the driver's thread: it must be quick and not raise."""
        self._listeners.append(listener)

    def publish(self, view: View) -> None:
        """Swap the view in and tell everyone."""
        self.view = view
        with self._changed:
            self._changed.notify_all()
        for listener in self._listeners:
            listener(view)

    def report(self, report: Report) -> None:
        """Keep a report for watchers."""
        with self._changed:
            self._sequence += 1
            self._events.append(Event(self._sequence, time.time_ns() // 1000, report))
            self._changed.notify_all()

    def wait_view(self, version: int, timeout_s: float) -> View | None:
        """The view once its version is past `version`; None when the time is up or the daemon stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.view.version > version, timeout_s)
            return self.view if self.view.version > version else None

    @property
    def closed(self) -> bool:
        """Whether the daemon stops."""
        return self._closed

    def wait_events(self, after: int, timeout_s: float) -> tuple[list[Event], int]:
        """Events numbered past `after`, and how many of them are lost; empty when the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._sequence > after, timeout_s)
            events = [event for event in self._events if event.sequence > after]
            return events, (events[0].sequence - after - 1 if events else 0)

    def close(self) -> None:
        """End all waits: the daemon stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

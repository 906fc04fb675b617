"""A hash over everything that happened, and the last of it in words.

Two runs of one seed must agree in every event: equal hashes, in any process, under any `PYTHONHASHSEED`.
"""

import hashlib
from collections import deque

LAST = 200
"""Events kept in words for a failure's report."""


class Trace:
    """Running hash over (time, node, event)."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.events = 0
        self.last: deque[tuple[int, int, str]] = deque(maxlen=LAST)

    def event(self, now_us: int, host: int, kind: str, content: bytes = b"") -> None:
        """Count one event in."""
        self.events += 1
        self._hash.update(f"{now_us} {host} {kind} {len(content)} ".encode())
        self._hash.update(content)
        self.last.append((now_us, host, kind))

    def digest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()

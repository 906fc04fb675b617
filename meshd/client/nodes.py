"""Which node a call goes to, and whether it goes to another: a client's decisions, without a socket or a clock.

Rule 1: inference changes nothing, so it may be asked twice. But what was in the hands of two nodes that vanished goes to no
third: it may be what kills them (nodes among themselves hold to the same rule).
Rule 2: who is overloaded, or cannot serve just now, is asked again when it said to, after all others were asked once.
Rule 3: where nobody could be reached in one round, that is the answer: trying on is the caller's business.
"""

from collections.abc import Sequence
from enum import Enum
from threading import Lock
from typing import Final

from meshd.errors import MisuseError

TARGETS_MAX: Final = 64
LOST_MAX: Final = 2


class Fault(Enum):
    """How a call to one node failed."""

    UNREACHED = "unreached"
    """It never got there."""
    LOST = "lost"
    """The connection broke with the call under way."""
    ELSEWHERE = "elsewhere"
    """The node said that it cannot now; another may."""
    FINAL = "final"
    """Nobody would answer otherwise."""


class Nodes:
    """The nodes of one client, in the caller's order; the one that answered last is asked first. Thread-safe."""

    def __init__(self, targets: str | Sequence[str]) -> None:
        self.targets = (targets,) if isinstance(targets, str) else tuple(targets)
        if not 1 <= len(self.targets) <= TARGETS_MAX:
            raise MisuseError(f"{len(self.targets)} nodes; name 1 to {TARGETS_MAX}, such as 10.0.0.5:8001")
        self._lock = Lock()
        self.first = 0

    def gone(self, index: int) -> None:
        """Not to be asked first any more."""
        with self._lock:
            if self.first == index:
                self.first = (index + 1) % len(self.targets)


class Round:
    """One call's way through the nodes. `node` is the one to ask.

    Parameters
    ----------
    until_s : when the call's time is up, on the clock of `failed`
    """

    def __init__(self, nodes: Nodes, until_s: float) -> None:
        self._nodes, self._until_s = nodes, until_s
        self.node = nodes.first
        self._asked = 0
        self._lost = 0
        self._again_s = 0.0
        """The shortest pause anybody named in this round."""

    def failed(self, fault: Fault, retry_after_s: float, now_s: float, jitter: float) -> float | None:
        """How long to wait before `node`, another now, is asked; None where the failure is the call's.

        Parameters
        ----------
        retry_after_s : when the node said to come again; 0 where it said nothing
        jitter : within [0, 1): those refused together come back apart
        """
        if fault is Fault.FINAL:
            return None
        if fault in (Fault.UNREACHED, Fault.LOST):
            self._nodes.gone(self.node)
        self._lost += fault is Fault.LOST
        if self._lost >= LOST_MAX:
            return None
        if retry_after_s:
            self._again_s = min(self._again_s or retry_after_s, retry_after_s)
        self._asked += 1
        if self._asked < len(self._nodes.targets):
            self.node = (self.node + 1) % len(self._nodes.targets)
            return 0.0
        pause_s = self._again_s * (1 + jitter)
        if not 0 < pause_s < self._until_s - now_s:
            return None
        self.node, self._asked, self._again_s = self._nodes.first, 0, 0.0
        return pause_s

"""What keeps load from feeding itself: admission, the hedge bucket, poison.

Sources: AIMD, Chiu and Jain 1989; hedged requests, Dean and Barroso, "The Tail at Scale", 2013; retry budgets, Finagle.
"""

from collections.abc import Callable

from meshd.config import (
    ADMISSION_IDLE,
    ADMISSION_MEMORY_US,
    ADMISSION_MIN,
    ADMISSION_SLACK_US,
    ADMISSION_START,
    HEDGE_CREDIT_MAX,
    HEDGE_CREDIT_MIN,
    POISON_US,
    POISONS_MAX,
    REQUESTS_IN_FLIGHT_MAX,
)
from meshd.core.ids import Boot, NodeId
from meshd.core.journey.frames import Poison


class HedgeBucket:
    """A tenth of a hedge for each request, at least five to begin with."""

    __slots__ = ("_tenths",)

    def __init__(self) -> None:
        self._tenths = 10 * HEDGE_CREDIT_MIN

    def request(self) -> None:
        self._tenths = min(self._tenths + 1, 10 * HEDGE_CREDIT_MAX)

    def take(self) -> bool:
        if self._tenths < 10:
            return False
        self._tenths -= 10
        return True


class Admission:
    """How many requests of one deployment may be in flight at this entry.

    Down by a third on Busy or at twice the unloaded latency, once in a round; up by one on success while it is in use.
    What is slow while hardly anything is in flight is not slow by load: the network or the model is so now, and that is the
    new unloaded latency (a LAN that became a radio link would have nearly all refused until the old one is forgotten).
    NB a latency counts when most of the last few were so: one that waited for a dead owner tells of a fault, not of load.
    """

    __slots__ = ("_down_us", "_least", "_older", "_slow", "_turned_us", "in_flight", "limit")

    def __init__(self) -> None:
        self.limit = ADMISSION_START
        self.in_flight = 0
        self._down_us = 0
        self._slow = 0  # The last eight successes, a bit each.
        self._turned_us = 0
        # Least latency by the batch's power of two, in this spell of memory and the one before.
        self._least: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def take(self) -> bool:
        if self.in_flight == 0:
            # Nothing waits, so nothing of the last overload is left; a few callers that come at once are no new one.
            self.limit = max(self.limit, ADMISSION_IDLE)
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        return True

    def give(self) -> None:
        self.in_flight -= 1

    def unloaded_us(self, batch: int) -> int:
        """0 while it is not known."""
        size = batch.bit_length()
        least, older = self._least.get(size), self._older.get(size)
        if least is None or older is None:
            return least or older or 0
        return min(least, older)

    def succeeded(self, latency_us: int, batch: int, now_us: int, worked_us: int | None = None) -> None:
        """A first attempt succeeded (others tell of faults, not of load).

        `worked_us` of it were queues and compute, where the rest cannot be load (small payloads): the network's delay.
        """
        if now_us - self._turned_us >= ADMISSION_MEMORY_US:
            self._older, self._least, self._turned_us = self._least, {}, now_us
        unloaded = self.unloaded_us(batch)
        size = batch.bit_length()
        self._least[size] = min(latency_us, self._least.get(size, latency_us))
        is_slow = unloaded > 0 and latency_us > max(2 * unloaded, unloaded + ADMISSION_SLACK_US)
        if worked_us is not None and 2 * worked_us < latency_us - unloaded:
            is_slow = False
        if is_slow and self.in_flight <= ADMISSION_MIN:
            self._least[size], is_slow = latency_us, False
            self._older.pop(size, None)
        self._slow = (self._slow << 1 | is_slow) & 0xFF
        if is_slow and self._slow.bit_count() > 4:
            self.down(max(latency_us, ADMISSION_SLACK_US), now_us)
        elif not is_slow and 2 * self.in_flight >= self.limit:
            self.limit = min(self.limit + 1, REQUESTS_IN_FLIGHT_MAX)

    def down(self, round_us: int, now_us: int) -> None:
        """Overloaded. All that was in flight when it began tells of the same overload: one step a round."""
        if now_us - self._down_us >= round_us:
            self._down_us = now_us
            self.limit = max(ADMISSION_MIN, self.limit * 2 // 3)


class Poisons:
    """Digests of inputs that may kill whoever computes them, for ten minutes.

    Each with a witness: a node, and the boot in which it was given up for dead. Where that very boot lives (it was cut off,
    not killed), the input is innocent.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[int, NodeId, Boot | None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, digest: bytes, now_us: int, witness: NodeId, boot: Boot | None, left_us: int = POISON_US) -> None:
        """Refuse it for `left_us`, or for as long as it was to be refused anyway."""
        before_us = self._kept.pop(digest, (0, witness, boot))[0]
        while len(self._kept) >= POISONS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[digest] = max(now_us + min(left_us, POISON_US), before_us), witness, boot

    def newest(self, count: int, now_us: int) -> list[Poison]:
        """Those added last, as a peer is told of them."""
        if not self._kept:
            return []
        kept = list(self._kept.items())[-count:]
        return [Poison(digest, until - now_us, who, boot) for digest, (until, who, boot) in kept if until > now_us]

    def left_us(self, digest: bytes, now_us: int, lives: Callable[[NodeId, Boot], bool]) -> int:
        """How long it is still refused; 0 is not at all."""
        until_us, witness, boot = self._kept.get(digest, (now_us, None, None))
        is_innocent = witness is not None and boot is not None and lives(witness, boot)
        if until_us <= now_us or is_innocent:
            self._kept.pop(digest, None)
            return 0
        return until_us - now_us

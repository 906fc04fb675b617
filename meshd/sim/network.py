"""The network between simulated machines: what it loses, delays, doubles, and whom it parts.

Rule 1: every draw comes from one generator of this file, in the order of events.
Rule 2: a link (TCP) loses nothing and keeps order, or it is closed; datagrams do neither.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from meshd.config import MS
from meshd.sim.clock import Clock


@dataclass(slots=True)
class Weather:
    """How datagrams fare now. Shares are of one."""

    loss: float = 0.0
    delay_us: int = 300
    """One way, at least."""
    jitter_us: int = 700
    """Evenly on top."""
    tail: float = 0.0
    """Share of datagrams that take `tail_us` longer, evenly up to it."""
    tail_us: int = 200 * MS
    duplicates: float = 0.0
    corruption: float = 0.0
    burst: float = 0.0
    """Loss on top, for a short while."""
    reorder: float = 0.0
    """Share of datagrams that are held back for `REORDER_US`, so that later ones overtake them."""


GIGABIT = 125_000_000
"""Bytes a second of a link that nothing slows."""
REORDER_US = (5 * MS, 50 * MS)
QUEUE_US = 300 * MS
"""What waits longer than this for a slow link is dropped, if it is a datagram."""


class Network:
    """Who reaches whom, and when. Machines are numbers."""

    def __init__(self, clock: Clock, seed: int, weather: Weather | None = None) -> None:
        self._clock, self._rng = clock, Random(f"{seed}/network")
        self.weather = weather or Weather()
        self._cut: set[tuple[int, int]] = set()
        self._side: dict[int, int] = {}
        self.host_loss: dict[int, float] = {}
        """Extra loss at one machine, both ways."""
        self.sent = self.sent_bytes = self.lost = 0
        self.slow: dict[tuple[int, int], int] = {}
        """(lower, higher) → bytes a second of the one wire between two machines, where it is not a gigabit."""
        self._free_us: dict[tuple[int, int], int] = {}
        """(from, to), slow ones → when what was sent will have left."""
        self._arrives_us: dict[tuple[int, int], int] = {}
        """(from, to) → when the last datagram arrives, while some are held back."""
        self.on_fault: Callable[[str], None] = lambda name: None
        """Told of each datagram that a fault really touched, by the fault's name."""
        self.on_garbled: Callable[[int, int, bytes], None] = lambda source, to, body: None
        """Receives what arrives altered."""
        self.on_split: Callable[[], None] = lambda: None
        self.on_heal: Callable[[], None] = lambda: None

    # ------------------------------------------------------------ who reaches whom

    @property
    def whole(self) -> bool:
        """Do all reach all?"""
        return not self._side and not self._cut

    def split(self, sides: Iterable[Iterable[int]]) -> None:
        """Part the machines; those in no side stay with side 0."""
        self.on_split()
        self._side = {host: number for number, side in enumerate(sides) for host in side}

    def heal(self) -> None:
        """All reach all again."""
        if not self.whole:
            self._side.clear()
            self._cut.clear()
            self.on_heal()

    def cut(self, source: int, to: int) -> None:
        """Nothing passes from `source` to `to` (one way)."""
        self.on_split()
        self._cut.add((source, to))

    def mend(self, source: int, to: int) -> None:
        """Undo `cut`."""
        if (source, to) in self._cut:
            self._cut.discard((source, to))
            if self.whole:
                self.on_heal()

    def reaches(self, source: int, to: int) -> bool:
        """Does anything pass?"""
        if self.whole:
            return True
        return (source, to) not in self._cut and self._side.get(source, 0) == self._side.get(to, 0)

    def sides(self) -> tuple[tuple[int, int], ...]:
        """Who is on which side of a split; equal while nothing changes."""
        return tuple(sorted(self._side.items()))

    def unwell(self) -> tuple[object, ...]:
        """What makes the network worse than lossy and late; empty where nothing does."""
        weather = self.weather
        burst = (weather.burst,) if weather.burst or weather.loss > 0.1 else ()
        return (*sorted(self._cut), *sorted(self.host_loss), *sorted(self.slow), *burst)

    # ------------------------------------------------------------ datagrams

    def datagram(self, source: int, to: int, body: bytes, wire_bytes: int, arrive: Callable[[bytes], None]) -> None:
        """Send one; `arrive` is called once, never, or twice."""
        self.sent += 1
        self.sent_bytes += wire_bytes
        weather, rng = self.weather, self._rng
        if not self.reaches(source, to) or self._is_lost(source, to):
            self.lost += 1
            return
        copies = 1
        if weather.duplicates and rng.random() < weather.duplicates:
            copies = 2
            self.on_fault("duplicates")
        wait_us = self.crossing_us(source, to, wire_bytes) if self.slow else 0
        if wait_us > QUEUE_US:
            self.lost += 1
            return
        if weather.corruption and rng.random() < weather.corruption:
            self.on_fault("corruption")
            self._clock.after(wait_us + self.delay_us(), self.on_garbled, source, to, self._garbled(body))
            return
        for _ in range(copies):
            after_us = wait_us + self.delay_us()
            if weather.reorder:
                after_us = self._held_back(source, to, after_us)
            self._clock.after(after_us, arrive, body)

    def _is_lost(self, source: int, to: int) -> bool:
        weather, rng = self.weather, self._rng
        if weather.loss and rng.random() < weather.loss:
            self.on_fault("loss")
            return True
        if weather.burst and rng.random() < weather.burst:
            self.on_fault("burst")
            return True
        for host in (source, to) if self.host_loss else ():
            extra = self.host_loss.get(host, 0.0)
            if extra and rng.random() < extra:
                self.on_fault("lossy_node")
                return True
        return False

    def _garbled(self, body: bytes) -> bytes:
        """With one bit the other way round, or cut short."""
        at = self._rng.randrange(8 * len(body))
        if at % 4 == 0:
            return body[: at // 8]
        return body[: at // 8] + bytes([body[at // 8] ^ 1 << at % 8]) + body[at // 8 + 1 :]

    def _held_back(self, source: int, to: int, after_us: int) -> int:
        if self._rng.random() < self.weather.reorder:
            after_us += self._rng.randrange(*REORDER_US)
        arrives_us, before_us = self._clock.now_us + after_us, self._arrives_us.get((source, to), 0)
        if arrives_us < before_us:
            self.on_fault("reorder")
        else:
            self._arrives_us[source, to] = arrives_us
        return after_us

    def delay_us(self) -> int:
        """One way, drawn."""
        weather, rng = self.weather, self._rng
        delay_us = weather.delay_us + (rng.randrange(weather.jitter_us) if weather.jitter_us else 0)
        if weather.tail and rng.random() < weather.tail:
            delay_us += rng.randrange(weather.tail_us)
            self.on_fault("delay")
        return delay_us

    def bandwidth_bps(self, source: int, to: int) -> int:
        """Bytes a second between two machines."""
        return self.slow.get((min(source, to), max(source, to)), GIGABIT)

    def crossing_us(self, source: int, to: int, size: int) -> int:
        """From now until so many bytes have left; on a slow wire after what was sent before, whatever it was."""
        bps = self.bandwidth_bps(source, to)
        took_us = size * 1_000_000 // bps
        if bps == GIGABIT:
            return took_us
        self.on_fault("slow_link")
        now_us = self._clock.now_us
        leaves_us = max(self._free_us.get((source, to), 0), now_us) + took_us
        if leaves_us - now_us <= QUEUE_US or size > 1_500:
            self._free_us[source, to] = leaves_us
        return leaves_us - now_us

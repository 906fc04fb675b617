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
        if weather.corruption and rng.random() < weather.corruption:
            self.lost += 1  # Its seal breaks: the receiver counts it and that is all.
            return
        for _ in range(copies):
            self._clock.after(self.delay_us(), arrive, body)

    def _is_lost(self, source: int, to: int) -> bool:
        loss = self.weather.loss
        if loss and self._rng.random() < loss:
            return True
        for host in (source, to) if self.host_loss else ():
            extra = self.host_loss.get(host, 0.0)
            if extra and self._rng.random() < extra:
                return True
        return False

    def delay_us(self) -> int:
        """One way, drawn."""
        weather, rng = self.weather, self._rng
        delay_us = weather.delay_us + (rng.randrange(weather.jitter_us) if weather.jitter_us else 0)
        if weather.tail and rng.random() < weather.tail:
            delay_us += rng.randrange(weather.tail_us)
        return delay_us

"""The faulty phase of one run: when faults strike, what they did, and how it ends.

Rule: all draws of one fault come from its own generator: switching one off leaves the others as they were (shrinking).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from meshd.sim.cluster import Cluster
from meshd.sim.machine import Machine
from meshd.sim.workload import Workload


@dataclass(slots=True)
class Course:
    """Faults take this and their number."""

    cluster: Cluster
    until_us: int
    workload: Workload | None = None
    happened: Counter[str] = field(default_factory=Counter)
    crashed: dict[int, int] = field(default_factory=dict)
    """Machine → when it went down, while it is down by a fault."""

    def rng(self, name: str) -> Random:
        """The generator of one fault."""
        return Random(f"{self.cluster.seed}/fault/{name}")

    def count(self, name: str) -> None:
        """It really happened."""
        self.happened[name] += 1

    def every(self, name: str, period_us: int, strike: Callable[[Random], None]) -> None:
        """Strike once in each period, at a random moment of it (and of a phase shorter than that, once)."""
        rng, clock = self.rng(name), self.cluster.clock
        begin_us = clock.now_us
        while begin_us < self.until_us:
            clock.at(begin_us + rng.randrange(min(period_us, self.until_us - begin_us)), strike, rng)
            begin_us += period_us

    def one(self, rng: Random) -> Machine | None:
        """A machine that is up and not the last one."""
        up = self.cluster.up
        return up[rng.randrange(len(up))] if len(up) > 1 else None

    def down(self, index: int, for_us: int) -> None:
        """Power one off and, later, on again; the last one stays on."""
        if not self.cluster.machines[index].up or len(self.cluster.up) <= 1:
            return
        self.cluster.crash(index)
        self.crashed[index] = self.cluster.clock.now_us
        self.cluster.clock.after(for_us, self.back, index)

    def back(self, index: int) -> None:
        """Power on, if it is off by a fault."""
        if self.crashed.pop(index, None) is not None:
            self.cluster.restart(index)

    def later(self, after_us: int, undo: Callable[[], None]) -> None:
        """Undo something, at the end of the phase at the latest."""
        self.cluster.clock.at(min(self.cluster.clock.now_us + after_us, self.until_us), undo)

    def calm(self) -> None:
        """The end of the phase: the network is well, all machines are on, and nobody is there who does not belong."""
        cluster, network, weather = self.cluster, self.cluster.network, self.cluster.network.weather
        weather.tail = weather.duplicates = weather.corruption = weather.burst = weather.reorder = 0.0
        weather.loss = min(weather.loss, 0.1)
        network.host_loss.clear()
        network.slow.clear()
        network.heal()
        cluster.links.clogged.clear()
        cluster.overheard = None
        for extra in cluster.extras:
            if extra.up:
                extra.crash()
        for machine in cluster.machines:
            machine.disk_is_full = False
        for index in list(self.crashed):
            self.back(index)

"""What goes wrong, switched on by name. Each fault schedules itself over the first phase and counts when it really happened.

Rule 1: a fault that was asked for and never happened is a defect of the run, and reported.
Rule 2: all draws of one fault come from its own generator: switching one off leaves the others as they were (shrinking).
Rule 3: at the end of the phase `calm` undoes what lasts; machines that are off are powered on again.

To add one: a function here and its line in `FAULTS`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from meshd.config import MINUTE, MS, S
from meshd.core.events import Hinted, Measured
from meshd.core.ids import Address, Boot, node_id
from meshd.core.messages import Join, Ping
from meshd.core.view import Capacity
from meshd.sim.cluster import Cluster
from meshd.wire import codec
from meshd.wire.seal import Sealer


@dataclass(slots=True)
class Course:
    """The faulty phase of one run."""

    cluster: Cluster
    until_us: int
    happened: Counter[str] = field(default_factory=Counter)
    crashed: dict[int, int] = field(default_factory=dict)
    """Machine → when it went down, while it is down by a fault."""
    healed_us: list[int] = field(default_factory=list)

    def rng(self, name: str) -> Random:
        """The generator of one fault."""
        return Random(f"{self.cluster.seed}/fault/{name}")

    def every(self, name: str, period_us: int, strike: Callable[[Random], None]) -> None:
        """Strike once in each period, at a random moment of it (and of a phase shorter than that, once)."""
        rng, clock = self.rng(name), self.cluster.clock
        begin_us = clock.now_us
        while begin_us < self.until_us:
            clock.at(begin_us + rng.randrange(min(period_us, self.until_us - begin_us)), strike, rng)
            begin_us += period_us

    def down(self, index: int, for_us: int) -> None:
        """Power one off and, later, on again."""
        if not self.cluster.machines[index].up or len(self.cluster.up) <= 2:
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


# ---------------------------------------------------------------- machines


def _crash(course: Course, value: float) -> None:
    """`value` a minute: power off, on again 8 to 40 s later, disk as it was."""

    def strike(rng: Random) -> None:
        course.cluster.dies_loudly = rng.random() < 0.5
        up = course.cluster.up
        if len(up) > 2:
            course.happened["crash"] += 1
            course.down(up[rng.randrange(len(up))].index, rng.randrange(8 * S, 40 * S))

    course.every("crash", int(MINUTE / (value or 1)), strike)


def _gone(course: Course, value: float) -> None:
    """One machine is off from some moment to the end of the phase."""

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if len(up) > 2:
            course.happened["gone"] += 1
            course.down(up[rng.randrange(len(up))].index, course.until_us - course.cluster.clock.now_us)

    course.every("gone", 5 * MINUTE, strike)


def _old_disk(course: Course, value: float) -> None:
    """A machine comes back with the disk it had a while ago."""
    disks: dict[int, dict[str, bytes]] = {}

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if len(up) <= 2:
            return
        machine = up[rng.randrange(len(up))]
        index = machine.index
        kept = disks.setdefault(index, dict(machine.disk))
        course.down(index, rng.randrange(1 * S, 5 * S))
        if kept != machine.disk:
            course.happened["old_disk"] += 1
        machine.disk, disks[index] = dict(kept), dict(machine.disk)

    course.every("old_disk", 40 * S, strike)


def _stall(course: Course, value: float) -> None:
    """A process stops for 1 to 8 s: its timers run late, its input waits."""

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if not up:
            return
        up[rng.randrange(len(up))].stall(rng.randrange(1 * S, 8 * S))
        course.happened["stall"] += 1

    course.every("stall", 30 * S, strike)


def _flap(course: Course, value: float) -> None:
    """One machine goes and comes every 20 s."""
    victim = course.rng("flap/who").randrange(len(course.cluster.machines))

    def strike(rng: Random) -> None:
        if course.cluster.machines[victim].up and len(course.cluster.up) > 2:
            course.happened["flap"] += 1
            course.down(victim, 10 * S)

    course.every("flap", 20 * S, strike)


def _all_off(course: Course, value: float) -> None:
    """The power of the whole site fails for a moment."""

    def strike(rng: Random) -> None:
        course.happened["all_off"] += 1
        for machine in course.cluster.machines:
            if machine.up:
                course.cluster.crash(machine.index)
                course.crashed[machine.index] = course.cluster.clock.now_us
                course.cluster.clock.after(rng.randrange(1 * S, 5 * S), course.back, machine.index)

    course.every("all_off", 2 * MINUTE, strike)


def _skew(course: Course, value: float) -> None:
    """Clocks run up to two per cent fast or slow (they are years apart in any case)."""
    rng = course.rng("skew")
    for machine in course.cluster.machines:
        machine.clock_ppm = rng.randrange(-20_000, 20_001)
    course.happened["skew"] += 1


# ---------------------------------------------------------------- network


def _loss(course: Course, value: float) -> None:
    course.cluster.network.weather.loss = value
    course.happened["loss"] += 1


def _burst(course: Course, value: float) -> None:
    """For half a second to three, almost nothing passes."""
    weather = course.cluster.network.weather

    def strike(rng: Random) -> None:
        before = weather.loss
        if before < 0.9:
            weather.loss = 0.9
            course.happened["burst"] += 1
            course.later(rng.randrange(S // 2, 3 * S), lambda: setattr(weather, "loss", before))

    course.every("burst", 30 * S, strike)


def _delay(course: Course, value: float) -> None:
    """A heavy tail: every fiftieth datagram takes up to 400 ms longer, and overtakes nothing."""
    weather = course.cluster.network.weather
    weather.tail, weather.tail_us = 0.02, 400 * MS
    course.happened["delay"] += 1


def _duplicates(course: Course, value: float) -> None:
    course.cluster.network.weather.duplicates = 0.05
    course.happened["duplicates"] += 1


def _corruption(course: Course, value: float) -> None:
    course.cluster.network.weather.corruption = 0.02
    course.happened["corruption"] += 1


def _lossy_node(course: Course, value: float) -> None:
    """80 % of what one machine sends and hears is lost, for 20 s."""
    losses = course.cluster.network.host_loss

    def strike(rng: Random) -> None:
        index = rng.randrange(len(course.cluster.machines))
        losses[index] = 0.8
        course.happened["lossy_node"] += 1
        course.later(20 * S, lambda: losses.update({index: 0.0}))

    course.every("lossy_node", MINUTE, strike)


def _split(course: Course, value: float) -> None:
    """Two or three parts that cannot reach each other, or one machine alone, for 5 to 60 s."""
    network = course.cluster.network

    def strike(rng: Random) -> None:
        indexes = list(range(len(course.cluster.machines)))
        rng.shuffle(indexes)
        parts = rng.choice((2, 2, 3))
        alone = rng.random() < 0.3
        sides = [indexes[:1], indexes[1:]] if alone else [indexes[i::parts] for i in range(parts)]
        network.split(sides)
        course.happened["split"] += 1

        def heal() -> None:
            network.heal()
            course.healed_us.append(course.cluster.clock.now_us)

        course.later(rng.randrange(5 * S, 60 * S), heal)

    course.every("split", 2 * MINUTE, strike)


def _one_way(course: Course, value: float) -> None:
    """One machine hears another no more, though it is heard."""
    network = course.cluster.network

    def strike(rng: Random) -> None:
        a, b = rng.sample(range(len(course.cluster.machines)), 2)
        network.cut(a, b)
        course.happened["one_way"] += 1
        course.later(rng.randrange(5 * S, 30 * S), lambda: network.mend(a, b))

    course.every("one_way", 30 * S, strike)


def _clog(course: Course, value: float) -> None:
    """Datagrams pass between two machines, links do not."""
    links = course.cluster.links

    def strike(rng: Random) -> None:
        a, b = sorted(rng.sample(range(len(course.cluster.machines)), 2))
        links.clogged.add((a, b))
        course.happened["clog"] += 1
        course.later(20 * S, lambda: links.clogged.discard((a, b)))

    course.every("clog", 30 * S, strike)


# ---------------------------------------------------------------- malice and mistakes


def _replay(course: Course, value: float) -> None:
    """Old datagrams are sent again, to whom they went."""
    cluster, kept = course.cluster, []  # type: ignore[var-annotated]
    keep = course.rng("replay/keep")

    def overhear(source: int, to: int, body: bytes) -> None:
        if len(kept) < 2_000:
            kept.append((source, to, body))
        elif keep.random() < 0.02:
            kept[keep.randrange(len(kept))] = (source, to, body)

    def strike(rng: Random) -> None:
        for _ in range(min(20, len(kept))):
            source, to, body = kept[rng.randrange(len(kept))]
            cluster.replay(cluster.machines[source], cluster.machines[to], body)
            course.happened["replay"] += 1

    cluster.overheard = overhear
    course.every("replay", 2 * S, strike)


def _garbage(course: Course, value: float) -> None:
    """Random bytes, and datagrams of another mesh's key, at every port."""
    cluster = course.cluster

    def strike(rng: Random) -> None:
        for machine in cluster.up:
            cluster.replay(machine, machine, rng.randbytes(rng.randrange(0, 1_400)))
        course.happened["garbage"] += 1

    course.every("garbage", 1 * S, strike)


def _strangers(course: Course, value: float) -> None:
    """Somebody with the mesh key makes up a new node with every datagram."""
    cluster, made = course.cluster, [0]

    def strike(rng: Random) -> None:
        target = cluster.machines[rng.randrange(len(cluster.machines))]
        at = Address("192.0.2.1", 7946)
        for _ in range(300):
            made[0] += 1
            public = hashlib.sha256(f"{cluster.seed}/stranger/{made[0]}".encode()).digest()
            source = node_id(hashlib.sha256(public).digest()[:16])
            message = Join(b"certificate:" + public, made[0]) if made[0] % 2 else Ping(made[0])
            sealed = Sealer(cluster.keyring, source, Boot(1 << 32)).seal(target.node_id, codec.encode_gossip(message))
            target.datagram(at, sealed)
        course.happened["strangers"] += 1

    course.every("strangers", 5 * S, strike)


def _busy(course: Course, value: float) -> None:
    """Other work on the machines takes and gives memory all the time."""

    def strike(rng: Random) -> None:
        for machine in course.cluster.up:
            free = rng.randrange(1 << 30)
            machine.give(
                Measured(Capacity(1 << 30, free, (("dense", rng.randrange(1, 10**9)),), host=str(machine.index)))
            )
        course.happened["busy"] += 1

    course.every("busy", 500 * MS, strike)


def _hints(course: Course, value: float) -> None:
    """The data plane blames peers that are well."""

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if len(up) < 2:
            return
        one, two = up[rng.randrange(len(up))], up[rng.randrange(len(up))]
        if one is not two:
            one.give(Hinted(two.node_id))
            course.happened["hints"] += 1

    course.every("hints", 1 * S, strike)


FAULTS: dict[str, Callable[[Course, float], None]] = {
    "crash": _crash,
    "gone": _gone,
    "old_disk": _old_disk,
    "stall": _stall,
    "flap": _flap,
    "all_off": _all_off,
    "skew": _skew,
    "loss": _loss,
    "burst": _burst,
    "delay": _delay,
    "duplicates": _duplicates,
    "corruption": _corruption,
    "lossy_node": _lossy_node,
    "split": _split,
    "one_way": _one_way,
    "clog": _clog,
    "replay": _replay,
    "garbage": _garbage,
    "strangers": _strangers,
    "busy": _busy,
    "hints": _hints,
}
"""Faults by the name that `--faults` takes; those that take a number have one with `=`."""


def calm(course: Course) -> None:
    """The end of the faulty phase: the network is well, all machines are on."""
    cluster = course.cluster
    weather = cluster.network.weather
    weather.tail = weather.duplicates = weather.corruption = 0.0
    weather.loss = min(weather.loss, 0.1)
    cluster.network.host_loss.clear()
    cluster.network.heal()
    cluster.links.clogged.clear()
    cluster.overheard = None
    for index in list(course.crashed):
        course.back(index)

"""What the network does to datagrams and links, and whom it parts."""

from random import Random
from typing import Any

from meshd.config import MINUTE, MS, S
from meshd.sim.faults.course import Course

SLOW_BPS = 625_000
"""Bytes a second: 5 Mbit/s."""


def loss(course: Course, value: float) -> None:
    """Each datagram is lost with this probability (0.1)."""
    course.cluster.network.weather.loss = value or 0.1


def burst(course: Course, value: float) -> None:
    """For half a second to three, almost nothing passes."""
    weather = course.cluster.network.weather

    def strike(rng: Random) -> None:
        weather.burst = 0.9
        course.later(rng.randrange(S // 2, 3 * S), lambda: setattr(weather, "burst", 0.0))

    course.every("burst", 30 * S, strike)


def delay(course: Course, value: float) -> None:
    """A heavy tail: every fiftieth datagram takes up to 400 ms longer."""
    weather = course.cluster.network.weather
    weather.tail, weather.tail_us = 0.02, 400 * MS


def reorder(course: Course, value: float) -> None:
    """Every tenth datagram is held back, so that later ones overtake it; counted where one really did."""
    course.cluster.network.weather.reorder = value or 0.1


def duplicates(course: Course, value: float) -> None:
    """Every twentieth datagram comes twice."""
    course.cluster.network.weather.duplicates = value or 0.05


def corruption(course: Course, value: float) -> None:
    """Every fiftieth datagram arrives with a bit turned over, or cut short."""
    course.cluster.network.weather.corruption = value or 0.02


def lossy_node(course: Course, value: float) -> None:
    """80 % of what one machine sends and hears is lost, for 20 s."""
    losses = course.cluster.network.host_loss

    def strike(rng: Random) -> None:
        index = rng.randrange(len(course.cluster.machines))
        losses[index] = value or 0.8
        course.later(20 * S, lambda: _drop(losses, index))

    course.every("lossy_node", MINUTE, strike)


def split(course: Course, value: float) -> None:
    """Two halves that cannot reach each other, for 5 to 60 s."""
    _splitting(course, "split", 2)


def three_ways(course: Course, value: float) -> None:
    """Three parts that cannot reach each other, for 5 to 60 s (two machines: two parts)."""
    _splitting(course, "three_ways", 3)


def isolate(course: Course, value: float) -> None:
    """One machine reaches nobody, and nobody it, for 5 to 60 s."""
    _splitting(course, "isolate", 1)


def _splitting(course: Course, name: str, parts: int) -> None:
    network = course.cluster.network

    def strike(rng: Random) -> None:
        indexes = list(range(len(course.cluster.machines)))
        rng.shuffle(indexes)
        network.split([indexes[:1], indexes[1:]] if parts == 1 else [indexes[i::parts] for i in range(parts)])
        course.count(name)
        course.later(rng.randrange(5 * S, 60 * S), network.heal)

    course.every(name, 2 * MINUTE, strike)


def one_way(course: Course, value: float) -> None:
    """A machine, or half of them, hears some others no more though it is heard, for 5 to 30 s."""
    network = course.cluster.network

    def strike(rng: Random) -> None:
        indexes = list(range(len(course.cluster.machines)))
        rng.shuffle(indexes)
        half = max(1, len(indexes) // 2) if rng.random() < 0.5 else 1
        cuts = [(a, b) for a in indexes[:half] for b in (indexes[half:] if half > 1 else indexes[1:2])]
        for a, b in cuts:
            network.cut(a, b)
        course.count("one_way")

        def mend() -> None:
            for a, b in cuts:
                network.mend(a, b)

        course.later(rng.randrange(5 * S, 30 * S), mend)

    course.every("one_way", 30 * S, strike)


def flip_flop(course: Course, value: float) -> None:
    """The network of one machine goes and comes every 20 s."""
    network, indexes = course.cluster.network, range(len(course.cluster.machines))
    victim = course.rng("flip_flop/who").randrange(len(indexes))
    cuts = [pair for other in indexes if other != victim for pair in ((victim, other), (other, victim))]

    def strike(rng: Random) -> None:
        for a, b in cuts:
            network.cut(a, b)
        course.count("flip_flop")
        course.later(10 * S, mend)

    def mend() -> None:
        for a, b in cuts:
            network.mend(a, b)

    course.every("flip_flop", 20 * S, strike)


def clog(course: Course, value: float) -> None:
    """Links of one machine stand still for 2 to 8 s: all is late, nothing is lost. Counted for each message that waits."""
    _clogging(course, "clog", (2 * S, 8 * S))


def no_links(course: Course, value: float) -> None:
    """To one machine datagrams pass and links do not, for 20 to 60 s: they close, and none opens."""
    _clogging(course, "no_links", (20 * S, 60 * S))


def _clogging(course: Course, name: str, lasts_us: tuple[int, int]) -> None:
    links = course.cluster.links

    def strike(rng: Random) -> None:
        pairs = _wires(course, rng.randrange(len(course.cluster.machines)))
        links.clogged.update(dict.fromkeys(pairs, name))
        course.later(rng.randrange(*lasts_us), lambda: _drop(links.clogged, *pairs))

    course.every(name, 15 * S, strike)


def slow_link(course: Course, value: float) -> None:
    """All wires of one machine carry 5 Mbit/s, for 10 to 60 s. Counted for each message that takes longer for it."""
    slow = course.cluster.network.slow

    def strike(rng: Random) -> None:
        pairs = _wires(course, rng.randrange(len(course.cluster.machines)))
        slow.update(dict.fromkeys(pairs, SLOW_BPS))

        course.later(rng.randrange(10 * S, 60 * S), lambda: _drop(slow, *pairs))

    course.every("slow_link", 30 * S, strike)


def _wires(course: Course, index: int) -> list[tuple[int, int]]:
    """All pairs that one machine is of."""
    return [(min(index, i), max(index, i)) for i in range(len(course.cluster.machines)) if i != index]


def _drop(table: dict[Any, Any], *keys: Any) -> None:
    for key in keys:
        table.pop(key, None)

"""Machines that are on and unwell: they stall, their clocks are wrong, their disks are full, loads fail."""

from collections.abc import Callable
from functools import partial
from random import Random

from meshd.config import S
from meshd.core.events import Load
from meshd.sim.faults.course import Course
from meshd.sim.machine import YEAR, Machine


def _stalling(
    name: str, *, input: bool = True, timers: bool = True, asleep: bool = False
) -> Callable[[Course, float], None]:
    def fault(course: Course, value: float) -> None:
        def strike(rng: Random) -> None:
            up = course.cluster.up
            for_us = rng.randrange(1 * S, 20 * S if asleep else 8 * S)
            if up and up[rng.randrange(len(up))].stall(for_us, input=input, timers=timers, asleep=asleep):
                course.count(name)

        course.every(name, 30 * S, strike)

    return fault


stall = _stalling("stall")
stall.__doc__ = """A process stops for 1 to 8 s: its timers run late, its input waits."""
stall_input = _stalling("stall_input", timers=False)
stall_input.__doc__ = """For 1 to 8 s a machine's timers run and its input waits."""
stall_timers = _stalling("stall_timers", input=False)
stall_timers.__doc__ = """For 1 to 8 s a machine's input is read and its timers run late."""
sleep = _stalling("sleep", asleep=True)
sleep.__doc__ = """A machine is suspended for 1 to 20 s: its clock stands still, and nothing in it seems late."""


def skew(course: Course, value: float) -> None:
    """Clocks run up to two per cent fast or slow (they are years apart in any case)."""
    rng = course.rng("skew")
    for machine in course.cluster.machines:
        machine.drift(rng.randrange(-20_000, 20_001))
        course.count("skew")


def clock_jump(course: Course, value: float) -> None:
    """A wall clock jumps by up to ten years, to and fro; what is deployed there next carries its time."""

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if not up:
            return
        machine = up[rng.randrange(len(up))]
        machine.wall_offset_us = rng.randrange(20 * YEAR)
        course.count("clock_jump")
        if course.workload is not None and course.workload.names:
            course.workload.deploy_again(rng, machine)

    course.every("clock_jump", 30 * S, strike)


def disk_full(course: Course, value: float) -> None:
    """A machine restarts while its disk has no room for 5 to 30 s: what it is to keep waits, its boot too."""

    def strike(rng: Random) -> None:
        machine = course.one(rng)
        if machine is None or machine.disk_is_full:
            return
        machine.disk_is_full = True
        for_us = rng.randrange(5 * S, 30 * S)
        if rng.random() < 0.7:
            course.down(machine.index, 1 * S)
        elif course.workload is not None and course.workload.names:
            course.workload.deploy_again(rng, machine)
        course.later(for_us, lambda: setattr(machine, "disk_is_full", False))

    course.every("disk_full", 40 * S, strike)


def load_failure(course: Course, value: float) -> None:
    """Loads fail: each by chance (half), on every machine; and somebody deploys again, so that there are some."""
    chance = course.rng("load_failure/chance")

    def failing(load: Load) -> str:
        return "the simulator says no" if chance.random() < (value or 0.5) else ""

    def strike(rng: Random) -> None:
        assert course.workload is not None, "there is nothing to load"
        course.workload.deploy_again(rng)

    for machine in course.cluster.machines:
        machine.shelf.load_fails = failing
    course.later(course.until_us, partial(_works_again, course.cluster.machines))
    course.every("load_failure", 30 * S, strike)


def _works_again(machines: list[Machine]) -> None:
    for machine in machines:
        machine.shelf.load_fails = lambda load: ""

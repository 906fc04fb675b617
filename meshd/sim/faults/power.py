"""Machines that go off, come back, and with which disk."""

from random import Random

from meshd.config import MINUTE, MS, S
from meshd.core.events import Effect, Input, SendLink
from meshd.core.ids import Digest
from meshd.core.intent_messages import Award
from meshd.sim.faults.course import Course
from meshd.sim.machine import Machine
from meshd.wire import codec


def crash(course: Course, value: float) -> None:
    """`value` a minute (one): power off, or a process killed; on again 8 to 40 s later, disk as it was."""

    def strike(rng: Random) -> None:
        course.cluster.dies_loudly = rng.random() < 0.5
        if machine := course.one(rng):
            course.count("crash")
            course.down(machine.index, rng.randrange(8 * S, 40 * S))

    course.every("crash", int(MINUTE / (value or 1)), strike)


def gone(course: Course, value: float) -> None:
    """One machine is off from some moment to the end of the phase."""

    def strike(rng: Random) -> None:
        if machine := course.one(rng):
            course.count("gone")
            course.down(machine.index, course.until_us - course.cluster.clock.now_us)

    course.every("gone", 5 * MINUTE, strike)


def old_disk(course: Course, value: float) -> None:
    """A machine comes back with the disk it had before it last started: its count of boots is one too low."""

    def strike(rng: Random) -> None:
        machine = course.one(rng)
        if machine is None:
            return
        disk, first_us, second_us = dict(machine.disk), rng.randrange(1 * S, 3 * S), rng.randrange(5 * S, 9 * S)
        course.down(machine.index, first_us)

        def again() -> None:
            # It may have been on for too short a time to have kept anything, or be off by another fault.
            if machine.up and machine.disk != disk and len(course.cluster.up) > 1:
                course.down(machine.index, 1 * S)
                machine.disk = disk
                course.count("old_disk")

        course.cluster.clock.after(first_us + second_us, again)

    course.every("old_disk", 40 * S, strike)


def no_disk(course: Course, value: float) -> None:
    """A machine comes back with its identity and nothing else: boots count from one again, models and records are gone."""

    def strike(rng: Random) -> None:
        machine = course.one(rng)
        if machine is None or not machine.disk or not _kept_elsewhere(course, machine):
            return
        course.down(machine.index, rng.randrange(1 * S, 20 * S))
        machine.disk = {}
        lost, machine.shelf.models = machine.shelf.models, set()
        for model in sorted(lost):
            # The last copy of a model is pushed again.
            if not any(model in other.shelf.models for other in course.cluster.machines):
                machine.shelf.models.add(model)
        course.count("no_disk")

    course.every("no_disk", 40 * S, strike)


def _kept_elsewhere(course: Course, machine: Machine) -> bool:
    """Whether another disk has all its records: what is lost with all its copies no mesh can bring back."""
    others = [_records(other) for other in course.cluster.machines if other is not machine]
    return _records(machine) <= set().union(*others)


def _records(machine: Machine) -> set[Digest]:
    kept = (codec.decode_value(key, data) for key, data in machine.disk.items() if key.startswith("intent/"))
    return {record.digest for intent in kept for record in intent.records}


def flap(course: Course, value: float) -> None:
    """One machine goes and comes every 20 s."""
    victim = course.rng("flap/who").randrange(len(course.cluster.machines))

    def strike(rng: Random) -> None:
        if course.cluster.machines[victim].up and len(course.cluster.up) > 1:
            course.count("flap")
            course.down(victim, 10 * S)

    course.every("flap", 20 * S, strike)


def crash_loop(course: Course, value: float) -> None:
    """An owner (or, where nothing is deployed, somebody) crashes again and again: on for 0.5 to 6 s, off for 1."""

    def strike(rng: Random) -> None:
        victim = _owner(course, rng) or course.one(rng)
        if victim is not None:
            again(rng, victim, rng.randrange(4, 9))

    def again(rng: Random, victim: Machine, left: int) -> None:
        if victim.up and len(course.cluster.up) > 1:
            course.count("crash_loop")
            course.down(victim.index, 1 * S)
        on_us = 1 * S + rng.randrange(500 * MS, 6 * S)
        if left and course.cluster.clock.now_us + on_us < course.until_us:
            course.cluster.clock.after(on_us, again, rng, victim, left - 1)

    course.every("crash_loop", 2 * MINUTE, strike)


def _owner(course: Course, rng: Random) -> Machine | None:
    """Who is asked first for some segment, as some machine sees it."""
    for machine in course.cluster.up:
        served = [] if machine.view is None else list(machine.view.deployments.values())
        owners = [nodes[0] for one in served for nodes in one.candidates if nodes]
        up = [course.cluster.by_id[node] for node in owners if course.cluster.by_id[node].up]
        if up:
            return up[rng.randrange(len(up))]
    return None


def planner_dies(course: Course, value: float) -> None:
    """Somebody deploys again, and whoever plans for it dies within 5 ms of its award."""
    doomed: list[int] = []
    rng_when = course.rng("planner_dies/when")

    def watch(machine: Machine, input: Input, effects: list[Effect]) -> None:
        if not doomed or machine.index >= len(course.cluster.machines):
            return
        if any(isinstance(effect, SendLink) and isinstance(effect.message, Award) for effect in effects):
            doomed.pop()
            course.cluster.clock.after(rng_when.randrange(5 * MS), die, machine)

    def die(machine: Machine) -> None:
        if machine.up and len(course.cluster.up) > 1:
            course.cluster.dies_loudly = rng_when.random() < 0.5
            course.count("planner_dies")
            course.down(machine.index, rng_when.randrange(5 * S, 20 * S))

    def strike(rng: Random) -> None:
        assert course.workload is not None, "there is nothing to plan"
        doomed[:] = [1]
        course.workload.deploy_again(rng)
        course.later(20 * S, doomed.clear)

    course.cluster.watchers.append(watch)
    course.every("planner_dies", 30 * S, strike)


def all_off(course: Course, value: float) -> None:
    """The power of the whole site fails for a moment."""

    def strike(rng: Random) -> None:
        course.count("all_off")
        course.cluster.dies_loudly = False
        for machine in course.cluster.machines:
            if machine.up:
                course.cluster.crash(machine.index)
                course.crashed[machine.index] = course.cluster.clock.now_us
                course.cluster.clock.after(rng.randrange(1 * S, 5 * S), course.back, machine.index)

    course.every("all_off", 2 * MINUTE, strike)

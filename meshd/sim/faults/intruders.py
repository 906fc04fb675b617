"""Those who do not belong, or say what is not so: replays, garbage, twins, wrong keys, altered records."""

import hashlib
from dataclasses import replace
from random import Random

from meshd.config import MS, S
from meshd.core.events import Hinted, Measured
from meshd.core.ids import Address, Boot, node_id
from meshd.core.intent_messages import IntentTell
from meshd.core.messages import Join, Ping
from meshd.core.registry import Record
from meshd.core.view import Capacity
from meshd.sim.faults.course import Course
from meshd.sim.machine import Machine
from meshd.wire import codec
from meshd.wire.seal import Keyring, Sealer


def replay(course: Course, value: float) -> None:
    """Old datagrams are sent again, to whom they went."""
    cluster, kept = course.cluster, list[tuple[int, int, bytes]]()
    keep = course.rng("replay/keep")

    def overhear(source: int, to: int, body: bytes) -> None:
        if len(kept) < 2_000:
            kept.append((source, to, body))
        elif keep.random() < 0.02:
            kept[keep.randrange(len(kept))] = (source, to, body)

    def strike(rng: Random) -> None:
        for _ in range(min(20, len(kept))):
            source, to, body = kept[rng.randrange(len(kept))]
            cluster.replay(cluster.machine(source), cluster.machine(to), body)
            course.count("replay")

    cluster.overheard = overhear
    course.every("replay", 2 * S, strike)


def garbage(course: Course, value: float) -> None:
    """Random bytes at every port."""
    cluster = course.cluster

    def strike(rng: Random) -> None:
        for machine in cluster.up:
            cluster.replay(machine, machine, rng.randbytes(rng.randrange(0, 1_400)))
            course.count("garbage")

    course.every("garbage", 1 * S, strike)


def strangers(course: Course, value: float) -> None:
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
        course.count("strangers")

    course.every("strangers", 5 * S, strike)


def clone(course: Course, value: float) -> None:
    """A second machine starts from a copy of one's disk, identity and all, for 15 to 40 s."""
    cluster = course.cluster

    def strike(rng: Random) -> None:
        original = course.one(rng)
        if original is None or any(extra.up for extra in cluster.extras):
            return
        twin = Machine(cluster, len(cluster.machines) + len(cluster.extras), (), twin=original.index)
        twin.disk, twin.shelf = dict(original.disk), replace(original.shelf, models=set(original.shelf.models))
        cluster.intrude(twin)
        course.count("clone")
        course.later(rng.randrange(15 * S, 40 * S), lambda: _leaves(twin))

    course.every("clone", 40 * S, strike)


def wrong_key(course: Course, value: float) -> None:
    """A whole node of this mesh's name and another secret knocks at every door, for 10 to 40 s. It changes nothing (M5)."""
    cluster = course.cluster

    def strike(rng: Random) -> None:
        keyring = Keyring(cluster.keyring.mesh, (rng.randbytes(32),))
        seeds = tuple(machine.address for machine in cluster.machines)
        stranger = Machine(cluster, len(cluster.machines) + len(cluster.extras), seeds, keyring=keyring)
        cluster.intrude(stranger)
        course.count("wrong_key")
        course.later(rng.randrange(10 * S, 40 * S), lambda: _leaves(stranger))

    course.every("wrong_key", 40 * S, strike)


def _leaves(machine: Machine) -> None:
    if machine.up:
        machine.crash()


def forged(course: Course, value: float) -> None:
    """A peer tells records whose content is not what was signed, and plans that lack their end. They are never kept (R3, P3)."""
    cluster = course.cluster

    def strike(rng: Random) -> None:
        up = cluster.up
        if len(up) < 2:
            return
        source, to = rng.sample(up, 2)
        kept = [(key, codec.decode_value(key, data)) for key, data in sorted(source.disk.items()) if _is_intent(key)]
        if not kept:
            return
        key, intent = kept[rng.randrange(len(kept))]
        records = tuple(_altered(rng, record) for record in intent.records)
        plans = tuple(
            replace(plan, segments=plan.segments[:-1], epoch=plan.epoch + 9)
            for plan in intent.plans
            if len(plan.segments) > 1
        )
        tell = IntentTell(key.removeprefix(INTENT), (*records, *intent.records), plans)
        to.link_message(source.node_id, codec.encode_link(tell))
        course.count("forged")

    course.every("forged", 3 * S, strike)


INTENT = "intent/"


def _is_intent(key: str) -> bool:
    return key.startswith(INTENT)


def _altered(rng: Random, record: Record) -> Record:
    which = rng.randrange(3)
    if which == 0:
        return replace(record, clock_us=record.clock_us + 1_000_000)
    if which == 1:
        return replace(record, signature=rng.randbytes(len(record.signature)))
    return replace(record, vector=tuple((author, count + 1) for author, count in record.vector))


def deploys(course: Course, value: float) -> None:
    """People deploy again what is deployed, `value` a minute (four), every third time in two places at once."""

    def strike(rng: Random) -> None:
        assert course.workload is not None, "there is nothing to deploy"
        name = course.workload.names[rng.randrange(len(course.workload.names))]
        for _ in range(2 if rng.random() < 0.33 else 1):
            if course.workload.deploy_again(rng, name=name):
                course.count("deploys")

    course.every("deploys", int(60 * S / (value or 4)), strike)


def busy(course: Course, value: float) -> None:
    """Other work on the machines takes and gives memory all the time."""

    def strike(rng: Random) -> None:
        for machine in course.cluster.up:
            before = machine.shelf.capacity or Capacity(1 << 30, host=str(machine.index), rates=(("dense", 1),))
            rates = tuple((kind, rng.randrange(1, 10**9)) for kind, _ in before.rates)
            machine.give(Measured(replace(before, free_bytes=rng.randrange(before.memory_bytes), rates=rates)))
        course.count("busy")

    course.every("busy", 500 * MS, strike)


def hints(course: Course, value: float) -> None:
    """The data plane blames peers that are well."""

    def strike(rng: Random) -> None:
        up = course.cluster.up
        if len(up) < 2:
            return
        one, two = up[rng.randrange(len(up))], up[rng.randrange(len(up))]
        if one is not two:
            one.give(Hinted(two.node_id))
            course.count("hints")

    course.every("hints", 1 * S, strike)

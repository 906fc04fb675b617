"""The faults by name: how each is switched on and off again, and what may be expected of a mesh that has it.

Rule: leaving a switch undoes what it did, and fails if it had done nothing.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.client.inference import Inference
from meshd.demo import model
from meshd.errors import MeshdError
from tests.e2e.deadly import DEADLY
from tests.e2e.five import HOSTS, POLICY, SERVED_S, SLOW, Five

PATIENCE_S = 30.0
STOPPED_WORKED_S_MAX = 0.1


def _nothing(five: Five) -> None:
    """No preparation."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One fault.

    Parameters
    ----------
    on : the fault for as long as it is entered
    seconds : how long that is at the least
    prepare : chooses another entry, where the fault needs one
    bounded : the bounds on added latency hold for it
    network : the network is slow or loses packets for all: a bare TCP hop is measured beside it
    apart : for a while no part that the entry reaches holds all segments
    other_entries : clients know more than one entry
    says : what an error of a request must say while it is `apart`
    two_models : the answer of either of two models is right
    """

    name: str
    on: Callable[[Five], AbstractContextManager[None]]
    seconds: float = 8.0
    prepare: Callable[[Five], None] = _nothing
    bounded: bool = True
    network: bool = False
    apart: bool = False
    other_entries: bool = False
    says: str = "segment"
    two_models: bool = False

    @contextlib.contextmanager
    def switched(self, five: Five) -> Iterator[None]:
        """On, then off."""
        with self.on(five):
            yield

    def names(self, error: str) -> bool:
        """Whether it tells what is missing."""
        return self.says in error

    def truths(self, five: Five) -> Sequence[Any]:
        """Answers that are right."""
        return [five.demo.sample.truth, five.other.truth] if self.two_models else [five.demo.sample.truth]


# ------------------------------------------------------------ processes


def _owner(five: Five, segment: int) -> int:
    owner = five.holders()[segment][0]
    assert owner != five.entry, f"the entry owns segment {segment} itself"
    return owner


def _not_at_owner(segment: int) -> Callable[[Five], None]:
    def prepare(five: Five) -> None:
        owner = five.holders()[segment][0]
        if five.entry == owner:
            five.entry = next(host for host in HOSTS if host not in (owner, SLOW))

    return prepare


def _kill(segment: int) -> Callable[[Five], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def on(five: Five) -> Iterator[None]:
        owner = _owner(five, segment)
        five.daemons[owner].kill()
        try:
            yield
        finally:
            five.start(owner)

    return on


@contextlib.contextmanager
def _stop(five: Five) -> Iterator[None]:
    process = five.daemons[_owner(five, 1)].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(0.2)
        before_s = _worked_s(process.pid)
        yield
        # NB `ip netns exec` becomes the daemon: it is the same process. One that waits for a disk is not shown as stopped.
        assert _worked_s(process.pid) - before_s < STOPPED_WORKED_S_MAX, "it was not stopped"
    finally:
        process.send_signal(signal.SIGCONT)


def _worked_s(pid: int) -> float:
    """CPU time that a process took so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _entry_killed(five: Five) -> Iterator[None]:
    entry = five.entry
    five.daemons[entry].kill()
    five.entry = next(host for host in HOSTS if host not in (entry, SLOW))
    try:
        yield
    finally:
        five.start(entry)


@contextlib.contextmanager
def _power(five: Five) -> Iterator[None]:
    for daemon in five.daemons.values():
        assert daemon.process is not None
        daemon.process.kill()
    for daemon in five.daemons.values():
        daemon.kill()
    try:
        yield
    finally:
        five.start(*HOSTS)


def _not_holding_first(five: Five) -> None:
    """A holder of the first segment may die of a deadly request: the entry is none."""
    until = time.monotonic() + PATIENCE_S
    while not (others := [host for host in HOSTS if host not in five.holders()[0] and host != SLOW]):
        assert time.monotonic() < until, "every quick host holds the first segment"
        time.sleep(0.2)  # More copies than asked for, left by the fault before, are being given up.
    five.entry = others[0]


@contextlib.contextmanager
def _poison(five: Five) -> Iterator[None]:
    sample, said = five.demo.sample, []
    image = sample.images[:1].copy()
    image.flat[0] = DEADLY

    def ask() -> None:
        with Inference(five.target(five.entry)) as inference:
            for _ in range(2):
                try:
                    inference.infer(model.NAME, {sample.input: image}, 10)
                except MeshdError as error:
                    said.append(str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
        asking.join(15)
        dead = list(five.ended())
        assert 1 <= len(dead) <= 2, f"{len(dead)} hosts died of one request: {dead}"
        assert len(said) == 2, said
        assert "refused" in said[1], said
    finally:
        five.start(*five.ended())


# ------------------------------------------------------------ the network


@contextlib.contextmanager
def _cut(five: Five, kind: str, act: Callable[[], None]) -> Iterator[None]:
    five.relay.counts.clear()
    act()
    try:
        yield
        five.relay.happened(kind)
    finally:
        five.relay.heal()


def _dead_link(five: Five) -> AbstractContextManager[None]:
    owner = _owner(five, 0)
    return _cut(five, "cut", lambda: five.relay.isolate(owner))


def _one_way_there(five: Five) -> AbstractContextManager[None]:
    owner = _owner(five, 0)
    return _cut(five, "cut", lambda: five.relay.cut(five.entry, owner))


def _one_way_back(five: Five) -> AbstractContextManager[None]:
    owner = _owner(five, -1)
    return _cut(five, "cut", lambda: five.relay.cut(owner, five.entry))


def _no_tcp(five: Five) -> AbstractContextManager[None]:
    owner = _owner(five, 0)
    return _cut(five, "tcp_cut", lambda: five.relay.block_tcp(five.entry, owner))


def _no_tcp_back(five: Five) -> AbstractContextManager[None]:
    owner = _owner(five, -1)
    return _cut(five, "tcp_cut", lambda: five.relay.block_tcp(owner, five.entry))


def _split(five: Five) -> AbstractContextManager[None]:
    holders = five.holders()
    sides = [
        set(side)
        for size in (2, 3)
        for side in itertools.combinations(HOSTS, size)
        if five.entry in side and all(set(held) & set(side) and set(held) - set(side) for held in holders)
    ]
    assert sides, f"no split of {holders} leaves all segments on both sides"
    return _cut(five, "cut", lambda: five.relay.split(sides[0], set(HOSTS) - sides[0]))


def _split_without(five: Five) -> AbstractContextManager[None]:
    held = next((set(held) for held in five.holders() if five.entry not in held), None)
    assert held, f"the entry holds a part of all: {five.holders()}"
    return _cut(five, "cut", lambda: five.relay.split(set(HOSTS) - held, held))


def _weather(*kinds: str, **changed: Any) -> Callable[[Five], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def on(five: Five) -> Iterator[None]:
        five.relay.counts.clear()
        five.relay.weather(**changed)
        try:
            yield
            five.relay.happened(*kinds)
        finally:
            five.relay.weather(loss=0.0, delay_s=0.0, jitter_s=0.0, rate_bps=0.0, reorder=False)

    return on


# ------------------------------------------------------------ what operators do


@contextlib.contextmanager
def _drain(five: Five) -> Iterator[None]:
    owner = five.daemons[_owner(five, 1)]
    with owner.admin() as admin:
        admin.drain()
    try:
        yield
    finally:
        with owner.admin() as admin:
            admin.drain(on=False)


@contextlib.contextmanager
def _generation(five: Five) -> Iterator[None]:
    bundles = (five.other.bundle, five.demo.bundle)
    with five.daemons[five.entry].admin() as admin:
        digests = [admin.push(each.topology, each.blobs) for each in bundles]
        for digest in digests:
            before = five.status().deployments[0].generation
            admin.deploy(model.NAME, digest, POLICY, SERVED_S)
            admin.wait(lambda status, before=before: _serves_past(status, before), SERVED_S, "a new generation")
    yield


def _serves_past(status: Any, generation: int) -> bool:
    found = status.deployments[0]
    return bool(found.HasField("serving") and found.serving.generation > generation)


FAULTS = (
    *(Switch(f"kill-{n}", _kill(n), prepare=_not_at_owner(n)) for n in range(3)),
    Switch("stop", _stop, 5.0, _not_at_owner(1)),
    Switch("dead-link", _dead_link, prepare=_not_at_owner(0)),
    Switch("one-way-there", _one_way_there, prepare=_not_at_owner(0)),
    Switch("one-way-back", _one_way_back, prepare=_not_at_owner(2)),
    Switch("no-tcp", _no_tcp, prepare=_not_at_owner(0)),
    Switch("no-tcp-back", _no_tcp_back, prepare=_not_at_owner(2)),
    Switch("split", _split),
    Switch("split-without", _split_without, apart=True, bounded=False),
    Switch("loss-10", _weather("lost", loss=0.1), network=True, bounded=False),
    Switch("loss-20", _weather("lost", loss=0.2), network=True, bounded=False),
    Switch("loss-30", _weather("lost", loss=0.3), network=True, bounded=False),
    Switch("delay", _weather("delayed", delay_s=0.1, jitter_s=0.02), network=True, bounded=False),
    Switch("slow-link", _weather("delayed", rate_bps=5e6), network=True, bounded=False),
    Switch("reorder", _weather("delayed", delay_s=0.002, jitter_s=0.01, reorder=True), network=True, bounded=False),
    Switch("entry-killed", _entry_killed, other_entries=True),
    Switch("poison", _poison, prepare=_not_holding_first, apart=True, bounded=False),
    Switch("drain", _drain, prepare=_not_at_owner(1)),
    Switch("generation", _generation, two_models=True),
    Switch("power", _power, 1.0, apart=True, bounded=False, says=""),
)

"""One simulated machine: a whole `Node`, its disk, its clock, and a driver that performs effects as the daemon's does.

Everything the node says goes through the real codec; everything it keeps too. A crash loses what was not on disk.
"""

import hashlib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from meshd.config import MINUTE, MS, S
from meshd.core import events
from meshd.core.events import DatagramIn, Effect, Input, LinkIn, Operate, Persisted, TimerFired, TimerId, Token, Woke
from meshd.core.ids import NO_BOOT, Address, Boot, NodeId, node_id
from meshd.core.known import Known
from meshd.core.layered import Layered
from meshd.core.messages import Join
from meshd.core.node import Identity, Node, Setup
from meshd.core.view import Capacity, View
from meshd.wire import codec
from meshd.wire.seal import Keyring, Opener, Refusal, Sealer

if TYPE_CHECKING:
    from meshd.sim.cluster import Cluster

IP_UDP_BYTES = 28
YEAR = 365 * 24 * 60 * MINUTE
DISK_US = (2 * MS, 30 * MS)
"""An fsync, from an SSD's to an SD card's."""
DISK_AGAIN_US = 1 * S
"""The driver tries again so often to keep what the disk had no room for."""


@dataclass(slots=True)
class Shelf:
    """How this machine's data plane behaves, for Load, Unload, Fetch. Placement scenarios and faults replace the functions."""

    load_us: Callable[[events.Load], int] = lambda load: 500 * MS
    measured_us: Callable[[events.Load], int] = lambda load: 1 * MS
    resident_bytes: Callable[[events.Load], int] = lambda load: 1
    load_fails: Callable[[events.Load], str] = lambda load: ""
    fetch_us: Callable[[events.Fetch], int] = lambda fetch: 500 * MS
    solve: Callable[[Any], Any] | None = None
    solve_us: int = 20 * MS
    models: set[str] = field(default_factory=set)
    capacity: Capacity | None = None
    """What measuring tells it after each start; None: nothing."""


class Machine:
    """Number `index` of a cluster."""

    def __init__(
        self,
        cluster: "Cluster",
        index: int,
        seeds: tuple[Address, ...],
        twin: int | None = None,
        keyring: Keyring | None = None,
    ) -> None:
        self.cluster, self.index, self.seeds = cluster, index, seeds
        self.keyring = keyring or cluster.keyring
        self.public = hashlib.sha256(f"{cluster.seed}/key/{index if twin is None else twin}".encode()).digest()
        self.node_id: NodeId = node_id(hashlib.sha256(self.public).digest()[:16])
        self.address = Address(f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}", 7946)
        self.disk: dict[str, bytes] = {}
        self.node: Node | None = None
        self.life = 0
        self.boot: Boot = NO_BOOT
        self.view: View | None = None
        self.reports: list[tuple[int, events.Report]] = []
        self.answers: dict[Token, Any] = {}
        self.shelf = Shelf()
        self.trusted: MutableMapping[NodeId, bytes] = {}
        self.effects_us: list[int] = []
        self._rng = Random(f"{cluster.seed}/machine/{index}")
        self._clock_offset_us = self._rng.randrange(10 * YEAR)
        self.wall_offset_us = self._rng.randrange(10 * YEAR)
        """What its wall clock is wrong by."""
        self.clock_ppm = self._rng.randrange(-100, 101)
        self.disk_is_full = False
        self._timers: dict[TimerId, tuple[int, int]] = {}
        """Which setting of it counts, and when it is due by this machine's clock."""
        self._timer_count = 0
        self.stalled = False
        """Does what arrives wait?"""
        self.timers_stalled = False
        self.stopped_us = 0
        """When it last came back from a stall."""
        self._stalled_since_us = 0
        self._queued: list[tuple[Input, bytes]] = []
        self._late: list[tuple[TimerId, int]] = []
        self._kept_us = 0
        """When the last write began here will be on disk: writes keep their order."""
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None

    # ------------------------------------------------------------ life

    @property
    def up(self) -> bool:
        """Is it powered?"""
        return self.node is not None

    def certificate(self) -> bytes:
        """What stands for its X.509 certificate."""
        return b"certificate:" + self.public

    def start(self) -> None:
        """Power on."""
        assert self.node is None, f"machine {self.index} is on"
        self.life += 1
        restored = {key: codec.decode_value(key, data) for key, data in sorted(self.disk.items())}
        self.node = Node(self._setup(restored))
        self._perform(self.node.start(self.local_us()))
        if self.shelf.capacity is not None:
            self.give(events.Measured(self.shelf.capacity))
        if self.shelf.models:
            self.give(events.DiskChanged(tuple(sorted(self.shelf.models))))  # type: ignore[arg-type]

    def _setup(self, restored: Mapping[str, Any]) -> Setup:
        prefix = f"{self.cluster.seed}/node/{self.index}/{self.life}"
        return Setup(
            identity=Identity(
                self.node_id, self.certificate(), (self.address,), f"node-{self.index}", "sim", self.public
            ),
            rng=lambda purpose: Random(f"{prefix}/{purpose}"),
            identify=_identify,
            sign=lambda record: _signature(self.public, record),
            verify=lambda key, record, signature: signature == _signature(key, record),
            seeds=self.seeds,
            timers=self.cluster.timers,
            restored=restored,
        )

    def adopt(self, known: Known, trusted: Mapping[NodeId, bytes]) -> None:
        """Know all others, as they know each other."""
        assert self.node is not None, f"machine {self.index} is off"
        self.trusted = Layered(trusted)
        self._perform(self.node.adopt(known))

    def crash(self) -> None:
        """Power off, in the middle of whatever it did."""
        assert self.node is not None, f"machine {self.index} is off"
        self.node = None
        self.boot = NO_BOOT
        self.view = None
        self._timers.clear()
        self._queued.clear()
        self._late.clear()
        self._sealer = self._opener = None
        self.trusted = {}
        self.stalled = self.timers_stalled = False
        self.cluster.links.host_died(self.index)

    def stall(self, for_us: int, *, input: bool = True, timers: bool = True, asleep: bool = False) -> bool:
        """For a while nothing is read, or no timer fires, or both; False if it is off, or stalled already.

        `asleep`: its clock stands still meanwhile, as when the whole machine is suspended.
        """
        if self.stalled or self.timers_stalled or not self.up:
            return False
        self.stalled, self.timers_stalled, self._stalled_since_us = input, timers, self.cluster.clock.now_us
        self.cluster.clock.after(for_us, self._resume, self.life, asleep)
        return True

    def _resume(self, life: int, asleep: bool) -> None:
        if life != self.life or not self.up:
            return
        now_us = self.cluster.clock.now_us
        self.stalled, self.timers_stalled, self.stopped_us = False, False, now_us
        queued, self._queued = self._queued, []
        late, self._late = self._late, []
        if asleep:
            self._clock_offset_us -= now_us - self._stalled_since_us
            late.clear()
            for id, (_, due_us) in list(self._timers.items()):
                self._set(id, max(0, due_us - self.local_us()))
        elif late:
            late_us = now_us - self._stalled_since_us
            if late_us > self.cluster.timers.probe_period_us:
                self._step(Woke(late_us), b"")
        # The driver's rule: what arrived is read before timers fire.
        for input, content in queued:
            self._step(input, content)
        for id, number in late:
            self._fire(id, number)

    def local_us(self) -> int:
        """This machine's monotonic clock."""
        now_us = self.cluster.clock.now_us
        return self._clock_offset_us + now_us + now_us * self.clock_ppm // 1_000_000

    def drift(self, ppm: int) -> None:
        """Run so many millionths fast from now on. It stays monotonic: what it shows now is kept."""
        before_us = self.local_us()
        self.clock_ppm = ppm
        self._clock_offset_us += before_us - self.local_us()

    def wall_us(self) -> int:
        """This machine's wall clock, years from the others'."""
        return self.wall_offset_us + self.cluster.clock.now_us

    # ------------------------------------------------------------ inputs

    def give(self, input: Input, content: bytes = b"") -> None:
        """An input reaches the driver."""
        if self.node is None:
            return
        if self.stalled:
            self._queued.append((input, content))
        else:
            self._step(input, content)

    def give_in(self, after_us: int, input: Input, content: bytes = b"") -> None:
        """Later, if it still lives."""
        self.cluster.clock.after(after_us, self._give_if, self.life, input, content)

    def _give_if(self, life: int, input: Input, content: bytes) -> None:
        if life == self.life:
            self.give(input, content)

    def operate(self, command: events.Command) -> Token:
        """An operator's command; its answer appears in `answers`."""
        token = Token(len(self.answers) + 1)
        self.answers[token] = None
        self.give(Operate(token, command, wall_us=self.wall_us()))
        return token

    def datagram(self, at: Address, datagram: bytes) -> None:
        """A sealed datagram arrives from `at`."""
        if self.node is None or self._opener is None:
            return
        opened = self._opener.open(datagram)
        if isinstance(opened, Refusal):
            return
        message = codec.decode_gossip(opened.body)
        if not opened.to_anyone or isinstance(message, Join):
            self.give(DatagramIn(opened.source, opened.boot, at, message), opened.body)

    def link_message(self, source: NodeId, body: bytes) -> None:
        """A frame arrives on a control link."""
        self.give(LinkIn(source, codec.decode_link(body)), body)

    def _fire(self, id: TimerId, number: int) -> None:
        if self.node is None or self._timers.get(id, (0, 0))[0] != number:
            return
        if self.timers_stalled:
            self._late.append((id, number))
            return
        del self._timers[id]
        self._step(TimerFired(id), b"")

    def _step(self, input: Input, content: bytes) -> None:
        if self.node is None:
            return
        cluster = self.cluster
        cluster.trace.event(cluster.clock.now_us, self.index, _word(input), content)
        effects = self.node.step(input, self.local_us())
        self._perform(effects)
        for watcher in cluster.watchers:
            watcher(self, input, effects)

    # ------------------------------------------------------------ effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            _PERFORM[type(effect)](self, effect)

    def _send_datagram(self, effect: events.SendDatagram) -> None:
        assert self._sealer is not None, "nothing is sent before UseBoot"
        sealed = self._sealer.seal(effect.receiver, codec.encode_gossip(effect.message))
        self.cluster.carry(self, effect.address, sealed)

    def _send_link(self, effect: events.SendLink) -> None:
        self.cluster.links.send(self.index, effect.peer, codec.encode_link(effect.message))

    def _set_timer(self, effect: events.SetTimer) -> None:
        self._set(effect.id, effect.after_us)

    def _set(self, id: TimerId, after_us: int) -> None:
        self._timer_count += 1
        self._timers[id] = (self._timer_count, self.local_us() + after_us)
        # Rounded up and one more: a timer that fired early by its own clock would be set again for no time, for ever.
        after_us = after_us * 1_000_000 // (1_000_000 + self.clock_ppm) + 2
        self.cluster.clock.after(after_us, self._fire, id, self._timer_count)

    def _cancel_timer(self, effect: events.CancelTimer) -> None:
        self._timers.pop(effect.id, None)

    def _persist(self, effect: events.Persist) -> None:
        data = None if effect.value is None else codec.encode_value(effect.key, effect.value)
        now_us = self.cluster.clock.now_us
        self._kept_us = max(self._kept_us + 1, now_us + self._rng.randrange(*DISK_US))
        self.cluster.clock.at(self._kept_us, self._kept, self.life, effect.key, data, effect.token)

    def _kept(self, life: int, key: str, data: bytes | None, token: Token) -> None:
        if life != self.life or self.node is None:
            return
        if self.disk_is_full:
            self.cluster.on_fault("disk_full")
            self._kept_us = max(self._kept_us + 1, self.cluster.clock.now_us + DISK_AGAIN_US)
            self.cluster.clock.at(self._kept_us, self._kept, life, key, data, token)
            return
        if data is None:
            self.disk.pop(key, None)
        else:
            self.disk[key] = data
        self.give(Persisted(token))

    def _solve(self, effect: events.Solve) -> None:
        assert self.shelf.solve is not None, "this cluster plans nothing"
        self.give_in(self.shelf.solve_us, events.Solved(effect.token, self.shelf.solve(effect.problem)))

    def _load(self, effect: events.Load) -> None:
        why, after_us = self.shelf.load_fails(effect), self.shelf.load_us(effect)
        if why:
            self.cluster.on_fault("load_failure")
            self.give_in(after_us, events.LoadFailed(effect.segment, why))
        else:
            loaded = events.Loaded(effect.segment, self.shelf.resident_bytes(effect), self.shelf.measured_us(effect))
            self.give_in(after_us, loaded)

    def _unload(self, effect: events.Unload) -> None:
        self.give_in(50 * MS, events.Unloaded(effect.segment))

    def _fetch(self, effect: events.Fetch) -> None:
        self.cluster.clock.after(self.shelf.fetch_us(effect), self._fetched, self.life, effect)

    def _fetched(self, life: int, effect: events.Fetch) -> None:
        sources = [self.cluster.by_id[node] for node in effect.sources]
        has = [m for m in sources if m.up and effect.model in m.shelf.models and self.cluster.connected(m, self)]
        if life != self.life or not has or self.disk_is_full:
            return
        self.shelf.models.add(effect.model)
        self.give(events.DiskChanged(tuple(sorted(self.shelf.models))))  # type: ignore[arg-type]

    def _discard(self, effect: events.Discard) -> None:
        self.shelf.models.discard(effect.model)
        self.give_in(10 * MS, events.DiskChanged(tuple(sorted(self.shelf.models))))  # type: ignore[arg-type]

    def _use_boot(self, effect: events.UseBoot) -> None:
        self.boot = effect.boot
        self._sealer = Sealer(self.keyring, self.node_id, self.boot)
        if self._opener is None:
            self._opener = Opener(self.keyring, self.node_id, self.boot)
        self._opener.use_boot(effect.boot)  # The same one: a fresh one would not know what came before.

    def _proven(self, effect: events.Proven) -> None:
        assert self._opener is not None
        self._opener.proven(effect.node, effect.boot)

    def _trust(self, effect: events.Trust) -> None:
        assert _identify(effect.certificate) == effect.node, "only a certificate of its key is trusted"
        self.trusted[effect.node] = effect.certificate

    def _distrust(self, effect: events.Distrust) -> None:
        self.trusted.pop(effect.node, None)
        self.cluster.links.close(self.index, effect.node)

    def _publish(self, effect: events.Publish) -> None:
        assert self.view is None or effect.view.version == self.view.version + 1, "views count by one"
        self.view = effect.view

    def _report(self, effect: events.Report) -> None:
        self.reports.append((self.cluster.clock.now_us, effect))

    def _answer(self, effect: events.Answer) -> None:
        assert self.answers.get(effect.token, 0) is None, "a command is answered exactly once"
        self.answers[effect.token] = effect.result


_PERFORM: dict[type, Callable[[Machine, Any], None]] = {
    events.SendDatagram: Machine._send_datagram,
    events.SendLink: Machine._send_link,
    events.SetTimer: Machine._set_timer,
    events.CancelTimer: Machine._cancel_timer,
    events.Persist: Machine._persist,
    events.Solve: Machine._solve,
    events.Load: Machine._load,
    events.Unload: Machine._unload,
    events.Fetch: Machine._fetch,
    events.Discard: Machine._discard,
    events.UseBoot: Machine._use_boot,
    events.Proven: Machine._proven,
    events.Trust: Machine._trust,
    events.Distrust: Machine._distrust,
    events.Publish: Machine._publish,
    events.Report: Machine._report,
    events.Answer: Machine._answer,
}


def _word(input: Input) -> str:
    match input:
        case TimerFired(id):
            return f"timer {id}"
        case DatagramIn():
            return f"datagram {input.source} {type(input.message).__name__}"
        case LinkIn():
            return f"link {input.source} {type(input.message).__name__}"
        case events.LinkChanged(peer, up):
            return f"link {peer} {'up' if up else 'down'}"
    return type(input).__name__


def _identify(certificate: bytes) -> NodeId | None:
    if not certificate.startswith(b"certificate:"):
        return None
    return node_id(hashlib.sha256(certificate.removeprefix(b"certificate:")).digest()[:16])


def _signature(key: bytes, record: bytes) -> bytes:
    return hashlib.blake2b(record, key=key, digest_size=32).digest()

"""A simulated mesh: machines, a network, links, time; and what a test wants to do to it and know of it.

    cluster = Cluster(seed=1, nodes=3)
    cluster.start()
    cluster.run_until(cluster.agreed, within_us=5 * S)
    cluster.crash(2)

Rule: one seed, one history. Nothing reads a clock, a file or the process's own randomness.
"""

from collections.abc import Callable
from random import Random

from meshd.config import MS, Timers
from meshd.core.events import Effect, Input, Sighted
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.known import known
from meshd.core.view import State
from meshd.errors import MeshdError
from meshd.sim.checkers import unchanged_by
from meshd.sim.clock import Clock
from meshd.sim.links import Links
from meshd.sim.machine import IP_UDP_BYTES, Machine
from meshd.sim.network import Network, Weather
from meshd.sim.trace import Trace
from meshd.wire.seal import Keyring

Watcher = Callable[[Machine, Input, list[Effect]], None]
"""Called after each step of each node: checkers, meters."""


class Cluster:
    """Machines 0 to N - 1 on one network.

    Parameters
    ----------
    seed
        Of everything.
    nodes
        Machines, none powered on yet.
    seeds
        Machines whose addresses all others are given; none: they find each other by (simulated) mDNS.
    kind
        Of machines; `sim.bare` has one for node-hours by the thousand.
    """

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        timers: Timers | None = None,
        weather: Weather | None = None,
        seeds: tuple[int, ...] = (),
        mdns: bool = True,
        kind: type[Machine] = Machine,
    ) -> None:
        self.seed, self.timers = seed, timers or Timers()
        self.clock = Clock(seed)
        self.network = Network(self.clock, seed, weather)
        self.network.on_fault = self._note_fault
        self.network.on_garbled = lambda source, to, body: self.replay(self.machine(source), self.machine(to), body)
        self.trace = Trace()
        self.links = Links(self)
        self.watchers: list[Watcher] = []
        self.mdns = mdns
        self.dies_loudly = True
        """Does a crash close connections (a process killed), or leave them silent (power lost)?"""
        self.on_crash: Callable[[int], None] = lambda index: None
        self.on_fault: Callable[[str], None] = lambda name: None
        """Told whenever a fault really did something, by its name."""
        self.overheard: Callable[[int, int, bytes], None] | None = None
        """Sees every datagram (from, to, sealed) that arrives: what came once may be sent again by somebody in between."""
        self.unchanged = 0
        """How often somebody in between put something on the wire (M5)."""
        self.refused: list[str] = []
        """Datagrams the codec refused: none, unless a fault made them."""
        key = Random(f"{seed}/mesh key")
        self.keyring = Keyring(key.randbytes(16), (key.randbytes(32),))
        self._rng = Random(f"{seed}/cluster")
        self.machines: list[Machine] = []
        for index in range(nodes):
            self.machines.append(kind(self, index, ()))
        for machine in self.machines:
            machine.seeds = tuple(self.machines[i].address for i in seeds if i != machine.index)
        self.extras: list[Machine] = []
        """Machines that do not belong: twins of others, strangers. Numbers from N on; nothing is asked of them at rest."""
        self.by_id: dict[NodeId, Machine] = {machine.node_id: machine for machine in self.machines}
        self.by_address: dict[Address, Machine] = {machine.address: machine for machine in self.machines}

    # ------------------------------------------------------------ doing

    def start(self, spread_us: int = 200 * MS) -> None:
        """Power all on, within `spread_us`."""
        for machine in self.machines:
            if not machine.up:
                self.clock.after(self._rng.randrange(spread_us) if spread_us else 0, self.restart, machine.index)

    def start_known(self) -> None:
        """Power all on as members of a mesh that has been together for a while, its tables shared (`core.known`)."""
        mdns, self.mdns = self.mdns, False
        seeds = [machine.seeds for machine in self.machines]
        for machine in self.machines:
            machine.seeds = ()  # Nobody is to meet anybody before all know all.
        self.start()
        while not all(machine.boot for machine in self.machines):
            self.run_for(10 * MS)
        self.mdns = mdns
        for machine, its in zip(self.machines, seeds, strict=True):
            machine.seeds = its
        shared = known(machine.node for machine in self.machines if machine.node is not None)
        trusted = {machine.node_id: machine.certificate() for machine in self.machines}
        for machine in self.machines:
            machine.adopt(shared, trusted)

    def restart(self, index: int) -> None:
        """Power one on; mDNS makes it known to the others and them to it."""
        machine = self.machines[index]
        if machine.up:
            return
        machine.start()
        if not self.mdns:
            return
        for other in self.machines:
            if other is not machine and other.up:
                for one, two in ((machine, other), (other, machine)):
                    self.clock.after(self._rng.randrange(50 * MS, 600 * MS), self._sight, one, two)

    def _sight(self, machine: Machine, other: Machine) -> None:
        heard = self.network.reaches(other.index, machine.index) and self._rng.random() >= self.network.weather.loss
        if machine.up and other.up and heard:
            machine.give(Sighted(other.address, other.node_id))

    def crash(self, index: int) -> None:
        """Power one off."""
        self.on_crash(index)
        self.machines[index].crash()

    def intrude(self, machine: Machine) -> None:
        """Power on one that does not belong (its `index` is `len(machines) + len(extras)`)."""
        self.extras.append(machine)
        self.by_address[machine.address] = machine
        machine.start()
        for other in self.up:
            for one, two in ((machine, other), (other, machine)):
                self.clock.after(self._rng.randrange(50 * MS, 600 * MS), self._sight, one, two)

    def run_for(self, us: int) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now_us + us)

    def run_until(self, done: Callable[[], bool], within_us: int, every_us: int = 5 * MS) -> int:
        """Let time pass until `done`; microseconds it took.

        Raises
        ------
        TimeoutError
            Not within that time.
        """
        began_us = self.clock.now_us
        while not done():
            if self.clock.now_us - began_us >= within_us:
                raise TimeoutError(f"seed {self.seed}: not within {within_us / 1e6:.1f} s")
            self.clock.run_until(self.clock.now_us + every_us)
        return self.clock.now_us - began_us

    # ------------------------------------------------------------ knowing

    def machine(self, index: int) -> Machine:
        """One that belongs, or does not."""
        at = index - len(self.machines)
        return self.machines[index] if at < 0 else self.extras[at]

    def lives(self, node: NodeId, boot: Boot) -> bool:
        """Does some machine run as this boot of this node?"""
        return any(m.node_id == node and m.boot == boot and m.up for m in (*self.machines, *self.extras))

    @property
    def up(self) -> list[Machine]:
        """Machines that are powered."""
        return [machine for machine in self.machines if machine.up]

    def sees(self, machine: Machine, other: Machine) -> State | None:
        """The state of `other` in the view of `machine`."""
        member = machine.view.members.get(other.node_id) if machine.view is not None else None
        return member.state if member is not None else None

    def connected(self, one: Machine, two: Machine) -> bool:
        """Do datagrams pass both ways?"""
        return self.network.reaches(one.index, two.index) and self.network.reaches(two.index, one.index)

    def agreed(self) -> bool:
        """Do all that are up see all that are up ALIVE, in their present boot, and nobody else? (All were started once.)"""
        up = self.up
        if any(machine.life == 0 for machine in self.machines):
            return False
        for machine in up:
            view = machine.view
            if view is None or len(view.alive()) != len(up):
                return False
            for other in up:
                member = view.members.get(other.node_id)
                if member is None or member.state is not State.ALIVE or member.boot != other.boot:
                    return False
        return True

    def digests(self) -> set[int]:
        """Membership digests of all that are up: one, once all agree on everything (invariant M8)."""
        return {machine.node.sync.root() for machine in self.up if machine.node is not None}

    # ------------------------------------------------------------ carrying

    def carry(self, machine: Machine, address: Address, datagram: bytes) -> None:
        """A sealed datagram leaves `machine`."""
        to = self.by_address.get(address)
        if to is not None:
            arrive = self._arrive if machine.keyring is self.keyring else self.replay
            self.network.datagram(
                machine.index,
                to.index,
                datagram,
                IP_UDP_BYTES + len(datagram),
                lambda body: arrive(machine, to, body),
            )

    def _arrive(self, source: Machine, to: Machine, datagram: bytes) -> None:
        if self.overheard is not None and to.up:
            self.overheard(source.index, to.index, datagram)
        try:
            to.datagram(source.address, datagram)
        except MeshdError as error:
            self.refused.append(str(error))

    def _note_fault(self, name: str) -> None:
        self.on_fault(name)

    def replay(self, source: Machine, to: Machine, datagram: bytes) -> None:
        """Bytes that somebody in between puts on the wire: invariant M5 holds them to change nothing."""
        if to.up and not to.stalled:
            self.trace.event(self.clock.now_us, to.index, "replay", datagram)
            unchanged_by(to, lambda: self._arrive(source, to, datagram))

    def boots(self) -> dict[NodeId, Boot]:
        """The present boot of each machine that is up."""
        return {machine.node_id: machine.boot for machine in self.up}

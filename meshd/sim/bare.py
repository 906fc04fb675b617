"""A machine whose datagrams are carried as values: not encoded, not sealed, not traced. For node-hours by the thousand.

Rule: what its node does is the same, input by input, as on a whole machine (a test holds it to that): the network draws loss and
delay for each datagram whatever is in it. What is left out is what it would prove: that codec and seal give back what they got.
"""

from meshd.core.events import DatagramIn, Effect, Input, Report, SendDatagram, SetTimer
from meshd.core.ids import NodeId
from meshd.core.messages import Join
from meshd.sim.machine import Machine


class Bare(Machine):
    """Give it to `Cluster` as its `kind`. Bytes are not counted, reports not kept (watchers see them)."""

    def _step(self, input: Input, content: bytes) -> None:
        node = self.node
        if node is None:
            return
        effects = node.step(input, self.local_us())
        self._perform(effects)
        for watcher in self.cluster.watchers:
            watcher(self, input, effects)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if type(effect) is SendDatagram:
                self._carry(effect)
            elif type(effect) is SetTimer:
                self._set_timer(effect)
            elif type(effect) is not Report:
                super()._perform([effect])

    def _carry(self, effect: SendDatagram) -> None:
        to = self.cluster.by_address.get(effect.address)
        if to is not None:
            datagram = DatagramIn(self.node_id, self.boot, self.address, effect.message)
            self.cluster.network.datagram(
                self.index,
                to.index,
                b"",
                0,
                lambda _: to.heard(datagram, effect.receiver),  # type: ignore[attr-defined]
            )

    def heard(self, datagram: DatagramIn, receiver: NodeId | None) -> None:
        """A datagram arrives: it counts if it is for this node, or a Join for anyone."""
        if self.boot and (receiver == self.node_id or (receiver is None and type(datagram.message) is Join)):
            self.give(datagram)

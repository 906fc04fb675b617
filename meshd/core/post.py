"""Datagrams on their way out: to which address, with which news on board."""

from meshd.core.context import Context
from meshd.core.dissemination import Rumours
from meshd.core.events import SendDatagram
from meshd.core.ids import Address, NodeId
from meshd.core.membership import Members, Record
from meshd.core.messages import Accusation, Ack, GossipMessage, Ping, Rumour, Spread
from meshd.core.view import State


class Post:
    """Sends for all parts of the node."""

    def __init__(self, context: Context, members: Members, rumours: Rumours) -> None:
        self._context, self._members, self._rumours = context, members, rumours
        self.health = 0
        """This node's own, 0 to 7: rides on every Ping and Ack."""

    def send(self, record: Record, message: GossipMessage, attempt: int = 0) -> None:
        """Send to a member; later attempts try its other addresses."""
        address = record.address(attempt)
        if address is not None:
            self._context.emit(SendDatagram(address, record.node, message))

    def reply(self, node: NodeId | None, address: Address, message: GossipMessage) -> None:
        """Send to where a datagram came from, or to an address whose node is not known."""
        self._context.emit(SendDatagram(address, node, message))

    def ping(self, record: Record, number: int, attempt: int = 0) -> None:
        """Ping a member, telling it what is held against it."""
        accusation = None
        if record.state is not State.ALIVE or record.incarnation == 0:
            accusation = Accusation(record.state, record.boot, record.incarnation)
        news = self._rumours.take(self._members.count)
        self.send(record, Ping(number, self.health, accusation, news), attempt)

    def ack(self, node: NodeId, address: Address, number: int, first: Rumour | None = None) -> None:
        """Answer a Ping; `first` goes on board before other news."""
        news = self._rumours.take(self._members.count, first=first)
        self.reply(node, address, Ack(number, self.health, news))

    def tell(self, record: Record, rumour: Rumour) -> None:
        """Say one thing to one member, now."""
        news = self._rumours.take(self._members.count, first=rumour)
        self.send(record, Spread(news))

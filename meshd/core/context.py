"""What the parts of one node share in a step: who it is, what time it is, and the effects so far."""

from meshd.config import Timers
from meshd.core.events import CancelTimer, Effect, Report, SetTimer, TimerId
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.messages import Rumour
from meshd.core.view import State


class Context:
    """Written by `Node` at the start of a step, read by its parts; effects are appended in order."""

    __slots__ = (
        "addresses", "boot", "certificate", "certificate_hash", "effects", "incarnation", "me", "now_us", "state", "timers",
    )  # fmt: skip

    def __init__(self, me: NodeId, certificate: bytes, addresses: tuple[Address, ...], timers: Timers) -> None:
        self.me, self.certificate, self.addresses, self.timers = me, certificate, addresses, timers
        self.certificate_hash = 0
        self.boot = Boot(0)
        """0 until it is on disk: nothing is sent before."""
        self.incarnation = 1
        """NB from 1: a record that a handshake made, before its subject spoke for itself, has 0."""
        self.state = State.ALIVE
        self.now_us = 0
        self.effects: list[Effect] = []

    def emit(self, effect: Effect) -> None:
        """Add an effect."""
        self.effects.append(effect)

    def timer(self, id: str, after_us: int) -> None:
        """Set a timer, replacing one of that name."""
        self.effects.append(SetTimer(TimerId(id), after_us))

    def cancel(self, id: str) -> None:
        """Cancel a timer."""
        self.effects.append(CancelTimer(TimerId(id)))

    def report(self, kind: str, subject: str, **detail: str | int | float | bool) -> None:
        """Tell the operator."""
        self.effects.append(Report(kind, subject, detail))

    def myself(self) -> Rumour:
        """What this node says of itself."""
        if self.state is State.LEFT:
            return Rumour(State.LEFT, self.me, self.boot, self.incarnation)
        return Rumour(State.ALIVE, self.me, self.boot, self.incarnation, self.addresses, self.certificate_hash)

"""The state behind `core.intent`, shared by its parts: records, plans, the mesh, what is held, who waits.

Rule 1: what others are told of a deployment (`key`, `tell`) is held back until its record is on disk.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.config import TOLD_AT_ONCE_MAX, Timers
from meshd.core.bidding import Bidder
from meshd.core.deploying import Desk
from meshd.core.events import Effect, Persist, SendLink, Token
from meshd.core.ids import Digest, NodeId
from meshd.core.intent_messages import IntentTell, KeptIntent
from meshd.core.matter import Matter
from meshd.core.mesh import Mesh
from meshd.core.plan import Plan
from meshd.core.registry import Record, Registry
from meshd.core.rng import Rng
from meshd.core.shelf import Shelf
from meshd.core.view import Capacity, State

PART_BYTES = 8
"""Of a hash in a key: what is compared is only whether it was ever seen."""
NO_PLAN = bytes(PART_BYTES)


@dataclass(slots=True)
class Ledger:
    """State of one node's deployments."""

    me: NodeId
    timers: Timers
    rng: Rng
    registry: Registry
    mesh: Mesh
    shelf: Shelf
    bidder: Bidder
    desk: Desk = field(default_factory=Desk)
    matters: dict[str, Matter] = field(default_factory=dict)
    capacity: Capacity = field(default_factory=Capacity)
    models: tuple[Digest, ...] = ()
    """Whole on this disk."""
    held_back: dict[Token, str] = field(default_factory=dict)
    """Persists of records made here: their deployments are told when they come back."""
    inquired: dict[tuple[NodeId, Digest], tuple[int, int]] = field(default_factory=dict)
    """(holder, plan digest nobody told of) → when to ask again, and after how long then."""
    refused: int = 0
    """What came by link and changed nothing, because it may not or nobody asked for it."""
    _next_token: int = 0

    def token(self) -> Token:
        """A fresh token: positive, for `Node` counts its own below zero."""
        self._next_token += 1
        return Token(self._next_token)

    def matter(self, name: str) -> Matter:
        """What is kept of a deployment, from now on if nothing was."""
        if name not in self.matters:
            self.matters[name] = Matter()
        return self.matters[name]

    def names(self) -> list[str]:
        """Deployments known, sorted."""
        return sorted(self.matters)

    def record(self, name: str) -> Record | None:
        """The effective record."""
        return self.registry.effective(name)

    def plans(self, name: str) -> list[Plan]:
        """Plans kept, greatest first."""
        record = self.record(name)
        return self.matters[name].plans.all(None if record is None else record.digest)

    def persist(self, name: str) -> tuple[Token, list[Effect]]:
        """Keep what there is of a deployment."""
        token = self.token()
        matter = self.matters[name]
        value = KeptIntent(self.registry.heads(name), tuple(self.plans(name)), matter.plans.epoch)
        return token, [Persist(f"intent/{name}", value, token)]

    def note(self, name: str) -> None:
        """Heads or plans changed: remember them as seen, and advertise them unless they are held back."""
        matter = self.matters[name]
        heads = b"".join(bytes.fromhex(head.digest) for head in self.registry.heads(name))
        head_part = hashlib.blake2b(heads, digest_size=PART_BYTES).digest()
        plans = self.plans(name)
        for plan in plans:
            matter.saw(bytes.fromhex(plan.record)[:PART_BYTES])
        matter.saw(head_part)
        if name not in self.held_back.values():
            matter.told = head_part + (bytes.fromhex(plans[0].record)[:PART_BYTES] if plans else NO_PLAN)

    def tell(self, name: str) -> IntentTell:
        """All there is of a deployment."""
        return IntentTell(name, self.registry.heads(name), tuple(self.plans(name)))

    def tell_at_once(self, name: str, first: tuple[NodeId, ...] = ()) -> list[Effect]:
        """Tell the alive of something new: all in a small mesh; in a large one those it concerns, the rest hear the rumour."""
        alive = [m.node for m in self.mesh.live if m.state is State.ALIVE and m.node != self.me]
        if len(alive) > TOLD_AT_ONCE_MAX:
            alive = [node for node in alive if node in first][:TOLD_AT_ONCE_MAX]
        message = self.tell(name)
        return [SendLink(node, message) for node in alive]


def served_models(ledger: Ledger) -> Mapping[Digest, None]:
    """Models that live deployments need."""
    records = (ledger.record(name) for name in ledger.names())
    return {record.model: None for record in records if record is not None and not record.retired}

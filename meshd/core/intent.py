"""What people asked for and what the mesh does about it: registry, negotiation, holdings, ownership, behind one interface.

Every event changes some state and then settles the deployments (`core.settling`): from records, plans and the mesh as it is
follows what to load, what to let go, whether to plan, and when to look again. There is one timer a deployment.

Rule 1: a record made here is told when it is on disk; one that came from elsewhere is on some disk already.
Rule 2: which plan serves is derived from holdings, never written down.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from meshd.config import (
    COMMANDS_MAX,
    DEPLOYMENTS_MAX,
    DRAIN_ANSWER_US,
    OFFERS_REMEMBERED_MAX,
    PLANS_PER_DEPLOYMENT_MAX,
    SEGMENTS_MAX,
    Timers,
)
from meshd.core import repair, telling
from meshd.core.bidding import Bidder
from meshd.core.events import (
    Answer,
    Deploy,
    DiskChanged,
    Done,
    Drain,
    Effect,
    Input,
    LinkChanged,
    Loaded,
    LoadFailed,
    Measured,
    Operate,
    Persisted,
    Refused,
    Retire,
    SendLink,
    SetTimer,
    Solved,
    TimerId,
    Token,
    Unloaded,
)
from meshd.core.ids import NodeId
from meshd.core.intent_messages import (
    Accept,
    Award,
    Bid,
    Decline,
    IntentAsk,
    IntentTell,
    KeptIntent,
    Offer,
    Reject,
)
from meshd.core.ledger import Ledger
from meshd.core.matter import Matter
from meshd.core.mesh import Mesh
from meshd.core.messages import LinkMessage
from meshd.core.planning import Planning
from meshd.core.plans import Plans
from meshd.core.registry import Author, Record, Registry, Sign, Verify
from meshd.core.rng import Rng
from meshd.core.settling import Settling
from meshd.core.shelf import Shelf
from meshd.core.view import Holding, Member, Served
from meshd.errors import ConflictError

_DESK = TimerId("intent/desk")


class Intent:
    """Deployments, plans, what this node holds.

    Parameters
    ----------
    rng : for pauses between rounds of a negotiation
    signing_key, sign, verify : Ed25519; `sign` is this node's own
    restored : what `Persist` kept in earlier lives, by key; other rooms' keys are ignored
    """

    def __init__(
        self,
        me: NodeId,
        rng: Rng,
        signing_key: bytes,
        sign: Sign,
        verify: Verify,
        timers: Timers | None = None,
        restored: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        timers = timers or Timers()
        shelf = Shelf()
        self._ledger = Ledger(me, timers, rng, Registry(verify), Mesh(me), shelf, Bidder(me, shelf, timers))
        self._planning = Planning(self._ledger)
        self._settling = Settling(self._ledger, self._planning)
        self._signing_key = signing_key
        self._sign = sign
        self._desk_due_us: int | None = None
        self._served: Mapping[str, Served] = MappingProxyType({})
        for key, value in sorted(restored.items()):
            if isinstance(value, KeptIntent) and key.startswith("intent/"):
                name = key.removeprefix("intent/")
                self._ledger.matters[name] = Matter(Plans(value.plans, value.epoch))
                for record in value.records:
                    self._ledger.registry.merge(record)
                self._ledger.note(name)

    # ---------------------------------------------------------------- what Node asks

    @property
    def draining(self) -> bool:
        """Published in this node's facts."""
        return self._ledger.shelf.draining

    def intents(self) -> tuple[tuple[str, bytes], ...]:
        """(deployment, key of the greatest record or plan), sorted: what rumours and Sync advertise."""
        return tuple((name, matter.told) for name, matter in sorted(self._ledger.matters.items()) if matter.told)

    def holdings(self) -> tuple[Holding, ...]:
        """What this node holds."""
        return self._ledger.shelf.holdings()

    def reserved_bytes(self) -> int:
        """Memory promised or taken, subtracted from what is free."""
        return self._ledger.shelf.used_bytes() + self._ledger.shelf.reserved_bytes()

    def served(self, now_us: int) -> Mapping[str, Served]:
        """For the View; the same object while nothing in it changed."""
        return self._served

    @property
    def refused(self) -> int:
        """Records, plans, bids and awards that were refused."""
        ledger = self._ledger
        return ledger.refused + ledger.registry.refused + ledger.bidder.refused

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        ledger = self._ledger
        yield ("deployments", len(ledger.matters), DEPLOYMENTS_MAX)
        yield ("records held back", len(ledger.held_back), COMMANDS_MAX)
        yield ("commands", ledger.desk.waiting, COMMANDS_MAX)
        yield ("offers", len(ledger.bidder.offers), OFFERS_REMEMBERED_MAX)
        yield ("plans inquired", len(ledger.inquired), telling.INQUIRED_MAX)
        yield ("promises", len(ledger.shelf.reserved), DEPLOYMENTS_MAX)
        yield ("segments held", len(ledger.shelf.items), DEPLOYMENTS_MAX * PLANS_PER_DEPLOYMENT_MAX * SEGMENTS_MAX)

    # ---------------------------------------------------------------- what Node tells

    def start(self, now_us: int) -> list[Effect]:
        """Begin: the boot is on disk, nothing was sent yet."""
        return self._settle([], now_us)

    def on_members(self, members: Mapping[NodeId, Member], now_us: int) -> list[Effect]:
        """Membership or facts changed."""
        self._ledger.mesh.members = members
        return self._settle([], now_us) if self._ledger.matters else []

    def on_intent(self, source: NodeId, deployment: str, key: bytes, now_us: int) -> list[Effect]:
        """`source` says its greatest record or plan is `key`: fetch what of it was never seen here."""
        return telling.heard(self._ledger, source, deployment, key, now_us)

    def on_link(self, source: NodeId, message: LinkMessage, now_us: int) -> list[Effect]:
        """One of these rooms' own link messages."""
        ledger = self._ledger
        match message:
            case IntentAsk():
                return telling.asked(ledger, source, message)
            case IntentTell():
                return self._settle(telling.told(ledger, source, message, now_us), now_us)
            case Offer():
                return [SendLink(source, self._planning.offered(source, message, now_us))]
            case Award():
                ledger.shelf.expire(now_us)
                return [SendLink(source, self._planning.awarded(source, message, now_us))]
            case Bid() | Decline() | Accept() | Reject():
                return self._settle(self._planning.answered(source, message, now_us), now_us)
        return []

    def on_timer(self, id: TimerId, now_us: int) -> list[Effect]:
        """A timer whose id begins `intent/`."""
        if id == _DESK:
            self._desk_due_us = None
            return self._settle([], now_us)
        name = id.removeprefix("intent/due/")
        matter = self._ledger.matters.get(name)
        if matter is None:
            return []
        matter.due_us = None
        return self._settle(self._planning.due(name, now_us), now_us)

    def on_input(self, input: Input, now_us: int) -> list[Effect]:
        """Solved, Persisted, Measured, DiskChanged, Loaded, LoadFailed, Unloaded, LinkChanged, Operate."""
        ledger = self._ledger
        effects: list[Effect] = []
        match input:
            case Measured(capacity):
                ledger.capacity, ledger.shelf.budget_bytes = capacity, capacity.memory_bytes
            case DiskChanged(models):
                ledger.models = models
            case Loaded(segment, resident, measured):
                effects = ledger.shelf.loaded(segment, resident, measured, now_us)
            case LoadFailed(segment, reason):
                effects = ledger.shelf.failed(segment, reason, now_us)
            case Unloaded(segment):
                ledger.shelf.unloaded(segment)
            case Persisted(token):
                effects = self._persisted(token)
            case Solved(token, solution):
                effects = self._planning.solved(token, solution, now_us)
            case LinkChanged(peer, up):
                effects = [] if up else self._planning.link_down(peer, now_us)
            case Operate(token, command, wall_us):
                self._look(now_us)
                effects = self._operate(token, command, wall_us, now_us)
            case _:
                return []
        return self._settle(effects, now_us)

    def _settle(self, effects: list[Effect], now_us: int) -> list[Effect]:
        """Settle every deployment after an event whose own effects are `effects`."""
        ledger = self._ledger
        ledger.shelf.expire(now_us)
        changed = False
        for name in ledger.names():
            # Settling one may change what is held, which the next one, and the view, must see.
            self._look(now_us)
            before = ledger.matters[name].served
            effects = effects + self._settling.settle(name, now_us)
            changed |= ledger.matters[name].served != before
        self._look(now_us)
        if ledger.matters:
            effects += telling.inquire(ledger, now_us)
        effects += ledger.desk.answers(ledger.mesh, ledger.models, not ledger.shelf.items, now_us)
        ends = [promise.until_us for promise in ledger.shelf.reserved.values()]
        due = min([*ends, *ledger.desk.dues_us()], default=None)
        if due != self._desk_due_us and due is not None:
            effects.append(SetTimer(_DESK, due - now_us))
        self._desk_due_us = due
        if changed:
            served = {name: m.served for name, m in sorted(ledger.matters.items()) if m.served is not None}
            self._served = MappingProxyType(served)
        return effects

    def _look(self, now_us: int) -> None:
        shelf = self._ledger.shelf
        self._ledger.mesh.update(shelf.holdings(), shelf.draining, now_us)

    # ---------------------------------------------------------------- operators

    def _author(self) -> Author:
        return (self._signing_key, self._ledger.me, self._ledger.mesh.boot())

    def _operate(self, token: Token, command: object, wall_us: int, now_us: int) -> list[Effect]:
        ledger = self._ledger
        if max(ledger.desk.waiting, len(ledger.held_back)) >= COMMANDS_MAX:
            return [
                Answer(
                    token, Refused("UNAVAILABLE", f"{COMMANDS_MAX} commands wait already: try again when some are done")
                )
            ]
        match command:
            case Deploy():
                return self._deploy(token, command, wall_us, now_us)
            case Retire(name):
                before = ledger.record(name)
                if before is None or before.retired:
                    return [Answer(token, Refused("NOT_FOUND", f"no deployment {name!r}: `meshctl status` lists them"))]
                try:
                    record = ledger.registry.retire(name, self._author(), wall_us, self._sign)
                except ConflictError as error:
                    return [Answer(token, Refused("CONFLICT", str(error)))]
                persist, effects = self._made(record)
                ledger.desk.retire(token, name, persist)
                return effects
            case Drain(on):
                ledger.shelf.drain(on, now_us + DRAIN_ANSWER_US)
                if not on:
                    return [Answer(token, Done("takes part again"))]
                ledger.desk.drain(token, now_us)
                return []
        return [Answer(token, Refused("USAGE", f"{type(command).__name__} is no command of deployments"))]

    def _deploy(self, token: Token, command: Deploy, wall_us: int, now_us: int) -> list[Effect]:
        ledger = self._ledger
        if wrong := telling.misshapen(command):
            return [Answer(token, Refused("USAGE", wrong))]
        if command.model not in ledger.models and not ledger.mesh.sources(command.model):
            return [Answer(token, Refused("NOT_FOUND", f"no node has model {command.model}: push it first"))]
        if command.name not in ledger.matters and len(ledger.matters) >= DEPLOYMENTS_MAX:
            return [
                Answer(
                    token, Refused("CONFLICT", f"there are {DEPLOYMENTS_MAX} deployments, which is all there can be")
                )
            ]
        if wrong := repair.hopeless(command, ledger.mesh):
            return [Answer(token, Refused("CONFLICT", wrong))]
        try:
            record = ledger.registry.next(command, self._author(), wall_us, self._sign)
        except ConflictError as error:
            return [Answer(token, Refused("CONFLICT", str(error)))]
        persist, effects = self._made(record)
        ledger.desk.deploy(token, command.name, command.model, persist, now_us)
        return effects

    def _made(self, record: Record) -> tuple[Token, list[Effect]]:
        """A record made here counts at once, and is told when it is on disk."""
        ledger = self._ledger
        merged = ledger.registry.merge(record)
        assert merged, (
            f"the record of {record.name} made here did not merge: do sign, verify and the key belong together?"
        )
        ledger.matter(record.name).held_back = True
        token, effects = ledger.persist(record.name)
        ledger.held_back[token] = record.name
        return token, effects

    def _persisted(self, token: Token) -> list[Effect]:
        ledger = self._ledger
        name = ledger.held_back.pop(token, None)
        effects = ledger.desk.persisted(token)
        if name is None or name in ledger.held_back.values():
            return effects
        ledger.matters[name].held_back = False
        ledger.note(name)
        return effects + ledger.tell_at_once(name)

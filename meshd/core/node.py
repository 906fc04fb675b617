"""One node's control plane: `step(input, now_us) -> effects`, routed to its parts.

Parts: `Reception` hears other nodes, `Swim` (with `Probes`) decides who lives, `Facts` and `MyFacts` say what nodes offer, `Sync`
mends what gossip lost, `Contacts` calls the absent, `Intent` is all of deployments, plans and holdings.

Rule 1: nothing is sent, and nobody heard, before this boot's count is on disk.
Rule 2: after every step (`_settle`) what changed is shown to `Intent`, told to others, and published, in this order.
Rule 3: tokens of `Node` itself are negative, `Intent`'s are positive.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshd.config import (
    COMMANDS_MAX,
    DEPLOYMENTS_MAX,
    MEMBERS_MAX,
    MINUTE,
    MS,
    NEWS_BYTES_MAX,
    PEERS_KEPT_MAX,
    TOMBSTONES_MIN,
    Timers,
)
from meshd.core.contact import Contacts
from meshd.core.context import Context
from meshd.core.dissemination import Rumours
from meshd.core.events import (
    Answer,
    DatagramIn,
    DiskChanged,
    Done,
    Effect,
    Hinted,
    Input,
    Leave,
    LinkChanged,
    LinkIn,
    LinkMeasured,
    Measured,
    Operate,
    PairUnreachable,
    Persist,
    Persisted,
    Publish,
    Refused,
    Sighted,
    TimerFired,
    Token,
    UseBoot,
    Woke,
)
from meshd.core.facts import Facts
from meshd.core.ids import Address, Boot, NodeId, boot_of
from meshd.core.intent import Intent
from meshd.core.join import Identify, Joins
from meshd.core.known import Known
from meshd.core.membership import Members, Record
from meshd.core.messages import (
    IntentRumour,
    KeptBoot,
    KeptPeer,
    LinkState,
    Rumour,
    Spread,
    SyncBuckets,
    SyncDigests,
    SyncItems,
    SyncRoot,
)
from meshd.core.myfacts import MyFacts
from meshd.core.picture import Picture
from meshd.core.post import Post
from meshd.core.reception import Reception, certificate_hash
from meshd.core.rng import RngFor, draw
from meshd.core.swim import Swim
from meshd.core.sync import Sync
from meshd.core.view import Served, State, View

Sign = Callable[[bytes], bytes]
"""This node's Ed25519 signature over a record."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, record, signature) → whether it holds."""

EARLY_INPUTS_MAX = 256
"""Kept from before the boot was on disk: measurements and what is on disk, a handful."""
GOSSIP_SOON_US = 10 * MS
"""News that meets silence leaves after this, so that one step's worth travels together."""
SETTLES_MAX = 4
"""Rounds of `Intent` seeing its own holdings change; a fifth would be a loop."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and where it hears."""

    node: NodeId
    certificate: bytes
    addresses: tuple[Address, ...]
    """Own addresses, most general first; at most ADDRESSES_MAX."""
    name: str = ""
    software: str = ""
    signing_key: bytes = b""
    """Public Ed25519 key that `sign` signs with."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All a node is made of."""

    identity: Identity
    rng: RngFor
    identify: Identify
    sign: Sign
    verify: Verify
    seeds: tuple[Address, ...] = ()
    timers: Timers = field(default_factory=Timers)
    restored: Mapping[str, Any] = field(default_factory=dict)
    """What `Persist` kept in earlier lives, by key."""


class Node:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        identity, timers = setup.identity, setup.timers
        self._restored, self._boot_rng, self._gossip_rng = setup.restored, setup.rng("boot"), setup.rng("gossip")
        self._context = context = Context(identity.node, identity.certificate, identity.addresses, timers)
        context.certificate_hash = certificate_hash(identity.certificate)
        self.facts = Facts(identity.node)
        self.members = Members(identity.node, timers)
        self.rumours = Rumours(
            lambda node, base, room: self.facts.news(node, base, room, context.now_us), timers.rumour_sends_factor
        )
        self._post = Post(context, self.members, self.rumours)
        self.swim = Swim(
            context,
            self.members,
            self.rumours,
            self._post,
            setup.rng("probe"),
            self._on_change,
            self._on_higher_boot,
            self._touch,
        )
        self.reception = Reception(
            context, self.members, self.facts, self.rumours, self._post, self.swim, setup.identify, self._touch,
            self._on_intent,
        )  # fmt: skip
        self._joins = Joins(context, self._post, setup.rng("join"), setup.identify, self.reception.met)
        self._contacts = Contacts(context, self.members, self._post, self._joins, setup.rng("contact"), setup.seeds)
        self.sync = Sync(
            context, self.members, self.facts, setup.rng("sync"), lambda: self._intents, self.reception.hear_sync
        )
        self.reception.joins, self.reception.contacts, self.reception.sync = self._joins, self._contacts, self.sync
        self.my_facts = MyFacts(context, self.facts, self.rumours, identity.name, identity.software)
        self.intent = Intent(
            identity.node, setup.rng("intent"), identity.signing_key, setup.sign, setup.verify, timers, setup.restored
        )
        self._picture = Picture(context, self.members, self.facts)
        self._intents: tuple[tuple[str, bytes], ...] = ()
        self._intent_keys: dict[str, bytes] = {}
        self._served: Mapping[str, Served] = {}
        self._view = View(0, identity.node, Boot(0), {}, {})
        self._touched: dict[NodeId, None] = {}
        self._intent_called = False
        self._tokens = 0
        self._booting: tuple[Token, Boot] | None = None
        self._boot_raised_us: int | None = None
        self._early: list[Input] = []
        self._gossip_armed = False
        self._gossiped_us = 0
        self._leaving: list[Token] = []

    @property
    def view(self) -> View:
        """The last one published."""
        return self._view

    @property
    def context(self) -> Context:
        """Who this node is now: boot, incarnation."""
        return self._context

    @property
    def refused(self) -> int:
        """Messages, or parts of them, that were refused and changed nothing."""
        return self.reception.refused + self.intent.refused

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit) of all that outsiders can make grow: invariant M9 and the metrics."""
        yield ("members", len(self.members.records), MEMBERS_MAX)
        yield ("tombstones", len(self.members.gone), max(TOMBSTONES_MIN, 4 * self.members.most))
        # Of each member one state or three accusations, and its facts; one key a deployment.
        yield ("rumours", len(self.rumours), 4 * MEMBERS_MAX + DEPLOYMENTS_MAX)
        yield ("early inputs", len(self._early), EARLY_INPUTS_MAX)
        yield ("leaving", len(self._leaving), COMMANDS_MAX)
        yield ("peers kept", len(self._contacts.kept), PEERS_KEPT_MAX)
        for part in (self.swim, self._joins, self.reception, self.facts, self.sync, self.intent):
            yield from part.sizes()

    def start(self, now_us: int) -> list[Effect]:
        """Begin a boot. Nothing is sent until the boot's Persist came back."""
        self._context.now_us, self._context.effects = now_us, []
        for key, value in self._restored.items():
            if isinstance(value, KeptPeer):
                self._contacts.kept[NodeId(key.removeprefix("peer/"))] = value
        kept = self._restored.get("boot")
        self._raise_boot(kept.count if isinstance(kept, KeptBoot) else 0)
        return self._context.effects

    def adopt(self, known: Known) -> list[Effect]:
        """Know what all others know, without a word having been said: how a simulation of 10,000 nodes begins."""
        self._context.effects = []
        self.members.adopt(known.records, known.places)
        self.facts.adopt(known.facts)
        self.sync.adopt(known.hashes, known.buckets)
        self._picture.adopt(known.shown)
        self._touched.clear()
        self.rumours.forget_all()
        self.intent.on_members(self._picture.members, self._context.now_us)
        self._view = View(self._view.version + 1, self._context.me, self._context.boot, self._picture.members, {})
        self._context.emit(Publish(self._view))
        return self._context.effects

    def step(self, input: Input, now_us: int) -> list[Effect]:
        """Take one input in; the effects are to be performed in order."""
        self._context.now_us, self._context.effects = now_us, []
        if self._context.boot or isinstance(input, Persisted):
            self._route(input)
            self._settle()
        elif not isinstance(input, DatagramIn | LinkIn) and len(self._early) < EARLY_INPUTS_MAX:
            self._early.append(input)
        return self._context.effects

    # ------------------------------------------------------------ boots

    def _raise_boot(self, past: int) -> None:
        count = past + 1
        self._booting = (self._token(), boot_of(count, self._boot_rng.getrandbits(32)))
        self._context.emit(Persist("boot", KeptBoot(count), self._booting[0]))

    def _token(self) -> Token:
        self._tokens -= 1
        return Token(self._tokens)

    def _begin_boot(self, boot: Boot) -> None:
        context, first = self._context, self._context.boot == 0
        context.boot, context.incarnation = boot, 1
        context.emit(UseBoot(boot))
        self.my_facts.begin()
        self._touch(context.me)
        if not first:
            self.rumours.put(context.myself())
            return
        self.swim.probes.start()
        self.sync.start()
        self._contacts.start()
        context.timer("tombstones", MINUTE)
        self._hand(self.intent.start(context.now_us))
        early, self._early = self._early, []
        for input in early:
            self._route(input)

    def _on_higher_boot(self, rumour: Rumour) -> None:
        """Somebody knows this node under a higher boot: its disk is older than its past, or it has a clone."""
        context = self._context
        raised_us, gap_us = self._boot_raised_us, context.timers.boot_raise_gap_us
        if self._booting is not None or (raised_us is not None and context.now_us - raised_us < gap_us):
            return
        self._boot_raised_us = context.now_us
        context.report("boot.raised", context.me, known=rumour.boot >> 32, mine=context.boot >> 32)
        self._raise_boot(rumour.boot >> 32)

    # ------------------------------------------------------------ routing

    def _route(self, input: Input) -> None:
        now_us = self._context.now_us
        match input:
            case DatagramIn():
                self.reception.on_datagram(input)
            case TimerFired():
                self._on_timer(input)
            case LinkIn(source, SyncRoot() | SyncBuckets() | SyncDigests() | SyncItems() as message):
                self.sync.on_message(source, message)
            case LinkIn(source, message):
                self._hand(self.intent.on_link(source, message, now_us))
            case Persisted(token) if token < 0:
                if self._booting is not None and self._booting[0] == token:
                    boot, self._booting = self._booting[1], None
                    self._begin_boot(boot)
            case LinkChanged(peer, up):
                if not up:
                    self.swim.hint(peer)
                self._hand(self.intent.on_input(input, now_us))
            case Woke(late_us):
                self.swim.woke(late_us)
            case Sighted(address, node):
                self._contacts.sighted(address, node)
            case Hinted(peer):
                self.swim.hint(peer)
            case PairUnreachable(peer, ok):
                self.my_facts.unreachable(peer, not ok)
            case LinkMeasured(peer, rtt_us, bandwidth_bps):
                self.my_facts.link(peer, LinkState(rtt_us, bandwidth_bps))
            case Operate(token, Leave()):
                self._leave(token)
            case _:
                if isinstance(input, Measured):
                    self.my_facts.measured(input.capacity)
                elif isinstance(input, DiskChanged):
                    self.my_facts.disk(input.models)
                self._hand(self.intent.on_input(input, now_us))

    def _on_timer(self, fired: TimerFired) -> None:
        kind, _, rest = fired.id.partition("/")
        match kind:
            case "probe" if not rest:
                self.swim.probes.on_period()
            case "probe":
                self.swim.probes.on_timer(NodeId(rest))
            case "relay":
                self.swim.probes.on_relay_timer(int(rest))
            case "suspect":
                self.swim.on_suspect_timer(NodeId(rest))
            case "gossip":
                self._gossip()
            case "join":
                self._joins.on_timer()
            case "contact":
                self._contacts.on_dead()
            case "seeds":
                self._contacts.on_seeds()
            case "sync":
                self.sync.on_period()
            case "certificates":
                self.reception.on_certificates_timer()
            case "facts":
                self.my_facts.due = True
            case "tombstones":
                self._collect()
            case "leave":
                self._left()
            case "intent":
                self._hand(self.intent.on_timer(fired.id, self._context.now_us))
            case _:
                raise AssertionError(f"no part of the node has the timer {fired.id}")

    def _hand(self, effects: list[Effect]) -> None:
        self._context.effects.extend(effects)
        self._intent_called = True

    # ------------------------------------------------------------ what parts tell

    def _touch(self, node: NodeId) -> None:
        self._touched[node] = None
        self.sync.touch(node)

    def _on_change(self, record: Record, before: State | None) -> None:
        """A member's record changed."""
        self._touch(record.node)
        context = self._context
        if record.state is not before:
            context.report(f"member.{record.state.name.lower()}", record.node, incarnation=record.incarnation)
        if record.state is not State.ALIVE:
            return
        if before is not State.ALIVE and before is not State.SUSPECT:
            self.swim.probes.joined(record.node)
        if not record.certificate:
            self.reception.lack(record.node)
        if before is State.DEAD and record.certificate:
            self.sync.begin(record.node)
        kept = self._contacts.remember(record)
        if kept is not None:
            context.emit(Persist(f"peer/{kept[0]}", kept[1], self._token()))

    def _on_intent(self, source: NodeId, rumour: IntentRumour) -> None:
        if self._intent_keys.get(rumour.deployment) != rumour.key:
            self._hand(self.intent.on_intent(source, rumour.deployment, rumour.key, self._context.now_us))

    def _collect(self) -> None:
        self._context.timer("tombstones", MINUTE)
        for record in self.members.collect(self._context.now_us):
            self.facts.forget(record.node)
            self._touch(record.node)

    # ------------------------------------------------------------ leaving

    def _leave(self, token: Token) -> None:
        context = self._context
        if len(self._leaving) >= COMMANDS_MAX:
            context.emit(Answer(token, Refused("UNAVAILABLE", "this node is leaving already")))
            return
        self._leaving.append(token)
        if context.state is not State.LEFT:
            context.state = State.LEFT
            self.rumours.put(context.myself())
            self._touch(context.me)
        if self.members.live:
            context.timer("leave", 3 * context.timers.gossip_period_us)
        else:
            self._left()

    def _left(self) -> None:
        for token in self._leaving:
            self._context.emit(Answer(token, Done("left")))
        self._leaving.clear()

    # ------------------------------------------------------------ after each step

    def _settle(self) -> None:
        if not self._context.boot:
            return
        shown = False
        for _ in range(SETTLES_MAX):
            if self._intent_called:
                self._intent_called = False
                shown |= self._look_at_intent()
            if self.my_facts.due and self.my_facts.say(self.members.count):
                self._touch(self._context.me)
            if not self._touched:
                break
            touched, self._touched = self._touched, {}
            if self._picture.refresh(touched):
                shown = True
                self._hand(self.intent.on_members(self._picture.members, self._context.now_us))
        if len(self.rumours) and self.members.live and not self._gossip_armed:
            since_us = self._context.now_us - self._gossiped_us
            self._gossip_armed = True
            self._context.timer("gossip", max(GOSSIP_SOON_US, self._context.timers.gossip_period_us - since_us))
        if shown:
            context = self._context
            view = View(self._view.version + 1, context.me, context.boot, self._picture.members, self._served)
            self._view = view
            context.emit(Publish(view))

    def _look_at_intent(self) -> bool:
        """Tell of its holdings and intents; True if what it serves changed."""
        intent, context = self.intent, self._context
        if self.my_facts.holds(intent.holdings(), intent.reserved_bytes(), intent.draining):
            self._touch(context.me)
        intents = intent.intents()
        if intents != self._intents:
            for name, key in intents:
                if self._intent_keys.get(name) != key:
                    self.rumours.put_intent(IntentRumour(name, key))
            self._intents, self._intent_keys = intents, dict(intents)
        served = intent.served(context.now_us)
        changed = served != self._served
        self._served = served
        return changed

    def _gossip(self) -> None:
        """Timer `gossip`: news to a few, or in a small mesh to all."""
        self._gossip_armed = False
        self._gossiped_us = self._context.now_us
        timers, live = self._context.timers, self.members.live
        targets = list(live)
        if self.members.count > timers.gossip_all_below:
            targets = draw(self._gossip_rng, targets, timers.gossip_fanout)
        for node in targets:
            news = self.rumours.take(self.members.count, NEWS_BYTES_MAX)
            if not (news.rumours or news.facts or news.intents):
                break
            self._post.send(self.members.peek(node), Spread(news))

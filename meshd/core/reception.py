"""Datagrams on their way in: who may be heard, and what each message does.

Rule 1: a stranger is answered (an Ack, a Join of our own) and changes nothing until its handshake is done.
Rule 2: a member's new boot is heard only after it returned a number; a lower boot never, but it is told of the higher.
Rule 3: what is refused changes nothing (invariant M5) and is counted.
"""

import hashlib
from collections.abc import Callable, Iterable

from meshd.config import MEMBERS_MAX, NEWS_BYTES_MAX, S
from meshd.core.clones import Clones
from meshd.core.contact import Contacts
from meshd.core.context import Context
from meshd.core.dissemination import Rumours
from meshd.core.events import DatagramIn, Proven, Trust
from meshd.core.facts import Facts, Merged
from meshd.core.ids import Address, Boot, NodeId
from meshd.core.join import Identify, Joins
from meshd.core.membership import Members, Record
from meshd.core.messages import (
    Accusation,
    Ack,
    CertificateAsk,
    CertificateTell,
    FactsAsk,
    FactsDelta,
    IntentRumour,
    Join,
    JoinAck,
    JoinDone,
    Nack,
    News,
    Ping,
    PingReq,
    PingReqAck,
    Rumour,
    Spread,
    SyncItems,
)
from meshd.core.post import Post
from meshd.core.swim import Swim
from meshd.core.sync import Sync
from meshd.core.view import State

CERTIFICATE_ASKS = 8
"""Asked for at once, every half second, while some are lacking."""
CERTIFICATE_GAP_US = S // 2


class Reception:
    """What comes in from other nodes, but for deployments and plans."""

    def __init__(
        self,
        context: Context,
        members: Members,
        facts: Facts,
        rumours: Rumours,
        post: Post,
        swim: Swim,
        identify: Identify,
        touch: Callable[[NodeId], None],
        on_intent: Callable[[NodeId, IntentRumour], None],
    ) -> None:
        self._context, self._members, self._facts, self._rumours = context, members, facts, rumours
        self._post, self._swim, self._identify = post, swim, identify
        self._touch, self._on_intent = touch, on_intent
        self._clones = Clones(context)
        self.joins: Joins
        self.contacts: Contacts
        self.sync: Sync
        self.lacking: dict[NodeId, None] = {}
        """Members whose certificate is not known."""
        self.refused = 0

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("certificates lacking", len(self.lacking), MEMBERS_MAX)
        yield from self._clones.sizes()

    # ------------------------------------------------------------ datagrams

    def on_datagram(self, datagram: DatagramIn) -> None:
        """One datagram; its seal holds."""
        source, boot, address, message = datagram.source, datagram.boot, datagram.address, datagram.message
        if source == self._context.me:
            self.refused += 1
            return
        record = self._members.get(source)
        if record is not None and boot < max(record.boot, record.verified):
            self._refuse_old(record, datagram)
            return
        match message:
            case Join():
                self.joins.on_join(source, boot, address, message)
            case JoinAck():
                self.joins.on_join_ack(source, boot, address, message)
            case JoinDone():
                self.joins.on_join_done(source, boot, message)
            case _ if record is None:
                self._hear_stranger(datagram)
            case _ if boot != record.verified and not self._proves(record, datagram):
                if isinstance(message, Ping):
                    self._post.reply(source, address, Ack(message.number, self._post.health))
                self.joins.challenge(source, boot, address)
            case _:
                self._hear_member(record, address, message)

    def _refuse_old(self, record: Record, datagram: DatagramIn) -> None:
        self.refused += 1
        node, boot, address, message = record.node, datagram.boot, datagram.address, datagram.message
        if isinstance(message, Ack) and self.joins.answered(node, boot, message.number):
            self._clones.proved(node, boot, address, rival=True)
        if self._may_tell(record):
            # Once a second: two machines that both live answer each challenge, and each answer would be challenged again.
            self.joins.challenge(node, boot, address)
            # An older disk, perhaps: it learns of its own higher boot and raises its count past it.
            told = News((record.rumour(self._context.me),))
            self._post.reply(node, address, Spread(told))

    def _may_tell(self, record: Record) -> bool:
        now_us = self._context.now_us
        if record.told_us is not None and now_us - record.told_us < S:
            return False
        record.told_us = now_us
        return True

    def _hear_stranger(self, datagram: DatagramIn) -> None:
        message = datagram.message
        if isinstance(message, Ack) and self._swim.probes.on_ack(datagram.source, message.number):
            return
        if isinstance(message, Ping):
            self._post.reply(datagram.source, datagram.address, Ack(message.number, self._post.health))
            if message.accusation is not None:
                self._hear_of_my_boot(message.accusation)
        elif isinstance(message, Spread):
            for rumour in message.news.rumours:
                if rumour.subject == self._context.me:
                    self._hear_of_my_boot(Accusation(rumour.state, rumour.boot, rumour.incarnation))
        self.joins.invite(datagram.address, datagram.source)

    def _hear_of_my_boot(self, accusation: Accusation) -> None:
        """A stranger's word for a higher boot is enough: even a replay tells the truth, that boot was this node's once.

        Without it a node on an older disk would never get in: nobody hears its Join, and it hears no member.
        """
        if accusation.boot > self._context.boot:
            self._swim.accused(accusation)

    def _proves(self, record: Record, datagram: DatagramIn) -> bool:
        """Does it return a number, and so prove that (source, boot) is there now?"""
        message = datagram.message
        if not isinstance(message, Ack):
            return False
        fresh = self.joins.answered(record.node, datagram.boot, message.number)
        if not (self._swim.probes.on_ack(record.node, message.number) or fresh):
            return False
        record.verified = datagram.boot
        self._context.emit(Proven(record.node, datagram.boot))
        self._clones.proved(record.node, datagram.boot, datagram.address, rival=False)
        if datagram.boot > record.boot:
            self._swim.learn(
                Rumour(
                    State.ALIVE, record.node, datagram.boot, 0, record.addresses or (datagram.address,),
                    record.certificate_hash,
                )
            )  # fmt: skip
        return True

    def _hear_member(self, record: Record, address: Address, message: object) -> None:
        if record.path != address:
            record.path = address
            self._touch(record.node)
        if not record.lives and self._may_tell(record):
            self._post.tell(record, record.rumour(self._context.me))
        source = record.node
        match message:
            case Ping():
                first = self._swim.accused(message.accusation) if message.accusation is not None else None
                self._post.ack(source, address, message.number, first)
                self._hear_news(source, address, message.news)
            case Ack():
                if self._swim.probes.on_ack(source, message.number):
                    self._clones.proved(source, record.verified, address, rival=False)
                self._hear_news(source, address, message.news)
            case Spread():
                self._hear_news(source, address, message.news)
            case PingReq():
                self._swim.probes.on_ping_req(source, address, message)
            case PingReqAck():
                self._swim.probes.on_ping_req_ack(source, message)
            case Nack():
                self._swim.probes.on_nack(source, message)
            case CertificateAsk():
                self._post.reply(source, address, CertificateTell(self._context.certificate))
            case CertificateTell():
                self.take_certificate(record, message.certificate)
            case FactsAsk():
                self._tell_facts(source, address, message)

    # ------------------------------------------------------------ news

    def _hear_news(self, source: NodeId, address: Address, news: News) -> None:
        for rumour in news.rumours:
            self._swim.hear(rumour, source)
        for delta in news.facts:
            self._hear_facts(source, address, delta)
        for intent in news.intents:
            self._on_intent(source, intent)

    def _hear_facts(self, source: NodeId, address: Address | None, delta: FactsDelta) -> None:
        node, known = delta.node, self._facts.of(delta.node)
        record = self._members.get(node)
        if node == self._context.me:
            # Others pass on what this node said; what it never said is not to be had from them.
            self.refused += (delta.boot, delta.reaches) > (known.boot, known.version)
            return
        if record is None:
            return
        match self._facts.merge(delta, self._context.now_us):
            case Merged.NEWS:
                if known.boot != delta.boot:
                    self._rumours.restart_facts(node)
                self._rumours.put_facts(node, known.version if known.boot == delta.boot else 0)
                self._touch(node)
            case Merged.OLD if (known.boot, known.version) == (delta.boot, delta.version):
                self._rumours.heard_facts(node, self._members.count)
            case Merged.PART if address is not None:
                self._ask_facts(source, address, record, delta)
            case Merged.GAP if address is not None and self._may_ask(record):
                self._ask_facts(source, address, record, delta)
            case Merged.REFUSED:
                self.refused += 1

    def _may_ask(self, record: Record) -> bool:
        # In a small mesh all tell at once what this node lacks: one answer is enough.
        asked_us = record.asked_us
        return asked_us is None or self._context.now_us - asked_us >= self._context.timers.gossip_period_us

    def _ask_facts(self, source: NodeId, address: Address, record: Record, delta: FactsDelta) -> None:
        record.asked_us = self._context.now_us
        reached = self._facts.reached(delta.node, delta.boot)
        self._post.reply(source, address, FactsAsk(delta.node, delta.boot, reached))

    def _tell_facts(self, source: NodeId, address: Address, ask: FactsAsk) -> None:
        known = self._facts.of(ask.node)
        base = ask.version if known.boot == ask.boot else 0
        delta = self._facts.delta(ask.node, base, NEWS_BYTES_MAX, self._context.now_us)
        if delta is not None:
            self._post.reply(source, address, Spread(News(facts=(delta,))))
        elif known.version > base:
            self.sync.send_facts(source, ask.node)

    def hear_sync(self, source: NodeId, items: SyncItems) -> None:
        """What a peer sent because this node lacked it."""
        for item in items.members:
            rumour = item.rumour
            if rumour.state is State.DEAD:
                # It may be old news: the subject gets to answer.
                rumour = Rumour(State.SUSPECT, rumour.subject, rumour.boot, rumour.incarnation, accuser=source)
            self._swim.hear(rumour, source)
            record = self._members.get(rumour.subject)
            if record is None:
                continue
            if rumour.state is State.LEFT and record.state is State.LEFT:
                record.since_us = min(record.since_us, self._context.now_us - item.age_s * S)
            if item.certificate:
                self.take_certificate(record, item.certificate)
            if item.facts is not None:
                self._hear_facts(source, None, item.facts)
        for intent in items.intents:
            self._on_intent(source, intent)

    # ------------------------------------------------------------ certificates

    def met(self, node: NodeId, boot: Boot, address: Address, certificate: bytes, asked: bool) -> None:
        """A handshake succeeded: a member, verified, with its certificate."""
        known = self._members.get(node)
        if known is not None and boot < known.boot:
            return
        if known is None or boot > known.boot:
            hashed = certificate_hash(certificate)
            self._swim.learn(Rumour(State.ALIVE, node, boot, 0, (address,), hashed))
        record = self._members.get(node)
        if record is None:
            self._context.report("join.refused", node, reason="the mesh is full")
            return
        if record.verified != boot:
            self._context.emit(Proven(node, boot))
        record.verified, record.path = boot, address
        self._touch(node)
        self.take_certificate(record, certificate)
        self._post.tell(record, self._context.myself())
        if record.state is not State.ALIVE:
            self.contacts.call(record)
        elif asked:
            self.sync.begin(node)

    def take_certificate(self, record: Record, certificate: bytes) -> None:
        """Keep a certificate whose key is the member's."""
        if record.certificate == certificate or self._identify(certificate) != record.node:
            return
        record.certificate, record.certificate_hash = certificate, certificate_hash(certificate)
        self.lacking.pop(record.node, None)
        self._context.emit(Trust(record.node, certificate))
        self._touch(record.node)

    def lack(self, node: NodeId) -> None:
        """A member was met by rumour: its certificate will be needed."""
        if not self.lacking:
            self._context.timer("certificates", CERTIFICATE_GAP_US // 10)
        self.lacking[node] = None

    def on_certificates_timer(self) -> None:
        """Timer `certificates`: ask some who lack one, each in turn."""
        for node in list(self.lacking)[:CERTIFICATE_ASKS]:
            del self.lacking[node]
            record = self._members.get(node)
            if record is not None and not record.certificate and record.lives:
                self._post.send(record, CertificateAsk())
                self.lacking[node] = None
        if self.lacking:
            self._context.timer("certificates", CERTIFICATE_GAP_US)


def certificate_hash(certificate: bytes) -> int:
    """First 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(certificate).digest()[:8], "big")

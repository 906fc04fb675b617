"""Anti-entropy over links: what gossip lost is found by comparing hashes and mended by sending what differs.

SyncRoot (one hash) → SyncBuckets (256) → SyncDigests (the buckets that differ) → SyncItems (what the receiver lacks, and what the
sender wants) → SyncItems. Equal nodes exchange one hash. No step waits: each message carries all its receiver needs.

Rule 1: a bucket holds who lives here (SUSPECT counts as ALIVE: a suspicion passes) with facts, and intents. Tombstones are in no
hash: who never knew the dead does not differ from who did; but a tombstone answers a claim of life.
Rule 2: DEAD learnt here counts as SUSPECT: it may be old news, and its subject gets to answer.
Rule 3: no tombstone older than half its life is sent, or two nodes would revive each other's for ever.

Source: Demers et al., "Epidemic algorithms", PODC 1987, section 1.5 (checksums); NB buckets, so that a difference costs
what differs and not N (quickwit 6653).
"""

import hashlib
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import replace

from meshd.config import (
    BUCKETS,
    FACT_BYTES_MAX,
    MEMBERS_MAX,
    SYNC_FACTS_BYTES_A_FRAME_MAX,
    SYNC_ITEMS_A_FRAME_MAX,
    SYNCS_SERVED_MAX,
    S,
)
from meshd.core.context import Context
from meshd.core.events import SendLink
from meshd.core.facts import Facts
from meshd.core.ids import Boot, NodeId, node_bytes
from meshd.core.layered import Layered
from meshd.core.membership import Members, Record
from meshd.core.messages import (
    FactsDelta,
    IntentRumour,
    MemberDigest,
    MemberItem,
    Rumour,
    SyncBuckets,
    SyncDigests,
    SyncItems,
    SyncMessage,
    SyncRoot,
)
from meshd.core.rng import Rng
from meshd.core.sizes import DELTA_BYTES, delta_bytes
from meshd.core.view import State

FACTS_BYTES_ITEM_MAX = FACT_BYTES_MAX + DELTA_BYTES
"""All of one node's facts: by link they are never cut."""
YOUNG_US = S // 2
SERVED_FOR_US = 2 * S
"""A sync not finished in this time has ended: its peer died or its link did."""


class Sync:
    """One node's side of all its syncs. Keeps no state of a single one but when it began."""

    def __init__(
        self,
        context: Context,
        members: Members,
        facts: Facts,
        rng: Rng,
        intents: Callable[[], tuple[tuple[str, bytes], ...]],
        hear: Callable[[NodeId, SyncItems], None],
    ) -> None:
        self._context, self._members, self._facts, self._rng = context, members, facts, rng
        self._intents, self._hear = intents, hear
        self._hashes: MutableMapping[NodeId, tuple[int, int]] = {}
        """Member → (its bucket, its part of the bucket's hash)."""
        self._buckets = [0] * BUCKETS
        self._dirty: dict[NodeId, None] = {}
        self._serving: dict[NodeId, int] = {}
        self._began: dict[NodeId, int] = {}
        self._pause_us = YOUNG_US

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("members hashed", len(self._hashes), MEMBERS_MAX + 1)
        yield ("syncs served", len(self._serving), SYNCS_SERVED_MAX)
        yield ("syncs begun", len(self._began), MEMBERS_MAX)

    # ------------------------------------------------------------ when

    def start(self) -> None:
        """Often while this node is young, for it knows little: the pause doubles from half a second to the period."""
        self._pause_us = YOUNG_US
        self._context.timer("sync", self._pause_us + self._rng.randrange(self._pause_us))

    def on_period(self) -> None:
        """Timer `sync`: compare with a random live member."""
        trusted = [n for n in self._members.live if self._usable(self._members.peek(n))]
        if trusted:
            self._pause_us = min(2 * self._pause_us, self.period_us())
        self._context.timer("sync", self._pause_us)
        if trusted:
            self.begin(trusted[self._rng.randrange(len(trusted))])

    def period_us(self) -> int:
        """15 s to N = 32, then longer by the logarithm of N."""
        return self._context.timers.sync_period_us * max(1, (self._members.count - 1).bit_length() - 4)

    @staticmethod
    def _usable(record: Record) -> bool:
        return record.state is State.ALIVE and bool(record.certificate)

    def begin(self, node: NodeId) -> None:
        """Compare with `node` now, unless that was begun a moment ago."""
        now_us = self._context.now_us
        if now_us - self._began.get(node, -S) < S:
            return
        self._began = {n: us for n, us in self._began.items() if now_us - us < S} | {node: now_us}
        self._context.emit(SendLink(node, SyncRoot(self.root())))

    # ------------------------------------------------------------ what

    def touch(self, node: NodeId) -> None:
        """Something about a member (or this node) changed."""
        self._dirty[node] = None

    def root(self) -> int:
        """The membership digest: equal on two nodes that know the same (invariant M8)."""
        return _hash(",".join(map(str, self._refresh())))

    def adopt(self, hashes: dict[NodeId, tuple[int, int]], buckets: list[int]) -> None:
        """Know what all others know (`core.known`), and be young no more."""
        self._hashes, self._buckets, self._pause_us = Layered(hashes), list(buckets), self.period_us()
        self._dirty.clear()

    def hashed(self) -> dict[NodeId, tuple[int, int]]:
        """Member → its bucket, its part of the bucket's hash."""
        self._refresh()
        return dict(self._hashes)

    def _refresh(self) -> list[int]:
        for node in self._dirty:
            old = self._hashes.pop(node, None)
            if old is not None:
                self._buckets[old[0]] ^= old[1]
            digest = self._digest(node)
            if digest is not None and digest.state is State.ALIVE and digest.incarnation > 0:
                part = _hash(f"{node} {digest.boot} {digest.incarnation} {digest.facts_boot} {digest.facts_version}")
                self._hashes[node] = new = (bucket_of(node_bytes(node)), part)
                self._buckets[new[0]] ^= part
        self._dirty.clear()
        buckets = list(self._buckets)
        for name, key in self._intents():
            buckets[bucket_of(name.encode())] ^= _hash(f"{name} {key.hex()}")
        return buckets

    def _digest(self, node: NodeId) -> MemberDigest | None:
        facts = self._facts.of(node)
        context = self._context
        if node == context.me:
            state, boot, incarnation, certificate = (
                context.state, context.boot, context.incarnation, context.certificate_hash,
            )  # fmt: skip
        else:
            record = self._members.get(node)
            if record is None:
                return None
            state, boot, incarnation = record.state, record.boot, record.incarnation
            certificate = record.certificate_hash if record.certificate else 0
        state = State.ALIVE if state is State.SUSPECT else state
        return MemberDigest(node, boot, incarnation, state, facts.boot, facts.version, certificate)

    # ------------------------------------------------------------ the exchange

    def on_message(self, source: NodeId, message: SyncMessage) -> None:
        """One step of it; unknown peers are heard too, their link is pinned."""
        match message:
            case SyncRoot():
                if message.root != self.root() and self._serves(source):
                    self._send(source, SyncBuckets(tuple(self._refresh())))
            case SyncBuckets():
                mine = self._refresh()
                differ = tuple(b for b in range(BUCKETS) if mine[b] != message.hashes[b])
                if differ:
                    members, intents = self._in_buckets(set(differ))
                    self._send(source, SyncDigests(differ, members, intents))
            case SyncDigests():
                self._answer(source, message)
            case SyncItems():
                self._take(source, message)

    def _serves(self, source: NodeId) -> bool:
        now_us = self._context.now_us
        self._serving = {n: us for n, us in self._serving.items() if now_us - us < SERVED_FOR_US}
        if source not in self._serving and len(self._serving) >= SYNCS_SERVED_MAX:
            return False
        self._serving[source] = now_us
        return True

    def _in_buckets(self, buckets: set[int]) -> tuple[tuple[MemberDigest, ...], tuple[IntentRumour, ...]]:
        members = [
            digest
            for node, (bucket, _) in sorted(self._hashes.items())
            if bucket in buckets and (digest := self._digest(node)) is not None
        ]
        intents = [IntentRumour(n, key) for n, key in self._intents() if bucket_of(n.encode()) in buckets]
        return tuple(members), tuple(intents)

    def _answer(self, source: NodeId, theirs: SyncDigests) -> None:
        """They listed what they have: send what they lack, ask for what I lack."""
        self._serving.pop(source, None)
        mine, my_intents = self._in_buckets(set(theirs.buckets))
        listed = {digest.node: digest for digest in theirs.members}
        send = [item for digest in mine if (item := self._item(digest.node, listed.get(digest.node))) is not None]
        wanted = []
        for digest in theirs.members:
            own = self._digest(digest.node)
            if digest.node == self._context.me:
                continue
            if own is None or _wants(own, digest):
                wanted.append(own or MemberDigest(digest.node, Boot(0), 0, State.ALIVE, Boot(0), 0, 0))
            elif own.state is not State.ALIVE and (item := self._item(digest.node, digest)) is not None:
                send.append(item)
        self._send_items(source, send, wanted, my_intents)
        # Their intents are heard like rumours; members follow when they answer.
        self._hear(source, SyncItems(intents=theirs.intents))

    def _take(self, source: NodeId, items: SyncItems) -> None:
        """What I lacked, and what they want."""
        self._hear(source, items)
        send = [item for digest in items.wanted if (item := self._item(digest.node, digest)) is not None]
        for item in items.members:
            # They hold alive whom I know dead: they should know.
            digest = self._digest(item.rumour.subject)
            if digest is not None and digest.state is not State.ALIVE and item.rumour.state is State.ALIVE:
                claim = item.rumour
                told = MemberDigest(
                    claim.subject,
                    claim.boot,
                    claim.incarnation,
                    State.ALIVE,
                    digest.facts_boot,
                    digest.facts_version,
                    0,
                )
                correction = self._item(claim.subject, told)
                if correction is not None:
                    send.append(correction)
        if send:
            self._send_items(source, send, [], ())

    def _item(self, node: NodeId, theirs: MemberDigest | None) -> MemberItem | None:
        """What they lack of `node`, going by what they say they have."""
        mine = self._digest(node)
        rumour = self._rumour(node)
        if mine is None or rumour is None:
            return None
        certificate = self._certificate(node)
        newer = theirs is None or (mine.boot, mine.incarnation, mine.state.value) > (
            theirs.boot, theirs.incarnation, theirs.state.value,
        )  # fmt: skip
        if mine.state is not State.ALIVE:
            age_us = self._age_us(node)
            return MemberItem(rumour, age_s=age_us // S) if newer and age_us is not None else None
        if theirs is not None and theirs.certificate_hash == mine.certificate_hash:
            certificate = b""
        facts = self._facts_for(node, theirs)
        if not newer and not certificate and facts is None:
            return None
        return MemberItem(rumour, certificate, facts)

    def _facts_for(self, node: NodeId, theirs: MemberDigest | None) -> FactsDelta | None:
        mine = self._facts.of(node)
        base = 0
        if theirs is not None:
            if (mine.boot, mine.version) <= (theirs.facts_boot, theirs.facts_version):
                return None
            base = theirs.facts_version if theirs.facts_boot == mine.boot else 0
        return self._facts.delta(node, base, FACTS_BYTES_ITEM_MAX, self._context.now_us)

    def send_facts(self, receiver: NodeId, node: NodeId) -> None:
        """The facts of `node` whole, which a datagram cannot hold."""
        rumour, facts = self._rumour(node), self._facts_for(node, None)
        if rumour is not None and facts is not None:
            self._send(receiver, SyncItems((MemberItem(rumour, facts=facts),)))

    def _rumour(self, node: NodeId) -> Rumour | None:
        if node == self._context.me:
            return self._context.myself()
        record = self._members.get(node)
        if record is None or record.incarnation == 0:
            return None  # It has not spoken for itself yet.
        rumour = record.rumour(self._context.me)
        if rumour.state is State.SUSPECT:
            return replace(rumour, state=State.ALIVE, accuser=None, addresses=record.addresses)
        return rumour

    def _certificate(self, node: NodeId) -> bytes:
        if node == self._context.me:
            return self._context.certificate
        record = self._members.get(node)
        return record.certificate if record is not None else b""

    def _age_us(self, node: NodeId) -> int | None:
        record = self._members.get(node)
        if record is None:
            return 0  # This node, leaving.
        age_us = self._context.now_us - record.since_us
        return age_us if age_us < self._members.tombstone_life_us(record) // 2 else None

    def _send_items(
        self, node: NodeId, items: list[MemberItem], wanted: list[MemberDigest], intents: tuple[IntentRumour, ...]
    ) -> None:
        """In as many frames as it takes."""
        frame: list[MemberItem] = []
        room = SYNC_FACTS_BYTES_A_FRAME_MAX
        for item in items:
            size = delta_bytes(item.facts) if item.facts is not None else 0
            if frame and (len(frame) >= SYNC_ITEMS_A_FRAME_MAX or size > room):
                self._send(node, SyncItems(tuple(frame)))
                frame, room = [], SYNC_FACTS_BYTES_A_FRAME_MAX
            frame.append(item)
            room -= size
        if frame or wanted or intents:
            self._send(node, SyncItems(tuple(frame), tuple(wanted), intents))

    def _send(self, node: NodeId, message: SyncMessage) -> None:
        self._context.emit(SendLink(node, message))


def _wants(own: MemberDigest, theirs: MemberDigest) -> bool:
    """Is there something in theirs that I lack?"""
    if (theirs.boot, theirs.incarnation, theirs.state.value) > (own.boot, own.incarnation, own.state.value):
        return True
    if own.state is not State.ALIVE:
        return False
    if (theirs.facts_boot, theirs.facts_version) > (own.facts_boot, own.facts_version):
        return True
    return own.certificate_hash == 0 and theirs.certificate_hash != 0


def bucket_of(name: bytes) -> int:
    """The bucket of a node id or deployment name."""
    return hashlib.blake2b(name, digest_size=1).digest()[0]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

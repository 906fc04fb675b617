"""The members this node knows, and how what is heard about them merges.

Rule 1: within one (boot, incarnation) states only go up: ALIVE < SUSPECT < DEAD < LEFT. The higher (boot, incarnation)
wins over any state. Only the subject raises its own.
Rule 2: DEAD, LEFT or SUSPECT about an unknown subject is ignored: ghosts are not born of obituaries.
Rule 3: no effects, no timers here.

Invariant: `live` holds exactly the ALIVE and SUSPECT members, each once; `suspects` is a part of it.

Source: Das, Gupta and Motivala, "SWIM", DSN 2002, section 4.2; boots are ours (a restarted node starts over).
"""

from collections.abc import MutableMapping
from copy import copy
from dataclasses import dataclass

from meshd.config import MEMBERS_MAX, TOMBSTONES_MIN, Timers
from meshd.core.ids import NO_BOOT, Address, Boot, NodeId
from meshd.core.layered import Layered
from meshd.core.messages import Rumour
from meshd.core.view import State


@dataclass(slots=True)
class Record:
    """One member as this node knows it."""

    node: NodeId
    state: State
    boot: Boot
    incarnation: int
    addresses: tuple[Address, ...]
    since_us: int
    """When it came to be in `state`, here."""
    certificate_hash: int = 0
    certificate: bytes = b""
    verified: Boot = NO_BOOT
    """The boot that returned a number to us: only its datagrams count."""
    path: Address | None = None
    """Where a verified datagram last came from: the address that works."""
    rtt_us: int = 0
    rtt_deviation_us: int = 0
    told_us: int | None = None
    """When it was last told that it is held dead, or out of date."""
    asked_us: int | None = None
    """When somebody was last asked for its facts in vain, as far as is known."""

    @property
    def lives(self) -> bool:
        """ALIVE or SUSPECT. Asked at every datagram: comparing costs a tenth of hashing a state, as a set of them does."""
        return self.state is State.ALIVE or self.state is State.SUSPECT

    def order(self) -> tuple[int, int, int]:
        """What decides between two records of one member."""
        return (self.boot, self.incarnation, self.state.value)

    def address(self, attempt: int = 0) -> Address | None:
        """Where to send: the address that worked last, then the others in turn."""
        ways = [a for a in (self.path, *self.addresses) if a is not None]
        if attempt and len(ways) > 1:
            ways = list(dict.fromkeys(ways))
        return ways[attempt % len(ways)] if ways else None

    def rumour(self, accuser: NodeId) -> Rumour:
        """What this record says, `accuser` answering for it."""
        if self.state is State.ALIVE:
            return Rumour(State.ALIVE, self.node, self.boot, self.incarnation, self.addresses, self.certificate_hash)
        blame = accuser if self.state is not State.LEFT else None
        return Rumour(self.state, self.node, self.boot, self.incarnation, accuser=blame)


class Members:
    """All records but this node's own."""

    def __init__(self, me: NodeId, timers: Timers) -> None:
        self._me, self._timers = me, timers
        self.records: MutableMapping[NodeId, Record] = {}
        self.live: list[NodeId] = []
        self._place: MutableMapping[NodeId, int] = {}
        self.suspects: dict[NodeId, None] = {}
        self.gone: dict[NodeId, None] = {}
        """DEAD and LEFT: tombstones, oldest first."""
        self.most = 1
        """The largest mesh seen: bounds the tombstones."""

    @property
    def count(self) -> int:
        """N: this node and all that live."""
        return len(self.live) + 1

    def get(self, node: NodeId) -> Record | None:
        """The record, if there is one."""
        return self.records.get(node)

    def peek(self, node: NodeId) -> Record:
        """The record of a member, only to be read: what goes over all of them asks for no copies of what is shared."""
        records = self.records
        return records.peek(node) if isinstance(records, Layered) else records[node]

    def adopt(self, records: dict[NodeId, Record], places: dict[NodeId, int]) -> None:
        """Know all these, as all others do (`core.known`): ALIVE, in this order, this node among them."""
        assert not self.records, "who knows nobody yet"
        self.records, self._place = Layered(records, copy), Layered(places)
        self.live = list(places)
        place, last = self._place.pop(self._me), self.live.pop()
        if last != self._me:
            self.live[place], self._place[last] = last, place
        del self.records[self._me]
        self.most = self.count

    def supersedes(self, rumour: Rumour) -> bool:
        """Would the rumour change what is known?"""
        record = self.records.get(rumour.subject)
        if record is None:
            return rumour.state is State.ALIVE and len(self.records) < MEMBERS_MAX
        return (rumour.boot, rumour.incarnation, rumour.state.value) > record.order()

    def apply(self, rumour: Rumour, now_us: int) -> Record | None:
        """Merge a rumour; the record if that changed it, else None."""
        assert rumour.subject != self._me, "a node's own record is its own"
        if not self.supersedes(rumour):
            return None
        record = self.records.get(rumour.subject)
        if record is None:
            record = Record(rumour.subject, rumour.state, rumour.boot, rumour.incarnation, (), now_us)
            self.records[rumour.subject] = record
        elif record.state is not rumour.state:
            record.since_us = now_us
        record.state, record.boot, record.incarnation = rumour.state, rumour.boot, rumour.incarnation
        if rumour.state is State.ALIVE:
            record.addresses = rumour.addresses or record.addresses
            if rumour.certificate_hash and rumour.certificate_hash != record.certificate_hash:
                record.certificate_hash, record.certificate = rumour.certificate_hash, b""
        self._file(record)
        return record

    def _file(self, record: Record) -> None:
        node, state = record.node, record.state
        lives = record.lives
        if lives and node not in self._place:
            self._place[node] = len(self.live)
            self.live.append(node)
            self.most = max(self.most, self.count)
        elif not lives and node in self._place:
            # The last takes its place: order does not matter, removal must not cost N.
            place, last = self._place.pop(node), self.live.pop()
            if last != node:
                self.live[place], self._place[last] = last, place
        if state is State.SUSPECT:
            self.suspects[node] = None
        else:
            self.suspects.pop(node, None)
        self.gone.pop(node, None)
        if not lives:
            self.gone[node] = None

    def tombstone_life_us(self, record: Record) -> int:
        """How long a tombstone is kept; none older than half of it is told to anyone."""
        return self._timers.tombstone_left_us if record.state is State.LEFT else self._timers.tombstone_dead_us

    def collect(self, now_us: int) -> list[Record]:
        """Forget tombstones that are old or too many; returns them."""
        limit = max(TOMBSTONES_MIN, 4 * self.most)
        over = len(self.gone) - limit
        collected = []
        for node in list(self.gone):
            record = self.records[node]
            if over > 0 or now_us - record.since_us >= self.tombstone_life_us(record):
                over -= 1
                collected.append(record)
                del self.gone[node], self.records[node]
        return collected

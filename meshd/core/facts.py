"""What nodes say of themselves: versioned, written by their owner alone, merged everywhere.

Every entry carries the version at which it was last written; a delta (base, version] names all that changed in between,
so a reader at `base` or later has everything up to `version` after it.

Rule 1: only the owner writes. A reader keeps the higher (boot, version).
Rule 2: a delta from beyond what the reader has (a gap) changes nothing; the reader asks.
Rule 3: what is kept and passed on are whole versions: at (boot, version) every reader has what the owner had. Part of a delta
(cut to fit a datagram) says nothing of what was written again past its end: it is gathered beside, and shows when it is whole, of
the version it was cut from or a later one.
Rule 4: what is gone is named (a tombstone). Who forgot some sends readers from before that the whole, never cut: it replaces.

Invariants: C1 versions rise within a boot. C2 the merge is commutative, associative, idempotent: of two whole versions the
greater stays. C3 a reader never sees (boot, version) fall.

Source: chitchat's `ALGORITHM.md` (quickwit); NB deltas by number, no digest that grows with N, no clock. NB chitchat, as van
Renesse et al., "Efficient reconciliation and flow control for anti-entropy protocols", LADIS 2008, shows parts as they come: then
a reader can miss a key that never ceased to exist, because its owner wrote it again.
"""

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from enum import Enum

from meshd.config import FACT_BYTES_MAX, FACT_ENTRIES_MAX, FACT_TOMBSTONES_MAX, MEMBERS_MAX
from meshd.core.ids import NO_BOOT, Boot, NodeId, SegmentId
from meshd.core.layered import Layered
from meshd.core.messages import Fact, FactKey, FactsDelta, FactValue, Held
from meshd.core.sizes import DELTA_BYTES, delta_bytes, fact_bytes
from meshd.core.view import Hold


class Merged(Enum):
    """What a delta did."""

    NEWS = 1
    OLD = 2
    GAP = 3
    """It begins past what is known here, or is a part that is here already: the reader still lacks something."""
    PART = 4
    """Some of the way: the rest must be asked for."""
    REFUSED = 5
    """More entries or bytes than one node may state."""


@dataclass(slots=True)
class FactSet:
    """One node's facts. `entries` is in order of version."""

    boot: Boot = NO_BOOT
    version: int = 0
    entries: dict[FactKey, Fact] = field(default_factory=dict)
    since_us: dict[SegmentId, int] = field(default_factory=dict)
    """READY holdings: since when, on this node's clock."""
    floor: int = 0
    """Tombstones up to this version are forgotten: a reader below it must get the whole."""
    whole: int = 0
    """Of what is gathered: the greatest version its parts were cut from; only that or a later one can be made whole of it."""
    last_cut: FactsDelta | None = None
    """The last delta to the present version: the same one is asked for again and again while it is news."""

    def write(self, fact: Fact, now_us: int) -> None:
        """Put an entry of a greater version than all there are."""
        self.entries.pop(fact.key, None)
        self.entries[fact.key] = fact
        self.version = fact.version
        self.last_cut = None
        if isinstance(fact.key, SegmentId):
            self.since_us.pop(fact.key, None)
            if isinstance(fact.value, Held) and fact.value.state is Hold.READY:
                self.since_us[fact.key] = now_us - fact.value.ready_for_us

    def forget_tombstones(self) -> None:
        """Keep the latest few."""
        tombstones = [fact for fact in self.entries.values() if fact.value is None]
        for fact in tombstones[: max(0, len(tombstones) - FACT_TOMBSTONES_MAX)]:
            del self.entries[fact.key]
            self.floor = fact.version

    def values(self) -> dict[FactKey, FactValue]:
        """What is so."""
        return {key: fact.value for key, fact in self.entries.items() if fact.value is not None}


class Facts:
    """Everybody's facts at one node, its own among them."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._sets: MutableMapping[NodeId, FactSet] = {}
        self._coming: dict[NodeId, FactSet] = {}
        """What is gathered of a later version, from parts; one a node, shown to nobody."""
        self._nothing = FactSet()

    def sizes(self) -> Iterable[tuple[str, int, int]]:
        """(table, entries, limit)."""
        yield ("facts", len(self._sets), MEMBERS_MAX + 1)
        yield ("facts coming", len(self._coming), MEMBERS_MAX)

    def of(self, node: NodeId) -> FactSet:
        """What is known of a node; empty if nothing is. Not to be written."""
        return self._sets.get(node, self._nothing)

    def adopt(self, sets: dict[NodeId, FactSet]) -> None:
        """Know what all others know (`core.known`). A merge makes a new set; only its owner writes in one."""
        mine, self._sets = self._sets[self._me], Layered(sets)
        self._sets[self._me] = mine

    def begin(self, boot: Boot) -> None:
        """A new boot of this node: its facts start over."""
        self._sets[self._me] = FactSet(boot)

    def state(self, key: FactKey, value: FactValue | None, now_us: int) -> bool:
        """Write one of this node's own facts; False if it says that already."""
        mine = self._sets[self._me]
        old = mine.entries.get(key)
        if (old.value if old is not None else None) == value:
            return False
        mine.write(Fact(key, mine.version + 1, value), now_us)
        mine.forget_tombstones()
        return True

    def merge(self, delta: FactsDelta, now_us: int) -> Merged:
        """Take in what someone passes on about another node."""
        assert delta.node != self._me, "only the owner writes its facts"
        known, coming = self.of(delta.node), self._coming.get(delta.node)
        if (delta.boot, delta.reaches) <= (known.boot, known.version):
            return Merged.OLD
        if delta.whole and coming is not None and (delta.boot, delta.version) <= (coming.boot, coming.version):
            return Merged.GAP
        start = _start(delta, known, coming)
        if start is None:
            return Merged.GAP
        merged = FactSet(start.boot, start.version, dict(start.entries), dict(start.since_us), start.floor)
        for fact in delta.entries:
            if fact.version > start.version:
                merged.write(fact, now_us)
        merged.version = delta.version
        merged.forget_tombstones()
        if len(merged.entries) > FACT_ENTRIES_MAX or sum(map(fact_bytes, merged.entries.values())) > FACT_BYTES_MAX:
            return Merged.REFUSED
        if delta.whole:
            merged.whole = max(start.whole, delta.whole)
            self._coming[delta.node] = merged
            return Merged.PART
        self._sets[delta.node] = merged
        if coming is not None and (coming.boot, coming.version) <= (merged.boot, merged.version):
            del self._coming[delta.node]
        return Merged.NEWS

    def reached(self, node: NodeId, boot: Boot) -> int:
        """The version of `boot` up to which nothing is lacking here, parts included: what to ask from."""
        sets = (self.of(node), self._coming.get(node, self._nothing))
        return max((facts.version for facts in sets if facts.boot == boot), default=0)

    def news(self, node: NodeId, base: int, room: int, now_us: int) -> FactsDelta | None:
        """A delta for readers unknown: those from before a forgotten tombstone see a gap, and ask."""
        return self.delta(node, max(base, self.of(node).floor), room, now_us)

    def delta(self, node: NodeId, base: int, room: int, now_us: int) -> FactsDelta | None:
        """What changed after `base`, as much as fits in `room` bytes; None if nothing did or fits.

        What does not fit whole is cut to a lower version, for entries are in order of version; but where tombstones past
        `base` are forgotten only the whole will do.
        """
        facts = self._sets.get(node)
        if facts is None or facts.version <= base:
            return None
        if base < facts.floor:
            base = 0
        cut = facts.last_cut
        if cut is not None and cut.base == base and delta_bytes(cut) <= room:
            return cut
        return self._cut(facts, node, base, room, now_us)

    @staticmethod
    def _cut(facts: FactSet, node: NodeId, base: int, room: int, now_us: int) -> FactsDelta | None:
        room -= DELTA_BYTES
        entries: list[Fact] = []
        version, whole = facts.version, 0
        for fact in facts.entries.values():
            if fact.version <= base:
                continue
            room -= fact_bytes(fact)
            if room < 0 or len(entries) >= FACT_ENTRIES_MAX:
                version, whole = entries[-1].version if entries else base, facts.version
                break
            entries.append(_aged(fact, facts, now_us))
        floor = facts.floor if base == 0 else 0
        if version <= base or (whole and floor):
            return None
        delta = FactsDelta(node, facts.boot, base, version, tuple(entries), whole, floor)
        if not whole:
            facts.last_cut = delta
        return delta

    def forget(self, node: NodeId) -> None:
        """Its tombstone was collected."""
        self._sets.pop(node, None)
        self._coming.pop(node, None)


def _start(delta: FactsDelta, known: FactSet, coming: FactSet | None) -> FactSet | None:
    """What a delta adds to: what is known, or gathered, or nothing; None if it begins past all of them, or adds nothing."""
    if delta.floor:
        return FactSet(delta.boot, floor=delta.floor)
    if delta.boot > known.boot:
        known = FactSet(delta.boot)
    for start in (coming, known):
        if start is None or start.boot != delta.boot or delta.reaches < start.whole:
            continue
        if delta.base <= start.version < delta.version:
            return start
    return None


def _aged(fact: Fact, facts: FactSet, now_us: int) -> Fact:
    # Durations travel, not times: bring it up to now.
    if isinstance(fact.value, Held) and isinstance(fact.key, SegmentId) and fact.key in facts.since_us:
        return replace(fact, value=replace(fact.value, ready_for_us=max(0, now_us - facts.since_us[fact.key])))
    return fact

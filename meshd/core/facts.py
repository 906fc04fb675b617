"""What nodes say of themselves: versioned, written by their owner alone, merged everywhere.

Every entry carries the version at which it was last written; a delta (base, version] names all that changed in between,
so a reader at `base` or later has everything up to `version` after it.

Rule 1: only the owner writes. A reader keeps the higher (boot, version).
Rule 2: a delta from beyond what the reader has (a gap) changes nothing; the reader asks.
Rule 3: a delta from base 0 is the whole: what it does not list up to its version is gone.

Invariants: C1 versions rise within a boot. C2 the merge is commutative, associative, idempotent. C3 a reader never sees
(boot, version) fall.

Source: chitchat's `ALGORITHM.md` (quickwit); NB deltas by number, no digest that grows with N, no clock.
"""

from dataclasses import dataclass, field, replace
from enum import Enum

from meshd.config import FACT_BYTES_MAX, FACT_ENTRIES_MAX, FACT_TOMBSTONES_MAX
from meshd.core.ids import NO_BOOT, Boot, NodeId, SegmentId
from meshd.core.messages import Fact, FactKey, FactsDelta, FactValue, Held
from meshd.core.sizes import DELTA_BYTES, delta_bytes, fact_bytes
from meshd.core.view import Hold


class Merged(Enum):
    """What a delta did."""

    NEWS = 1
    OLD = 2
    GAP = 3
    REFUSED = 4
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
    """A reader below this must get the whole: tombstones up to here are forgotten."""
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
        self._sets: dict[NodeId, FactSet] = {}
        self._nothing = FactSet()

    def of(self, node: NodeId) -> FactSet:
        """What is known of a node; empty if nothing is. Not to be written."""
        return self._sets.get(node, self._nothing)

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
        known = self.of(delta.node)
        if (delta.boot, delta.version) <= (known.boot, known.version):
            return Merged.OLD
        fresh = delta.boot > known.boot
        if delta.base > (0 if fresh else known.version):
            return Merged.GAP
        if delta.base == 0:
            # The whole replaces: what it does not list is gone. Newer entries than it covers cannot be there (see OLD).
            merged = FactSet(delta.boot, 0)
            entries = delta.entries
        else:
            merged = FactSet(known.boot, known.version, dict(known.entries), dict(known.since_us), known.floor)
            entries = tuple(fact for fact in delta.entries if fact.version > known.version)
        for fact in entries:
            merged.write(fact, now_us)
        merged.version = delta.version
        merged.forget_tombstones()
        if len(merged.entries) > FACT_ENTRIES_MAX or sum(map(fact_bytes, merged.entries.values())) > FACT_BYTES_MAX:
            return Merged.REFUSED
        self._sets[delta.node] = merged
        return Merged.NEWS

    def delta(self, node: NodeId, base: int, room: int, now_us: int) -> FactsDelta | None:
        """What changed after `base`, as much as fits in `room` bytes; None if nothing did or fits.

        A part of it is a delta too, up to a lower version: entries are in order of version.
        """
        facts = self._sets.get(node)
        if facts is None or facts.version <= base:
            return None
        if base < facts.floor:
            base = 0
        cut = facts.last_cut
        if cut is not None and cut.base == base:
            return cut if delta_bytes(cut) <= room else self._cut(facts, node, base, room, now_us)
        return self._cut(facts, node, base, room, now_us)

    @staticmethod
    def _cut(facts: FactSet, node: NodeId, base: int, room: int, now_us: int) -> FactsDelta | None:
        room -= DELTA_BYTES
        entries: list[Fact] = []
        version = facts.version
        for fact in facts.entries.values():
            if fact.version <= base:
                continue
            if base == 0 and fact.value is None:
                continue  # The whole need not name what is gone.
            room -= fact_bytes(fact)
            if room < 0 or len(entries) >= FACT_ENTRIES_MAX:
                version = entries[-1].version if entries else base
                break
            entries.append(_aged(fact, facts, now_us))
        if version <= base:
            return None
        delta = FactsDelta(node, facts.boot, base, version, tuple(entries))
        if version == facts.version:
            facts.last_cut = delta
        return delta

    def forget(self, node: NodeId) -> None:
        """Its tombstone was collected."""
        self._sets.pop(node, None)


def _aged(fact: Fact, facts: FactSet, now_us: int) -> Fact:
    # Durations travel, not times: bring it up to now.
    if isinstance(fact.value, Held) and isinstance(fact.key, SegmentId) and fact.key in facts.since_us:
        return replace(fact, value=replace(fact.value, ready_for_us=max(0, now_us - facts.since_us[fact.key])))
    return fact

"""The merge of facts is a join (C2), whatever was cut where, relayed by whom, and arrives in which order."""

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.config import FACT_TOMBSTONES_MAX
from meshd.core.facts import Facts, Merged
from meshd.core.ids import Boot, Digest
from meshd.core.messages import FactKey, FactsDelta, FactValue, OnDisk, Spare
from tests.core.lone import id_of

A = id_of("a")
WHOLE = 1 << 20
ROOM = 400
"""Bytes: three or four facts."""


def disk(number: int) -> FactKey:
    return ("disk", Digest(f"{number:064x}"))


@dataclass
class World:
    """An owner, its readers, all deltas ever sent, and what the owner said at each version of each boot."""

    owner: Facts = field(default_factory=lambda: Facts(A))
    readers: list[Facts] = field(default_factory=lambda: [Facts(id_of(name)) for name in "bcd"])
    sent: list[FactsDelta] = field(default_factory=list)
    said: dict[tuple[int, int], dict[FactKey, FactValue]] = field(default_factory=lambda: {(0, 0): {}})
    boots: int = 0

    def begin(self) -> None:
        self.boots += 1
        self.owner.begin(Boot(self.boots))
        self.write(99, True)

    def note(self) -> None:
        facts = self.owner.of(A)
        self.said[facts.boot, facts.version] = facts.values()

    def write(self, number: int, there: bool) -> None:
        self.owner.state(disk(number), OnDisk() if there else None, 0)
        self.note()

    def churn(self, rounds: int) -> None:
        """Facts that come and go, until their tombstones are forgotten."""
        for number in range(rounds):
            for there in (True, False):
                self.write(1_000 + number, there)

    def send(self, sender: Facts, base: int, room: int) -> None:
        delta = sender.delta(A, base, room, 0)
        if delta is not None:
            self.sent.append(delta)

    def deliver(self, reader: Facts, delta: FactsDelta) -> Merged:
        before = reader.of(A)
        outcome = reader.merge(delta, 0)
        after = reader.of(A)
        assert (after.boot, after.version) >= (before.boot, before.version), "C3"
        assert (outcome is Merged.NEWS) == ((after.boot, after.version) > (before.boot, before.version))
        assert after.values() == self.said[after.boot, after.version], "C2"
        versions = [fact.version for fact in after.entries.values()]
        assert versions == sorted(set(versions)), "C1"
        return outcome

    def settle(self, reader: Facts) -> None:
        """Ask as a node does until all is there: bounded, or something asks in circles."""
        source = self.owner
        for _ in range(60):
            wanted = source.of(A)
            if reader.of(A).version == wanted.version and reader.of(A).boot == wanted.boot:
                return
            base = reader.reached(A, wanted.boot)
            delta = source.delta(A, base, ROOM, 0) or source.delta(A, 0, WHOLE, 0)
            assert delta is not None
            assert self.deliver(reader, delta) in {Merged.NEWS, Merged.PART}
        raise AssertionError("it asks in circles")


WRITE = st.tuples(st.just("write"), st.integers(0, 5), st.booleans())
CHURN = st.tuples(st.just("churn"), st.sampled_from([5, FACT_TOMBSTONES_MAX + 3]), st.none())
SEND = st.tuples(
    st.just("send"),
    st.sampled_from([0, 1, 3, 3]),
    st.tuples(st.sampled_from([1, 3, 99]), st.sampled_from([250, ROOM, WHOLE])),
)
DELIVER = st.tuples(st.just("deliver"), st.sampled_from([0, 0, 1, 2]), st.integers(0, 12))
"""One of those sent last."""
BOOT = st.tuples(st.just("boot"), st.none(), st.none())
STEPS = st.lists(st.one_of(WRITE, WRITE, SEND, SEND, DELIVER, DELIVER, DELIVER, CHURN, BOOT), max_size=60)


def play(steps: list[tuple[str, object, object]]) -> World:
    world = World()
    world.begin()
    for kind, one, two in steps:
        match kind, one, two:
            case "write", int(number), bool(there):
                world.write(number, there)
            case "churn", int(rounds), _:
                world.churn(rounds)
            case "send", int(who), (int(back), int(room)):
                sender = world.owner if who == 3 else world.readers[who]
                world.send(sender, max(0, sender.of(A).version - back), room)
            case "deliver", int(who), int(which) if world.sent:
                world.deliver(world.readers[who], world.sent[-1 - which % len(world.sent)])
            case "boot", _, _:
                world.begin()
    return world


@given(STEPS)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_at_each_version_a_reader_has_what_the_owner_had_whoever_told_it_in_parts(steps) -> None:  # type: ignore[no-untyped-def]
    world = play(steps)
    for reader in world.readers:
        world.settle(reader)
        assert reader.of(A).values() == world.owner.of(A).values()


@given(STEPS, st.randoms(use_true_random=False))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_the_same_deltas_in_any_order_end_alike(steps, random: Random) -> None:  # type: ignore[no-untyped-def]
    """Delivered until nothing changes any more, for a gap is asked about: commutative and idempotent."""
    world = play(steps)
    world.send(world.owner, 0, WHOLE)
    ends = []
    for reader in (Facts(id_of("e")), Facts(id_of("f"))):
        order = list(world.sent)
        random.shuffle(order)
        while Merged.NEWS in [world.deliver(reader, delta) for delta in order]:
            pass
        ends.append((reader.of(A).boot, reader.of(A).version, reader.of(A).values()))
        for delta in order:
            assert world.deliver(reader, delta) is not Merged.NEWS
    assert ends[0] == ends[1]


@given(STEPS)
@settings(max_examples=150, derandomize=True, deadline=None)
def test_two_readers_join_alike_whichever_tells_the_other(steps) -> None:  # type: ignore[no-untyped-def]
    """What two nodes know, put together in any order and grouping, is one thing: what the one ahead knows."""
    world = play(steps)

    def join(*readers: Facts) -> tuple[object, ...]:
        joined = Facts(id_of("e"))
        for reader in readers:
            facts = reader.of(A)
            base = joined.of(A).version if joined.of(A).boot == facts.boot else 0
            delta = reader.delta(A, base, WHOLE, 0)
            if delta is not None:
                world.deliver(joined, delta)
        return (joined.of(A).boot, joined.of(A).version, joined.of(A).values())

    b, c, d = world.readers
    assert join(b, c, d) == join(d, c, b) == join(c, b, d, b, c)
    ahead = max(((r.of(A).boot, r.of(A).version) for r in world.readers), default=(0, 0))
    assert join(b, c, d)[:2] == ahead


def test_who_gets_part_of_what_was_written_again_misses_nothing_meanwhile() -> None:
    world = World()
    world.begin()
    world.owner.state("capacity", Spare(1), 0)
    world.note()
    reader = world.readers[0]
    world.settle(reader)
    for number in range(20):
        world.write(number, True)
    world.owner.state("capacity", Spare(2), 0)
    world.note()
    part = world.owner.delta(A, 0, 900, 0)
    assert part is not None
    assert part.version > reader.of(A).version
    assert world.deliver(reader, part) is Merged.PART
    assert reader.of(A).values()["capacity"] == Spare(1)
    world.settle(reader)
    assert reader.of(A).values()["capacity"] == Spare(2)


def test_what_was_gathered_of_a_later_version_does_not_make_an_earlier_one_whole() -> None:
    """A part leaves out what was written again before its sender's version, which an older whole still has to tell."""
    world = World()
    world.begin()
    for number in range(8):
        world.write(number, True)
    old = world.owner.delta(A, 0, WHOLE, 0)
    world.owner.state(disk(1), None, 0)
    world.write(1, True)
    part = world.owner.delta(A, 0, ROOM, 0)
    assert old is not None
    assert part is not None
    reader = world.readers[0]
    assert world.deliver(reader, part) is Merged.PART
    assert world.deliver(reader, old) is Merged.NEWS
    assert disk(1) in reader.of(A).values()
    world.settle(reader)


def test_a_node_that_got_the_whole_tells_others_what_is_gone() -> None:
    world = World()
    world.begin()
    world.write(1, True)
    behind, relay = world.readers[:2]
    world.settle(behind)
    world.write(1, False)
    world.settle(relay)
    delta = relay.delta(A, behind.of(A).version, WHOLE, 0)
    assert delta is not None
    assert world.deliver(behind, delta) is Merged.NEWS
    assert behind.of(A).values() == {disk(99): OnDisk()}


def test_the_whole_that_replaces_is_never_cut_and_the_rest_can_be_asked_for_past_it() -> None:
    world = World()
    world.begin()
    for number in range(8):
        world.write(number, True)
    world.settle(world.readers[0])
    world.write(3, False)
    world.churn(FACT_TOMBSTONES_MAX + 9)
    assert world.owner.delta(A, world.readers[0].of(A).version, ROOM, 0) is None
    assert world.owner.news(A, 0, WHOLE, 0).base == world.owner.of(A).floor  # type: ignore[union-attr]
    world.settle(world.readers[0])
    world.settle(world.readers[1])

"""Anti-entropy: two tables become one by sending what differs, and nothing revives the dead."""

from collections import deque

from meshd.config import HOUR, MS, S
from meshd.core.events import Measured
from meshd.core.messages import News, Rumour, Spread, SyncBuckets, SyncDigests, SyncItems, SyncRoot
from meshd.core.view import Capacity, State
from tests.core.lone import BOOT, Lone, address_of, alive, certificate_of, id_of

NAMES = {id_of(name): name for name in ("me", "a", "b", "c", "d", "e")}


def _talk(one: Lone, other: Lone) -> list[type]:
    """Sync between two nodes, `one` known to `other` as a and the other way round as b; the kinds that passed."""
    queue = deque([(other, "a", SyncRoot(one.node.sync.root()))])
    kinds: list[type] = []
    while queue:
        to, name, message = queue.popleft()
        kinds.append(type(message))
        to.forget()
        to.link(name, message)
        back = (one, "b") if to is other else (other, "a")
        queue += [(*back, send.message) for send in to.linked if send.peer == id_of(name)]
    return kinds


def _pair() -> tuple[Lone, Lone]:
    return Lone(seed=1), Lone(seed=2)


def test_equal_nodes_exchange_one_hash() -> None:
    one, other = _pair()
    for lone in (one, other):
        lone.node.context.boot = BOOT
        lone.node.my_facts.begin()
        lone.meet("c", "d")
        lone.node.sync.touch(id_of("me"))
    assert _talk(one, other) == [SyncRoot]


def test_what_either_lacks_is_sent_and_then_they_are_equal() -> None:
    one, other = _pair()
    one.meet("b", "c", "d")
    other.meet("a", "d", "e")
    kinds = _talk(one, other)
    assert kinds[:4] == [SyncRoot, SyncBuckets, SyncDigests, SyncItems]
    for lone in (one, other):
        assert {NAMES[node] for node in lone.node.members.live} >= {"c", "d", "e"}
        assert lone.node.members.records[id_of("c")].certificate == certificate_of("c")
        assert lone.node.members.records[id_of("e")].certificate == certificate_of("e")


def test_a_death_learnt_here_is_a_suspicion_that_its_subject_may_answer() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a", "c")
    one.hear("b", Spread(News((Rumour(State.DEAD, id_of("c"), BOOT, 1, accuser=id_of("b")),))))
    assert one.state("c") is State.DEAD
    _talk(one, other)
    assert other.state("c") is State.SUSPECT
    assert one.state("c") is State.DEAD


def test_who_left_is_told_as_left_with_its_age() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a", "c")
    one.hear("b", Spread(News((Rumour(State.LEFT, id_of("c"), BOOT, 1),))))
    one.now_us += 60 * S
    _talk(one, other)
    assert other.state("c") is State.LEFT
    assert other.node.members.records[id_of("c")].since_us <= other.now_us - 60 * S


def test_a_tombstone_past_half_its_life_is_not_told() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a", "c")
    one.hear("b", Spread(News((Rumour(State.LEFT, id_of("c"), BOOT, 1),))))
    one.now_us += HOUR // 2 + S
    _talk(one, other)
    assert other.state("c") is State.ALIVE


def test_a_restarted_member_wins_over_the_tombstone_of_its_past() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a", "c")
    one.hear("b", Spread(News((Rumour(State.DEAD, id_of("c"), BOOT, 1, accuser=id_of("b")),))))
    other.hear("a", Spread(News((alive("c", boot=BOOT + (1 << 32)),))))  # type: ignore[arg-type]
    _talk(one, other)
    assert one.state("c") is State.ALIVE


def test_facts_travel_with_it() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a")
    one.give(Measured(Capacity(1 << 30, 1 << 29, host="x")))
    one.wait_answering(3 * S, "b", "c")
    _talk(one, other)
    mine = one.node.facts.of(id_of("me"))
    # Both are called `me` here, so each refuses the other's word about itself; c's facts are what may pass.
    assert mine.values()
    assert other.node.facts.of(id_of("me")).boot == other.node.context.boot


def test_a_wrong_claim_of_life_is_answered_with_the_obituary() -> None:
    one, other = _pair()
    one.meet("b", "c")
    other.meet("a", "c", "d")
    one.hear("b", Spread(News((alive("c", incarnation=4),))))
    one.hear("b", Spread(News((Rumour(State.DEAD, id_of("c"), BOOT, 4, accuser=id_of("b")),))))
    one.forget()
    one.link("b", SyncItems(members=()))
    assert not one.linked
    _talk(other, one)
    assert one.state("c") is State.DEAD
    assert other.node.members.records[id_of("c")].incarnation == 4


def test_at_most_four_are_served_at_once() -> None:
    me = Lone()
    names = ["a", "b", "c", "d", "e"]
    me.meet(*names)
    me.forget()
    for name in names:
        me.link(name, SyncRoot(12345))
    assert len(me.linked) == 4
    me.now_us += 3 * S
    me.forget()
    me.link("e", SyncRoot(12345))
    assert len(me.linked) == 1


def test_a_sync_comes_every_period_and_at_once_with_who_is_back() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    me.wait_answering(50 * MS, "a", "b")
    me.hear("b", Spread(News((Rumour(State.DEAD, id_of("a"), BOOT, 1, accuser=id_of("b")),))))
    me.forget()
    me.hear("a", Spread(News((alive("a", incarnation=2),))))
    assert [type(send.message) for send in me.linked] == [SyncRoot]
    assert address_of("a") in me.member("a").addresses
    syncs = 0
    for _ in range(40):
        me.wait_answering(1 * S, "a", "b")
        syncs += sum(isinstance(send.message, SyncRoot) for send in me.linked)
    assert me.node.sync.period_us() == 15 * S

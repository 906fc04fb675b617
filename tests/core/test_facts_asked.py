"""Who got part of somebody's facts asks for the rest, and not everybody at once."""

from meshd.config import FACT_TOMBSTONES_MAX, Timers
from meshd.core.facts import Facts
from meshd.core.ids import Digest, NodeId
from meshd.core.messages import FactsAsk, FactsDelta, News, OnDisk, Spread, SyncItems
from tests.core.lone import BOOT, Lone, id_of


def owner_of(node: NodeId, writes: int) -> Facts:
    owner = Facts(node)
    owner.begin(BOOT)
    for number in range(writes):
        owner.state(("disk", Digest(f"{number:064x}")), OnDisk(), 0)
    return owner


def part(owner: Facts, node: NodeId, base: int, room: int = 400) -> Spread:
    delta = owner.delta(node, base, room, 0)
    assert isinstance(delta, FactsDelta)
    return Spread(News(facts=(delta,)))


def test_part_of_the_facts_is_followed_by_the_rest_on_asking() -> None:
    lone = Lone()
    lone.meet("a", "b")
    a = id_of("a")
    owner = owner_of(a, 9)
    message = part(owner, a, 0)
    for _ in range(9):
        lone.forget()
        lone.hear("b", message)
        assert lone.node.facts.of(a).version in {0, 9}
        asks = lone.sent_to("b", FactsAsk)
        if not asks:
            break
        assert asks == [FactsAsk(a, BOOT, message.news.facts[0].version)]
        message = part(owner, a, asks[0].version)
    assert lone.node.facts.of(a).version == 9
    assert len(lone.member("a").models) == 9


def test_what_all_tell_at_once_is_asked_for_once_and_again_after_a_while() -> None:
    lone = Lone()
    lone.meet("a", "b", "c", "d")
    a = id_of("a")
    message = part(owner_of(a, 9), a, 0)
    lone.forget()
    for name in "bcdbcd":
        lone.hear(name, message)
    assert [len(lone.sent_to(name, FactsAsk)) for name in "bcd"] == [1, 0, 0]
    lone.wait(Timers().gossip_period_us)
    lone.hear("d", message)
    assert len(lone.sent_to("d", FactsAsk)) == 1


def test_who_lacks_what_is_forgotten_to_be_gone_gets_the_whole_by_link() -> None:
    lone = Lone()
    lone.meet("a", "b")
    a = id_of("a")
    owner = owner_of(a, 30)
    for number in range(100, 101 + FACT_TOMBSTONES_MAX):
        for value in (OnDisk(), None):
            owner.state(("disk", Digest(f"{number:064x}")), value, 0)
    whole = owner.delta(a, 0, 1 << 20, 0)
    assert whole is not None
    assert whole.floor
    lone.hear("a", Spread(News(facts=(whole,))))
    lone.forget()
    lone.hear("b", FactsAsk(a, BOOT, 3))
    assert lone.sent_to("b", Spread) == []
    (items,) = [send.message for send in lone.linked if isinstance(send.message, SyncItems)]
    assert items.members[0].facts == whole

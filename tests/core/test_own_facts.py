"""What a node says of itself: rounded, not too often, holdings at once and first."""

from meshd.config import S
from meshd.core.events import LinkMeasured, Measured, PairUnreachable
from meshd.core.ids import Digest, SegmentId
from meshd.core.messages import FactsDelta, Held
from meshd.core.view import Capacity, Hold, Holding
from tests.core.lone import Lone, id_of


def _said(me: Lone) -> list[FactsDelta]:
    deltas = []
    for send in me.sent:
        news = getattr(send.message, "news", None)
        if news is not None:
            deltas += [delta for delta in news.facts if delta.node == id_of("me")]
    return deltas


def _capacity(free: int) -> Capacity:
    return Capacity(64_000, free, (("dense", 1_000_000),), host="kitchen")


def test_a_small_change_is_no_news_and_a_large_one_waits_its_turn() -> None:
    me = Lone()
    me.meet("a")
    me.give(Measured(_capacity(32_000)))
    me.wait_answering(10 * S, "a")
    version = me.node.facts.of(id_of("me")).version
    me.give(Measured(_capacity(32_500)))
    me.wait_answering(3 * S, "a")
    assert me.node.facts.of(id_of("me")).version == version
    me.give(Measured(_capacity(10_000)))
    assert me.node.facts.of(id_of("me")).version == version + 1
    me.give(Measured(_capacity(20_000)))
    me.wait(1 * S)
    assert me.node.facts.of(id_of("me")).version == version + 1
    me.wait(2 * S)
    assert me.node.facts.of(id_of("me")).version == version + 2
    assert me.member("me").capacity.free_bytes == 20_000


def test_holdings_are_published_at_once_and_lead_the_delta() -> None:
    me = Lone()
    me.meet("a")
    me.give(Measured(_capacity(32_000)))
    me.wait_answering(5 * S, "a")
    held = Holding(SegmentId(Digest("ab" * 32), 1), Hold.READY, 250, me.now_us)
    me.node.intent.holdings = lambda: (held,)  # type: ignore[method-assign]
    me.forget()
    me.give(Measured(_capacity(1_000)))
    assert me.member("me").holdings == (held,)
    me.wait_answering(2 * S, "a")
    keys = [fact.key for fact in me.node.facts.of(id_of("me")).entries.values()]
    assert keys.index(held.segment) < keys.index("capacity")
    me.node.intent.holdings = lambda: ()  # type: ignore[method-assign]
    me.give(Measured(_capacity(1_000)))
    assert me.member("me").holdings == ()


def test_a_reader_is_told_within_a_tick() -> None:
    me = Lone()
    me.meet("a")
    me.wait_answering(5 * S, "a")
    held = Holding(SegmentId(Digest("ab" * 32), 1), Hold.LOADING)
    me.node.intent.holdings = lambda: (held,)  # type: ignore[method-assign]
    me.give(Measured(_capacity(1_000)))
    me.forget()
    me.wait(200_000)
    values = [fact.value for delta in _said(me) for fact in delta.entries]
    assert Held(Hold.LOADING) in values


def test_links_are_said_rounded_and_pairs_that_fail_are_named() -> None:
    me = Lone()
    me.meet("a", "b")
    me.give(LinkMeasured(id_of("a"), 1_050, 123_456_789))
    me.give(PairUnreachable(id_of("b"), ok=False))
    me.wait_answering(5 * S, "a", "b")
    mine = me.member("me")
    assert mine.unreachable == (id_of("b"),)
    assert [(link.peer, link.rtt_us) for link in mine.links] == [(id_of("a"), 1_024)]
    assert 110_000_000 < mine.links[0].bandwidth_bps <= 123_456_789
    me.give(PairUnreachable(id_of("b"), ok=True))
    me.wait_answering(5 * S, "a", "b")
    assert me.member("me").unreachable == ()

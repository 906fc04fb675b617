"""The queue of news: how often, in which order, and what replaces what."""

from meshd.config import NEWS_BYTES_MAX
from meshd.core.dissemination import Rumours, sends_max
from meshd.core.ids import Boot, NodeId
from meshd.core.messages import FactsDelta, IntentRumour, Rumour
from meshd.core.view import State
from tests.core.lone import alive, id_of


def _queue() -> Rumours:
    return Rumours(lambda node, base, room: FactsDelta(node, Boot(1), base, 9, ()) if room > 100 else None, 3)


def _suspect(name: str, accuser: str) -> Rumour:
    return Rumour(State.SUSPECT, id_of(name), Boot(1), 1, accuser=id_of(accuser))


def test_the_limit_is_three_times_the_logarithm() -> None:
    assert [sends_max(n, 3) for n in (1, 2, 3, 4, 7, 8, 64, 10_000)] == [3, 6, 6, 9, 9, 12, 21, 42]


def test_a_rumour_leaves_exactly_its_limit_of_times() -> None:
    queue = _queue()
    queue.put(alive("a"))
    taken = [queue.take(8) for _ in range(40)]
    assert sum(bool(news.rumours) for news in taken) == sends_max(8, 3)
    assert len(queue) == 0


def test_hearing_it_from_another_counts_as_having_said_it() -> None:
    queue = _queue()
    queue.put(alive("a"))
    for _ in range(sends_max(8, 3)):
        queue.heard(alive("a"), 8)
    queue.heard(alive("a", incarnation=2), 8)
    assert len(queue) == 0


def test_newer_news_of_a_member_replaces_older_and_all_accusations() -> None:
    queue = _queue()
    queue.put(_suspect("a", "b"))
    queue.put(_suspect("a", "c"))
    assert len(queue.take(8).rumours) == 2
    queue.put(alive("a", incarnation=2))
    assert queue.take(8).rumours == (alive("a", incarnation=2),)
    queue.put(_suspect("a", "b"))
    assert queue.take(8).rumours == (_suspect("a", "b"),)


def test_the_least_sent_goes_first_and_of_those_the_newest() -> None:
    queue = _queue()
    queue.put(alive("a"))
    queue.take(8)
    queue.put(alive("b"))
    queue.put(alive("c"))
    assert [r.subject for r in queue.take(8).rumours] == [id_of("c"), id_of("b"), id_of("a")]


def test_a_datagram_is_never_overfilled() -> None:
    queue = _queue()
    for number in range(200):
        queue.put(Rumour(State.DEAD, NodeId(f"{number:026}"), Boot(1), 1, accuser=id_of("a")))
    taken = queue.take(8)
    assert 10 < len(taken.rumours) < NEWS_BYTES_MAX // 40
    assert set(taken.rumours).isdisjoint(queue.take(8).rumours)


def test_facts_keep_the_oldest_base_that_is_on_its_way() -> None:
    queue = _queue()
    queue.put_facts(id_of("a"), 4)
    queue.put_facts(id_of("a"), 7)
    assert queue.take(8).facts[0].base == 4
    queue.restart_facts(id_of("a"))
    queue.put_facts(id_of("a"), 0)
    assert queue.take(8).facts[0].base == 0


def test_a_deployments_greatest_key_replaces_the_one_before() -> None:
    queue = _queue()
    queue.put_intent(IntentRumour("camera", b"1"))
    queue.put_intent(IntentRumour("camera", b"2"))
    assert queue.take(8).intents == (IntentRumour("camera", b"2"),)


def test_what_goes_first_is_not_counted_and_takes_its_room() -> None:
    queue = _queue()
    for _ in range(50):
        assert queue.take(8, first=alive("a")).rumours == (alive("a"),)

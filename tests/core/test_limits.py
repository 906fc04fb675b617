"""Everything others can make grow has a limit, and newer news replaces older."""

from meshd.config import COMMANDS_MAX, S, Timers
from meshd.core import events
from meshd.core.clones import RIVAL_BOOTS_MAX, Clones
from meshd.core.context import Context
from meshd.core.ids import Boot, Digest, node_id
from meshd.core.messages import News, Rumour, Spread
from meshd.core.view import State
from tests.core.intent_cluster import Cluster, deploy
from tests.core.lone import BOOT, Lone, address_of, certificate_of, id_of


def accused(incarnation: int, by: str) -> Spread:
    return Spread(News((Rumour(State.SUSPECT, id_of("a"), BOOT, incarnation, accuser=id_of(by)),)))


def test_accusations_of_older_incarnations_are_no_news_any_more() -> None:
    lone = Lone()
    lone.meet("a", "b")
    before = len(lone.node.rumours)
    for incarnation in range(1, 200):
        lone.hear("b", accused(incarnation, f"accuser {incarnation}"))
    assert lone.state("a") is State.SUSPECT
    assert len(lone.node.rumours) <= before + 1


def test_who_refuted_meanwhile_and_is_accused_again_gets_all_its_time_again() -> None:
    """The refutation was lost on its way here: what is left of the old suspicion's time says nothing of the new one."""

    def dies_after_us(*incarnations: int) -> int:
        lone = Lone()
        lone.meet("a", "b", "c", "d")
        for incarnation in incarnations:
            lone.wait_answering(2 * S, "a", "b", "c", "d")
            lone.hear("b", accused(incarnation, "b"))
        began_us = lone.now_us
        while lone.state("a") is State.SUSPECT:
            lone.wait_answering(S // 10, "b", "c", "d")
        return lone.now_us - began_us

    assert dies_after_us(1, 2) >= dies_after_us(2) - S // 2


def test_rival_boots_without_end_leave_little_behind() -> None:
    context = Context(id_of("me"), certificate_of("me"), (), Timers())
    clones = Clones(context)
    for number in range(5_000):
        context.now_us += 1_000
        clones.proved(node_id(number.to_bytes(16, "big")), Boot(number + 1), address_of("a"), rival=True)
        clones.proved(id_of("a"), Boot(number // 50 + 1), address_of("a"), rival=True)
    for number in range(5_000):
        context.now_us += 100
        clones.proved(id_of("a"), Boot(number + 1), address_of("a"), rival=True)
    for name, size, limit in clones.sizes():
        assert size <= limit, name
    assert RIVAL_BOOTS_MAX < 64


def test_commands_that_wait_are_refused_past_a_limit_and_each_is_answered() -> None:
    cluster = Cluster(2)
    node = cluster.nodes[0]
    cluster.run(1 * S)
    cluster.operate(node, deploy())
    cluster.run(10 * S, cluster.all_serve)
    for token in range(100, 100 + COMMANDS_MAX + 5):
        cluster.operate(node, events.Drain(), token)
    refused = [a for t, a in cluster.peers[node].answers if t >= 100 and isinstance(a, events.Refused)]
    assert len(refused) == 5
    assert all("wait" in answer.reason for answer in refused)
    cluster.run(200 * S)
    answered = [t for t, _ in cluster.peers[node].answers if t >= 100]
    assert sorted(answered) == list(range(100, 100 + COMMANDS_MAX + 5))


def test_a_node_counts_all_its_tables_and_each_is_within_its_limit() -> None:
    lone = Lone()
    lone.meet(*"abcdefgh")
    lone.give(events.DiskChanged((Digest("0" * 64),)))
    lone.wait(5 * S)
    names = [name for name, _, _ in lone.node.sizes()]
    assert len(names) == len(set(names)) >= 20
    assert all(0 <= size <= limit for _, size, limit in lone.node.sizes())

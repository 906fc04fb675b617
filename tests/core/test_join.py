"""Strangers, handshakes, boots: what counts only after it was proven (M5)."""

from meshd.config import MS, S
from meshd.core.events import Trust, UseBoot
from meshd.core.ids import Boot
from meshd.core.messages import (
    Accusation,
    Ack,
    CertificateAsk,
    CertificateTell,
    Join,
    JoinAck,
    JoinDone,
    KeptBoot,
    KeptPeer,
    News,
    Ping,
    Rumour,
    Spread,
    SyncRoot,
)
from meshd.core.view import State
from tests.core.lone import BOOT, Lone, address_of, alive, certificate_of, id_of


def test_nothing_is_sent_before_the_boot_is_kept() -> None:
    me = Lone(seeds=(address_of("s"),))
    assert me.kept["boot"] == KeptBoot(1)
    kinds = [type(effect) for effect in me.effects]
    first_send = next(i for i, effect in enumerate(me.effects) if effect in me.sent)
    assert kinds.index(UseBoot) < first_send


def test_each_start_takes_a_higher_boot() -> None:
    assert Lone(restored={"boot": KeptBoot(41)}).kept["boot"] == KeptBoot(42)


def test_a_seed_is_knocked_at_until_it_answers() -> None:
    me = Lone(seeds=(address_of("s"),))
    me.wait(1 * S)
    knocks = [send for send in me.sent if isinstance(send.message, Join)]
    assert len(knocks) >= 4
    assert {send.receiver for send in knocks} == {None}
    me.hear("s", JoinAck(certificate_of("s"), 5, knocks[0].message.nonce))
    assert me.last(JoinDone) == JoinDone(5)
    assert me.state("s") is State.ALIVE
    assert [type(send.message) for send in me.linked] == [SyncRoot]
    me.forget()
    me.wait(5 * S)
    assert not [send for send in me.sent if isinstance(send.message, Join)]


def test_a_join_ack_with_another_nonce_or_certificate_changes_nothing() -> None:
    me = Lone(seeds=(address_of("s"),))
    nonce = me.last(Join).nonce
    me.hear("s", JoinAck(certificate_of("s"), 5, nonce ^ 1))
    me.hear("s", JoinAck(certificate_of("x"), 5, nonce))
    assert me.state("s") is None


def test_a_join_alone_changes_nothing_until_its_answer_comes_back() -> None:
    me = Lone()
    me.hear("a", Join(certificate_of("a"), 1))
    assert me.state("a") is None
    me.hear("a", JoinDone(me.last(JoinAck).nonce), boot=Boot(BOOT + 1))
    assert me.state("a") is None
    me.hear("a", JoinDone(me.last(JoinAck).nonce))
    assert me.state("a") is State.ALIVE
    assert Trust(id_of("a"), certificate_of("a")) in me.effects


def test_a_join_with_a_certificate_of_another_key_is_refused_and_reported() -> None:
    me = Lone()
    me.hear("a", Join(certificate_of("b"), 1))
    assert not me.sent
    assert [report.kind for report in me.reports] == ["join.refused"]


def test_a_stranger_gets_an_answer_and_an_invitation_and_is_not_heard() -> None:
    me = Lone()
    me.hear("a", Ping(7, news=News((alive("b"),))))
    assert me.sent_to("a", Ack) == [Ack(7)]
    assert len(me.sent_to("a", Join)) == 1
    assert me.state("a") is None
    assert me.state("b") is None


def test_a_new_boot_is_heard_only_after_it_returned_a_number() -> None:
    me = Lone()
    me.meet("a", "b")
    me.forget()
    newer = Boot(BOOT + (1 << 32))
    me.hear("a", Spread(News((alive("b", incarnation=9),))), boot=newer)
    assert me.member("b").incarnation == 1
    assert me.member("a").boot == BOOT
    challenge = me.last(Ping)
    me.hear("a", Ack(challenge.number ^ 1), boot=newer)
    assert me.member("a").boot == BOOT
    me.hear("a", Ack(challenge.number), boot=newer)
    assert me.member("a").boot == newer
    me.hear("a", Spread(News((alive("b", incarnation=9),))), boot=newer)
    assert me.member("b").incarnation == 9


def test_a_lower_boot_is_refused_and_told_of_the_higher_at_most_once_a_second() -> None:
    me = Lone()
    me.meet("a")
    me.forget()
    older = Boot(BOOT - (1 << 32))
    for _ in range(5):
        me.hear("a", Ping(1), boot=older)
    assert [news.news.rumours[0].boot for news in me.sent_to("a", Spread)] == [BOOT]
    assert me.member("a").boot == BOOT


def test_own_id_under_a_higher_boot_raises_this_one_past_it_at_most_once_in_ten_seconds() -> None:
    me = Lone()
    me.meet("a")
    mine = me.node.context.boot
    higher = Boot(mine + (5 << 32))
    accusation = Accusation(State.DEAD, higher, 3)
    me.hear("a", Ping(1, accusation=accusation))
    assert me.node.context.boot >> 32 == (higher >> 32) + 1
    assert me.kept["boot"] == KeptBoot((higher >> 32) + 1)
    again = Accusation(State.ALIVE, Boot(me.node.context.boot + (1 << 32)), 3)
    me.hear("a", Ping(1, accusation=again))
    assert me.node.context.boot >> 32 == (higher >> 32) + 1
    me.wait_answering(11 * S, "a")
    me.hear("a", Ping(1, accusation=again))
    assert me.node.context.boot >> 32 == (higher >> 32) + 3


def test_who_was_met_by_rumour_is_asked_for_its_certificate() -> None:
    me = Lone()
    me.meet("a")
    me.hear("a", Spread(News((alive("b"),))))
    me.wait(1_200 * MS)
    assert me.sent_to("b", CertificateAsk)
    number = me.sent_to("b", Ping)[-1].number
    me.hear("b", Ack(number))
    me.hear("b", CertificateTell(certificate_of("x")))
    assert Trust(id_of("b"), certificate_of("x")) not in me.effects
    me.hear("b", CertificateTell(certificate_of("b")))
    assert Trust(id_of("b"), certificate_of("b")) in me.effects
    me.forget()
    me.wait(2 * S)
    assert not me.sent_to("b", CertificateAsk)


def test_members_are_remembered_and_called_in_the_next_life() -> None:
    me = Lone()
    me.meet("a")
    assert me.kept[f"peer/{id_of('a')}"] == KeptPeer((address_of("a"),))
    again = Lone(seed=2, restored=me.kept)
    assert [send.address for send in again.sent if isinstance(send.message, Join)] == [address_of("a")]


def test_ten_thousand_strangers_leave_a_bounded_trace() -> None:
    me = Lone()
    me.meet("a")
    for number in range(10_000):
        name = f"s{number}"
        me.hear(name, Join(certificate_of(name), number))
        me.hear(name, Ping(number))
        me.hear("a", Ping(number), boot=Boot(BOOT + 1 + number))
    for table, size, limit in me.node.sizes():
        assert size <= limit, table
    assert len(me.node.members.records) == 1


def test_a_node_on_an_older_disk_learns_of_its_higher_boot_from_those_who_do_not_let_it_in() -> None:
    me = Lone()
    higher = Boot(BOOT + (5 << 32))
    me.hear("a", Spread(News((Rumour(State.ALIVE, id_of("me"), higher, 0, (address_of("m"),)),))))
    assert [report.detail["known"] for report in me.reports if report.kind == "boot.raised"] == [higher >> 32]


def _returns(me: Lone, name: str, *boots: Boot) -> None:
    """Each of these boots returns every number it was sent since `forget`."""
    for send in list(me.sent):
        if send.receiver == id_of(name) and isinstance(send.message, Ping):
            for boot in boots:
                me.hear(name, Ack(send.message.number), boot=boot)


def test_two_boots_that_both_return_numbers_are_a_clone_and_both_are_named() -> None:
    me = Lone()
    me.meet("a")
    lower = Boot(BOOT - (1 << 32))
    for _ in range(40):
        me.forget()
        me.hear("a", Ping(1), boot=lower)
        me.wait(250 * MS)
        _returns(me, "a", BOOT, lower)
    told = [report for report in me.reports if report.kind == "member.cloned"]
    assert told
    assert told[0].subject == id_of("a")
    assert {"one", "two", "reason"} <= set(told[0].detail)
    assert me.member("a").boot == BOOT


def test_a_restart_is_no_clone_whatever_of_its_past_is_replayed() -> None:
    me = Lone()
    me.meet("a")
    lower = Boot(BOOT - (1 << 32))
    for _ in range(40):
        me.forget()
        me.hear("a", Ping(1), boot=lower)
        me.hear("a", Ack(77), boot=lower)
        me.wait(250 * MS)
        _returns(me, "a", BOOT)
    assert "member.cloned" not in {report.kind for report in me.reports}
